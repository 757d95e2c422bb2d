"""A report of two small networks: its figures are those of `evaluate`, and what has not changed is not measured again."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepose.errors import ConfigError, ModelError
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.boxes import evaluate_boxes
from edgepose_export.evaluation.coco import evaluate
from edgepose_export.evaluation.report import robustness_json, rounded
from edgepose_export.evaluation.robustness import evaluate_robustness
from edgepose_export.report.columns import parse_columns
from edgepose_export.report.measure import Measurements, ReportOptions
from testing.export.reports import options


@pytest.mark.parametrize("index", [0, 1])
def test_figures_are_those_of_evaluate(folder: Path, figures: dict[str, Any], index: int) -> None:
    model, column = folder / ("good.onnx", "bad.onnx")[index], figures["columns"][index]
    assert column["name"] == model.stem
    assert column["evaluation"] == rounded(evaluate(model, folder / "data"))
    boxes = rounded(evaluate_boxes(model, folder / "data"))
    assert [entry["groups"]["all"] for entry in column["boxes"]] == [boxes, boxes]
    corrupted = json.loads(robustness_json(evaluate_robustness(model, folder / "data", limit=2)))
    assert column["robustness"]["clean"] == corrupted.pop("clean")
    assert set(column["robustness"]["corrupted"]) == set(corrupted)
    for name, strengths in column["robustness"]["corrupted"].items():
        del corrupted[name]["AP_of_clean"]
        assert strengths[1] == corrupted[name]
        assert len(strengths) == 3


def test_the_gate_compares_with_the_first_column(figures: dict[str, Any]) -> None:
    good, bad = (column["evaluation"]["AP"] for column in figures["columns"])
    assert good > bad + 0.3
    assert figures["gate"] == {"reference": "good", "drops": {"bad": pytest.approx(good - bad, abs=1e-5)}, "max_drop": None, "passed": None}
    assert figures["data"]["pictures"] == figures["data"]["people"] == 3


def test_sizes_and_keypoints_count_everybody(figures: dict[str, Any]) -> None:
    good, bad = figures["columns"]
    assert [group["people"] for group in good["sizes"]] == [0, 0, 0, 0, 3]
    assert good["sizes"][0]["found"] is None
    assert (good["sizes"][4]["found"], good["sizes"][4]["OKS"]) == (1, pytest.approx(1, abs=1e-3))
    assert 0 < bad["sizes"][4]["OKS"] < 0.9
    assert [entry["labeled"] for entry in good["keypoints"]] == [3] * 17
    assert good["keypoints"][0]["mean_error"] < 0.1 < bad["keypoints"][0]["mean_error"]
    assert bad["curves"]["recall_at_score"][0] >= bad["curves"]["recall_at_score"][100]


def test_times_are_in_order(figures: dict[str, Any]) -> None:
    for column in figures["columns"]:
        for measured in column["latency"]["threads"].values():
            assert set(measured["stages"]) == {"letterbox", "network", "decode", "all"}
            assert set(measured["batches"]) == {"1", "2", "4", "8"}
            for values in (*measured["stages"].values(), *measured["batches"].values()):
                assert 0 < values["p50"] <= values["p95"] <= values["p99"]
            whole, parts = (
                measured["stages"]["all"]["mean"],
                [measured["stages"][stage]["mean"] for stage in ("letterbox", "network", "decode")],
            )
            assert whole == pytest.approx(sum(parts), abs=1e-3)


def test_the_pictures_where_a_column_loses_are_named_and_embedded(folder: Path, tmp_path: Path) -> None:
    report = Measurements(replace(options(folder, tmp_path), robustness=None, latency=0, above=())).run()
    worst = report.figures["worst"]
    assert {entry["file"] for entry in worst} == {"1.png", "2.png", "3.png"}
    assert all(entry["quality"]["good"] > entry["quality"]["bad"] for entry in worst)
    (shot,) = [picture for picture in report.pictures if picture.note == "worst"]
    assert (shot.width, shot.height) == (300, 220)
    assert len(shot.labels) == 1
    assert set(shot.found) == {"good", "bad"}
    assert "robustness" not in report.figures["columns"][0]
    assert "latency" not in report.figures["columns"][0]


def test_what_has_not_changed_is_not_measured_again(folder: Path, tmp_path: Path) -> None:
    def steps(asked: ReportOptions) -> list[str]:
        lines: list[str] = []
        Measurements(asked, report=lines.append).run()
        return [line.removesuffix(" …") for line in lines if line.endswith(" …")]

    asked = replace(options(folder, tmp_path), robustness=None, above=())
    assert steps(asked) == ["accuracy-good", "accuracy-bad", "boxes-good-data", "boxes-bad-data", "layers-bad", "latency"]
    assert steps(asked) == []
    assert steps(replace(asked, limit=2))[:2] == ["accuracy-good", "accuracy-bad"]
    (tmp_path / "people-bad.npz").write_bytes(b"torn")
    assert "accuracy-bad" in steps(replace(asked, limit=2))
    assert len(steps(replace(asked, limit=2, fresh=True))) == 6


def test_a_refiner_is_named_with_its_pose_network(folder: Path, tmp_path: Path) -> None:
    asked = options(folder, tmp_path, "good.onnx+" + str(folder / "again.onnx"))
    report = Measurements(replace(asked, robustness=None, latency=2, above=())).run()
    (column,) = report.figures["columns"]
    assert column["name"] == "good+again"
    assert [entry["task"] for entry in column["files"]] == ["pose", "refine"]
    assert column["evaluation"] == rounded(evaluate(folder / "good.onnx", folder / "data", refiner=folder / "again.onnx"))
    assert set(column["latency"]["threads"]["1"]["stages"]) == {"letterbox", "network", "decode", "refine", "all"}
    assert column["latency"]["refined"] > 0


def test_what_cannot_be_measured_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"again.onnx is a refiner .* expected a pose network"):
        parse_columns([str(folder / "again.onnx")])
    with pytest.raises(ConfigError, match="is named twice; expected each once"):
        parse_columns([str(folder / "good.onnx")] * 2)
    (tmp_path / "nobody").mkdir()
    with pytest.raises(ConfigError, match=r"has nothing in it; expected annotations\.json"):
        Measurements(replace(options(folder, tmp_path), data=tmp_path / "nobody"))


def test_the_command_fails_where_a_model_loses_too_much(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "edgepose_export", "report", str(folder / "good.onnx"), str(folder / "bad.onnx"), "--data",
        str(folder / "data"), "--quick", "--latency", "0", "--output", str(tmp_path / "r.html"), "--max-drop",
    ]  # fmt: skip
    done = subprocess.run([*command, "0.01"], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1
    assert "bad has" in done.stderr
    assert "AP less than good; expected at most 0.01 less" in done.stderr
    assert "Traceback" not in done.stderr
    figures = json.loads((tmp_path / "r.json").read_text())
    assert figures["gate"]["passed"] is False
    assert "Failed." in (tmp_path / "r.html").read_text()
    assert len(CocoPose([folder / "data"])) == 3
    done = subprocess.run([*command, "1"], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "Passed." in (tmp_path / "r.html").read_text()

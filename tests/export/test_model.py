"""The class Model: its figures are those of the commands, and its callbacks fire, clear and reset."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
import torch
import yaml

import edgepose.cli.main
import edgepose_export
from edgepose.errors import ConfigError, ModelError, SourceError, UsageError
from edgepose.model.file import read_model
from edgepose_export.cli.main import run
from edgepose_export.evaluation.coco import Evaluation
from edgepose_export.evaluation.true_boxes import RefinerEvaluation
from edgepose_export.model import Model, TrainingEvent
from edgepose_export.network.checkpoint import load_network, read_checkpoint, save_network
from edgepose_export.network.layers import ConvNorm
from edgepose_export.onnx_file import file_hash
from edgepose_export.training.callbacks import TrainingCallbacks
from edgepose_export.training.recipe import Recipe
from testing.export.folders import write_dotted
from testing.export.tiny import TINY, TINY_REFINER, lively
from testing.videos import write_video

PICTURES = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_network(folder / "start.pt", lively(0))
    save_network(folder / "refiner.pt", lively(0, TINY_REFINER))
    write_dotted(folder / "data", sizes=((300, 220), (300, 300)) * (PICTURES // 2))
    write_dotted(folder / "aside", sizes=((300, 220),) * 2)
    assert run(["onnx", str(folder / "start.pt"), "--output", str(folder / "start.onnx")]) == 0
    return folder


def weights(path: Path) -> dict[str, torch.Tensor]:
    return {name: value for name, value in read_checkpoint(path)["state"].items() if value.is_floating_point()}


def equal(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.allclose(first[name], second[name]) for name in first)


def printed(capfd: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capfd.readouterr()
    assert run([*map(str, arguments)]) == 0
    figures: dict[str, Any] = json.loads(capfd.readouterr().out)
    return figures


def test_the_class_is_found_where_people_look() -> None:
    assert edgepose_export.Model is Model
    with pytest.raises(AttributeError, match="no attribute 'Modle'"):
        _ = edgepose_export.Modle


def test_train_gives_what_the_command_gives(folder: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(folder / "data"), "--evaluate", str(folder / "aside"), "--size", "96", "--pictures", str(PICTURES)]
    assert run(["train", "--warm-start", str(folder / "start.pt"), *arguments, "--output", str(tmp_path / "command")]) == 0
    model = Model.load(folder / "start.pt")
    result = model.train(folder / "data", tmp_path / "method", evaluate=folder / "aside", size=96, pictures=PICTURES)
    assert result.complete
    assert result.ap == read_checkpoint(tmp_path / "command" / "best.pt")["AP"]
    assert equal(tmp_path / "command" / "last.pt", result.last)
    assert not equal(folder / "start.pt", result.last)
    assert model.path == tmp_path / "method" / "best.pt"
    assert {path.name for path in (tmp_path / "method").iterdir()} == {path.name for path in (tmp_path / "command").iterdir()}


def test_val_gives_what_the_command_gives(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("start.onnx", "start.pt"):  # a checkpoint is measured as the file that it becomes
        figures = Model(folder / name).val(folder / "data", limit=PICTURES)
        assert isinstance(figures, Evaluation)
        assert figures.images == PICTURES
        expected = printed(capfd, "evaluate", folder / "start.onnx", folder / "data", "--json", "--limit", PICTURES)
        assert expected == {
            key: pytest.approx(value, abs=5e-4) if isinstance(value, float) else value for key, value in figures.to_json().items()
        }
    refined = Model(folder / "refiner.pt").val(folder / "data")
    assert isinstance(refined, RefinerEvaluation)
    assert refined.people == PICTURES


def test_export_writes_the_bytes_of_the_commands(folder: Path, tmp_path: Path) -> None:
    model = Model(folder / "start.pt")
    (tmp_path / "command").mkdir()
    arguments = ["--size", "96", "--half", "--trained-on", "dots"]
    assert run(["onnx", str(folder / "start.pt"), "--output", str(tmp_path / "command" / "mine.onnx"), *arguments]) == 0
    written = model.export(tmp_path / "mine.onnx", size=96, half=True, trained_on="dots")
    assert file_hash(written) == file_hash(tmp_path / "command" / "mine.onnx")

    float_file, quantized = tmp_path / "command" / "float.onnx", tmp_path / "command" / "mine-int8.onnx"
    assert run(["onnx", str(folder / "start.pt"), "--output", str(float_file), "--name", "mine-int8"]) == 0
    assert run(["quantize", str(float_file), "--data", str(folder / "data"), "--output", str(quantized), "--pictures", "32"]) == 0
    written = model.export(tmp_path / "mine-int8.onnx", int8=True, data=folder / "data", pictures=32)
    assert read_model(written).info.precision == "int8"
    assert file_hash(written) == file_hash(quantized)
    again = Model(float_file).export(tmp_path / "again.onnx", int8=True, data=[folder / "data"], pictures=32)
    assert file_hash(again) == file_hash(quantized)


def test_predict_and_track_give_what_infer_gives(folder: Path, tmp_path: Path) -> None:
    def inferred(source: Path) -> list[list[Any]]:
        output = tmp_path / "poses.jsonl"
        arguments = ["infer", str(source), "--model", str(folder / "start.onnx"), "--output", str(output), "--quiet"]
        assert edgepose.cli.main.cli(arguments, standalone_mode=False) is None
        return [json.loads(line)["people"] for line in output.read_text().splitlines()]

    model = Model(folder / "start.pt")
    pictures = sorted((folder / "data" / "images").iterdir(), key=lambda path: int(path.stem))  # as `infer` reads a folder
    assert len(pictures) == PICTURES
    results = model.predict(pictures)
    assert [json.loads(result.to_json())["people"] for result in results] == inferred(folder / "data" / "images")
    video = write_video(tmp_path / "walk.mp4", pictures=8)
    followed = [json.loads(result.to_json())["people"] for result in model.track(video)]
    assert followed == inferred(video)
    with pytest.raises(ModelError, match="expected a pose network"):
        Model(folder / "refiner.pt").predict(pictures[0])


def test_benchmark_measures_this_network(folder: Path) -> None:
    result = Model(folder / "start.onnx").benchmark(next((folder / "data" / "images").iterdir()), rounds=1, seconds=0.1)
    assert result.model == "start.onnx"
    assert result.engine_fps > 0
    assert result.first_pose_s > 0


def test_tune_keeps_the_most_accurate_of_runs_that_differ_in_nothing_else(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"evaluate": folder / "aside", "size": 96, "pictures": PICTURES}
    alone = Model(folder / "start.pt").train(folder / "data", tmp_path / "alone", **options)
    model = Model(folder / "start.pt")
    result = model.tune(folder / "data", tmp_path / "tuned", learning_rates=(0.5, 1.0), **options)
    accuracies = {run.settings["learning_rate"]: run.ap for run in result.runs}
    assert set(accuracies) == {0.5, 1.0}
    assert accuracies[1.0] == alone.ap
    assert equal(tmp_path / "tuned" / "learning-rate-1" / "last.pt", alone.last)
    assert not equal(tmp_path / "tuned" / "learning-rate-0.5" / "last.pt", alone.last)
    assert result.best.ap == max(accuracies.values())
    assert model.path == result.best.checkpoint
    for rates in ((1.0,), (1.0, 1.0), (0.0, 1.0)):
        with pytest.raises(UsageError, match="expected at least two different factors"):
            model.tune(folder / "data", tmp_path / "none", learning_rates=rates, **options)


def test_callbacks_fire_clear_and_reset(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edgepose_export.model")
    model = Model(folder / "start.pt")
    heard: list[str] = []
    events = get_args(TrainingEvent)
    assert set(events) == {name for name in vars(TrainingCallbacks) if name.startswith("on_")}

    def listen() -> None:
        for event in events:
            model.add_callback(event, lambda *values, event=event: heard.append(event))

    def train(name: str) -> list[str]:
        heard.clear()
        caplog.clear()
        Model.train(model, folder / "data", tmp_path / name, evaluate=folder / "aside", size=64, pictures=PICTURES)
        return list(dict.fromkeys(heard))

    listen()
    assert set(train("fire")) == set(events)
    assert heard.count("on_step") == PICTURES // 16
    assert "AP" in caplog.text  # the default
    model.clear_callback("on_step")
    model.clear_callback("on_measure")
    assert set(train("clear")) == set(events) - {"on_step", "on_measure"}
    assert caplog.text == ""
    model.reset_callbacks()
    assert train("reset") == []
    assert "AP" in caplog.text
    listen()

    def end(*_: object) -> None:
        raise RuntimeError("enough")

    model.add_callback("on_step", end)
    with pytest.raises(RuntimeError, match="enough"):
        train("error")
    with pytest.raises(UsageError, match="no event 'on_batch'; expected on_start, on_step"):
        model.add_callback("on_batch", print)  # type: ignore[arg-type]


def test_a_new_network_has_the_weights_of_its_seed(tmp_path: Path, folder: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(msgspec.to_builtins(Recipe("small", TINY))))
    one, other = Model.new(recipe), Model.new(recipe)
    assert equal(one.path, other.path)
    assert one.info()["parameters"] < 200_000
    result = one.train(folder / "data", tmp_path / "run", pictures=16)  # from labels alone: drawn weights teach nothing
    assert result.best is None
    assert one.path == result.last


def test_a_fused_network_computes_the_same_without_norms(folder: Path, tmp_path: Path) -> None:
    model = Model(folder / "start.pt")
    model.train(folder / "data", tmp_path / "run", pictures=16)
    norms = [module for module in load_network(model.path).modules() if isinstance(module, ConvNorm) and module.norm is not None]
    assert norms
    before = model.predict(folder / "data" / "images" / "1.png", conf=0.0)
    assert model.fuse() is model
    assert not [module for module in load_network(model.path).modules() if isinstance(module, ConvNorm) and module.norm is not None]
    after = model.predict(folder / "data" / "images" / "1.png", conf=0.0)
    assert np.allclose(before.keypoints, after.keypoints, atol=0.05)
    assert Model(folder / "start.onnx").fuse().path == folder / "start.onnx"


def test_info_describes_checkpoints_and_model_files(folder: Path) -> None:
    shipped = Model().info()
    assert (shipped["task"], shipped["input"]) == ("pose", "320x320")
    assert shipped["parameters"] > 1_000_000
    assert Model(folder / "refiner.pt").info()["input"] == "32x64"
    described = Model("default").info()
    assert (described["name"], described["precision"], described["task"]) == ("ghost-n", "float32", "pose")
    assert 0 < described["accuracy"]["AP"] < 1


def test_what_cannot_be_done_is_said_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    model, file = Model(folder / "start.pt"), Model(folder / "start.onnx")
    with pytest.raises(UsageError, match="is a model file, which cannot be trained; expected a checkpoint"):
        file.train(folder / "data", tmp_path / "run")
    with pytest.raises(UsageError, match="is a model file already; expected int8=True"):
        file.export(tmp_path / "copy.onnx")
    for arguments in ({"int8": True}, {"data": folder / "data"}):
        with pytest.raises(UsageError, match="expected int8=True and pictures"):
            model.export(tmp_path / "int8.onnx", **arguments)
    with pytest.raises(UsageError, match=r"an option of the training is not known .*'epochs'.*; expected recipe, teacher, minutes"):
        model.train(folder / "data", tmp_path / "run", epochs=3)
    with pytest.raises(UsageError, match="both the length"):
        model.train(folder / "data", tmp_path / "run", minutes=1, pictures=16)
    with pytest.raises(ConfigError, match=r"checkpoint nothing does not exist.*ends in \.onnx"):
        Model("nothing")


def test_what_is_not_there_is_refused_before_anything_is_loaded_or_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*arguments: object, **named: object) -> None:
        pytest.fail("a checkpoint was read first")

    monkeypatch.setattr("edgepose_export.model.write_onnx", too_late)
    monkeypatch.setattr("edgepose_export.training_runs.network_spec", too_late)
    monkeypatch.setattr("edgepose_export.search.training_search.network_spec", too_late)
    model, output = Model(folder / "start.pt"), tmp_path / "run"
    call: Callable[[], object]
    for call in (
        lambda: model.val("nix"),
        lambda: model.train("nix", output),
        lambda: model.train(folder / "data", output, evaluate="nix"),
        lambda: model.tune("nix", output, evaluate=folder / "aside"),
        lambda: model.export(tmp_path / "made.onnx", int8=True, data="nix"),
    ):
        with pytest.raises(ConfigError, match="data nix cannot be read: no such folder"):
            call()
    with pytest.raises(ModelError, match="no model 'nix'"):
        model.val(folder / "aside", refiner="nix")
    for call in (lambda: model.predict("nix.jpg"), lambda: model.track("nix.mp4"), lambda: model.benchmark("nix.mp4")):
        with pytest.raises(SourceError, match=r"^nix\.\w+ does not exist; expected a"):
            call()
    assert not output.exists()

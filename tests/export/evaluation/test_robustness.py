import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from edgepose.person import Person
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.coco import Evaluation
from edgepose_export.evaluation.report import evaluation_table, robustness_json, robustness_table, to_json
from edgepose_export.evaluation.robustness import CORRUPTIONS, Robustness, under_corruption
from testing.export.folders import write_dotted

EVALUATION = Evaluation(0.312345678, 0.5, 0.3, 0.2, None, 0.4, 0.6, 0.7, 0.5, 0.9, 300, 797, "int8")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return CocoPose([write_dotted(tmp_path_factory.mktemp("dots") / "a", sizes=[(300, 220), (320, 240)])])


GEOMETRIC = ("far away", "rolled", "turned by a quarter")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_changes_the_picture_and_is_the_same_again(data, name):
    image = data.image(0)
    corrupted, labels = CORRUPTIONS[name](image, data[0], np.random.default_rng(0))
    assert (corrupted.shape, corrupted.dtype) == ((labels.height, labels.width, 3), np.uint8)
    assert not np.array_equal(corrupted, image)
    assert (labels is data[0]) == (name not in GEOMETRIC)
    again, _ = CORRUPTIONS[name](data.image(0), data[0], np.random.default_rng(0))
    assert np.array_equal(corrupted, again)


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_move_as_the_people_do(data, name, seed):
    """The dots of the picture are where the labels say, before and after."""
    before = data[0]
    corrupted, after = CORRUPTIONS[name](data.image(0), before, np.random.default_rng(seed))
    for x, y, _ in after.keypoints[0]:
        assert corrupted[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].max() > 100
    grown = after.areas / before.areas
    assert grown == pytest.approx(0.25 if name == "far away" else 1.0)
    x1, y1, x2, y2 = after.boxes[0]
    assert 0 <= x1 < x2 <= after.width
    assert 0 <= y1 < y2 <= after.height
    longest = [(box[2:] - box[:2]).max() for box in (before.boxes[0], after.boxes[0])]
    assert longest[1] / longest[0] == pytest.approx({"far away": 0.5, "rolled": 1.0, "turned by a quarter": 1.0}[name], abs=0.2)


def test_a_quarter_is_to_either_side(data):
    shapes = [CORRUPTIONS["turned by a quarter"](data.image(0), data[0], np.random.default_rng(seed)) for seed in range(8)]
    sides = {bool(labels.keypoints[0, 0, 0] > labels.keypoints[0, 15:, 0].mean()) for _, labels in shapes}
    assert sides == {True, False}


def test_occlusion_covers_a_quarter_of_the_box(data):
    corrupted, _ = CORRUPTIONS["occlusion"](data.image(0), data[0], np.random.default_rng(0))
    box = data[0].boxes[0]
    assert (corrupted == 127).all(2).sum() == pytest.approx(np.prod(box[2:] - box[:2]) / 4, rel=0.02)


def test_a_finder_of_bright_dots_loses_what_is_hidden(data):
    """It knows the places and believes in those that are bright: enough to see AP fall with the picture, and only then."""

    def predict(image):
        labels = next(labels for labels in data if (labels.height, labels.width) == image.shape[:2])
        bright = [image[int(y), int(x)].max() > 150 for x, y, _ in labels.keypoints[0]]
        keypoints = labels.keypoints[0].copy()
        keypoints[~np.array(bright), :2] = 0
        return [Person(labels.boxes[0], 0.9, keypoints)]

    shown = []
    kinds = {name: corrupt for name, corrupt in CORRUPTIONS.items() if name not in GEOMETRIC}
    result = under_corruption(predict, data, corruptions=kinds, progress=lambda *now: shown.append(now))
    assert result.clean.ap == pytest.approx(1)
    assert set(result.corrupted) == set(kinds)
    assert result.relative("low light") == pytest.approx(0)
    assert 0 < (result.relative("occlusion") or 0) < 1
    assert result.relative("noise") == pytest.approx(1)
    assert shown == [(6, 12), (12, 12)]


def test_relative_to_nothing_is_nothing():
    zero = replace(EVALUATION, ap=0.0)
    assert Robustness(zero, {"noise": zero}).relative("noise") is None


def text_of(table, width=160):
    page = io.StringIO()
    Console(file=page, width=width).print(table)
    return page.getvalue()


def test_tables_show_the_figures():
    shown = text_of(evaluation_table("ghost-n", EVALUATION))
    for word in ("ghost-n (int8)", "0.312", "AP50", "PCK", "0.700", "confident right", "0.900", "300", "797"):
        assert word in shown
    assert "refined" not in shown
    worse = replace(EVALUATION, ap=0.2)
    shown = text_of(robustness_table("ghost-n", Robustness(EVALUATION, {"noise": EVALUATION, "blur": worse})))
    assert shown.index("clean") < shown.index("noise") < shown.index("blur")
    assert "64%" in shown


def test_json_has_every_kind():
    values = json.loads(robustness_json(Robustness(EVALUATION, {"noise": replace(EVALUATION, ap=0.2)})))
    assert (list(values), values["noise"]["AP"]) == (["clean", "noise"], 0.2)
    assert values["noise"]["AP_of_clean"] == 0.64032  # 0.2 of 0.312345678
    assert "AP_of_clean" not in values["clean"]
    nothing = json.loads(robustness_json(Robustness(replace(EVALUATION, ap=0.0), {"noise": EVALUATION})))
    assert nothing["noise"]["AP_of_clean"] is None


def test_nothing_is_cut_off_in_a_terminal_of_80_columns():
    refined = replace(EVALUATION, refiner="refine-n.onnx", refined=3.5)
    shown = text_of(evaluation_table("ghost-n", refined), width=80)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert shown == text_of(evaluation_table("ghost-n", refined))
    assert "3.50" in shown
    assert "by refine-n.onnx" in shown


def test_json_has_two_more_keys_where_a_refiner_was_used():
    values = json.loads(to_json(replace(EVALUATION, refiner="refine-n.onnx", refined=10 / 3)))
    assert list(values)[-2:] == ["refiner", "refined"]
    assert (values["refiner"], values["refined"]) == ("refine-n.onnx", 3.33333)


def test_json_has_the_fixed_keys():
    values = json.loads(to_json(EVALUATION))
    assert values == {
        "AP": 0.31235, "AP50": 0.5, "AP75": 0.3, "APm": 0.2, "APl": None, "AR": 0.4, "PCK": 0.6, "images": 300, "people": 797,
        "precision": "int8", "right": 0.7, "found": 0.5, "confident_right": 0.9,
    }  # fmt: skip

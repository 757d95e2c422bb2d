"""Networks of strangers: each finds the people that it shows, or is refused in one sentence with exit code 78.

To add one: a line in `WORKS` or `REFUSED`, with the arguments of `testing.stranger_models.write_yolo`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from edgepose.cli.main import run
from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_backend
from edgepose.errors import ModelError
from edgepose.model.file import read_model
from edgepose.pose.letterbox import input_shape
from testing.one_program import one_program
from testing.onnx_files import write_edgepose, write_refiner
from testing.stranger_models import SIDE, anchors_of, boxes_of, detections_of, keypoints_of, write_yolo

PEOPLE = boxes_of(5)
ANCHORS = anchors_of(PEOPLE, each=3)
RAW = ANCHORS.T
END_TO_END = detections_of(PEOPLE)


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    with one_program():
        yield


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "gray.png"
    cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), 90, np.uint8))
    return path


def inferred(model: Path, picture: Path, *settings: str) -> list[dict[str, Any]]:
    """Return the people that `edgepose infer` finds in a picture."""
    output = model.with_suffix(".jsonl")
    chosen = [f"--set={setting}" for setting in ("model.backend=cpu", "refine.people=0", "plausibility.enabled=false", *settings)]
    assert run(["infer", str(picture), "--model", str(model), "--output", str(output), "--quiet", *chosen]) == 0
    (line,) = output.read_text().splitlines()
    people: list[dict[str, Any]] = json.loads(line)["people"]
    return people


def assert_found(people: list[dict[str, Any]], boxes: NDArray[np.float32], tolerance_px: float = 0.5) -> None:
    assert len(people) == len(boxes)
    found = np.array([person["box"] for person in people])  # x, y, width, height
    found[:, 2:] += found[:, :2]
    nearest = np.abs(boxes[:, None] - found).max(axis=2).argmin(axis=1)
    assert sorted(nearest.tolist()) == list(range(len(boxes)))
    np.testing.assert_allclose(found[nearest], boxes, atol=tolerance_px)
    best = max(people, key=lambda person: person["score"])
    points = np.array(best["keypoints"], np.float32).reshape(-1, 3)
    np.testing.assert_allclose(points[:, :2], keypoints_of(boxes[:1])[0, :, :2], atol=tolerance_px)


def with_classes(classes: int, person: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(anchors_of(PEOPLE, each=3, classes=classes, person=person).T)


def names(*classes: str) -> dict[str, str]:
    return {"names": str(dict(enumerate(classes)))}


COCO_NAMES = names("person", *(f"thing {number}" for number in range(1, 80)))
OPEN = ("batch", 3, "height", "width")

WORKS: dict[str, tuple[NDArray[np.float32], dict[str, Any]]] = {
    "raw": (RAW, {}),
    "end to end": (END_TO_END, {}),
    "end to end with room for 20": (detections_of(PEOPLE, room=20), {}),
    "end to end of an open number": (detections_of(PEOPLE, room=5), {"output_shape": (1, "detections", 57)}),
    "transposed": (ANCHORS, {}),
    "open sides and batch": (RAW, {"input_shape": OPEN}),
    "no shape of the output": (RAW, {"input_shape": OPEN, "output_shape": (None, None, None)}),
    "end to end without a shape": (END_TO_END, {"output_shape": (None, None, None)}),
    "half precision": (RAW, {"input_type": TensorProto.FLOAT16, "output_type": TensorProto.FLOAT16}),
    "half precision inside only": (RAW, {"output_type": TensorProto.FLOAT16}),
    "opset 13": (RAW, {"opset": 13, "ir_version": 7}),
    "INT8": (RAW, {"quantized": True}),
    "stride 64": (RAW, {"stride": 64, "metadata": {"stride": "64"}, "input_shape": OPEN}),
    "stride as a list": (RAW, {"metadata": {"stride": "[8, 16, 32]"}, "input_shape": OPEN}),
    "stride as a tensor": (RAW, {"metadata": {"stride": "tensor([ 8., 16., 32.])"}, "input_shape": OPEN}),
    "stride 16": (RAW, {"stride": 16, "metadata": {"stride": "16"}, "input_shape": OPEN}),
    "no stride": (RAW, {"metadata": {"stride": None}}),
    "kpt_shape of Python": (RAW, {"metadata": {"kpt_shape": "(17, 3)"}}),
    "imgsz as a number": (RAW, {"metadata": {"imgsz": "640"}, "input_shape": OPEN}),
    "imgsz of Python": (RAW, {"metadata": {"imgsz": "(640, 640)"}, "input_shape": OPEN}),
    "no imgsz": (RAW, {"metadata": {"imgsz": None}, "input_shape": OPEN}),
    "no task": (RAW, {"metadata": {"task": None}}),
    "no names": (RAW, {"metadata": {"names": None}}),
    "names of JSON": (RAW, {"metadata": {"names": '{"0": "person"}'}}),
    "names as a list": (RAW, {"metadata": {"names": "['person']"}}),
    "people": (RAW, {"metadata": names("People")}),
    "a name that says nothing": (RAW, {"metadata": names("item")}),
    "a number as name": (RAW, {"metadata": names("0")}),
    "three classes": (with_classes(3, 1), {"metadata": names("dog", "person", "tiger")}),
    "two classes transposed": (anchors_of(np.tile(PEOPLE, (201, 1)), classes=2), {"metadata": names("person", "dog")}),
    "two classes end to end": (detections_of(PEOPLE), {"metadata": names("person", "dog")}),
    "80 classes": (with_classes(80, 0), {"metadata": COCO_NAMES}),
    "end to end with three classes": (detections_of(PEOPLE, person=2), {"metadata": names("dog", "tiger", "person")}),
    "other outputs before": (RAW, {"more_outputs": ["features", "more"]}),
}


@pytest.mark.parametrize("name", WORKS)
def test_a_strange_network_finds_its_people(name: str, tmp_path: Path, picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values, options = WORKS[name]
    model = write_yolo(tmp_path / "strange.onnx", values, **options)
    half = TensorProto.FLOAT16 in options.values()
    assert_found(inferred(model, picture), PEOPLE, tolerance_px=1.0 if half else 0.5)
    assert run(["check", "--json", f"--set=model.path={model}", f"--set=cameras.a.source={picture}", "--set=mqtt.enabled=false"]) == 0
    seen = capfd.readouterr()
    (finding,) = (finding for finding in json.loads(seen.out)["findings"] if finding["what"] == "model")
    precision = "int8" if "quantized" in options else "float16" if "input_type" in options else "float32"
    assert f"({precision}, 640 px, sha256 " in finding["detail"]
    assert seen.err == ""


def nan_in(values: NDArray[np.float32], first: int, last: int, value: float = np.nan) -> NDArray[np.float32]:
    """Return anchors (channels, anchors) with another value in some channels."""
    broken: NDArray[np.float32] = values.copy()
    broken[first:last] = value
    return broken


def shares_of(values: NDArray[np.float32], *, boxes: bool = True) -> NDArray[np.float32]:
    """Return anchors with positions from 0 to 1."""
    shares: NDArray[np.float32] = values.copy()
    for first in (*(range(4) if boxes else ()), *(channel for channel in range(5, 56) if (channel - 5) % 3 < 2)):
        shares[first] /= SIDE
    return shares


def outside(model: onnx.ModelProto) -> None:
    """Put the values into another file."""
    for tensor in model.graph.initializer:
        if tensor.name == "values":
            onnx.external_data_helper.set_external_data(tensor, "strange.onnx.data")
            tensor.ClearField("raw_data")


def constant_outside(model: onnx.ModelProto) -> None:
    """Put the values into another file, from a node of a branch that is never taken."""
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "far")
    onnx.external_data_helper.set_external_data(tensor, "/etc/hostname")
    tensor.ClearField("raw_data")
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["far"], value=tensor)],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("far", TensorProto.FLOAT, [4])],
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(onnx.helper.make_node("If", ["yes"], ["either"], then_branch=inner, else_branch=inner))


def with_operation(operation: str, domain: str = "") -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[-1].op_type = operation
        model.graph.node[-1].domain = domain
        if domain:
            model.opset_import.append(onnx.helper.make_opsetid(domain, 1))

    return change


LIBRARY = f"onnxruntime {onnxruntime.__version__}"
FORMS = r"float32 \(N, 56, anchors\), or \(N, detections, 57\) of an end-to-end one: export it as a pose network, and leave `nms` out"

REFUSED: dict[str, tuple[NDArray[np.float32], dict[str, Any], str]] = {
    "NaN everywhere": (nan_in(RAW, 0, 56), {}, "returned boxes and scores and keypoints that are not finite"),
    "NaN in the boxes": (nan_in(RAW, 0, 4), {}, "returned boxes that are not finite"),
    "NaN in the scores": (nan_in(RAW, 4, 5), {}, "returned scores that are not finite"),
    "NaN in the keypoints": (nan_in(RAW, 5, 56), {}, "returned keypoints that are not finite"),
    "NaN in one confidence": (nan_in(RAW, 55, 56), {}, "returned keypoints that are not finite"),
    "infinite keypoints": (nan_in(RAW, 5, 6, np.inf), {}, "returned keypoints that are not finite"),
    "infinite sizes": (nan_in(RAW, 2, 4, -np.inf), {}, "returned boxes that are not finite"),
    "NaN end to end": (np.where(END_TO_END == 0, np.nan, END_TO_END).astype(np.float32), {}, "that are not finite"),
    "NaN in a class end to end": (nan_in(END_TO_END.T, 5, 6).T.copy(), {}, "returned scores that are not finite"),
    "huge scores": (nan_in(RAW, 4, 5, 3e38), {}, r"returned scores from 3e\+38 to 3e\+38; expected 0 to 1"),
    "scores without sigmoid": (nan_in(RAW, 4, 5, -7.5), {}, "returned scores from -7.5 to -7.5; expected 0 to 1"),
    "percent": (nan_in(END_TO_END.T, 4, 5, 90).T.copy(), {}, "returned scores from 90 to 90; expected 0 to 1"),
    "huge confidences": (nan_in(RAW, 7, 8, 3e38), {}, r"returned confidences from 0.9 to 3e\+38; expected 0 to 1"),
    "huge positions": (nan_in(RAW, 5, 6, 1e9), {}, r"returned keypoints \(x\) from .* to 1e\+09; expected pixels"),
    "positions from 0 to 1": (shares_of(RAW), {}, "returned boxes from 0.* to 0.*; expected pixels of the input, not shares of its sides"),
    "positions from 0 to 1 end to end": (
        np.where(np.arange(57) < 4, END_TO_END / SIDE, END_TO_END).astype(np.float32),
        {},
        "expected pixels of the input, not shares",
    ),
    "keypoints from 0 to 1": (shares_of(RAW, boxes=False), {}, "returned keypoints from 0.* to 0.*; expected pixels of the input, not"),
    "keypoints from 0 to 1 end to end": (
        np.where((np.arange(57) >= 6) & (np.arange(57) % 3 != 2), END_TO_END / SIDE, END_TO_END).astype(np.float32),
        {},
        "returned keypoints from 0.* to 0.*; expected pixels of the input, not shares",
    ),
    "zeros": (np.zeros_like(RAW), {}, "returned boxes from 0 to 0; expected pixels"),
    "no anchors": (RAW[:, :0].copy(), {"output_shape": (1, 56, None)}, r"returned output0 of shape \(1, 56, 0\); expected"),
    "an output of another shape than said": (RAW[:50].copy(), {"output_shape": (1, None, None)}, r"of shape \(1, 50, 15\); expected"),
    "stride 64 that the file does not mention": (RAW, {"stride": 64, "input_shape": OPEN}, "does not work: .* failed on images"),
    "another size than said": (
        RAW,
        {"stride": 64, "metadata": {"stride": "64", "imgsz": "[608, 608]"}, "input_shape": OPEN},
        "of the stride, 64",
    ),
    "an odd stride": (RAW, {"metadata": {"stride": "zero"}}, "stride is 'zero'; expected a whole number of pixels from 1 to 1024"),
    "stride 0": (RAW, {"metadata": {"stride": "0"}}, "stride is '0'; expected"),
    "new IR": (RAW, {"ir_version": 99}, f"its IR version is 99, and {LIBRARY} reads up to [0-9]+; expected an older IR version"),
    "new opset": (RAW, {"opset": 99}, f"it uses opset 99 of ai.onnx, and {LIBRARY} supports up to [0-9]+; expected an export with opset="),
    "an unknown operation": (RAW, {"change": with_operation("Frobnicate")}, "No Op registered for Frobnicate"),
    "an operation of another vendor": (RAW, {"change": with_operation("Act", "com.acme")}, "com.acme:Act.* is not a registered"),
    "external data": (RAW, {"change": outside}, r"its weights are in another file \('strange.onnx.data'\), which the model's SHA-256 does"),
    "external data in a branch": (RAW, {"change": constant_outside}, r"in another file \('/etc/hostname'\)"),
    "no tigers": (RAW, {"metadata": names("tiger")}, r"finds the class 'tiger' \(metadata names\); expected a class 'person'"),
    "no people among three": (with_classes(3, 0), {"metadata": names("dog", "cat", "tiger")}, "finds the classes 'dog', 'cat', 'tiger' "),
    "80 classes without people": (with_classes(80, 0), {"metadata": names(*map(str.upper, "a" * 80))}, "'A', 'A', 'A', 'A', 'A', … "),
    "names of another kind": (RAW, {"metadata": {"names": "person"}}, "names is 'person'; expected the names of the classes, such as"),
    "code for names": (RAW, {"metadata": {"names": "__import__('os').system('false')"}}, "expected the names of the classes"),
    "deep names": (RAW, {"metadata": {"names": "[" * 50_000}}, "expected the names of the classes"),
    "a gap in the names": (RAW, {"metadata": {"names": "{0: 'person', 2: 'dog'}"}}, r"numbers its classes \[0, 2\]; expected 0 to 1"),
    "three classes, one said": (with_classes(3, 0), {}, r"with 1 class \(metadata names\) " + FORMS),
    "a network for hands": (RAW, {"metadata": {"kpt_shape": "(21, 3)"}}, r"kpt_shape is \[21, 3\]; expected \[17, 3\]"),
    "no confidences": (RAW, {"metadata": {"kpt_shape": "[17, 2]"}}, r"kpt_shape is \[17, 2\]; expected \[17, 3\]"),
    "a detector": (RAW, {"metadata": {"task": "detect"}}, "the file's task is 'detect'; expected 'pose'"),
    "no metadata": (
        RAW,
        {"metadata": dict.fromkeys(["description", "author", "version", "license", "stride", "task", "imgsz", "names", "kpt_shape"])},
        "no metadata describes the network; expected",
    ),
    "imgsz of words": (RAW, {"metadata": {"imgsz": "large"}, "input_shape": OPEN}, "imgsz is 'large'; expected one or two numbers"),
    "four images": (RAW, {"input_shape": (4, 3, SIDE, SIDE)}, "takes 4 images per call; expected 1 or any number"),
    "one open side": (RAW, {"input_shape": (1, 3, SIDE, "width")}, "fixes one side and leaves the other open"),
    "integers in": (RAW, {"input_type": TensorProto.UINT8}, r"the input is images uint8 \(1, 3, 640, 640\); expected .* float32"),
    "integers out": (RAW, {"output_type": TensorProto.INT32}, r"the outputs are output0 int32 \(1, 56, 15\); expected"),
    "one channel": (RAW, {"input_shape": (1, 1, SIDE, SIDE)}, "expected of an Ultralytics file float32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_strange_network_is_refused_in_one_sentence(name: str, tmp_path: Path, picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values, options, message = REFUSED[name]
    model = write_yolo(tmp_path / "strange.onnx", values, **options)
    camera = [f"--set=model.path={model}", f"--set=cameras.a.source={picture}", "--set=mqtt.enabled=false", "--set=refine.people=0"]
    assert run(["check", *camera]) == 78
    checked = capfd.readouterr()
    (line,) = (line for line in checked.out.splitlines() if line.startswith("FAIL"))
    assert checked.err == ""
    assert run(["run", *camera]) == 78
    refused = capfd.readouterr().err.splitlines()
    assert len(refused) == 1, refused
    for sentence in (line, refused[0]):
        assert re.search(message, sentence), sentence
        assert str(model) in sentence
        assert "onnxruntime_src" not in sentence


def test_a_crowd_is_found_whole(tmp_path: Path, picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    crowd = boxes_of(90)
    model = write_yolo(tmp_path / "crowd.onnx", anchors_of(crowd, each=40).T)  # the best 300 anchors show 8 of them
    assert_found(inferred(model, picture, "pose.maximum_people=1000"), crowd)
    assert_found(inferred(write_yolo(tmp_path / "end.onnx", detections_of(crowd)), picture, "pose.maximum_people=1000"), crowd)
    capfd.readouterr()
    output = str(tmp_path / "poses.jsonl")
    assert run(["infer", str(picture), "--model", str(model), "--output", output, "--json", "--set=refine.people=0"]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert (summary["people"], summary["people_over_limit"]) == (50, 40)
    assert run(["infer", str(picture), "--model", str(model), "--output", output, "--set=refine.people=0"]) == 0
    assert "50 people (40 more left out, pose.maximum_people)" in capfd.readouterr().err


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.06, 0.09])
@pytest.mark.parametrize("each", [2, 15])
def test_one_person_is_not_found_twice(tmp_path: Path, picture: Path, each: int, spread: float) -> None:
    people = boxes_of(24)
    model = write_yolo(tmp_path / "doubles.onnx", anchors_of(people, each=each, spread=spread).T)
    assert_found(inferred(model, picture), people)


def test_people_beside_one_another_stay_two(tmp_path: Path, picture: Path) -> None:
    couple = np.array([[100, 100, 200, 400], [140, 100, 240, 400]], np.float32)  # IoU 0.43
    model = write_yolo(tmp_path / "couple.onnx", anchors_of(couple, each=10).T)
    assert_found(inferred(model, picture), couple)


def test_more_people_than_a_frame_can_have_cost_no_memory_and_little_time(tmp_path: Path, picture: Path) -> None:
    model = write_yolo(tmp_path / "everywhere.onnx", anchors_of(boxes_of(8400)).T)
    assert len(inferred(model, picture, "pose.maximum_people=1000")) == 1000


def broken_where_bright(model: onnx.ModelProto) -> None:
    """Make the output NaN for images whose mean of the largest values is above 0.6."""
    nodes, first = model.graph.node, next(index for index, node in enumerate(model.graph.node) if node.op_type == "Mul")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1.2), "bright"))
    added = [onnx.helper.make_node("Sub", ["bright", "mean"], ["dark"]), onnx.helper.make_node("Log", ["dark"], ["log"])]
    nodes[first].input[0] = "log"
    for node in reversed(added):
        nodes.insert(first, node)


def test_a_network_that_breaks_at_some_pictures_says_so_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = write_yolo(tmp_path / "sometimes.onnx", RAW, change=broken_where_bright)
    for name, gray in (("dark", 10), ("white", 255)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((SIDE, SIDE, 3), gray, np.uint8))
    assert_found(inferred(model, tmp_path / "dark.png"), PEOPLE)
    capfd.readouterr()
    assert run(["infer", str(tmp_path / "white.png"), "--model", str(model), "--output", str(tmp_path / "o.jsonl"), "--quiet"]) == 69
    assert capfd.readouterr().err == (
        "edgepose: onnxruntime-cpu returned boxes and scores and keypoints that are not finite: the network or the device is broken\n"
    )


def test_a_size_that_only_some_frames_have_fails_without_lines_of_the_library(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def fixed_inside(model: onnx.ModelProto) -> None:
        """Let the network take only the size that it is tried with, although its sides are open."""
        shape = onnx.numpy_helper.from_array(np.array([1, 3, 352, 640], np.int64), "shape")
        model.graph.initializer.append(shape)
        model.graph.node[0].output[0] = "any"
        model.graph.node.insert(1, onnx.helper.make_node("Reshape", ["any", "shape"], ["float"]))

    model = write_yolo(tmp_path / "fixed.onnx", RAW, input_shape=OPEN, change=fixed_inside)
    cv2.imwrite(str(tmp_path / "square.png"), np.zeros((SIDE, SIDE, 3), np.uint8))
    assert run(["infer", str(tmp_path / "square.png"), "--model", str(model), "--output", str(tmp_path / "o.jsonl"), "--quiet"]) == 69
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(r"^edgepose: onnxruntime-cpu failed on images \(1, 3, 640, 640\): .*Reshape", line)
    assert "onnxruntime_src" not in line


def test_a_file_that_is_replaced_while_it_runs_is_still_the_one_that_was_hashed(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "model.onnx", RAW)
    model = read_model(path)
    write_yolo(path, RAW[:, :3].copy())
    backend = open_backend(model, ModelConfig(backend="cpu"))
    assert backend.run(np.zeros((1, SIDE, SIDE, 3), np.uint8)).scores.shape == (1, 5)
    assert model.sha256 != hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("batch", [1, "batch"])
def test_images_of_a_batch_are_independent_in_every_form(tmp_path: Path, batch: int | str) -> None:
    images = np.zeros((3, SIDE, SIDE, 3), np.uint8)
    for number, values in enumerate((RAW, ANCHORS, END_TO_END)):
        model = read_model(write_yolo(tmp_path / f"{number}.onnx", values, input_shape=(batch, 3, SIDE, SIDE)))
        candidates = open_backend(model, ModelConfig(backend="cpu")).run(images)
        assert candidates.boxes.shape == (3, 5, 4)
        assert candidates.keypoints.shape == (3, 5, 17, 3)
        assert (np.diff(candidates.scores, axis=1) <= 0).all()
        np.testing.assert_allclose(candidates.boxes[2], PEOPLE, atol=0.01)


@pytest.mark.parametrize("values", [np.zeros_like(END_TO_END), END_TO_END[:0], nan_in(RAW, 4, 5, 0.0), nan_in(RAW, 4, 5, 0.25)])
def test_an_empty_picture_is_no_fault(values: NDArray[np.float32], tmp_path: Path, picture: Path) -> None:
    shape = (1, "detections", 57) if values.shape[-1] == 57 else (1, *values.shape)
    assert inferred(write_yolo(tmp_path / "empty.onnx", values.copy(), output_shape=shape), picture, "track.enabled=false") == []


BROKEN_REFINERS = {
    "NaN": (np.full((17, 3), np.nan), "returned keypoints that are not finite"),
    "huge": (np.tile([1e9, -1e9, 0.5], (17, 1)), r"returned keypoints from -1e\+09 to 1e\+09; expected pixels"),
    "confidences": (np.full((17, 3), 40.0), r"returned confidences from 17.* to 17.*; expected 0 to 1"),
    "from 0 to 1": (np.full((17, 3), 0.5), "returned keypoints from 0.5 to 0.5; expected pixels of the input, not shares"),
}


@pytest.mark.parametrize("name", BROKEN_REFINERS)
def test_a_broken_refiner_is_refused_too(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keypoints, message = BROKEN_REFINERS[name]
    refiner = write_refiner(tmp_path / "refiner.onnx", keypoints=keypoints.astype(np.float32))
    camera = [f"--set=refine.path={refiner}", f"--set=cameras.a.source={tmp_path}", "--set=mqtt.enabled=false"]
    assert run(["check", *camera]) == 78
    (line,) = (line for line in capfd.readouterr().out.splitlines() if line.startswith("FAIL"))
    assert re.search(message, line), line


OURS: dict[str, tuple[dict[str, Any], str]] = {
    "NaN in the boxes": ({"boxes": np.nan}, "returned boxes that are not finite"),
    "NaN in the scores": ({"scores": np.nan}, "returned scores that are not finite"),
    "NaN in the keypoints": ({"keypoints": np.nan}, "returned keypoints that are not finite"),
    "huge scores": ({"scores": 3e38, "one": np.inf}, "returned scores from .* expected 0 to 1"),
    "huge boxes": ({"boxes": 1e8}, r"returned boxes from 1e\+08 to 1e\+08; expected pixels"),
    "positions from 0 to 1": ({"boxes": 0.5}, "returned boxes from 0.5 to 0.5; expected pixels of the input, not shares"),
}


@pytest.mark.parametrize("name", OURS)
def test_a_broken_network_in_our_own_form_is_refused_too(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changes, message = OURS[name]
    model = onnx.load(str(write_edgepose(tmp_path / "ours.onnx")))
    for tensor in model.graph.initializer:
        if (value := changes.get(tensor.name.removesuffix("_constant"))) is not None:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims, value, np.float32), tensor.name))
    onnx.save(model, str(tmp_path / "ours.onnx"))
    camera = [f"--set=model.path={tmp_path / 'ours.onnx'}", f"--set=cameras.a.source={tmp_path}", "--set=mqtt.enabled=false"]
    assert run(["check", *camera]) == 78
    (line,) = (line for line in capfd.readouterr().out.splitlines() if line.startswith("FAIL"))
    assert re.search(message, line), line


def test_our_own_form_may_have_another_stride(tmp_path: Path) -> None:
    metadata = {"edgepose.stride": "64", "edgepose.input_size": "256"}
    info = read_model(write_edgepose(tmp_path / "ours.onnx", metadata=metadata)).info
    assert input_shape(info, 480, 640) == (192, 256)
    with pytest.raises(ModelError, match="expected a multiple of 64"):
        info.long_side(288)
    with pytest.raises(ModelError, match="input_size is 96; expected a positive multiple of 64"):
        read_model(write_edgepose(tmp_path / "ours.onnx", metadata={**metadata, "edgepose.input_size": "96"}))


@pytest.mark.parametrize(("stride", "shape"), [(8, (360, 640)), (16, (368, 640)), (32, (384, 640)), (64, (384, 640)), (128, (384, 640))])
def test_sides_of_the_input_follow_the_stride(tmp_path: Path, stride: int, shape: tuple[int, int]) -> None:
    model = write_yolo(tmp_path / "p.onnx", RAW, stride=stride, metadata={"stride": str(stride)}, input_shape=OPEN)
    assert input_shape(read_model(model).info, 1080, 1920) == shape
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((1080, 1920, 3), np.uint8))
    assert len(inferred(model, tmp_path / "wide.png")) > 0

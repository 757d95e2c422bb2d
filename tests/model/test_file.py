import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import edgepose.model.file
from edgepose.errors import ModelError
from edgepose.model.file import Calibration, read_model
from edgepose.model.onnx_header import read_header
from edgepose.person import KEYPOINT_NAMES, OKS_SIGMAS, SKELETON
from testing.onnx_files import CANDIDATES, write_edgepose, write_refiner, write_ultralytics
from testing.shared import SHARED


def test_our_file_is_fully_described(tmp_path: Path) -> None:
    path = write_edgepose(tmp_path / "tiny.onnx")
    model = read_model(path)
    assert model.path == path
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    info = model.info
    assert (info.layout, info.task, info.name, info.format_version, info.precision) == ("edgepose", "pose", "tiny", "2", "int8")
    assert (info.keypoint_names, info.skeleton, info.oks_sigmas) == (KEYPOINT_NAMES, SKELETON, OKS_SIGMAS)
    assert (info.input_size, info.input_height, info.input_width, info.batch) == (256, None, None, None)
    assert info.candidates == CANDIDATES
    assert info.calibration == Calibration(hash="ab12", method="minmax", images=100)
    assert info.cpu_precision == "float32"
    assert (info.parent, info.trained_on, info.accuracy, info.license) == ("cd34", "nothing", {"AP": 0.25}, "Apache-2.0")


def test_a_refiner_file_is_fully_described(tmp_path: Path) -> None:
    info = read_model(write_refiner(tmp_path / "refiner.onnx")).info
    assert (info.layout, info.task, info.candidates, info.batch) == ("edgepose", "refine", 0, None)
    assert (info.input_size, info.input_height, info.input_width) == (64, 64, 64)
    assert (info.crop_margin, info.score_weights) == (1.25, (-1, 0.5, 2))
    assert read_model(write_refiner(tmp_path / "one.onnx", input_shape=(1, 64, 64, 3))).info.batch == 1
    pose = read_model(write_edgepose(tmp_path / "pose.onnx")).info
    assert (pose.crop_margin, pose.score_weights) == (None, None)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 96), (96, 128), (256, 192)])
def test_the_crops_of_a_refiner_have_the_size_of_its_input(tmp_path: Path, height: int, width: int) -> None:
    long = {"edgepose.input_size": str(max(height, width))}
    info = read_model(write_refiner(tmp_path / "refiner.onnx", metadata=long, input_shape=("M", height, width, 3))).info
    assert (info.input_height, info.input_width) == info.crop_shape == (height, width)
    assert info.input_size == info.long_side() == max(height, width)


def test_a_pose_network_has_no_crops(tmp_path: Path) -> None:
    info = read_model(write_edgepose(tmp_path / "tiny.onnx", input_shape=(1, 160, 256, 3))).info
    with pytest.raises(ValueError, match="tiny is not a refiner"):
        _ = info.crop_shape


@pytest.mark.parametrize("version", [edgepose.model.file.FORMAT_VERSION])
def test_readable_format_versions(tmp_path: Path, version: str) -> None:
    assert read_model(write_refiner(tmp_path / "m.onnx", metadata={"edgepose.format_version": version})).info.format_version == version


def test_fixed_input_and_empty_optional_metadata(tmp_path: Path) -> None:
    empty = {"edgepose.calibration": "", "edgepose.parent": "", "edgepose.accuracy": None, "edgepose.precision": "float32"}
    info = read_model(write_edgepose(tmp_path / "m.onnx", metadata=empty, input_shape=(1, 160, 256, 3))).info
    assert (info.batch, info.input_height, info.input_width) == (1, 160, 256)
    assert (info.calibration, info.parent, info.accuracy) == (None, None, {})
    assert info.long_side() == info.long_side(256) == 256
    with pytest.raises(ModelError, match="fixed at 256x160; expected 0 or 256"):
        info.long_side(320)


def test_an_open_input_accepts_multiples_of_32(tmp_path: Path) -> None:
    info = read_model(write_edgepose(tmp_path / "m.onnx")).info
    assert (info.long_side(), info.long_side(320)) == (256, 320)
    with pytest.raises(ModelError, match="multiple of 32"):
        info.long_side(300)


def test_ultralytics_file(tmp_path: Path) -> None:
    info = read_model(write_ultralytics(tmp_path / "yolo.onnx")).info
    assert (info.layout, info.task, info.precision) == ("ultralytics", "pose", "float32")
    assert (info.input_size, info.input_height, info.input_width, info.batch) == (640, 64, 96, 1)
    assert info.license.startswith("AGPL")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"metadata": {"edgepose.format_version": "0"}},
            "format version is '0'; expected '2': write the file anew with edgepose-export onnx$",
        ),
        ({"metadata": {"edgepose.format_version": "3"}}, "format version is '3'; expected '2'"),
        ({"metadata": {"edgepose.format_version": None}}, "no metadata describes the network"),
        ({"metadata": {"edgepose.task": "detect"}}, "task is 'detect'; expected 'pose' or 'refine'"),
        (
            {"metadata": {"edgepose.task": "refine"}},
            r"input is images uint8 \(\?, \?, \?, 3\); expected of a refiner crops uint8 \(M, H, W, 3\)",
        ),
        ({"metadata": {"edgepose.keypoint_names": '["nose", "tail"]'}}, r"2 keypoints \(nose, tail\)"),
        ({"metadata": {"edgepose.keypoint_names": "{nose"}}, "edgepose.keypoint_names is '{nose'"),
        ({"metadata": {"edgepose.oks_sigmas": "[0.1]"}}, "oks_sigmas has 1 numbers"),
        ({"metadata": {"edgepose.oks_sigmas": None}}, "oks_sigmas is missing"),
        ({"metadata": {"edgepose.skeleton": "[[0, 17]]"}}, "skeleton names a keypoint that does not exist"),
        ({"metadata": {"edgepose.input_size": "250"}}, "input_size is 250; expected a positive multiple of 32"),
        ({"metadata": {"edgepose.input_size": "wide"}}, "input_size is 'wide'"),
        ({"metadata": {"edgepose.candidates": "0"}}, "candidates is 0"),
        ({"metadata": {"edgepose.cpu_precision": "fast"}}, "cpu_precision is 'fast'; expected one of float32, int8"),
        ({"metadata": {"edgepose.precision": "int4"}}, "precision is 'int4'; expected one of float32, float16, int8"),
        ({"metadata": {"edgepose.calibration": "[]"}}, "calibration is"),
        ({"input_type": TensorProto.FLOAT}, r"input is images float32 \(\?, \?, \?, 3\)"),
        ({"input_name": "image"}, "input is image uint8"),
        ({"input_shape": ("N", 100, 128, 3)}, "input is 128x100"),
        ({"input_shape": ("N", 128, "W", 3)}, "fixes one side"),
        ({"input_shape": (4, 128, 128, 3)}, "takes 4 images per call; expected 1"),
        ({"keypoints": 16}, r"output is keypoints float32 \(\?, 6, 16, 3\)"),
    ],
)
def test_wrong_files_of_ours_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write_edgepose(tmp_path / "wrong.onnx", **changes)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=message) as caught:
        read_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": {"edgepose.task": "pose"}}, "input is crops uint8"),
        ({"metadata": {"edgepose.crop_margin": None}}, "metadata edgepose.crop_margin is missing"),
        ({"metadata": {"edgepose.crop_margin": "0.9"}}, "crop_margin is 0.9; expected a number from 1 to 4"),
        ({"metadata": {"edgepose.crop_margin": '"wide"'}}, "crop_margin is '\"wide\"'"),
        ({"metadata": {"edgepose.score_weights": None}}, "metadata edgepose.score_weights is missing"),
        ({"metadata": {"edgepose.score_weights": "[1, 2]"}}, r"score_weights is '\[1, 2\]'.* length 3"),
        ({"metadata": {"edgepose.input_size": "96"}}, r"\(\?, 64, 64, 3\); expected of a refiner fixed sides, the longer one 96"),
        ({"input_shape": ("M", 64, 96, 3)}, r"input is crops uint8 \(\?, 64, 96, 3\); expected .* the longer one 64"),
        ({"input_shape": ("M", "H", "W", 3)}, r"input is crops uint8 \(\?, \?, \?, 3\); expected of a refiner fixed sides"),
        ({"input_shape": ("M", 64, 48, 3)}, "input is 48x64; expected multiples of 32"),
        ({"input_shape": ("M", 64, 64, 1)}, r"expected of a refiner crops uint8 \(M, H, W, 3\)"),
        ({"input_shape": (4, 64, 64, 3)}, "takes 4 images per call; expected 1"),
        ({"input_name": "images"}, "input is images uint8"),
        ({"output_name": "points"}, r"outputs are points float32 \(\?, 17, 3\); expected of a refiner one keypoints"),
        ({"keypoints": np.zeros((16, 3), np.float32)}, r"outputs are keypoints float32 \(\?, 16, 3\)"),
    ],
)
def test_wrong_refiner_files_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read_model(write_refiner(tmp_path / "wrong.onnx", **changes))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": {"task": "detect"}}, "task is 'detect'"),
        ({"metadata": {"kpt_shape": "[21, 3]"}}, r"kpt_shape is \[21, 3\]"),
        ({"metadata": {"kpt_shape": "many"}}, "kpt_shape is 'many'; expected"),
        ({"metadata": {"kpt_shape": None}}, "kpt_shape is missing"),
        (
            {"metadata": {"imgsz": "[100, 100]"}, "input_shape": (1, 3, "H", "W")},
            r"imgsz is \[100, 100\]; expected multiples of the stride, 32",
        ),
        ({"channels": 55}, r"float32 \(N, 56, anchors\), or \(N, detections, 57\) of an end-to-end one: .* leave `nms` out$"),
        ({"input_shape": (1, 3, 64, 100)}, "input is 100x64"),
    ],
)
def test_wrong_ultralytics_files_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_model(write_ultralytics(tmp_path / "wrong.onnx", **changes))  # type: ignore[arg-type]


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = write_edgepose(tmp_path / "m.onnx").read_bytes()
    short = tmp_path / "short.onnx"
    for length in range(0, len(data), 37):
        short.write_bytes(data[:length])
        with pytest.raises(ModelError):
            read_model(short)


@pytest.mark.parametrize("content", [b"", b"not a model\n", bytes(range(256)), b"\x00" * 64, b"\xff" * 64, "größer".encode()])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not an ONNX file"):
        read_model(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_model(tmp_path / "missing.onnx")
    with pytest.raises(ModelError, match="Is a directory"):
        read_model(tmp_path)


@pytest.mark.skipif(SHARED is None, reason="needs the networks beside the repository")
@pytest.mark.parametrize("name", ["movenet-multipose-heads", "yolox-nano", "nanodet-plus-m"])
def test_header_agrees_with_the_onnx_library_on_real_networks(name: str) -> None:
    assert SHARED is not None
    path = SHARED / "models" / f"{name}.onnx"
    header, model = read_header(path.read_bytes()), onnx.load(str(path))
    initialized = {tensor.name for tensor in model.graph.initializer}
    for found, wanted in (
        (header.inputs, [i for i in model.graph.input if i.name not in initialized]),
        (header.outputs, model.graph.output),
    ):
        assert [tensor.name for tensor in found] == [value.name for value in wanted]
        for tensor, value in zip(found, wanted, strict=True):
            assert tensor.shape == tuple(dimension.dim_value or None for dimension in value.type.tensor_type.shape.dim)
            assert tensor.element == TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower().replace("float", "float32")
    assert header.metadata == {entry.key: entry.value for entry in model.metadata_props}

"""The gate for pixels: nothing of the package encodes, writes or sends an image elsewhere, and what it hides is hidden."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.cli.main import run
from edgepose.config.load import load
from edgepose.errors import ConfigError
from edgepose.person import Person
from edgepose.pixels import PixelGate, Pixels, encode_picture, head_area, unguarded
from testing.heads import check_hidden_heads

PACKAGE = Path(__file__).parents[1] / "edgepose"
GOLDEN = PACKAGE / "assets" / "golden.jpg"

ENCODERS = {"imencode", "imencodemulti", "imwrite", "imwritemulti", "from_ndarray", "from_numpy_buffer", "fromarray", "frombuffer_image"}
"""Functions of OpenCV, PyAV and Pillow that begin to encode an image."""

BYTES = {  # modules that turn arrays into bytes, and what these arrays are
    "capture/frozen.py": "a checksum of the frame",
    "engine/kserve.py": "the input of a remote model, which the configuration refuses unless pixels are allowed",
    "messages/compact.py": "poses",
    "pixels.py": "the gate",
    "pose/carried_pose.py": "keypoints",
    "pose/plausibility.py": "keypoints",
    "pose/smooth.py": "keypoints",
    "pose/track.py": "keypoints",
    "recorder/format.py": "candidates of the network",
}

UNGUARDED = {  # modules that release an image without the gate, and whose image it is
    "diagnostics/bench_sources.py": "made up",
    "pipeline/offline/result.py": "the caller's own picture, in their own notebook",
}


def calls(names: set[str]) -> Iterator[tuple[str, int]]:
    """Yield each call of a function or method of these names: the module below the package, and the line."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in names:
                    yield str(path.relative_to(PACKAGE)), node.lineno


def test_only_the_gate_encodes_images() -> None:
    assert {module for module, _ in calls(ENCODERS)} == {"pixels.py"}


def test_no_module_sends_or_keeps_the_bytes_of_an_image() -> None:
    found = {module for module, _ in calls({"tobytes", "tofile", "tostring", "save", "savez", "savez_compressed", "memmap"})}
    assert found == set(BYTES)


def test_the_gate_is_passed_by_except_where_the_image_is_nobody_elses() -> None:
    assert {module for module, _ in calls({"unguarded"})} == set(UNGUARDED)
    assert {module for module, _ in calls({"ReleasedImage"})} == {"pixels.py"}  # released images come from the gate alone


def person(head: bool) -> Person:
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[:, 2] = 0.9
    keypoints[:, :2] = (100, 160)
    keypoints[:5, :2] = (100, 60), (97, 57), (103, 57), (93, 58), (107, 58)
    keypoints[5:7, :2] = (80, 90), (120, 90)
    if not head:
        keypoints[:5, 2] = 0.0
    return Person(np.array((70, 40, 130, 240), np.float32), 0.9, keypoints, 1)


@pytest.mark.parametrize("head", [True, False])
def test_a_head_becomes_a_mosaic_and_the_rest_stays(head: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (260, 200, 3), np.uint8)
    before = image.copy()
    released = PixelGate("blurred", 0.2).release(image, [person(head)]).image
    assert (image == before).all()
    left, top, right, bottom = (round(value) for value in head_area(person(head), 0.2))
    if head:
        assert (left <= 85, top <= 45, right >= 115, bottom >= 75) == (True,) * 4  # the whole head, not its keypoints alone
    else:
        assert (left, top, right, bottom) == (70, 40, 130, 80)
    hidden = released[top + 1 : bottom - 1, left + 1 : right - 1].reshape(-1, 3)
    assert len(np.unique(hidden, axis=0)) <= 25
    changed = (released != image).any(axis=2)
    changed[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = False
    assert not changed.any()


def test_a_head_beyond_the_edge_is_no_error() -> None:
    outside = person(True)
    outside.keypoints[:, :2] -= 500
    outside.box[:] -= 500
    image = np.zeros((50, 50, 3), np.uint8)
    assert not PixelGate("blurred", 0.2).release(image, [outside]).image.any()


def test_nothing_passes_where_pixels_never_leave() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.pixels is never"):
        PixelGate("never", 0.2).release(np.zeros((9, 9, 3), np.uint8), [])


@pytest.mark.parametrize(
    ("pixels", "setting", "sentence"),
    [
        ("never", "files.video=a.mp4", "files.video would write images while privacy.pixels is never"),
        ("never", "files.images=a", "files.images would write images while privacy.pixels is never"),
        ("never", "commands.snapshot=true", "commands.snapshot is true while privacy.pixels is never"),
        ("never", "model.path=triton+grpcs://far.example/m", "model.path would send images to a server while privacy.pixels is never"),
        ("blurred", "model.path=triton+grpc://127.0.0.1/m", "model.path would send images to a server while privacy.pixels is blurred"),
        (
            "blurred",
            "refine.path=triton+grpcs://far.example/m",
            "refine.path would send images to a server while",
        ),
    ],
)
def test_a_configuration_that_cannot_hold_is_refused(pixels: Pixels, setting: str, sentence: str) -> None:
    assert load(None, [setting], {}).privacy.pixels == "allowed"
    with pytest.raises(ConfigError) as caught:
        load(None, [f"privacy.pixels={pixels}", setting], {})
    assert sentence in str(caught.value)


@pytest.mark.parametrize("profile", ["standard", "minimal"])
@pytest.mark.parametrize("setting", ["files.video=a.mp4", "files.images=a", "black_box.path=a"])
def test_a_file_that_would_keep_more_than_the_profile_is_refused(profile: str, setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [f"privacy.profile={profile}", setting], {})
    assert f"would keep the keypoints that privacy.profile {profile} leaves out" in str(caught.value)


def test_infer_hides_the_heads_of_real_people(tmp_path: Path) -> None:
    found = {}
    for pixels in ("allowed", "blurred"):
        folder, poses = tmp_path / pixels, tmp_path / f"{pixels}.jsonl"
        common = ["--images", str(folder), "-o", str(poses), "-q", "--set", f"privacy.pixels={pixels}", "--set", "tiles.enabled=false"]
        assert run(["infer", str(GOLDEN), *common]) == 0
        (picture,) = folder.iterdir()
        found[pixels] = np.asarray(cv2.imread(str(picture)), np.uint8)
    people = json.loads((tmp_path / "blurred.jsonl").read_text())["people"]
    assert check_hidden_heads(found["allowed"], found["blurred"], people) < 16


def test_infer_without_an_output_says_that_no_image_may_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["infer", str(GOLDEN), "-q", "--set", "privacy.pixels=never"]) == 64
    assert "privacy.pixels is never, so there is no annotated image to write" in capsys.readouterr().err
    assert run(["infer", str(GOLDEN), "-q", "--set", "privacy.pixels=never", "-o", str(tmp_path / "o.jsonl")]) == 0


def test_encoded_pictures_carry_no_metadata() -> None:
    content = encode_picture(unguarded(np.zeros((9, 9, 3), np.uint8)), ".jpg")
    assert b"Exif" not in content

"""The Python API as a program uses it: `edgepose.load`, pictures, videos, errors, threads."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import edgepose
from edgepose.api import PoseModel
from edgepose.cli.main import run
from edgepose.errors import EdgeposeError, EngineError, ModelError, SourceError, UnavailableError, UsageError
from edgepose.pipeline.offline.result import PoseResult
from testing.onnx_files import write_edgepose, write_refiner
from testing.servers.http_camera import HttpCamera
from testing.videos import write_video
from testing.waiting import wait_for

CLIP = Path(edgepose.__file__).parent / "assets" / "demo.mp4"
PICTURES = 10


@pytest.fixture(scope="module")
def model() -> Iterator[PoseModel]:
    with edgepose.load("default", refine="refine-n") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Frames of the packaged clip, as files."""
    folder = tmp_path_factory.mktemp("frames")
    video = cv2.VideoCapture(str(CLIP))
    paths = []
    for number in range(PICTURES):
        _, image = video.read()
        paths.append(folder / f"{number:02d}.png")
        cv2.imwrite(str(paths[-1]), image)
    video.release()
    return paths


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[PoseModel]:
    """A network that finds the same people in every picture, within milliseconds."""
    with edgepose.load(write_edgepose(tmp_path / "tiny.onnx"), refine=False) as loaded:
        yield loaded


def inferred(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    output = tmp_path / "inferred.jsonl"
    assert run(["infer", *arguments, "--output", str(output), "--quiet"]) == 0
    return [json.loads(line) for line in output.read_text().splitlines()]


def bare(line: dict[str, Any]) -> dict[str, Any]:
    """A line without what depends on the run: the name and number of the picture in it, and times."""
    return {key: value for key, value in line.items() if key not in ("camera", "sequence", "captured_at", "clock", "age_ms")}


def read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path)), np.uint8)


def test_importing_is_light() -> None:
    program = "import sys, edgepose; print([name for name in ('numpy', 'cv2', 'av', 'onnxruntime', 'edgepose.api') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_result_holds_arrays_in_source_pixels(model: PoseModel, frames: list[Path]) -> None:
    result = model.predict(read(frames[0]))
    people = len(result)
    assert people
    assert (result.boxes.shape, result.scores.shape, result.keypoints.shape) == ((people, 4), (people,), (people, 17, 3))
    assert {result.boxes.dtype, result.scores.dtype, result.keypoints.dtype} == {np.dtype(np.float32)}
    assert (result.width, result.height) == (640, 480)
    assert np.all(result.boxes[:, :2] < result.boxes[:, 2:])
    assert np.all(np.diff(result.scores) <= 0)
    assert result.tracks == (None,) * people
    assert (len(result.names), result.names[0], result.skeleton[0]) == (17, "nose", (0, 1))
    assert repr(result) == f"<PoseResult: {people} people in image, 640x480, frame 0>"


def test_pictures_give_what_infer_gives(model: PoseModel, frames: list[Path], tmp_path: Path) -> None:
    expected = inferred(tmp_path, *map(str, frames), "--coco", str(tmp_path / "coco.json"))
    results = model.predict(frames)
    assert [bare(json.loads(result.to_json())) for result in results] == [bare(line) for line in expected]
    assert [one for number, result in enumerate(results) for one in result.to_coco(number)] == json.loads(
        (tmp_path / "coco.json").read_text()
    )


@pytest.mark.needs("ffmpeg")
def test_a_video_gives_what_infer_gives(tmp_path: Path) -> None:
    walk = tmp_path / "walk.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(CLIP), "-frames:v", "40", str(walk)], check=True, timeout=120)
    expected = [bare(line) for line in inferred(tmp_path, str(walk), "--set", "tiles.enabled=false")]  # tiles have tests of their own
    with edgepose.load(settings={"tiles.enabled": False}) as model:
        results = list(model.track(walk))
    assert [bare(json.loads(result.to_json())) for result in results] == expected
    assert any(track is not None for result in results for track in result.tracks)
    assert [result.sequence for result in results] == list(range(len(expected)))
    assert results[0].source == str(walk)


def test_eight_threads_give_what_one_gives(model: PoseModel, frames: list[Path]) -> None:
    images = [read(path) for path in frames[:8]]
    alone = [model.predict(image) for image in images]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(model.predict, images * 3))
        tracked = threads.submit(lambda: [result.to_json() for result in model.track(images)])
    for one, other in zip(alone * 3, together, strict=True):
        for name in ("boxes", "scores", "keypoints"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
    assert tracked.result()


def test_every_form_of_a_picture_gives_the_same(model: PoseModel, frames: list[Path]) -> None:
    from_pillow = pytest.importorskip("PIL.Image").open(frames[0])
    bgr = read(frames[0])
    expected = model.predict(frames[0])
    padded = np.zeros((480, 700, 3), np.uint8)
    padded[:, :640] = bgr
    for image, rgb in (
        (str(frames[0]), False),
        (bgr, False),
        (np.ascontiguousarray(bgr[..., ::-1]), True),
        (bgr[..., ::-1], True),  # a view with negative strides
        (padded[:, :640], False),
        (from_pillow, False),
        (from_pillow.convert("RGBA"), False),
    ):
        assert np.array_equal(model.predict(image, rgb=rgb).keypoints, expected.keypoints)
    assert not np.array_equal(model.predict(bgr, rgb=True).keypoints, expected.keypoints)


def test_arguments_of_a_call_change_that_call_alone(model: PoseModel, frames: list[Path]) -> None:
    image = read(frames[0])
    plain = model.predict(image)
    assert len(model.predict(image, conf=0.0, imgsz=192)) >= len(plain)
    assert len(model.predict(image, conf=1.0)) == 0
    assert len(model.predict(image, max_people=1)) == 1
    assert not np.array_equal(model.predict(image, imgsz=192).boxes, plain.boxes)
    assert np.array_equal(model.predict(image).boxes, plain.boxes)
    assert len(list(model.track([image] * 3, conf=0.01))) == 3


def test_refinement_is_as_of_infer_unless_it_is_off(model: PoseModel, frames: list[Path]) -> None:
    with edgepose.load() as default, edgepose.load(refine=False) as plain:
        assert default.refiner is not None
        assert default.refiner.name == "refine-n"
        assert plain.refiner is None
        assert np.array_equal(default.predict(frames[0]).keypoints, model.predict(frames[0]).keypoints)
        assert not np.array_equal(plain.predict(frames[0]).keypoints, model.predict(frames[0]).keypoints)


def test_a_drawn_picture_is_bgr_and_a_notebook_shows_it(tiny: PoseModel) -> None:
    image = np.full((96, 2000, 3), (255, 0, 0), np.uint8)  # blue
    result = tiny.predict(image)
    assert np.array_equal(result.image, image)
    image[:] = 0  # a camera's buffer, which is used again
    drawn = result.plot()
    assert drawn.shape == (96, 2000, 3)
    assert tuple(drawn[-1, -1]) == (255, 0, 0)
    shown = cv2.imdecode(np.frombuffer(result._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert np.asarray(shown).shape[1] == 1280


def test_a_picture_without_people_has_empty_arrays(tiny: PoseModel) -> None:
    result = tiny.predict(np.zeros((64, 96, 3), np.uint8), conf=1.0)
    assert (len(result), result.boxes.shape, result.keypoints.shape, result.to_coco()) == (0, (0, 4), (0, 17, 3), [])
    assert json.loads(result.to_json())["people"] == []


def test_settings_and_a_configuration_file_apply(tmp_path: Path) -> None:
    path = write_edgepose(tmp_path / "tiny.onnx")
    (tmp_path / "settings.yaml").write_text("pose: {maximum_people: 2}\n")
    white = np.full((256, 256, 3), 255, np.uint8)
    with edgepose.load(path, refine=False, config=tmp_path / "settings.yaml") as model:
        assert len(model.predict(white, conf=0.0)) == 2
    with edgepose.load(path, refine=False, config=tmp_path / "settings.yaml", settings={"pose.maximum_people": 1}) as model:
        assert len(model.predict(white, conf=0.0)) == 1


WRONG = [
    (np.zeros((4, 4, 3), np.float32), "image is float32 (4, 4, 3); expected uint8 (height, width, 3)", "* 255"),
    (np.zeros((4, 4, 3), np.uint16), "image is uint16 (4, 4, 3); expected uint8", "// 256"),
    (np.zeros((4, 4, 3), bool), "image is bool (4, 4, 3); expected uint8", "BGR"),
    (np.zeros((0, 4, 3), np.uint8), "image is uint8 (0, 4, 3), which has no pixels", "expected uint8"),
    (np.zeros((4, 4), np.uint8), "image is uint8 (4, 4), a gray picture", "COLOR_GRAY2BGR"),
    (np.zeros((4, 4, 1), np.uint8), "image is uint8 (4, 4, 1), a gray picture", "COLOR_GRAY2BGR"),
    (np.zeros((4, 4, 4), np.uint8), "image is uint8 (4, 4, 4), a picture with transparency", "COLOR_BGRA2BGR"),
    (np.zeros((3, 4, 5), np.uint8), "image is uint8 (3, 4, 5), channels first", "transpose(1, 2, 0)"),
    (np.zeros((2, 4, 4, 3), np.uint8), "image is uint8 (2, 4, 4, 3)", "a batch is a list of pictures"),
    (np.zeros((4, 4, 2), np.uint8), "image is uint8 (4, 4, 2); expected", "(height, width, 3)"),
    (np.zeros(5, np.uint8), "image is uint8 (5,); expected", "(height, width, 3)"),
    (np.zeros((1, 40_000, 3), np.uint8), "image is uint8 (1, 40000, 3); expected sides", "32767"),
    (np.zeros((), object), "image is object ()", "expected uint8"),
    (None, "image is of type NoneType; expected a path", "an array of NumPy"),
    (b"bytes", "image is of type bytes; expected a path", "Pillow"),
    ({"a": 1}, "image is of type dict; expected a path", "Pillow"),
]


@pytest.mark.parametrize(("image", "found", "accepted"), WRONG, ids=[found for _, found, _ in WRONG])
def test_a_wrong_picture_is_refused_in_one_sentence(tiny: PoseModel, image: Any, found: str, accepted: str) -> None:
    with pytest.raises(UsageError) as error:
        tiny.predict(image)
    assert str(error.value).startswith(found)
    assert accepted in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=r"^image 1 of the list is "):
        tiny.predict([np.zeros((64, 64, 3), np.uint8), image])


def test_pictures_of_pillow_with_more_than_eight_bits_are_refused(tiny: PoseModel) -> None:
    pillow = pytest.importorskip("PIL.Image")
    with pytest.raises(UsageError, match="mode I;16; expected one of 8 bits"):
        tiny.predict(pillow.new("I;16", (8, 8)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"conf": 1.5}, "conf is 1.5; expected a number from 0 to 1"),
        ({"conf": float("nan")}, "conf is nan; expected a number from 0 to 1"),
        ({"conf": True}, "conf is True; expected a number from 0 to 1"),
        ({"conf": "0.5"}, "conf is '0.5'; expected a number from 0 to 1"),
        ({"imgsz": 100}, "imgsz is 100; expected a multiple of 32"),
        ({"imgsz": 0}, "imgsz is 0; expected a whole number from 32 to 4096"),
        ({"imgsz": (320, 320)}, "imgsz is (320, 320); expected a whole number from 32 to 4096"),
        ({"max_people": 0}, "max_people is 0; expected a whole number from 1 to 1000"),
        ({"max_people": 2.0}, "max_people is 2.0; expected a whole number from 1 to 1000"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_sentence(tiny: PoseModel, arguments: dict[str, Any], message: str) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    for call in (tiny.predict, tiny.track):
        with pytest.raises(UsageError) as error:
            call(image, **arguments)
        assert str(error.value) == message


def test_errors_about_a_url_tell_its_port_and_its_number_in_a_list_and_no_secret(tiny: PoseModel, tmp_path: Path) -> None:
    good = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    answers = {
        "/good.jpg": lambda visit: visit.send(body=good),
        "/page.jpg": lambda visit: visit.send(body=b"<html></html>", content_type="text/html"),
    }
    with HttpCamera(answers) as server:
        gone, page = (server.url(path, credentials="pilot:s3cret@") for path in ("/s3cret/gone.jpg?key=s3cret", "/page.jpg"))
        where = f"http://127.0.0.1:{server.port}"
        for source, begins in ((gone, f"{where} (path of 2 parts) does not exist"), (page, f"{where} (path of 1 part) is a web page")):
            with pytest.raises(SourceError) as in_a_list:
                tiny.predict([server.url("/good.jpg"), source])
            assert str(in_a_list.value).startswith(f"image 1 of the list: {begins}")
            for call in (lambda: tiny.predict(source), lambda: list(tiny.track(source))):  # noqa: B023
                with pytest.raises(SourceError) as error:
                    call()
                assert str(error.value).startswith(begins)
                assert "s3cret" not in str(error.value) + str(in_a_list.value)


def test_what_is_no_picture_is_refused_with_what_reads_it(tiny: PoseModel, tmp_path: Path) -> None:
    video = write_video(tmp_path / "walk.mp4")
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    for path, kind, message in (
        (video, UsageError, "track reads videos"),
        (tmp_path, UsageError, "is a folder; expected a picture"),
        (tmp_path / "gone.jpg", SourceError, "gone.jpg does not exist; expected a picture$"),
        ("", UsageError, "the path of the picture is empty"),
        (tmp_path / "broken.jpg", SourceError, "is a text file; expected a video file, an image"),
    ):
        with pytest.raises(kind, match=message):
            tiny.predict(path)
    with pytest.raises(SourceError, match="does not exist"):
        tiny.track(tmp_path / "gone.mp4")  # immediately, not with the first frame
    with pytest.raises(UsageError, match=r"^frame 0 is the path a.png; expected an array .*predict a list of paths$"):
        list(tiny.track(["a.png", "b.png"]))  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"^the source is of type int; expected a path"):
        tiny.track(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"model": "missing"}, ModelError, "no model 'missing'"),
        ({"model": "refine-n"}, ModelError, "expected a pose network"),
        ({"refine": "missing"}, ModelError, "no model 'missing'"),
        ({"refine_people": -1}, UsageError, "refine_people is -1; expected a whole number from 0 to 1000"),
        ({"backend": "tpu"}, EdgeposeError, "model.backend"),
        ({"settings": {"pose.confidence": 1}}, EdgeposeError, "^settings: pose.confidence"),
    ],
)
def test_loading_something_wrong_is_refused(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        edgepose.load(**arguments)


def test_the_environment_and_the_configuration_of_the_machine_do_not_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEPOSE__MODEL__PATH", "missing")
    with edgepose.load(refine=False) as model:
        assert model.info.name == "ghost-n"


def test_a_closed_model_says_so(tmp_path: Path) -> None:
    model = edgepose.load(write_edgepose(tmp_path / "tiny.onnx"), refine=write_refiner(tmp_path / "refiner.onnx"))
    model.close()
    model.close()
    with pytest.raises(EngineError, match="is closed"):
        model.predict(np.zeros((64, 64, 3), np.uint8))


def test_a_video_that_is_left_early_releases_everything(tiny: PoseModel, tmp_path: Path) -> None:
    video = write_video(tmp_path / "long.mp4", pictures=60)
    before = set(threading.enumerate())
    frames = tiny.track(video)
    next(frames)
    assert set(threading.enumerate()) > before
    frames.close()
    wait_for(lambda: set(threading.enumerate()) <= before)
    for _ in tiny.track(video):
        break
    wait_for(lambda: set(threading.enumerate()) <= before)
    tiny.track(video)  # never begun
    assert set(threading.enumerate()) <= before
    assert len(list(tiny.track(video))) == 60


def test_frames_of_a_program_are_tracked(model: PoseModel, frames: list[Path]) -> None:
    results = list(model.track((read(path) for path in frames), rate=25))
    assert [result.sequence for result in results] == list(range(PICTURES))
    assert any(track is not None for track in results[-1].tracks)
    assert results[1].captured_at_ns - results[0].captured_at_ns == 40_000_000
    with pytest.raises(UsageError, match=r"^frame 0 is float32"):
        next(model.track([np.zeros((4, 4, 3), np.float32)]))


def test_people_above_a_limit_that_the_caller_has_set_are_left_out_quietly(
    model: PoseModel, frames: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert len(model.predict(frames[0])) > 1
    assert len(model.predict(frames[0], max_people=1)) == 1
    assert caplog.text == ""


def test_the_classes_have_public_names() -> None:
    assert (edgepose.PoseModel, edgepose.PoseResult) == (PoseModel, PoseResult)
    with pytest.raises(AttributeError, match="has no attribute 'Pose'"):
        _ = edgepose.Pose


def test_what_cv2_reads_is_accepted_by_types_too(tiny: PoseModel, frames: list[Path]) -> None:
    """`make check` holds this test to strict types: OpenCV's do not say that a picture is uint8."""
    image = cv2.imread(str(frames[0]))
    assert image is not None
    one: edgepose.PoseResult = tiny.predict(image)
    several: list[edgepose.PoseResult] = tiny.predict([frames[0], image])
    tracked = list(tiny.track([image, image]))
    assert (one.width, len(several), len(tracked)) == (image.shape[1], 2, 2)
    assert tiny.predict(image[..., ::-1], rgb=True).to_json().count("keypoints") == len(one)


def test_callbacks_are_called_and_cleared(tiny: PoseModel, tmp_path: Path) -> None:
    heard: list[tuple[str, Any]] = []
    for event in ("on_start", "on_result", "on_end"):
        tiny.add_callback(event, lambda value, event=event: heard.append((event, value)))  # type: ignore[misc]
    image = np.zeros((64, 64, 3), np.uint8)
    tiny.predict([image, image])
    assert [event for event, _ in heard] == ["on_start", "on_result", "on_result", "on_end"]
    assert isinstance(heard[1][1], PoseResult)
    assert heard[-1] == ("on_end", 2)
    heard.clear()
    frames = tiny.track(write_video(tmp_path / "v.mp4"))
    next(frames)
    frames.close()
    assert [event for event, _ in heard] == ["on_start", "on_result", "on_end"]
    tiny.clear_callbacks("on_result")
    heard.clear()
    tiny.predict(image)
    assert [event for event, _ in heard] == ["on_start", "on_end"]
    tiny.clear_callbacks()
    tiny.predict(image)
    assert len(heard) == 2
    with pytest.raises(UsageError, match="the callback is of type int; expected a function"):
        tiny.add_callback("on_result", 3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no event 'on_frame'; expected on_start, on_result, on_end"):
        tiny.add_callback("on_frame", print)  # type: ignore[arg-type]


def test_supervision_takes_the_poses(tiny: PoseModel, model: PoseModel, frames: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hidden:
        hidden.setitem(sys.modules, "supervision", None)
        with pytest.raises(UnavailableError, match="pip install supervision"):
            tiny.predict(np.zeros((64, 64, 3), np.uint8)).to_supervision()
    supervision = pytest.importorskip("supervision")
    result = model.predict(frames[0])
    poses = result.to_supervision()
    assert isinstance(poses, supervision.KeyPoints)
    assert np.array_equal(poses.xy, result.keypoints[..., :2])
    assert len(poses.as_detections()) == len(result)
    assert len(model.predict(frames[0], conf=1.0).to_supervision()) == 0

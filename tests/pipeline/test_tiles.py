"""Tiles in the pipeline: what they find is in the frame's place, and a person between two visits is not missed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from edgepose.config.schema import Config, TilesConfig, TrackConfig
from edgepose.frame import Frame
from edgepose.model.file import ModelInfo, read_model
from edgepose.person import Candidates, Person
from edgepose.pipeline.frame_slots import LatestFrameSlots
from edgepose.pipeline.inference_thread import Engine, InferenceResult, InferenceThread
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.stages import Preprocessor
from edgepose.pipeline.tiles import TileVisitor
from edgepose.telemetry.metrics import Metrics
from testing.onnx_files import write_edgepose

WIDTH, HEIGHT = 1280, 720
ALL = 1000  # visits
CONFIG = Config(tiles=TilesConfig(period_s=1.0), track=TrackConfig(min_hits=2))


class SpotNetwork:
    """A network that finds bright spots of at least 6 px in its input, each as one person."""

    name, device, precision, reason = "spots", "cpu", "float32", "for tests"

    def __init__(self) -> None:
        self.runs = 0

    def run(self, images: NDArray[np.uint8]) -> Candidates:
        self.runs += 1
        bright = images[0, :, :, 0] > 128
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        if len(rows) < 6 or len(columns) < 6:
            return Candidates(np.zeros((1, 0, 4), np.float32), np.zeros((1, 0), np.float32), np.zeros((1, 0, 17, 3), np.float32))
        box = np.array((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), np.float32)
        keypoints = np.zeros((1, 1, 17, 3), np.float32)
        keypoints[..., :2], keypoints[..., 2] = (box[:2] + box[2:]) / 2, 0.9
        return Candidates(box[None, None], np.array([[0.9]], np.float32), keypoints)

    def close(self) -> None:
        pass


@pytest.fixture
def info(tmp_path: Path) -> ModelInfo:
    return read_model(write_edgepose(tmp_path / "tiny.onnx")).info


def frame(number: int, x: int, y: int, side: int = 14) -> Frame:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[y : y + side, x : x + side] = 255
    return Frame(image, 10**18 + number * 40_000_000, "stream", number, "a")


def shown(
    info: ModelInfo, frames: Sequence[Frame], most: int, config: Config = CONFIG
) -> tuple[list[list[tuple[list[float], int | None]]], SpotNetwork, TileVisitor]:
    """Return box and number of everybody in each frame, with at most `most` visits a frame."""
    network, preprocessor = SpotNetwork(), Preprocessor(info, 320, lambda stage, seconds: None)
    stage, tiles = Postprocessor("a", config, Metrics()), TileVisitor(config, info, Metrics())
    people: list[Person] = []
    result = []
    for one in frames:
        prepared = preprocessor.prepare(one)
        found, visited = tiles.candidates(
            prepared, network.run(prepared.images), network, people, None if most == ALL else lambda visits: visits < most
        )
        people = stage.people(prepared, found, visited=visited)
        result.append([(person.box.tolist(), person.track) for person in people])
    return result, network, tiles


def test_a_person_too_small_for_the_whole_frame_is_found_in_a_tile(info: ModelInfo) -> None:
    result, network, tiles = shown(info, [frame(0, 1000, 500)], ALL)
    (((box, _),),) = result
    np.testing.assert_allclose(box, (1000, 500, 1014, 514), atol=0.01)
    assert network.runs > 20
    seen = tiles.coverage(10**18)
    assert seen is not None
    assert (seen.share, seen.oldest_s) == (1.0, 0.0)
    without, network, _ = shown(info, [frame(0, 1000, 500)], 0)
    assert (without, network.runs) == ([[]], 1)


def test_a_person_at_a_seam_is_one(info: ModelInfo) -> None:
    for x in range(180, 420, 16):
        result, _, _ = shown(info, [frame(0, x, 300, side=40)], ALL)
        assert [box for box, _ in result[0]] == [pytest.approx([x, 300, x + 40, 340], abs=2.5)]


def test_between_two_visits_a_person_keeps_the_number(info: ModelInfo) -> None:
    frames = [frame(number, 900 + number // 4, 420) for number in range(100)]
    result, network, _ = shown(info, frames, 2)
    assert network.runs <= 300
    seen = [people[0] for people in result if people]
    assert 10 < len(seen) < 100  # not in every frame
    assert {track for _, track in seen[2:]} == {1}


def test_a_person_who_leaves_is_forgotten_although_tiles_are_visited_in_turns(info: ModelInfo) -> None:
    there = [frame(number, 900, 420) for number in range(60)]
    gone = [Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 10**18 + number * 40_000_000, "stream", number, "a") for number in range(60, 300)]
    again = [frame(number, 900, 420) for number in range(300, 400)]
    result, _, _ = shown(info, [*there, *gone, *again], 2)
    numbers = {people[0][1] for people in result[310:] if people and people[0][1] is not None}
    assert numbers == {2}


def test_small_frames_have_no_tiles_and_cost_nothing(info: ModelInfo) -> None:
    small = Frame(np.zeros((240, 320, 3), np.uint8), 10**18, "stream", 0, "a")
    _, network, tiles = shown(info, [small], ALL)
    assert network.runs == 1
    assert tiles.coverage(10**18) is not None


def test_a_limit_of_tiles_is_kept(info: ModelInfo) -> None:
    limited = replace(CONFIG, tiles=TilesConfig(period_s=0.1, per_frame=3))
    _, network, _ = shown(info, [frame(number, 900, 420) for number in range(5)], 999, limited)
    assert network.runs == 5 * 4


def test_a_live_camera_keeps_its_rate_and_its_coverage_is_told(info: ModelInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles are visited only while no live frame waits: with two cameras at once, the first one's frame gets none."""
    metrics, network = Metrics(), SpotNetwork()
    slots, preprocessor = LatestFrameSlots(60, lambda camera, cause: None), Preprocessor(info, 320, metrics.took)
    engine = Engine(network, lambda: network, preprocessor)
    thread = InferenceThread(engine, slots, metrics, lambda: True, lambda error: None, stuck_after_s=10, forever=False)
    visitors = {name: TileVisitor(CONFIG, info, metrics) for name in ("a", "b")}
    thread.tiles_of = visitors.get
    results: list[InferenceResult] = []
    monkeypatch.setattr(thread.inferred, "put", lambda result, timeout: results.append(result))
    for name in ("a", "b"):
        slots.put(preprocessor.prepare(replace_camera(frame(0, 1000, 500), name)))
        metrics.received(name, 0.0)
    thread.work()
    assert [len(result.visited or ()) for result in results] == [0, network.runs - 2]
    assert network.runs > 20
    assert metrics.camera("a").coverage == (0.0, float("inf"))
    assert metrics.camera("b").coverage == (1.0, 0.0)
    assert [len(result.candidates.scores[0]) for result in results] == [0, 1]


def replace_camera(one: Frame, name: str) -> Frame:
    return Frame(one.image, one.captured_at_ns, one.clock, one.sequence, name)

"""Identities, jitter, lag and events against values that are known."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.config.schema import Config, EventsConfig
from edgepose.errors import ConfigError
from edgepose.event import Event
from edgepose.frame import NS_PER_S
from edgepose.model.shipped import find_model
from edgepose.motion import STILL, Motion
from edgepose.output.video import VideoWriter
from edgepose.person import Person
from edgepose.pixels import unguarded
from edgepose_export.cli.main import cli
from edgepose_export.evaluation.tracks.clips import FrameTruth, LabeledClip, TrueEvent, read_clips
from edgepose_export.evaluation.tracks.evaluation import evaluate_tracks
from edgepose_export.evaluation.tracks.event_scores import EventCount, score_events
from edgepose_export.evaluation.tracks.ground import ground_drift
from edgepose_export.evaluation.tracks.identities import Identities, count_identities, match_frames, total_identities
from edgepose_export.evaluation.tracks.run import TrackedClip
from edgepose_export.evaluation.tracks.steadiness import measure_delay, measure_jitter

MOTMETRICS: dict[int, tuple[float, int, int, int, int]] = {
    0: (0.495495, 14, 31, 186, 33),
    1: (0.442953, 17, 19, 196, 30),
    2: (0.547461, 14, 28, 199, 22),
}
"""IDF1, num_switches, num_fragmentations, num_detections and num_false_positives that py-motmetrics 1.4.0 gives for `wandering`."""


def box_at(x: float, y: float = 100.0) -> np.ndarray:
    return np.array([x, y, x + 40, y + 90], np.float32)


def labels(
    people: dict[int, float], *, ignored: tuple[int, ...] = (), at_rest: bool = False, joints: np.ndarray | None = None
) -> FrameTruth:
    """People by track number at places x."""
    keypoints = np.zeros((len(people), 17, 3), np.float32)
    if joints is not None:
        keypoints[:, :, :2], keypoints[:, :, 2] = joints, 2
    return FrameTruth(
        np.array(list(people), np.int64),
        np.array([box_at(x) for x in people.values()], np.float32).reshape(-1, 4),
        keypoints,
        np.array([track in ignored for track in people], bool),
        np.full(len(people), at_rest),
    )


def finds(people: dict[int, float], joints: np.ndarray | None = None) -> list[Person]:
    keypoints = np.zeros((17, 3), np.float32)
    if joints is not None:
        keypoints[:, :2], keypoints[:, 2] = joints, 1
    return [Person(box_at(x), 0.9, keypoints, track) for track, x in people.items()]


def counted(truth: list[FrameTruth], people: list[list[Person]], **options: bool) -> Identities:
    return count_identities(truth, people, match_frames(truth, people), **options)


def test_everybody_found_with_one_number_is_perfect() -> None:
    truth = [labels({1: 10 + t, 2: 200 - t}) for t in range(10)]
    people = [finds({7: 10 + t, 8: 200 - t}) for t in range(10)]
    counts = counted(truth, people)
    assert counts == Identities(people=2, labeled=20, found=20, finds=20, same=20, kept=20, switches=0, fragments=0, frames=10)
    assert (counts.idf1, counts.kept_share) == (1, 1)


def test_numbers_that_are_swapped_are_two_switches_and_half_of_the_identities() -> None:
    truth = [labels({1: 10, 2: 200}) for _ in range(10)]
    people = [finds({7: 10, 8: 200} if t < 5 else {8: 10, 7: 200}) for t in range(10)]
    counts = counted(truth, people)
    assert (counts.switches, counts.fragments, counts.same) == (2, 0, 10)
    assert counts.idf1 == pytest.approx(0.5)
    assert counts.kept_share == pytest.approx(0.5)


def test_a_new_number_after_a_gap_is_a_switch_and_a_fragment() -> None:
    truth = [labels({1: 10}) for _ in range(10)]
    people = [finds({7: 10}) if t < 4 else [] if t < 6 else finds({9: 10}) for t in range(10)]
    counts = counted(truth, people)
    assert (counts.switches, counts.fragments, counts.found, counts.kept) == (1, 1, 8, 4)
    assert counts.idf1 == pytest.approx(2 * 4 / (10 + 8))


def test_the_same_number_after_a_gap_is_a_fragment_alone() -> None:
    truth = [labels({1: 10}) for _ in range(6)]
    people = [finds({7: 10}) if t != 3 else [] for t in range(6)]
    counts = counted(truth, people)
    assert (counts.switches, counts.fragments, counts.same) == (0, 1, 5)


def test_a_find_on_nobody_is_false_and_one_on_an_ignored_person_is_not() -> None:
    truth = [labels({1: 10, 2: 200}, ignored=(2,))]
    counts = counted(truth, [finds({7: 10, 8: 200, 9: 400})])
    assert (counts.labeled, counts.found, counts.finds) == (1, 1, 2)
    assert counted(truth, [finds({7: 10, 9: 400})], all_labeled=False).finds == 1


def test_who_was_matched_before_stays_matched_while_the_boxes_overlap() -> None:
    truth = [labels({1: 10}), labels({1: 14})]
    people = [finds({7: 10}), finds({8: 14, 7: 20})]  # 8 is nearer now
    matches = match_frames(truth, people)
    assert people[1][matches[1].found[1]].track == 7
    assert matches[1].false == [0]


def wandering(seed: int) -> tuple[list[FrameTruth], list[list[Person]]]:
    """Four people who pass one another, with missed and false finds and numbers that change."""
    rng = np.random.default_rng(seed)
    places, speeds = rng.uniform(0, 200, 4), rng.normal(0, 4, 4)
    numbers, fresh = {person: person + 10 for person in range(4)}, 100
    truth: list[FrameTruth] = []
    people: list[list[Person]] = []
    for _ in range(60):
        places = places + speeds
        seen = np.flatnonzero(rng.random(4) < 0.95)
        if rng.random() < 0.1:
            numbers[int(rng.integers(4))] = fresh
            fresh += 1
        if rng.random() < 0.1:
            first, second = rng.choice(4, 2, replace=False).tolist()
            numbers[first], numbers[second] = numbers[second], numbers[first]
        found = [(numbers[person], float(places[person] + rng.normal(0, 6))) for person in range(4) if rng.random() < 0.85]
        if rng.random() < 0.2:
            found.append((fresh, float(rng.uniform(0, 300))))
            fresh += 1
        truth.append(labels({int(person) + 1: float(places[person]) for person in seen}))
        people.append(finds(dict(found)))
    return truth, people


@pytest.mark.parametrize(("seed", "expected"), MOTMETRICS.items())
def test_counts_equal_those_of_py_motmetrics(seed: int, expected: tuple[float, int, int, int, int]) -> None:
    counts = counted(*wandering(seed))
    assert counts.idf1 == pytest.approx(expected[0], abs=1e-6)
    assert (counts.switches, counts.fragments, counts.found, counts.finds - counts.found) == expected[1:]


def test_finds_without_a_number_do_not_count() -> None:
    people = [[Person(box_at(10), 0.9, np.zeros((17, 3), np.float32))]]
    assert counted([labels({1: 10})], people).found == 0


def test_counts_of_clips_are_added() -> None:
    assert total_identities([Identities(people=1, same=2), Identities(people=2, switches=3)]) == Identities(people=3, same=2, switches=3)
    assert total_identities([]).idf1 is None


def test_jitter_is_the_deviation_of_people_at_rest_in_pixels_and_bodies() -> None:
    rng = np.random.default_rng(0)
    joints = rng.uniform(100, 140, (17, 2))
    truth = [labels({1: 100}, at_rest=True, joints=joints) for _ in range(2000)]
    people = [
        finds({7: 100}, joints + np.array([5, 3]) + rng.normal(0, 1.5, (17, 2))) for _ in range(2000)
    ]  # the steady error does not count
    jitter = measure_jitter(truth, people, match_frames(truth, people), 0.3)
    assert jitter.px == pytest.approx(1.5 * np.sqrt(2), rel=0.02)
    assert jitter.bodies == pytest.approx(1.5 * np.sqrt(2) / 60, rel=0.02)  # sqrt(40 x 90)
    assert measure_jitter([labels({1: 100}, joints=joints)] * 20, people[:20], match_frames(truth[:20], people[:20]), 0.3).px is None


@pytest.mark.parametrize("late_s", [0.0, 0.04, 0.12])
def test_lag_is_the_time_by_which_a_waving_wrist_is_late(late_s: float) -> None:
    times_s = np.arange(0, 6, 0.1)

    def joints(time_s: float) -> np.ndarray:
        return 120.0 + np.tile([20 * np.sin(2 * np.pi * time_s), 4 * np.cos(2 * np.pi * time_s)], (17, 1))

    truth = [labels({1: 100}, joints=joints(time_s)) for time_s in times_s]
    noise = np.random.default_rng(1).normal(0, 1, (60, 2))
    people = [finds({7: 100}, joints(time_s - late_s) + [2, 0] + noise[number]) for number, time_s in enumerate(times_s)]
    clip = LabeledClip("wave", lambda: iter(()), truth, times_s, True, events=[TrueEvent("waving", 1, 0.0, 6.0, wrist="left")])
    delay = measure_delay(clip, people, match_frames(truth, people), 0.3)
    assert delay.waves == 1
    assert delay.lag_s == pytest.approx(late_s, abs=0.011)
    assert measure_delay(clip, [[]] * 60, match_frames(truth, [[]] * 60), 0.3).lag_s is None


def reported(kind, at_s: float, track: int, zone: str | None = None) -> Event:
    at_ns = round(at_s * NS_PER_S)
    return Event(kind, "clip", 0, 0, at_ns, at_ns - NS_PER_S // 2, "stream", track, 1.0, (0, 0, 1, 1), 640, 360, zone)


def scored(happening: list[TrueEvent], reports: list[Event], *, ignored: tuple[int, ...] = ()) -> dict[str, EventCount]:
    times_s = np.arange(0, 8, 0.1)
    truth = [labels({1: 10, 2: 200}, ignored=ignored, joints=np.full((17, 2), 50.0)) for _ in times_s]
    people = [finds({7: 10, 8: 200}) for _ in times_s]
    clip = LabeledClip("events", lambda: iter(()), truth, times_s, True, events=happening)
    return score_events(clip, TrackedClip(people, [], reports, 0), match_frames(truth, people), EventsConfig(loiter_after_s=2.0))


@pytest.mark.parametrize(
    ("report", "precision", "recall"),
    [
        ([reported("fallen", 4.0, 7)], 1, 1),
        ([reported("fallen", 4.0, 8)], 0, 0),
        ([reported("fallen", 1.0, 7)], 0, 0),
        ([reported("fallen", 4.0, 7), reported("fallen", 5.0, 7)], 0.5, 1),
        ([reported("waving", 4.0, 7)], None, 0),
        ([], None, 0),
    ],
    ids=["right", "another person", "too early", "twice", "another kind", "missed"],
)
def test_a_report_is_right_once_for_the_person_at_the_time(report: list[Event], precision: float | None, recall: float) -> None:
    count = scored([TrueEvent("fallen", 1, 3.0, 8.0)], report)["fallen"]
    assert (count.precision, count.recall, count.happened) == (precision, recall, 1)


def test_zones_are_told_apart_and_the_invisible_counts_neither_way() -> None:
    happening = [TrueEvent("zone_entered", 1, 3.0, 3.0, zone="yard")]
    assert scored(happening, [reported("zone_entered", 3.6, 7, "yard")])["zone_entered"].recall == 1
    assert scored(happening, [reported("zone_entered", 3.6, 7, "roof")])["zone_entered"].right == 0
    late = scored([TrueEvent("zone_entered", 1, 7.4, 7.4, zone="yard")], [])["zone_entered"]
    assert late.happened == 0  # the clip ends before it can be reported
    hidden = scored(happening, [], ignored=(1,))["zone_entered"]
    assert (hidden.happened, hidden.recall) == (0, None)


def test_a_line_is_crossed_in_the_direction_in_which_it_was() -> None:
    happening = [TrueEvent("line_crossed", 1, 3.0, 3.0, line="gate", direction="left")]
    left = replace(reported("line_crossed", 3.6, 7), line="gate", direction="to_left")
    assert scored(happening, [left])["line_crossed"].recall == 1
    assert scored(happening, [replace(left, direction="to_right")])["line_crossed"].recall == 0
    assert scored(happening, [replace(left, line="door")])["line_crossed"].right == 0


def test_long_stays_in_a_zone_are_loitering_and_stays_of_about_that_time_count_neither_way() -> None:
    def loitering(entered_s: float, left_s: float, *reports: Event) -> EventCount:
        happening = [TrueEvent("zone_entered", 1, entered_s, entered_s, "yard"), TrueEvent("zone_left", 1, left_s, left_s, "yard")]
        return scored(happening, list(reports))["loitering"]

    report = reported("loitering", 3.3, 7, "yard")
    assert loitering(1.0, 6.0, report) == EventCount(1, 1, 1, 1)
    assert loitering(1.0, 6.0) == EventCount(1, 0, 0, 0)
    assert loitering(1.0, 3.2) == loitering(1.0, 3.2, report) == EventCount(0, 0, 0, 0)
    assert loitering(1.0, 2.0, report) == EventCount(0, 0, 1, 0)


def test_a_pose_that_is_mostly_outside_the_picture_counts_neither_way() -> None:
    joints = np.full((17, 2), 50.0)
    cut = labels({1: 10}, joints=joints)
    cut.keypoints[:, 6:, 2] = 0
    times_s = np.arange(0, 8, 0.1)
    clip = LabeledClip("cut", lambda: iter(()), [cut] * 80, times_s, True, events=[TrueEvent("fallen", 1, 3.0, 8.0)])
    people = [finds({7: 10})] * 80
    assert score_events(clip, TrackedClip(people, [], [], 0), match_frames(clip.truth, people), EventsConfig())["fallen"].happened == 0


JOINTS = [float(value) for joint in range(17) for value in (15 + 2 * joint, 15 + 5 * joint, 2)]


def test_drift_is_how_far_ground_is_from_where_the_motion_took_it_in_body_heights() -> None:
    """A camera 50 pixels a meter above the ground moves by 10 pixels a frame, and 9 are measured: 85 pixels are a body height."""
    grounds = np.array([[(50, 0, 320 - 10 * frame), (0, 50, 180), (0, 0, 1)] for frame in range(11)], np.float64)
    measured = Motion.of((1, 0, -9, 0, 1, 0, 0, 0, 1))
    assert ground_drift(grounds, [STILL, *[measured] * 10], 640, 360) == pytest.approx(10 / 85, rel=1e-4)
    assert ground_drift(grounds, [None] * 11, 640, 360) == pytest.approx(100 / 85, rel=1e-4)


def write_clips(folder: Path, image: np.ndarray, *, frames: int = 16) -> None:
    """Write a clip in which one picture stands still, with two people who are labeled where the picture shows something else."""
    (folder / "images" / "0000").mkdir(parents=True)
    images, annotations = [], []
    for number in range(frames):
        name = f"0000/{number:06d}.jpg"
        cv2.imwrite(str(folder / "images" / name), image)
        images.append({"id": number + 1, "video_id": 1, "frame_id": number, "file_name": name, "captured_at": number / 10})
        annotations.append(
            {"id": number + 1, "image_id": number + 1, "track_id": 1, "bbox": [10, 10, 40, 90], "at_rest": 1, "keypoints": JOINTS}
        )
    video = {"id": 1, "name": "0000", "elevation": 33, "camera": "still"}
    events = [{"video_id": 1, "track_id": 1, "kind": "fallen", "start": 0.2, "end": 1.1}]
    content = {"videos": [video], "images": images, "annotations": annotations, "events": events}
    (folder / "annotations.json").write_text(json.dumps(content))


def test_clips_go_through_the_steps_of_the_runtime(tmp_path: Path) -> None:
    write_clips(tmp_path, np.full((180, 320, 3), 90, np.uint8))
    done = CliRunner().invoke(
        cli, ["evaluate", "default", str(tmp_path), "--tracks", "--json", "--set", "smooth.enabled=false", "--set", "30"]
    )
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert list(figures) == [
        *("clips", "frames", "people", "IDF1", "switches", "fragments", "kept_id", "found", "false_per_frame"),
        *("jitter_px", "jitter_bodies", "jitter_bodies_unsmoothed", "lag_s", "lag_s_unsmoothed", "waves", "ground_drift"),
        *("precision", "refiner", "by_elevation", "by_camera", "events"),
    ]
    assert (figures["clips"], figures["frames"], figures["people"], figures["found"]) == (1, 16, 1, 0)
    assert figures["events"]["fallen"]["by_elevation"]["30"] == {"precision": None, "recall": 0, "happened": 1, "reported": 0}
    assert list(figures["by_camera"]) == ["still"]
    done = CliRunner().invoke(cli, ["evaluate", "default", str(tmp_path), "--tracks", "--true-boxes", "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert figures["found"] >= 0.9  # all but the frames until a track is certain
    assert (figures["switches"], figures["precision"], figures["refiner"]) == (0, "labels", "")
    table = CliRunner().invoke(cli, ["evaluate", "default", str(tmp_path), "--tracks"])
    assert table.exit_code == 0, table.output
    assert "switches" in table.output
    assert "fallen" in table.output


def test_a_video_with_the_boxes_of_one_person_gives_the_share_of_one_number(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "walk.mp4") as video:
        for number in range(8):
            video.write(unguarded(np.full((180, 320, 3), 90, np.uint8)), number * 100_000_000)
    with (tmp_path / "walk.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "x", "y", "w", "h"])
        writer.writerows([[number, 10, 20, 30, 60] for number in range(0, 8, 2)])
    (clip,) = read_clips(tmp_path)
    assert [len(frame.tracks) for frame in clip.truth] == [1, 0, 1, 0, 1, 0, 1, 0]
    assert clip.truth[0].boxes.tolist() == [[10, 20, 40, 80]]
    assert clip.times_s == pytest.approx(np.arange(8) / 10, abs=1e-3)
    figures = evaluate_tracks(find_model("default"), tmp_path, Config()).to_json()
    assert (figures["kept_id"], figures["found"], figures["IDF1"], figures["false_per_frame"]) == (0, 0, None, None)
    assert figures["events"] == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no labeled clips"),
        ({"images": [], "annotations": []}, "has no labels of clips"),
        ({"videos": [{"id": 1}], "images": [], "annotations": []}, "has no images"),
    ],
    ids=["empty", "pictures", "no frames"],
)
def test_what_holds_no_clips_is_refused(tmp_path: Path, content: dict[str, Any] | None, words: str) -> None:
    if content is not None:
        (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=rf"{words}.*; ?expected"):
        read_clips(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "smooth.enabled=false"], "expected it with --tracks"),
        (["--tracks", "--boxes"], "expected one of them"),
        (["--tracks", "--score", "0.2"], "expected no --score"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, options: list[str], words: str) -> None:
    done = CliRunner().invoke(cli, ["evaluate", "default", str(tmp_path), *options])
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", " ").split())

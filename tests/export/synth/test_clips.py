"""Rendered clips with their labels: people keep their identities and clothes, and the same seed gives the same labels."""

import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from edgepose.errors import ConfigError
from edgepose_export.cli.main import cli
from edgepose_export.data.coco import CocoPose
from edgepose_export.synth.bodies import Body, BodyModel, draw_shapes
from edgepose_export.synth.clips.folder import write_clips
from edgepose_export.synth.clips.maker import ClipPlan
from edgepose_export.synth.clips.motion import Actor, anchored, draw_act
from edgepose_export.synth.clothing import dress
from edgepose_export.synth.dataset import labels_hash
from edgepose_export.synth.effects import LOOKS, Appearance
from edgepose_export.synth.meshes import turn_z
from edgepose_export.synth.poses import Pose, draw_pose

pytestmark = [pytest.mark.needs("synth"), pytest.mark.xdist_group("synth")]

SMALL: dict[str, Any] = {"width": 240, "height": 136, "fps": 4, "seconds": 1.5}
ANKLES, HIPS, LEFT_WRIST, RIGHT_WRIST = slice(15, 17), slice(11, 13), 9, 10


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return BodyModel()


def bodies(model: BodyModel, actor: Actor, times_s: np.ndarray) -> tuple[list[Body], np.ndarray]:
    """The bodies of a person over time, and their keypoints (T, 17, 3) in the world."""
    shapes = {name: np.full(1, 0.5) for name in draw_shapes(np.random.default_rng(0), 1)} | {"age": np.full(1, 0.75)}
    postures = [actor.posture(time_s) for time_s in times_s]
    posed = [model.posed(shapes, [posture.pose], coarse=True)[0] for posture in postures]
    placed = [body.keypoints @ turn_z(posture.turn).T + anchored(body, posture) for body, posture in zip(posed, postures, strict=True)]
    return posed, np.array(placed)


def idle() -> Pose:
    pose = draw_pose(np.random.default_rng(2), {"stand": 1.0})
    for side in "LR":
        pose.arm(side, 0.1, 0.2, 0.1)
    return pose


def test_feet_that_stand_do_not_slide_and_nobody_floats(model: BodyModel) -> None:
    times_s = np.arange(0, 2.5, 0.05)
    posed, joints = bodies(model, Actor(idle(), np.zeros(2), np.array([1.1, 0.0])), times_s)
    assert all(body.vertices[:, 2].min() == pytest.approx(0, abs=0.03) for body in posed)
    speeds = np.linalg.norm(np.diff(joints[:, ANKLES, :2], axis=0), axis=2) / 0.05  # (T - 1, 2) m/s
    assert np.quantile(speeds.min(1), 0.9) < 0.35  # the standing foot, while the body moves at 1.1
    assert joints[-1, HIPS, 0].mean() - joints[0, HIPS, 0].mean() == pytest.approx(1.1 * 2.45, abs=0.02)
    assert speeds.max() > 2  # and the other one swings


def test_who_falls_lies_flat_where_the_feet_were(model: BodyModel) -> None:
    for seed in range(4):
        fall = draw_act(np.random.default_rng(seed), "fall", 0.5, 4.0)
        posed, joints = bodies(model, Actor(idle(), np.array([1.0, 2.0]), acts=[fall]), np.array([0.0, 2.0]))
        assert posed[0].vertices[:, 2].max() > 1.4
        assert posed[1].vertices[:, 2].max() < 0.8
        assert joints[1, HIPS, 2].max() < 0.3
        assert joints[1, ANKLES, :2].mean(0) == pytest.approx([1.0, 2.0], abs=0.02)


def test_a_waving_wrist_swings_above_the_shoulder_once_a_second(model: BodyModel) -> None:
    wave = draw_act(np.random.default_rng(1), "wave", 0.0, 8.0)
    _, joints = bodies(model, Actor(idle(), np.zeros(2), acts=[wave], at_rest=True), np.arange(1.0, 4.0, 0.1))
    wrist = LEFT_WRIST if wave.side == "L" else RIGHT_WRIST
    across = joints[:, wrist, 0] - joints[:, wrist - 4, 0]
    assert np.ptp(across) > 0.25
    assert across[:10] == pytest.approx(across[10:20], abs=0.01)
    assert (joints[:, wrist, 2] > joints[:, wrist - 4, 2] + 0.05).all()


def test_clothes_stay_the_same_in_every_pose(model: BodyModel) -> None:
    fall = draw_act(np.random.default_rng(3), "fall", 0.5, 4.0)
    posed, _ = bodies(model, Actor(idle(), np.zeros(2), acts=[fall]), np.array([0.0, 0.9, 3.0]))
    for seed in range(5):
        dressed = [dress(np.random.default_rng(seed), body) for body in posed]
        assert len({len(parts) for parts in dressed}) == 1
        assert all(np.array_equal(parts[0].colors, dressed[0][0].colors) for parts in dressed)


def test_a_folder_of_clips_is_complete_and_continues_where_it_was_interrupted(tmp_path: Path) -> None:
    plan = ClipPlan(4, **SMALL)
    whole = write_clips(plan, 6, tmp_path / "whole", 2, lambda done, total: None)
    write_clips(plan, 2, tmp_path / "parts", 1, lambda done, total: None)
    steps: list[tuple[int, int]] = []
    parts = write_clips(plan, 6, tmp_path / "parts", 1, lambda done, total: steps.append((done, total)))
    assert parts == whole == json.loads((tmp_path / "parts" / "annotations.json").read_text())
    assert labels_hash(parts) == labels_hash(whole)
    assert steps == [(done, 36) for done in range(13, 37)]
    assert [video["story"] for video in whole["videos"]] == ["falls", "waves", "arms_up", "zones", "crossings", "rest"]
    assert [image["captured_at"] for image in whole["images"] if image["video_id"] == 2] == [0, 0.25, 0.5, 0.75, 1, 1.25]
    videos = {video["id"]: video for video in whole["videos"]}
    for image in whole["images"]:
        picture = cv2.imread(str(tmp_path / "whole" / "images" / image["file_name"]))
        assert picture is not None
        assert picture.shape == (136, 240, 3)
        moves = videos[image["video_id"]]["camera"] != "still" and image["frame_id"] > 0
        assert np.allclose(image["camera_motion"], np.eye(3), atol=1e-6) != moves
    clip_of = {image["id"]: image["video_id"] for image in whole["images"]}
    assert all(person["track_id"] // 100 == clip_of[person["image_id"]] for person in whole["annotations"])
    assert {event["kind"] for event in whole["events"]} >= {"fallen", "waving", "arms_up"}
    assert CocoPose([tmp_path / "whole"]).people > 20  # training and evaluation read the frames as pictures
    resting = [person for person in whole["annotations"] if person.get("at_rest")]
    assert {clip_of[person["image_id"]] for person in resting} == {6}
    with pytest.raises(ConfigError, match=r"parts holds other data .*; expected a new folder"):
        write_clips(ClipPlan(5, **SMALL), 1, tmp_path / "parts", 1, lambda done, total: None)


def test_before_a_still_camera_people_at_rest_have_the_same_labels_in_every_frame(tmp_path: Path) -> None:
    plan = ClipPlan(2, **SMALL, stories=("rest",), elevations=(30,), movements=("still",))
    labels = write_clips(plan, 1, tmp_path, 1, lambda done, total: None)
    by_person: dict[int, set[str]] = {}
    for person in labels["annotations"]:
        by_person.setdefault(person["track_id"], set()).add(json.dumps([person["bbox"], person["keypoints"]]))
    assert len(by_person) >= 3
    assert all(len(kinds) == 1 for kinds in by_person.values())
    first, second = (read(tmp_path / "images" / "0000" / f"00000{number}.jpg") for number in (0, 1))
    assert 0.2 < np.abs(first - second).mean() < 8  # the sensor's noise alone


def read(path: Path) -> NDArray[np.int_]:
    picture = cv2.imread(str(path))
    assert picture is not None
    return np.asarray(picture, np.int_)


@pytest.mark.parametrize("look", [look for look in LOOKS if look != "clear"])
def test_a_look_changes_pictures_and_no_label(tmp_path: Path, look: Appearance) -> None:
    made = {}
    looks: tuple[Appearance, Appearance] = ("clear", look)
    for name in looks:
        plan = ClipPlan(3, **SMALL | {"seconds": 0.5}, elevations=(60,), looks=(name,))
        labels = write_clips(plan, 1, tmp_path / name, 1, lambda done, total: None)
        picture = read(tmp_path / name / "images" / "0000" / "000000.jpg")
        made[name] = (labels["annotations"], labels["events"], picture)
    assert made["clear"][:2] == made[look][:2]
    assert np.abs(made["clear"][2] - made[look][2]).mean() > 4
    if look == "thermal":
        assert np.ptp(made[look][2], axis=2).mean() < 6  # gray


def test_the_command_writes_clips_and_videos_and_refuses_what_only_clips_have(tmp_path: Path) -> None:
    small = ["--size", "128", "--seconds", "1", "--fps", "4", "--jobs", "1", "--mp4"]
    chosen = ["--story", "crossings", "--elevation", "90", "--camera", "flying"]
    arguments = ["synth", "--clips", "--count", "1", "--seed", "1", *small, *chosen, "-o", str(tmp_path / "set")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "set" / "annotations.json").read_text())
    assert "1 clips, 4 frames" in done.output
    assert "".join(done.output.split()).endswith(labels_hash(written))
    (video,) = written["videos"]
    assert (video["width"], video["height"], video["story"], video["elevation"], video["camera"]) == (128, 72, "crossings", 90, "flying")
    with av.open(str(tmp_path / "set" / "videos" / "0000.mp4")) as container:
        assert [round(frame.time, 3) for frame in container.decode(video=0)] == [0, 0.25, 0.5, 0.75]
    refused = CliRunner().invoke(cli, ["synth", "--count", "1", "--seed", "1", "--fps", "5", "-o", str(tmp_path / "other")])
    assert refused.exit_code == 2
    assert "expected --clips with them" in refused.output


def test_pictures_of_a_look_have_the_labels_of_others(tmp_path: Path) -> None:
    people = {}
    for look in ("night", "rain"):
        arguments = ["synth", "--count", "2", "--seed", "1", "--size", "128", "--jobs", "1", "--look", look, "-o", str(tmp_path / look)]
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        written = json.loads((tmp_path / look / "annotations.json").read_text())
        assert [image["look"] for image in written["images"]] == [look, look]
        people[look] = written["annotations"]
    assert people["night"] == people["rain"]

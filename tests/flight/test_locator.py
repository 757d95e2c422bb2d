"""People of a fixed camera on the ground: places, speeds, distances, sizes, zones and lines on the map, through all steps."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from edgepose.config.aircraft import FixedConfig, FlightConfig, IntrinsicsConfig, MavlinkConfig, MountConfig
from edgepose.config.cross_checks import check_together
from edgepose.config.schema import CameraConfig, Config, EventsConfig, MotionConfig, RefineConfig, SmoothConfig, TrackConfig
from edgepose.earth import LocalFrame
from edgepose.errors import ConfigError
from edgepose.event import Event, Occupancy
from edgepose.flight.geometry import CameraView
from edgepose.flight.history import AircraftPose, Attitude, GimbalAttitude
from edgepose.flight.mount import axes_of, lens_of, view_of
from edgepose.flight.places_file import read_places
from edgepose.flight.rotations import quaternion
from edgepose.flight.service import FlightService
from edgepose.frame import Frame
from edgepose.messages.compose import poses_message
from edgepose.messages.structs import encode
from edgepose.person import Candidates, Person
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.stages import PreparedFrame
from edgepose.pose.letterbox import Letterbox
from edgepose.telemetry.metrics import Metrics

IMAGE = np.zeros((480, 640, 3), np.uint8)
LETTERBOX = Letterbox.fit(480, 640, 240, 320)
HOME = (47.0, 8.0)
MOUNT = MountConfig(field_of_view_deg=70, pitch_deg=-35, angle_error_deg=0.5)
FIXED = FixedConfig(latitude=HOME[0], longitude=HOME[1], height_m=12, heading_deg=90)


def config(flight: FlightConfig | None = None, mount: MountConfig = MOUNT) -> Config:
    chosen = flight or FlightConfig(
        source="fixed",
        fixed=FIXED,
        tilt_error_deg=0.3,
        heading_error_deg=0.5,
        height_error_m=0.2,
        position_error_m=0.1,
    )
    return Config(
        cameras={"a": CameraConfig(source="x", mount=mount)},
        flight=chosen,
        track=TrackConfig(min_hits=1),
        smooth=SmoothConfig(enabled=False),
        motion=MotionConfig(enabled=False),
        refine=RefineConfig(people=0),
        events=EventsConfig(zone_after_s=0.3, line_after_s=0.3),
    )


def camera_view(mount: MountConfig = MOUNT) -> CameraView:
    pose = AircraftPose(Attitude(quaternion(0, 0, math.radians(90))), 12.0)
    return view_of(mount, pose, 0.0, 0.0, lens_of(mount, 640, 480))


def standing(east: float, north: float, height: float = 1.7) -> tuple[np.ndarray, np.ndarray]:
    """Return box and keypoints of somebody who stands at a place."""
    heights = np.array([1.0] * 5 + [0.85] * 2 + [0.7] * 2 + [0.55] * 2 + [0.55] * 2 + [0.3] * 2 + [0.06] * 2) * height
    points = np.stack((np.full(17, east), np.full(17, north), heights), 1)
    points[1::2, 1] += 0.15
    points[2::2, 1] -= 0.15
    points[0, 1] = north
    pixels = camera_view().pixels(points)
    low = camera_view().pixels(np.array([[east, north, 0.0]]))[0, 1]
    box = np.array([pixels[:, 0].min() - 2, pixels[:, 1].min() - 2, pixels[:, 0].max() + 2, low])
    return box, np.concatenate((pixels, np.full((17, 1), 0.9)), 1)


class Mast:
    """A camera on a mast that receives people at ten frames a second."""

    def __init__(self, settings: Config) -> None:
        self.service = FlightService(settings)
        self.steps = Postprocessor("a", settings, Metrics(), flight=self.service)
        self.number = 0
        self.events: list[Event] = []

    def show(self, *people: tuple[np.ndarray, np.ndarray]) -> list[Person]:
        self.number += 1
        frame = Frame(IMAGE, 10**18 + self.number * 100_000_000, "stream", self.number, "a")
        boxes = np.array([[box / 2 for box, _ in people]], np.float32).reshape(1, len(people), 4)
        keypoints = np.array([[points * (0.5, 0.5, 1) for _, points in people]], np.float32).reshape(1, len(people), 17, 3)
        candidates = Candidates(boxes, np.full((1, len(people)), 0.9, np.float32), keypoints)
        found = self.steps.people(PreparedFrame(frame, LETTERBOX, IMAGE[None]), candidates)
        self.events += self.steps.events
        self.message = json.loads(encode(poses_message(frame, found, frame.captured_at_ns, "full", self.steps.aircraft)))
        return found


def test_two_people_have_places_speeds_and_a_distance() -> None:
    mast = Mast(config())
    for step in range(25):
        found = mast.show(standing(18 + 0.14 * step, 3), standing(20, -2))
    walker, other = sorted(found, key=lambda person: -(person.ground.north_m if person.ground else 0))
    assert walker.ground is not None
    assert other.ground is not None
    assert (walker.ground.east_m, walker.ground.north_m) == pytest.approx((18 + 0.14 * 24, 3), abs=0.3)
    assert walker.ground.speed_mps == pytest.approx(1.4, abs=0.15)
    assert walker.ground.course_deg == pytest.approx(90, abs=6)
    assert other.ground.speed_mps == pytest.approx(0, abs=0.05)
    assert walker.ground.nearest_m == pytest.approx(math.hypot(1.36, 5), abs=0.4)
    said = mast.message["people"][0]["ground"]
    frame = LocalFrame(*HOME)
    assert frame.meters(said["lat"], said["lon"]) == pytest.approx((said["east_m"], said["north_m"]), abs=0.02)
    assert said["radius_m"] < 2.0
    assert mast.message["aircraft"] == {
        **{"state": "ok", "age_ms": 0.0, "origin": list(HOME), "lat": HOME[0], "lon": HOME[1], "height_m": 12.0},
        **{"heading_deg": 90.0, "camera_pitch_deg": -35.0, "camera_heading_deg": 90.0},
    }


def test_without_telemetry_the_message_says_so_and_nobody_has_a_place() -> None:
    pytest.importorskip("pymavlink")
    mast = Mast(config(FlightConfig(source="mavlink", mavlink=MavlinkConfig(address="udpin://127.0.0.1:1"))))
    assert [person.ground for person in mast.show(standing(20, 0))] == [None]
    assert mast.message["aircraft"] == {"state": "no_telemetry"}
    assert "ground" not in mast.message["people"][0]


def test_a_camera_without_a_mount_has_no_step_for_it() -> None:
    mast = Mast(Config(cameras={"a": CameraConfig(source="x")}, flight=FlightConfig(source="fixed")))
    mast.show(standing(20, 0))
    assert "aircraft" not in mast.message
    assert "ground" not in dict(mast.steps._steps)


def test_a_mast_of_unknown_place_gives_meters_only() -> None:
    mast = Mast(config(FlightConfig(source="fixed", fixed=FixedConfig(height_m=12, heading_deg=90))))
    mast.show(standing(20, 4))
    assert set(mast.message["people"][0]["ground"]) == {"east_m", "north_m", "radius_m"}


def test_finds_of_impossible_size_are_weighed_down_where_that_is_on() -> None:
    weighing = FlightConfig(source="fixed", fixed=FIXED, weigh_sizes=True)
    giant = standing(20, 0, height=6.0)
    assert len(Mast(config()).show(giant, standing(20, 6))) == 2
    assert len(Mast(config(weighing)).show(giant, standing(20, 6))) == 1


def test_two_zones_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "places.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature("door", "Polygon", (15, 2), (30, 2), (30, 20))]}))
    both = config(FlightConfig(source="fixed", fixed=FIXED, places_file=str(path)))
    camera = replace(both.cameras["a"], zones={"door": [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]})
    with pytest.raises(ConfigError, match=r"has a zone door, as cameras\.a has; expected two names"):
        FlightService(replace(both, cameras={"a": camera}))


def feature(name: str, kind: str, *points: tuple[float, float]) -> dict[str, object]:
    frame = LocalFrame(*HOME)
    corners = [list(reversed(frame.degrees(*point))) for point in points]
    return {
        "type": "Feature",
        "properties": {"name": name},
        "geometry": {"type": kind, "coordinates": [corners] if kind == "Polygon" else corners},
    }


def test_zones_and_lines_on_the_map_make_events(tmp_path: Path) -> None:
    path = tmp_path / "places.geojson"
    zone = feature("meadow", "Polygon", (15, 2), (30, 2), (30, 20), (15, 20), (15, 2))
    fence = feature("fence", "LineString", (10, 0), (40, 0))  # eastward: north of it is on its left
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [zone, fence]}))
    flight = FlightConfig(
        source="fixed",
        fixed=FIXED,
        tilt_error_deg=0.2,
        heading_error_deg=0.2,
        height_error_m=0.1,
        position_error_m=0.1,
        places_file=str(path),
    )
    mast = Mast(config(flight))
    for step in range(60):
        mast.show(standing(20, -6 + 0.2 * step))
    assert mast.steps.occupancy == {None: Occupancy(1, 1, 0), "meadow": Occupancy(1, 1, 0)}
    for _ in range(50):
        mast.show()
    assert mast.steps.occupancy == {None: Occupancy(0, 1, 1), "meadow": Occupancy(0, 1, 1)}
    made = [(event.kind, event.zone or event.line, event.direction) for event in mast.events]
    assert [event for event in made if event[1]] == [
        ("line_crossed", "fence", "to_left"),
        ("zone_entered", "meadow", None),
        ("zone_left", "meadow", None),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "has no list of features"),
        ('{"features": [{}]}', "feature 1 has no usable name"),
        ('{"features": [{"properties": {"name": "a"}, "geometry": {"type": "Point", "coordinates": [1, 2]}}]}', "is a Point"),
        (
            '{"features": [{"properties": {"name": "a"}, "geometry": {"type": "LineString", "coordinates": [[1, 2], [200, 1]]}}]}',
            "in degrees",
        ),
        ('{"features": [{"properties": {"name": "a"}, "geometry": {"type": "Polygon", "coordinates": [[[1, 2], [1, 3]]]}}]}', "2 corners"),
        ('{"features": [{"properties": {"name": "a"}, "geometry": {"type": "LineString", "coordinates": [[1, 2], [1, NaN]]}}]}', "degrees"),
    ],
)
def test_a_file_of_places_that_is_wrong_is_refused_with_one_sentence(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "places.geojson"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says):
        read_places(path)


def test_a_gimbal_turns_the_camera_and_not_the_body() -> None:
    mount = MountConfig(field_of_view_deg=70, gimbal=True)
    tilted = Attitude(quaternion(math.radians(20), math.radians(10), math.radians(30)))
    level = quaternion(0, math.radians(-60), math.radians(15))
    for from_nose, heading in ((True, 45.0), (False, 15.0)):
        forward = axes_of(mount, AircraftPose(tilted, 10.0, gimbal=GimbalAttitude(level, from_nose)))[:, 2]
        assert math.degrees(math.asin(forward[2])) == pytest.approx(-60)
        assert math.degrees(math.atan2(forward[0], forward[1])) == pytest.approx(heading, abs=0.01)


def test_a_calibrated_lens_is_scaled_to_the_frame_and_the_lever_turns_with_the_body() -> None:
    intrinsics = IntrinsicsConfig(width=1280, height=960, focal_x_px=900, focal_y_px=910, center_x_px=650, center_y_px=470)
    lens = lens_of(MountConfig(intrinsics=intrinsics), 640, 480)
    assert (lens.focal_x_px, lens.focal_y_px, lens.center_x_px, lens.center_y_px) == (450, 455, 325, 235)
    mount = MountConfig(field_of_view_deg=70, position_m=(1.0, 0.0, 0.5))
    pose = AircraftPose(Attitude(quaternion(0, 0, math.radians(90))), 10.0)
    assert view_of(mount, pose, 100.0, 200.0, lens).position == pytest.approx((101, 200, 9.5))


@pytest.mark.parametrize(
    ("flight", "mount", "says"),
    [
        (FlightConfig(), MountConfig(), "neither is set"),
        (FlightConfig(source="mqtt"), MOUNT, "flight.topic is absent"),
        (FlightConfig(source="fixed"), MountConfig(field_of_view_deg=60, gimbal=True), "gimbal is true while"),
        (FlightConfig(source="fixed", height="sea_level"), MOUNT, "ground_altitude_m is absent"),
        (FlightConfig(source="fixed", fixed=FixedConfig(latitude=3.0)), MOUNT, "expected both or neither"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(flight: FlightConfig, mount: MountConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_together(config(flight, mount))

"""Sections of the configuration about what carries the cameras: their mounts, the telemetry of an aircraft, and reports to it."""

from typing import Annotated, Literal

from msgspec import Meta

from edgepose.config.fields import Section, file_key

Degrees = Annotated[float, Meta(ge=-360, le=360)]

FieldOfView = Annotated[float, Meta(gt=0, le=170)]

_Meters3 = tuple[
    Annotated[float, Meta(ge=-1000, le=1000)], Annotated[float, Meta(ge=-1000, le=1000)], Annotated[float, Meta(ge=-1000, le=1000)]
]

Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]

LinkAddress = Annotated[str, Meta(pattern=r"^((udpin|udpout|tcpout)://[^\s/:@]+:[0-9]{1,5}|serial://[^\s:]+:[0-9]+)$")]


class IntrinsicsConfig(Section, frozen=True):
    """A calibrated lens, as OpenCV's `calibrateCamera` measures it."""

    width: Annotated[int, Meta(ge=1, description="width in pixels of the frames that it was measured in; other sizes are scaled")]
    height: Annotated[int, Meta(ge=1, description="height of those frames in pixels")]
    focal_x_px: Annotated[float, Meta(gt=0, description="focal length across, fx")]
    focal_y_px: Annotated[float, Meta(gt=0, description="focal length down, fy")]
    center_x_px: Annotated[float, Meta(description="principal point, cx")]
    center_y_px: Annotated[float, Meta(description="principal point, cy")]
    distortion: Annotated[
        list[float],
        Meta(max_length=8, description="coefficients k1 k2 p1 p2 k3 k4 k5 k6: none, 4, 5 or 8 of them"),
    ] = []


class MountConfig(Section, frozen=True):
    """Where a camera sits and looks: on the body of an aircraft, on its gimbal, or on a mast."""

    field_of_view_deg: Annotated[
        FieldOfView | None, Meta(description="horizontal field of view in degrees; this or `intrinsics` must be set")
    ] = None
    position_m: Annotated[_Meters3, Meta(description="meters to the front, to the right and down from where the position is measured")] = (
        0.0,
        0.0,
        0.0,
    )
    roll_deg: Annotated[Degrees, Meta(description="angle around the optical axis; positive turns the camera clockwise")] = 0.0
    pitch_deg: Annotated[Degrees, Meta(description="angle of the optical axis above the front of the body; -90 looks straight down")] = 0.0
    yaw_deg: Annotated[Degrees, Meta(description="angle of the optical axis to the right of the front of the body")] = 0.0
    gimbal: Annotated[
        bool, Meta(description="the camera hangs on a gimbal that reports its attitude; the angles here are then on the gimbal")
    ] = False
    angle_error_deg: Annotated[float, Meta(ge=0, le=45, description="standard deviation of each angle of the mount, or of the gimbal")] = (
        1.0
    )
    delay_s: Annotated[
        float,
        Meta(ge=-10, le=10, description="how much earlier than `captured_at` a frame was captured: the camera's delay"),
    ] = 0.0
    intrinsics: IntrinsicsConfig | None = None


class MavlinkConfig(Section, frozen=True):
    """MAVLink telemetry of an autopilot."""

    address: Annotated[
        LinkAddress,
        Meta(
            description="udpin://HOST:PORT (listens), udpout://HOST:PORT, tcpout://HOST:PORT, or serial:///dev/NAME:BAUD",
        ),
    ] = "udpin://127.0.0.1:14540"
    system_id: Annotated[int, Meta(ge=0, le=255, description="system of the vehicle; 0 takes the first autopilot with a heartbeat")] = 0
    component_id: Annotated[int, Meta(ge=1, le=255, description="component of the autopilot")] = 1
    signing_key_file: Annotated[
        str | None,
        Meta(
            description="file with the 32 bytes of the link's signing key, as they are or in hexadecimal; packets without a valid signature"
            " are then dropped, and sent ones are signed",
            extra=file_key("read", "the signing key of MAVLink"),
        ),
    ] = None


class FixedConfig(Section, frozen=True):
    """An attitude and a position that do not change: a mast, a window, a balloon on a rope."""

    latitude: Annotated[Latitude | None, Meta(description="degrees; without it, places have no latitude and longitude")] = None
    longitude: Annotated[Longitude | None, Meta(description="degrees")] = None
    height_m: Annotated[float, Meta(gt=0, le=20_000, description="meters above the ground")] = 10.0
    roll_deg: Annotated[Degrees, Meta(description="right side down")] = 0.0
    pitch_deg: Annotated[Degrees, Meta(description="front up")] = 0.0
    heading_deg: Annotated[Degrees, Meta(description="direction of the front, clockwise from north")] = 0.0


class FlightReportConfig(Section, frozen=True):
    """What edgepose tells the autopilot and a ground station. It never sends a command."""

    heartbeat: Annotated[
        bool, Meta(description="send the daemon's health as an onboard computer: HEARTBEAT every second, STATUSTEXT when it changes")
    ] = False
    people_address: Annotated[
        LinkAddress | None,
        Meta(description="address of a ground station that people are sent to as ADSB_VEHICLE; without it they are sent to nobody"),
    ] = None
    people_limit: Annotated[int, Meta(ge=1, le=100, description="people of a camera that are sent each second, the surest first")] = 20
    component_id: Annotated[int, Meta(ge=1, le=255, description="component that edgepose is; 191 is the onboard computer")] = 191


class FlightConfig(Section, frozen=True):
    """Telemetry of the aircraft that carries the cameras: it places people on the ground."""

    source: Annotated[
        Literal["none", "mavlink", "mqtt", "fixed"],
        Meta(description="where height, attitude and position come from; cameras without a `mount` do not use them"),
    ] = "none"
    topic: Annotated[
        str | None,
        Meta(description="topic of JSON telemetry on the broker of `mqtt`; docs/aircraft.md has its fields"),
    ] = None
    maximum_age_s: Annotated[
        float, Meta(gt=0, le=60, description="longest time between a frame and the nearest sample; beyond it nobody has a place")
    ] = 1.0
    height: Annotated[
        Literal["home", "sea_level", "rangefinder", "terrain"],
        Meta(
            description="what the height above the ground is taken from: above the place of the start (`home`), altitude less"
            " `ground_altitude_m`, a rangefinder that points down, or the autopilot's terrain data"
        ),
    ] = "home"
    ground_altitude_m: Annotated[
        Annotated[float, Meta(ge=-500, le=9000)] | None,
        Meta(description="altitude of the ground above mean sea level, for `height: sea_level`"),
    ] = None
    tilt_error_deg: Annotated[float, Meta(ge=0, le=45, description="standard deviation of roll and pitch")] = 1.0
    heading_error_deg: Annotated[float, Meta(ge=0, le=180, description="standard deviation of the heading")] = 3.0
    height_error_m: Annotated[float, Meta(ge=0, le=1000, description="standard deviation of the height above the ground")] = 1.0
    position_error_m: Annotated[float, Meta(ge=0, le=1000, description="standard deviation of the position, east and north")] = 2.0
    origin: Annotated[
        tuple[Latitude, Longitude] | None,
        Meta(description="latitude and longitude that `east_m` and `north_m` count from; default: the first position of the run"),
    ] = None
    places_file: Annotated[
        str | None,
        Meta(
            description="GeoJSON file of zones (Polygon) and lines (LineString) on the map, for all cameras with a mount; a reload reads it"
            " again",
            extra=file_key("read", "the zones and lines on the map"),
        ),
    ] = None
    weigh_sizes: Annotated[
        bool, Meta(description="lower the scores of finds above the horizon, or much larger or smaller than a person at their place")
    ] = False
    mavlink: MavlinkConfig = MavlinkConfig()
    fixed: FixedConfig = FixedConfig()
    report: FlightReportConfig = FlightReportConfig()

"""The flight service: telemetry of one configuration, and the locators of its cameras."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgepose.config.aircraft import FixedConfig, MountConfig
from edgepose.config.schema import Config
from edgepose.errors import ConfigError
from edgepose.ground import Aircraft, TelemetryState, WorldPlaces
from edgepose.person import Person

if TYPE_CHECKING:  # without telemetry none of these is loaded
    from edgepose.flight.expected_sizes import ExpectedSizes, PoseAt
    from edgepose.flight.ground_locator import GroundLocator, Origin
    from edgepose.flight.history import TelemetryHistory
    from edgepose.flight.mavlink.connection import MavlinkConnection
    from edgepose.flight.topic_telemetry import TopicReader

_CLOSING_S = 1.0


class FlightStats(msgspec.Struct, frozen=True):
    """Telemetry at one moment.

    Attributes:
        source: key `flight.source`.
        state: whether people could be placed now by a camera without a gimbal, or what is missing.
        rate_hz: attitudes per second.
        packets: packets or messages of the vehicle.
        lost: packets that never came, by their numbers.
        restarts: times that the vehicle has started again.
        dropped: what did not become a sample, by cause.
        failure: why the link is not open, one sentence; None where it is.
        battery: share of the vehicle's battery that remains; None where it does not say.
        age_s: time since the newest attitude or position, whichever is longer ago; None where one is missing, or nothing moves.
    """

    source: str
    state: TelemetryState
    rate_hz: float = 0.0
    packets: int = 0
    lost: int = 0
    restarts: int = 0
    dropped: Mapping[str, int] = msgspec.field(default_factory=dict)
    failure: str | None = None
    battery: float | None = None
    age_s: float | None = None


class PreparedFlight(msgspec.Struct, frozen=True, eq=False):
    """What a configuration needs of flight, read and checked.

    Attributes:
        places: on the map.
        history: None where there is no telemetry that moves.
        connection: not yet started; None where there is no MAVLink.
    """

    places: WorldPlaces
    history: "TelemetryHistory | None"
    connection: "MavlinkConnection | None"


def prepare_flight(config: Config) -> PreparedFlight:
    """Read the places and the key of a link.

    Raises:
        ConfigError: one of them cannot be read, a zone on the map has the name of one in the frame of a camera that uses both, or
            pymavlink is not installed.
    """
    flight = config.flight
    places = WorldPlaces()
    if flight.places_file is not None:
        from edgepose.flight.places_file import read_places

        places = read_places(Path(flight.places_file))
    for name, camera in config.cameras.items():
        both = sorted(set(camera.zones).intersection(places.zones)) if camera.mount is not None else []
        if both:
            raise ConfigError(f"flight.places_file {flight.places_file} has a zone {both[0]}, as cameras.{name} has; expected two names")
    if flight.source not in ("mavlink", "mqtt"):
        return PreparedFlight(places, None, None)
    from edgepose.flight.history import TelemetryHistory

    history = TelemetryHistory(flight)
    if flight.source == "mqtt":
        return PreparedFlight(places, history, None)
    from edgepose.flight.mavlink.connection import MavlinkConnection

    return PreparedFlight(places, history, MavlinkConnection(flight, history))


class FlightService:
    """The service; the main thread configures it, the postprocess thread uses its locators.

    Args:
        config: the whole configuration.

    Raises:
        ConfigError: as of `prepare_flight`.

    Attributes:
        places: zones and lines on the map.
    """

    places: WorldPlaces

    def __init__(self, config: Config) -> None:
        self._config = config
        self._history: TelemetryHistory | None = None
        self._connection: MavlinkConnection | None = None
        self._topic_reader: TopicReader | None = None
        self._origin: Origin | None = None  # which all cameras share
        self._adopt(config, prepare_flight(config))

    def start(self) -> None:
        """Start to listen."""
        if self._connection is not None:
            self._connection.start()

    def change(self, config: Config, prepared: PreparedFlight) -> None:
        """Apply another configuration; what listens goes on where its settings stay."""
        before, connection = self._config.flight, self._connection
        if before.origin != config.flight.origin:
            self._origin = None
        if before == config.flight:
            self._config, self.places = config, prepared.places
            return
        if connection is not None:
            connection.close(_CLOSING_S)
        self._adopt(config, prepared)
        self.start()

    def close(self) -> None:
        """End what listens."""
        if self._connection is not None:
            self._connection.close(_CLOSING_S)

    @property
    def topic_reader(self) -> "TopicReader | None":
        """The reader of the topic `flight.topic`; None where telemetry comes from elsewhere."""
        return self._topic_reader

    def locator(self, camera: str) -> "GroundLocator | None":
        """Return a locator for a camera; None where it has no mount, or there is no telemetry."""
        mount = self._mount(camera)
        if mount is None:
            return None
        from edgepose.flight.ground_locator import GroundLocator, Origin

        origin = self._origin = self._origin or Origin(self._config.flight)
        pose_at = _poses_of(self._config.flight.fixed, self._history)
        return GroundLocator(mount, self._config.flight, pose_at, origin, self._config.pose.keypoint_threshold)

    def expected_sizes(self, camera: str) -> "ExpectedSizes | None":
        """Return the expected sizes of the people of a camera; None where it has no mount, or there is no telemetry."""
        mount = self._mount(camera)
        if mount is None:
            return None
        from edgepose.flight.expected_sizes import ExpectedSizes

        return ExpectedSizes(mount, self._config.flight, _poses_of(self._config.flight.fixed, self._history))

    def tell_people(self, camera: str, aircraft: Aircraft, people: Sequence[Person]) -> None:
        """Tell a ground station of the people of a frame, where that is wanted."""
        if self._connection is not None and self._config.flight.report.people_address is not None:
            from edgepose.flight.reports import SeenPeople

            self._connection.tell_people(camera, SeenPeople(aircraft, people, time.monotonic()))

    def tell_health(self, degraded: Sequence[str], *, works: bool) -> None:
        """Tell the autopilot of the daemon's health, where that is wanted."""
        if self._connection is not None:
            self._connection.tell_health(degraded, works=works)

    def stats(self) -> FlightStats | None:
        """Return the telemetry of this moment; None where there is none."""
        source, history = self._config.flight.source, self._history
        if source == "none":
            return None
        if history is None:
            return FlightStats(source, "ok")
        from edgepose.flight.history import AircraftPose

        now_ns = time.monotonic_ns()
        pose = history.pose(now_ns, gimbal=False)
        state: TelemetryState = "ok" if isinstance(pose, AircraftPose) else pose
        rate_hz, dropped, age_s = history.rate_hz(now_ns), dict(history.dropped), history.age_s(now_ns)
        if self._connection is None:
            packets = 0 if self._topic_reader is None else self._topic_reader.messages
            return FlightStats(source, state, rate_hz, packets, dropped=dropped, age_s=age_s)
        reader = self._connection.reader
        if self._connection.malformed:
            dropped["malformed"] = self._connection.malformed
        failure = self._connection.failure_text
        return FlightStats(source, state, rate_hz, reader.packets, reader.lost, reader.restarts, dropped, failure, reader.battery, age_s)

    def _mount(self, camera: str) -> MountConfig | None:
        """Return the mount of a camera; None where it has none, or there is no telemetry."""
        settings = self._config.cameras.get(camera)
        return None if settings is None or self._config.flight.source == "none" else settings.mount

    def _adopt(self, config: Config, prepared: PreparedFlight) -> None:
        self._config = config
        self.places = prepared.places
        self._history, self._connection = prepared.history, prepared.connection
        self._topic_reader = None
        if prepared.history is not None and prepared.connection is None:
            from edgepose.flight.topic_telemetry import TopicReader

            self._topic_reader = TopicReader(prepared.history)


def _poses_of(fixed: FixedConfig, history: "TelemetryHistory | None") -> "PoseAt":
    if history is not None:
        return lambda time_ns, gimbal: history.pose(time_ns, gimbal=gimbal)
    from edgepose.flight.history import AircraftPose, Attitude
    from edgepose.flight.rotations import quaternion

    body = quaternion(*map(math.radians, (fixed.roll_deg, fixed.pitch_deg, fixed.heading_deg)))
    pose = AircraftPose(Attitude(body), fixed.height_m, fixed.latitude, fixed.longitude)
    return lambda time_ns, gimbal: pose

"""The simulation of a device: all topics and events, from a seed, with no camera and no model."""

import platform
import time
from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import UNSET
from msgspec.structs import replace

from edgepose import __version__
from edgepose.config.load import device_name
from edgepose.config.schema import CameraConfig, Config, EventsConfig
from edgepose.daemon.health import DaemonSnapshot, health_message
from edgepose.daemon.info import camera_message, poses_info, privacy_info
from edgepose.daemon.place_states import PlaceStates
from edgepose.frame import NS_PER_S
from edgepose.messages.camera_places import NOWHERE
from edgepose.messages.camera_state import CameraState
from edgepose.messages.schema import topic_address
from edgepose.messages.structs import (
    BackendMessage,
    BundleMessage,
    CameraMessage,
    CommandReplyMessage,
    InfoMessage,
    Message,
    ModelMessage,
    timestamp,
)
from edgepose.mqtt.stats import PublisherStats
from edgepose.pipeline.delivery import Delivery, Webhook
from edgepose.pipeline.pipeline import CameraStats, PipelineStats
from edgepose.simulation.camera import CameraScript, SimulatedCamera
from edgepose.telemetry.metrics import Metrics
from edgepose.telemetry.sensors import MachineStats

CAMERA_NAMES = ("front", "yard", "gate", "roof")

_ZONE = [(0.3, 0.0), (0.7, 0.0), (0.7, 1.0), (0.3, 1.0)]
_LINE = ((0.8, 0.0), (0.8, 1.0))
_LOITER_S = 4.0  # sooner than the default, so that it happens within a minute
_BUILD = {"version": __version__, "model": "simulated", "refiner": ""}


class StatesAndMessages(Protocol):
    """The part of `edgepose.mqtt.publisher.MqttPublisher` that a simulation needs."""

    def publish_poses(self, camera: str, payload: Message) -> None:
        """Publish the poses of one frame."""
        ...

    def publish_retained(self, address: str, payload: Message | bytes, *, whole: bool = False) -> None:
        """Set the state of a topic."""
        ...

    def clear(self, address: str, *, whole: bool = False) -> None:
        """Clear the state of a topic."""
        ...

    def publish(self, address: str, payload: Message, qos: Literal[0, 1] = 0) -> None:
        """Publish a message once."""
        ...


def simulated_config(config: Config, cameras: int) -> Config:
    """Return a configuration with simulated cameras in the place of its own, each with a zone and a line.

    Args:
        config: of the broker, the device and what is published.
        cameras: how many.
    """
    names = [CAMERA_NAMES[n] if n < len(CAMERA_NAMES) else f"camera-{n + 1}" for n in range(cameras)]
    camera = CameraConfig(source="simulated", zones={"door": _ZONE}, lines={"fence": _LINE})
    events = replace(config.events, loiter_after_s=min(config.events.loiter_after_s, _LOITER_S))
    defaults = EventsConfig()
    return replace(
        config,
        device=config.device or "simulator",
        cameras=dict.fromkeys(names, camera),
        events=replace(events, still_after_s=defaults.still_after_s),
    )


class Simulation:
    """A simulated device. The same seed publishes the same messages, but for times and what is made of them (`id`).

    Args:
        config: of `simulated_config`.
        publisher: receives all messages.
        seed: of walkers.
        people: walkers of each camera.
        rate_hz: frames a second of each camera.
        start_ns: capture time of the first frames, nanoseconds since the Unix epoch.
        webhook: receives events as well.
        stats: returns what the publisher says of itself, for health messages.
        machine: returns what the machine says of itself, for health messages.
    """

    def __init__(
        self,
        config: Config,
        publisher: StatesAndMessages,
        *,
        seed: int = 0,
        people: int = 3,
        rate_hz: float = 10.0,
        start_ns: int,
        webhook: Webhook | None = None,
        stats: Callable[[], PublisherStats] = lambda: PublisherStats(enabled=True, state="connected"),
        machine: Callable[[], MachineStats] = MachineStats,
    ) -> None:
        self._config = config
        self._publisher = publisher
        self._rate_hz = rate_hz
        self._start_ns = start_ns
        self._metrics = Metrics()
        self._cameras = [SimulatedCamera(name, config, seed, number, people, self._metrics) for number, name in enumerate(config.cameras)]
        self._script = CameraScript()
        self._places = PlaceStates(publisher)
        occupancy = self._places.occupancy
        self._delivery = Delivery(publisher, [], self._metrics, occupancy=occupancy, webhook=webhook, profile=config.privacy.profile)
        self._stats, self._machine = stats, machine
        self._number = 0
        self._reported: DaemonSnapshot | None = None
        self._next_health_s = config.health.interval_s

    def begin(self) -> None:
        """Publish all states as a daemon does at its start."""
        self._places.configure(self._config, NOWHERE, self._start_ns)
        self._publisher.publish_retained(topic_address("info"), self._info())
        self._publisher.publish_retained(topic_address("bundle"), BundleMessage(state="none", at=timestamp(self._start_ns)))
        for camera in self._cameras:
            self._enter(camera, camera.state, 0.0)

    def turn(self) -> float:
        """Publish the next frame of each camera, and all else that is due; return its moment in seconds from the start."""
        t_s = self._number / self._rate_hz
        self._number += 1
        for camera in self._cameras:
            paused = camera is self._cameras[-1] and self._script.is_paused(t_s)
            if paused and camera.state.state != "paused":
                self._enter(camera, replace(camera.state, state="paused", cause="command", detail="paused by a command"), t_s)
                self._reply("pause", t_s)
            elif not paused:
                if camera.state.state == "paused":
                    self._enter(camera, camera.resumed(), t_s)
                    self._reply("resume", t_s)
                if camera.state.state != "streaming":
                    self._enter(camera, camera.streaming(), t_s)
                self._delivery.deliver(camera.frame(t_s, self._start_ns))
        if t_s >= self._next_health_s:
            self._next_health_s += self._config.health.interval_s
            self._report(t_s)
        return t_s

    def run(self, *, seconds: float | None, speed: float, ended: Callable[[float], bool]) -> None:
        """Publish at the pace of the frames until the time is over.

        Args:
            seconds: simulated seconds; None for no end.
            speed: simulated seconds a second; 0 does not wait.
            ended: waits for a number of seconds, and returns whether the simulation must end.
        """
        began_s = time.monotonic()
        self.begin()
        while seconds is None or self._number < seconds * self._rate_hz:
            t_s = self.turn()
            wait_s = began_s + t_s / speed - time.monotonic() if speed else 0.0
            if ended(max(0.0, wait_s)):
                return

    def end(self) -> None:
        """Take all places back: a simulated device must not stay in Home Assistant."""
        self._places.withdraw(replace(self._config, cameras={}), NOWHERE)

    def _at_ns(self, t_s: float) -> int:
        return self._start_ns + round(t_s * NS_PER_S)

    def _enter(self, camera: SimulatedCamera, state: CameraState, t_s: float) -> None:
        camera.enter(state)
        self._publisher.publish_retained(topic_address("camera-status", camera.name), camera_message(state, self._at_ns(t_s)))

    def _reply(self, command: str, t_s: float) -> None:
        message = CommandReplyMessage(command=command, status="ok", at=timestamp(self._at_ns(t_s)))
        self._publisher.publish(topic_address("reply").replace("{command}", command), message, qos=1)

    def _report(self, t_s: float) -> None:
        snapshot = DaemonSnapshot(
            time_ns=self._at_ns(t_s),
            now_s=t_s,
            build=_BUILD,
            pipeline=PipelineStats(cameras={camera.name: CameraStats(camera.state) for camera in self._cameras}),
            publisher=self._stats(),
            machine=self._machine(),
            metrics=self._metrics.stats(drain=True),
        )
        self._publisher.publish(topic_address("health"), health_message(snapshot, self._reported))
        self._reported = snapshot

    def _info(self) -> InfoMessage:
        device = device_name(self._config)
        return InfoMessage(
            device=device,
            started_at=timestamp(self._start_ns),
            versions={"edgepose": __version__, "python": platform.python_version()},
            model=ModelMessage(name="simulated", sha256="0" * 64),
            backend=BackendMessage(name="simulated", device="none", precision="none", reason="there is no network"),
            refiner=UNSET,
            poses=poses_info(self._config.mqtt),
            privacy=privacy_info(self._config.privacy),
            cameras=[CameraMessage(name=name, source="simulated") for name in self._config.cameras],
        )

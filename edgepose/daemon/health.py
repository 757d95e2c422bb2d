"""What the daemon says of itself: frames, drops by cause, durations, memory, heat, and why there is no pose."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import UNSET

from edgepose.daemon.why import CameraProgress, diagnose
from edgepose.messages.camera_state import CameraState
from edgepose.messages.structs import CameraHealthMessage, HealthMessage, QuantilesMessage, RefineHealthMessage, timestamp
from edgepose.pose.image_quality import ImageQuality
from edgepose.telemetry.metrics import Latency, Metrics, RefineCounts
from edgepose.telemetry.sensors import Throttling, memory_mb, temperatures_c

_NOT_LOOKED_AT = ("engine_failed", "pose_failed")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else is known when health is reported.

    Attributes:
        reconnects: times that each camera came back.
        visibilities: newest measure of each camera's pictures.
        restarts: times that a stage died or hung and was begun again.
        stuck: loops that hang now.
        cpu_fallback: whether the network runs on the CPU since the accelerator does not work.
        black_box_drops: records that the black box did not keep, by cause; None where there is none.
        commands_ignored: commands that were not even looked at, by cause; None where none are heard.
        broker_reconnects: times that the broker came back.
        events_waiting: events that the broker has not got yet.
        store_failed: whether events are in memory only since their file cannot be written.
        rival: session of another daemon of our name.
        reload_refused: why the newest configuration is not in use.
    """

    reconnects: Mapping[str, int] = field(default_factory=dict)
    image_qualities: Mapping[str, ImageQuality] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    stuck: Sequence[str] = ()
    cpu_fallback: bool = False
    black_box_drops: Mapping[str, int] | None = None
    commands_ignored: Mapping[str, int] | None = None
    broker_reconnects: int = 0
    events_waiting: int = 0
    store_failed: bool = False
    duplicate_session: str | None = None
    reload_refused: str | None = None


class HealthReporter:
    """Builds health messages; rates are over the time since the message before."""

    def __init__(self, metrics: Metrics, started_s: float, system: Path = Path("/sys")) -> None:
        """
        Args:
            started_s: monotonic time of the daemon's start.
            system: where the kernel shows its sensors.
        """
        self._metrics = metrics
        self._started_s = started_s
        self._reported_s = started_s
        self._system = system
        self._seen: dict[str, CameraProgress] = {}
        self._throttling = Throttling(system)

    def report(
        self,
        cameras: Sequence[CameraState],
        messages: int,
        message_drops: dict[str, int],
        now_s: float,
        around: Circumstances = Circumstances(),
    ) -> HealthMessage:
        """The health at monotonic time `now_s`.

        Args:
            cameras: what is known of each camera.
            messages: messages handed to the broker since the start.
            message_drops: messages that were not, by cause.
            around: what else is known.
        """
        interval_s = max(1e-3, now_s - self._reported_s)
        self._reported_s = now_s
        ages = self._metrics.ages()
        looks = self._metrics.looks()
        throttled = self._throttling.look()
        return HealthMessage(
            at=timestamp(time.time_ns()),
            uptime_s=round(now_s - self._started_s, 1),
            cameras={state.camera: self._camera(state, ages.get(state.camera), interval_s, around) for state in cameras},
            stages_ms={stage: _quantiles(latency) for stage, latency in self._metrics.latencies().items()},
            restarts=dict(around.restarts),
            refine=UNSET if looks is None else _refine(looks),
            messages=messages,
            message_drops=message_drops,
            black_box_drops=UNSET if around.black_box_drops is None else dict(around.black_box_drops),
            commands_ignored=UNSET if around.commands_ignored is None else dict(around.commands_ignored),
            broker_reconnects=around.broker_reconnects,
            events_waiting=around.events_waiting,
            duplicate_session=UNSET if around.duplicate_session is None else around.duplicate_session,
            reload_refused=UNSET if around.reload_refused is None else around.reload_refused,
            degraded=_degraded(around, throttled),
            memory_mb=round(memory_mb(), 1),
            temperatures_c=temperatures_c(self._system),
            throttled=UNSET if throttled is None else throttled,
        )

    def _camera(self, state: CameraState, age: Latency | None, interval_s: float, around: Circumstances) -> CameraHealthMessage:
        counts = self._metrics.camera(state.camera)
        failed = sum(counts.dropped.get(cause, 0) for cause in _NOT_LOOKED_AT)
        before, now = self._seen.get(state.camera, CameraProgress()), CameraProgress(counts.published, failed, counts.people)
        self._seen[state.camera] = now
        return CameraHealthMessage(
            state=state.state,
            diagnosis=diagnose(state, now, before, around.image_qualities.get(state.camera)),
            frames=counts.published,
            frames_per_second=round((counts.published - before.published) / interval_s, 2),
            drops=counts.dropped,
            reconnects=around.reconnects.get(state.camera, 0),
            age_ms=UNSET if age is None else _quantiles(age),
        )


def _degraded(around: Circumstances, throttled: bool | None) -> list[str]:
    degraded = [
        name
        for name, is_so in (
            ("cpu_fallback", around.cpu_fallback),
            ("throttled", bool(throttled)),
            ("events_in_memory", around.store_failed),
        )
        if is_so
    ]
    return degraded + [f"stuck:{stage}" for stage in around.stuck]


def _refine(looks: RefineCounts) -> RefineHealthMessage:
    return RefineHealthMessage(
        refined=looks.accepted + looks.disagreed,
        accepted=looks.accepted,
        disagreed=looks.disagreed,
        dismissed=looks.dismissed,
        skipped=looks.skipped,
        failed=looks.failed,
        cost_ms=round(looks.cost_ms, 2),
    )


def _quantiles(latency: Latency) -> QuantilesMessage:
    return QuantilesMessage(p50=latency.p50_ms, p95=latency.p95_ms, p99=latency.p99_ms, maximum=latency.maximum_ms)

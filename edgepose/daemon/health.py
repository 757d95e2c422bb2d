"""The status of the daemon as one value, and what a health message reports of it: rates, degradations, and why there is no pose."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from edgepose.encryption.files import state_files
from edgepose.messages.camera_state import CameraState
from edgepose.messages.flight_structs import FlightHealthMessage, HeatHealthMessage
from edgepose.messages.structs import (
    CameraHealthMessage,
    Diagnosis,
    HealthMessage,
    QuantilesMessage,
    RefineHealthMessage,
    WebhookHealthMessage,
    timestamp,
)
from edgepose.mqtt.stats import PublisherStats
from edgepose.pipeline.pipeline import CameraStats, PipelineStats
from edgepose.pose.image_quality import ImageQuality
from edgepose.telemetry.metrics import CameraCounts, Latency, MetricsStats, RefineCounts
from edgepose.telemetry.sensors import MachineStats

if TYPE_CHECKING:  # parts that not every daemon has
    from edgepose.engine.tensorrt.build import BuildProgress
    from edgepose.flight.service import FlightStats
    from edgepose.recorder.black_box import RecorderStats
    from edgepose.webhook.sender import WebhookStats

_NOT_PROCESSED = ("engine_failed", "pose_failed")


class ServiceStats(msgspec.Struct, frozen=True):
    """A service at one moment.

    Attributes:
        viewers: connections that look on.
        dropped: frames that they did not get because they were slow, since the start.
    """

    viewers: int = 0
    dropped: int = 0


class DaemonSnapshot(msgspec.Struct, frozen=True):
    """The status of all parts of the daemon at one moment; health messages, metrics and readiness are functions of it.

    Attributes:
        time_ns: nanoseconds since the Unix epoch.
        now_s: the same moment on the monotonic clock.
        started_s: start of the daemon on the monotonic clock.
        build: what runs, as labels of a metric.
        not_better: why a better backend is not used; empty where the best one is.
        building: how far the build of a better engine is; None where none is built.
        pipeline: cameras and stages.
        publisher: the connection to the broker.
        webhook: None where no events are posted.
        recorder: the black box; None where there is none.
        service: the live page; None where there is none.
        metrics: counters of frames, people and durations.
        machine: memory, temperature, throttling.
        restarts: times that a stage died or hung and was restarted, by name; those of the pipeline included.
        stuck: stages that hang now, `publisher`, `writer` and `main` included.
        reload_refused: why the newest configuration is not in use, one sentence; None where it is.
        clock_unset: why the wall clock is not to be believed, in a few words; None where it may be right.
        flight: telemetry of the aircraft; None without.
        heat: steps of the heat policy that are taken, and why.
        health: the last health message, None before the first.
        storage_damage: places of stored files that did not verify, by cause.
    """

    time_ns: int = 0
    now_s: float = 0.0
    started_s: float = 0.0
    build: Mapping[str, str] = msgspec.field(default_factory=dict)
    not_better: str = ""
    building: "BuildProgress | None" = None
    pipeline: PipelineStats = msgspec.field(default_factory=PipelineStats)
    publisher: PublisherStats = msgspec.field(default_factory=PublisherStats)
    webhook: "WebhookStats | None" = None
    recorder: "RecorderStats | None" = None
    service: ServiceStats | None = None
    metrics: MetricsStats = msgspec.field(default_factory=MetricsStats)
    machine: MachineStats = msgspec.field(default_factory=MachineStats)
    restarts: Mapping[str, int] = msgspec.field(default_factory=dict)
    stuck: tuple[str, ...] = ()
    reload_refused: str | None = None
    clock_unset: str | None = None
    flight: "FlightStats | None" = None
    heat: tuple[Sequence[str], str] = ((), "")
    health: HealthMessage | None = None
    storage_damage: Mapping[str, int] = msgspec.field(default_factory=lambda: dict(state_files().damage))


def health_message(snapshot: DaemonSnapshot, previous: DaemonSnapshot | None) -> HealthMessage:
    """Return the health message of a snapshot.

    Args:
        snapshot: with drained latency samples (`Metrics.stats`).
        previous: that of the previous message, from which rates and changes are counted; None counts them from the start.
    """
    interval_s = max(1e-3, snapshot.now_s - (snapshot.started_s if previous is None else previous.now_s))
    publisher, metrics, machine = snapshot.publisher, snapshot.metrics, snapshot.machine
    throttled = machine.throttle.throttled(None if previous is None else previous.machine.throttle)
    before = MetricsStats() if previous is None else previous.metrics
    return HealthMessage(
        at=timestamp(snapshot.time_ns),
        uptime_s=round(snapshot.now_s - snapshot.started_s, 1),
        cameras={
            name: _camera(camera, metrics.camera(name), before.camera(name), metrics.age_latencies.get(name), interval_s)
            for name, camera in snapshot.pipeline.cameras.items()
        },
        stages_ms={stage: _quantiles(latency) for stage, latency in metrics.stage_latencies.items()},
        restarts=dict(snapshot.restarts),
        model=snapshot.build.get("model", ""),
        refiner=snapshot.build.get("refiner") or UNSET,
        backend=snapshot.build.get("backend", ""),
        backend_reason=snapshot.not_better or UNSET,
        building_engine=UNSET if snapshot.building is None else round(snapshot.building.percent, 1),
        refine=UNSET if metrics.refine is None else _refine(metrics.refine),
        messages=publisher.sent,
        message_drops=dict(publisher.drops),
        black_box_drops=UNSET if snapshot.recorder is None else dict(snapshot.recorder.drops),
        commands_ignored=UNSET if publisher.commands_ignored is None else dict(publisher.commands_ignored),
        broker_reconnects=publisher.reconnects,
        events_waiting=publisher.events_waiting,
        events_lost=_lost(publisher.store_lost),
        webhook=UNSET if snapshot.webhook is None else _webhook(snapshot.webhook),
        flight=UNSET if snapshot.flight is None else _flight(snapshot.flight),
        heat=HeatHealthMessage(given_up=list(snapshot.heat[0]), reason=snapshot.heat[1]) if snapshot.heat[0] else UNSET,
        duplicate_session=UNSET if publisher.duplicate_session is None else publisher.duplicate_session,
        reload_refused=UNSET if snapshot.reload_refused is None else snapshot.reload_refused,
        degraded=_degraded(snapshot, throttled),
        images_sent_to=list(snapshot.pipeline.images_sent_to) or UNSET,
        memory_mb=round(machine.memory_mb, 1),
        temperatures_c=dict(machine.temperatures_c),
        throttled=UNSET if throttled is None else throttled,
        gpu_load=UNSET if machine.gpu_load is None else machine.gpu_load,
        power_w=dict(machine.power_w) or UNSET,
    )


class CameraProgress(msgspec.Struct, frozen=True):
    """The outcome of a camera's frames.

    Attributes:
        published: pose messages since the start.
        failed: frames since the start that could not be processed.
        people: people in the newest message.
    """

    published: int = 0
    failed: int = 0
    people: int = 0

    @classmethod
    def of(cls, counts: CameraCounts) -> "CameraProgress":
        """Return the progress that the counts show."""
        return cls(counts.published, sum(counts.dropped.get(cause, 0) for cause in _NOT_PROCESSED), counts.people)


def diagnose(state: CameraState, now: CameraProgress, before: CameraProgress, quality: ImageQuality | None) -> Diagnosis:
    """Return the one diagnosis that best explains why a camera yields poses or none.

    Args:
        state: of the camera.
        now: progress at this report.
        before: progress at the report before.
        quality: of a frame of the last second or so, None where none was measured.
    """
    if state.state == "paused":
        return "paused"
    if state.cause == "frozen":
        return "frozen"
    if state.state == "connecting" and state.epoch == 0:
        return "warming_up"
    if state.state != "streaming":
        return "no_video"
    if now.published == before.published and now.failed > before.failed:
        return "not_processed"
    if not now.published:
        return "warming_up"
    if now.people:
        return "person"
    impairment = quality.impairment if quality is not None else None
    return impairment or "no_person"


def status_line(health: HealthMessage) -> str:
    """Return one line for `systemctl status`."""
    rate = sum(camera.frames_per_second for camera in health.cameras.values())
    streaming = sum(camera.state == "streaming" for camera in health.cameras.values())
    return f"{streaming} of {len(health.cameras)} cameras streaming, {rate:.1f} frames/s, {health.memory_mb:.0f} MiB"


def _camera(camera: CameraStats, counts: CameraCounts, before: CameraCounts, age: Latency | None, interval_s: float) -> CameraHealthMessage:
    return CameraHealthMessage(
        state=camera.state.state,
        diagnosis=diagnose(camera.state, CameraProgress.of(counts), CameraProgress.of(before), camera.image_quality),
        frames=counts.published,
        frames_per_second=round((counts.published - before.published) / interval_s, 2),
        drops=dict(counts.dropped),
        reconnects=camera.reconnects,
        people_over_limit=counts.over_limit or UNSET,
        undecidable_from_above=dict(counts.undecidable) or UNSET,
        tiles_coverage=UNSET if counts.coverage is None else round(counts.coverage[0], 3),
        tiles_oldest_s=UNSET if counts.coverage is None or math.isinf(counts.coverage[1]) else round(counts.coverage[1], 2),
        age_ms=UNSET if age is None else _quantiles(age),
    )


def _lost(count: int | None) -> str | UnsetType:
    return "unknown" if count is None else str(count) if count else UNSET


def _degraded(snapshot: DaemonSnapshot, throttled: bool | None) -> list[str]:
    degraded = [
        name
        for name, applies in (
            ("cpu_fallback", snapshot.pipeline.cpu_fallback),
            ("building_engine", snapshot.building is not None),
            ("throttled", bool(throttled)),
            ("events_in_memory", snapshot.publisher.store_failure is not None),
            ("clock_unset", snapshot.clock_unset is not None),
            ("events_lost", snapshot.publisher.store_lost != 0),
            ("heat", bool(snapshot.heat[0])),
            ("telemetry_missing", snapshot.flight is not None and snapshot.flight.state != "ok"),
            ("webhook_failing", snapshot.webhook is not None and snapshot.webhook.failure is not None),
        )
        if applies
    ]
    degraded += [f"server_{state}" for state in snapshot.pipeline.server_states]
    return degraded + [f"stuck:{stage}" for stage in snapshot.stuck]


def _flight(stats: "FlightStats") -> FlightHealthMessage:
    return FlightHealthMessage(
        source=stats.source,
        state=stats.state,
        rate_hz=round(stats.rate_hz, 1),
        packets=stats.packets,
        lost=stats.lost,
        restarts=stats.restarts,
        drops=dict(stats.dropped),
        failure=UNSET if stats.failure is None else stats.failure,
        battery=UNSET if stats.battery is None else stats.battery,
    )


def _webhook(stats: "WebhookStats") -> WebhookHealthMessage:
    return WebhookHealthMessage(
        delivered=stats.delivered,
        waiting=stats.waiting,
        failures=dict(stats.failures),
        drops=dict(stats.drops),
        failure=UNSET if stats.failure is None else stats.failure,
    )


def _refine(counts: RefineCounts) -> RefineHealthMessage:
    return RefineHealthMessage(
        refined=counts.accepted + counts.disagreed,
        accepted=counts.accepted,
        disagreed=counts.disagreed,
        dismissed=counts.dismissed,
        doubles=counts.doubles,
        skipped=counts.skipped,
        failed=counts.failed,
        cost_ms=round(counts.cost_ms, 2),
    )


def _quantiles(latency: Latency) -> QuantilesMessage:
    return QuantilesMessage(p50=latency.p50_ms, p95=latency.p95_ms, p99=latency.p99_ms, maximum=latency.maximum_ms)

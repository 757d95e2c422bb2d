"""The daemon's counters in Prometheus' format, read when they are asked for: nothing is kept twice and nothing runs in between.

Label values are names from the configuration, fixed names of this program, or the kernel's names of sensors. Track numbers are none
of these: each would be a series of its own, for ever.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, get_args

from msgspec import UNSET
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from edgepose.capture.failures import CAUSES
from edgepose.daemon.link import Link
from edgepose.event import EventKind
from edgepose.messages.camera_state import CameraState, State
from edgepose.messages.structs import Diagnosis, HealthMessage
from edgepose.mqtt.command_inbox import IGNORED_CAUSES
from edgepose.mqtt.outbox import Cause
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.telemetry.histogram import Buckets
from edgepose.telemetry.http_server import Answer
from edgepose.telemetry.metrics import DROP_CAUSES, REFINE_FAILURES, Metrics

STATES: tuple[str, ...] = get_args(State)
CAMERA_CAUSES = (*CAUSES, "end_of_stream", "internal", "command")
KINDS: tuple[str, ...] = get_args(EventKind)
WHYS: tuple[str, ...] = get_args(Diagnosis)
BLACK_BOX_DROPS = ("busy", "failed")
DEGRADATIONS = ("cpu_fallback", "throttled", "events_in_memory")
MESSAGE_CAUSES: tuple[str, ...] = get_args(Cause)


class Work(Protocol):
    """What the exporter asks of `edgepose.pipeline.pipeline.Pipeline`."""

    def states(self) -> Sequence[CameraState]:
        """What is known of each camera now."""
        ...

    def reconnects(self) -> Mapping[str, int]:
        """Times that each camera came back."""
        ...

    def heartbeats(self) -> Mapping[str, object]:
        """All stages, by name."""
        ...


class Exporter(Collector):
    """Everything that the daemon knows of itself, as metric families."""

    def __init__(
        self,
        build: Callable[[], Mapping[str, str]],
        metrics: Metrics,
        work: Work,
        link: Link,
        health: Callable[[], HealthMessage | None],
    ) -> None:
        """
        Args:
            build: labels of `edgepose_build_info`.
            work: cameras and stages.
            link: to the broker, where there is one.
            health: the last health message, None before the first.
        """
        self._build = build
        self._metrics = metrics
        self._work = work
        self._link = link
        self._health = health
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def page(self, accept: str) -> Answer:
        """The page `/metrics`: OpenMetrics where the caller accepts it, Prometheus' text format otherwise."""
        encoder, content_type = choose_encoder(accept)
        return Answer(200, content_type, encoder(self._registry))

    def collect(self) -> Iterator[Metric]:
        """All metric families now."""
        yield InfoMetricFamily("edgepose_build", "What runs here.", value=dict(self._build()))
        yield _gauge("process_threads", "Threads of this process.", {(): _threads()})
        yield from self._of_cameras(self._work.states())
        yield _histogram("edgepose_stage_duration_seconds", "Time a frame spends in a stage.", "stage", self._metrics.stage_buckets())
        health = self._health()
        yield from self._of_stages(health)
        yield from self._of_refinement()
        publisher = self._link.publisher
        if publisher is not None:
            yield from _of_broker(self._link, publisher)
        yield from _of_health(health)

    def _of_cameras(self, states: Sequence[CameraState]) -> Iterator[Metric]:
        now_s = time.monotonic()
        counts = {state.camera: self._metrics.camera(state.camera) for state in states}
        yield _gauge(
            "edgepose_camera_state",
            "1 for the state that the camera is in, 0 for the others.",
            {(state.camera, name): float(name == state.state) for state in states for name in STATES},
            "camera",
            "state",
        )
        yield _gauge(
            "edgepose_camera_fault",
            "1 for the reason why the camera gives no frames, 0 for the others.",
            {(state.camera, cause): value for state in states for cause, value in _one_of(CAMERA_CAUSES, state.cause)},
            "camera",
            "cause",
        )
        yield _counter(
            "edgepose_camera_reconnects",
            "Times that the stream came back after it was lost.",
            {(name,): count for name, count in self._work.reconnects().items()},
            "camera",
        )
        yield _counter(
            "edgepose_frames_received",
            "Frames that the source gave.",
            {(name,): count.received for name, count in counts.items()},
            "camera",
        )
        yield _counter(
            "edgepose_poses_published",
            "Frames that became a pose message.",
            {(name,): count.published for name, count in counts.items()},
            "camera",
        )
        yield _counter(
            "edgepose_frames_dropped",
            "Frames that became no pose message, or (writer_busy, writer_failed) reached no file.",
            {(name, cause): value for name, count in counts.items() for cause, value in _by_cause(DROP_CAUSES, count.dropped)},
            "camera",
            "cause",
        )
        # An age and not a time of day: the clocks of a drone and of a ground station need not agree.
        yield _gauge(
            "edgepose_camera_last_frame_age_seconds",
            "Time since the last frame; absent before the first.",
            {(name,): now_s - count.last_frame_s for name, count in counts.items() if count.last_frame_s is not None},
            "camera",
        )
        yield _gauge(
            "edgepose_people", "People in the last pose message.", {(name,): count.people for name, count in counts.items()}, "camera"
        )
        yield _counter(
            "edgepose_events",
            "What people did.",
            {(name, kind): self._metrics.events(name).get(kind, 0) for name in counts for kind in KINDS},
            "camera",
            "kind",
        )
        ages = {name: buckets for name, buckets in self._metrics.age_buckets().items() if name in counts}
        yield _histogram("edgepose_pose_age_seconds", "Time from the picture to its pose message, live sources.", "camera", ages)

    def _of_stages(self, health: HealthMessage | None) -> Iterator[Metric]:
        restarts, degraded = (health.restarts, health.degraded) if health is not None else ({}, [])
        stages = dict.fromkeys((*self._work.heartbeats(), "publisher", "writer", *restarts))
        yield _counter(
            "edgepose_stage_restarts",
            "Times that a stage died or hung and was begun again.",
            {(stage,): restarts.get(stage, 0) for stage in stages},
            "stage",
        )
        yield _gauge(
            "edgepose_stage_stuck",
            "Whether the stage hangs.",
            {(stage,): float(f"stuck:{stage}" in degraded) for stage in stages},
            "stage",
        )

    def _of_refinement(self) -> Iterator[Metric]:
        looks = self._metrics.looks()
        if looks is None:
            return
        yield _counter(
            "edgepose_refined_people",
            "People looked at again, by whether the second pose agreed with the first.",
            {("accepted",): looks.accepted, ("disagreed",): looks.disagreed},
            "result",
        )
        yield _counter("edgepose_refine_skipped_people", "People whom the budget left out.", {(): looks.skipped})
        yield _counter("edgepose_refine_dismissed_people", "People not published since a second look found nobody.", {(): looks.dismissed})
        yield _counter(
            "edgepose_refine_failed_people",
            "People whose turn it was in vain.",
            {(cause,): value for cause, value in _by_cause(REFINE_FAILURES, looks.failed)},
            "cause",
        )
        yield _gauge("edgepose_refine_cost_seconds", "What looking at one person takes now.", {(): looks.cost_ms / 1e3})


def _of_broker(link: Link, publisher: MqttPublisher) -> Iterator[Metric]:
    yield _gauge("edgepose_mqtt_connected", "Whether the broker has let us in.", {(): float(link.connected)})
    yield _counter("edgepose_mqtt_reconnects", "Times that the broker came back.", {(): link.reconnects})
    yield _gauge(
        "edgepose_mqtt_duplicate_session",
        "Whether another daemon publishes under our name.",
        {(): float(link.duplicate_session is not None)},
    )
    yield _gauge("edgepose_events_waiting", "Events that the broker has not got yet.", {(): link.events_waiting})
    yield _gauge("edgepose_events_waiting_limit", "Events that may wait; then the oldest is lost.", {(): publisher.events_limit})
    yield _gauge(
        "edgepose_event_store_failed",
        "Whether events wait in memory only since their file cannot be written.",
        {(): float(publisher.store_failure is not None)},
    )
    yield _counter("edgepose_mqtt_messages_sent", "Messages handed to the network.", {(): link.sent})
    yield _counter(
        "edgepose_mqtt_messages_dropped",
        "Messages lost.",
        {(cause,): value for cause, value in _by_cause(MESSAGE_CAUSES, link.drops)},
        "cause",
    )
    ignored = link.commands_ignored
    yield _counter(
        "edgepose_commands_ignored",
        "Commands that were not even looked at; absent where none are heard.",
        {(cause,): value for cause, value in _by_cause(IGNORED_CAUSES, ignored)} if ignored is not None else {},
        "cause",
    )


def _of_health(health: HealthMessage | None) -> Iterator[Metric]:
    """What only the last health message says: some of it is known only as what changed since the one before."""
    cameras = {} if health is None else health.cameras
    yield _gauge(
        "edgepose_camera_diagnosis",
        "1 for what explains that there are poses or none, 0 for the others.",
        {(name, why): float(why == camera.diagnosis) for name, camera in cameras.items() for why in WHYS},
        "camera",
        "diagnosis",
    )
    degraded = [] if health is None else health.degraded
    yield _gauge(
        "edgepose_degraded",
        "1 for what works less well than it should.",
        {(name,): float(name in degraded) for name in DEGRADATIONS},
        "degradation",
    )
    refused = float(health is not None and health.reload_refused is not UNSET)
    yield _gauge("edgepose_reload_refused", "Whether the newest configuration was refused and an older one is in use.", {(): refused})
    lost = UNSET if health is None else health.black_box_drops
    yield _counter(
        "edgepose_black_box_dropped_frames",
        "Records, one a frame or change of state, that the black box did not keep.",
        {(cause,): value for cause, value in _by_cause(BLACK_BOX_DROPS, lost)} if lost is not UNSET else {},
        "cause",
    )
    temperatures = {} if health is None else health.temperatures_c
    yield _gauge(
        "edgepose_temperature_celsius",
        "Temperature by sensor of the kernel.",
        {(name,): value for name, value in temperatures.items()},
        "sensor",
    )
    throttled: dict[tuple[str, ...], float] = (
        {(): float(health.throttled)} if health is not None and isinstance(health.throttled, bool) else {}
    )
    yield _gauge("edgepose_throttled", "Whether the processor is slowed down by heat or supply; absent where unknown.", throttled)


def _gauge(name: str, what: str, values: Mapping[tuple[str, ...], float], *labels: str) -> Metric:
    family = GaugeMetricFamily(name, what, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, what: str, values: Mapping[tuple[str, ...], float], *labels: str) -> Metric:
    family = CounterMetricFamily(name, what, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, what: str, label: str, values: Mapping[str, Buckets]) -> Metric:
    family = HistogramMetricFamily(name, what, labels=[label])
    for key, buckets in values.items():
        if not any(buckets.counts):
            continue  # a stage that is off: its quantiles would be no numbers
        total, cumulative = 0, []
        for bound, count in zip((*buckets.bounds_s, float("inf")), buckets.counts, strict=True):
            total += count
            cumulative.append(("+Inf" if bound == float("inf") else str(bound), total))
        family.add_metric([key], cumulative, buckets.sum_s)
    return family


def _by_cause(known: Iterable[str], counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Every known cause, zeros included, so that a first loss shows in `rate()`; what is unknown goes together under `other`."""
    names = tuple(known)
    yield from ((name, counts.get(name, 0)) for name in names)
    yield "other", sum(count for name, count in counts.items() if name not in names)


def _one_of(known: Sequence[str], now: str | None) -> Iterator[tuple[str, float]]:
    yield from ((name, float(name == now)) for name in known)
    yield "other", float(now is not None and now not in known)


def _threads() -> float:
    """Threads of this process, those of native libraries included."""
    return len(list(Path("/proc/self/task").iterdir()))

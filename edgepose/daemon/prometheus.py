"""The status of the daemon in Prometheus' format, computed at each request: nothing is stored twice and nothing runs between requests.

Label values are names from the configuration, fixed names of this program, or the kernel's names of sensors. Track numbers are not among
them: each would be a series that never ends.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from edgepose.capture.failures import CAUSES
from edgepose.config.heat import HeatStep
from edgepose.daemon.health import DaemonSnapshot
from edgepose.encryption.files import DAMAGES
from edgepose.event import EventKind
from edgepose.events.view import UNDECIDABLE_KINDS
from edgepose.flight.history import DROP_CAUSES as TELEMETRY_DROPS
from edgepose.flight.service import FlightStats
from edgepose.ground import TelemetryState
from edgepose.messages.camera_state import State
from edgepose.messages.structs import Diagnosis
from edgepose.mqtt.command_inbox import IGNORED_CAUSES
from edgepose.mqtt.outbox import Cause
from edgepose.mqtt.stats import PublisherStats
from edgepose.telemetry.histogram import Buckets
from edgepose.telemetry.http_server import Answer
from edgepose.telemetry.metrics import DROP_CAUSES, REFINE_FAILURES, RefineCounts
from edgepose.webhook.sender import WEBHOOK_DROPS, WEBHOOK_FAILURES, WebhookStats

STATES: tuple[str, ...] = get_args(State)
CAMERA_CAUSES = (*CAUSES, "end_of_stream", "internal", "command")
KINDS: tuple[str, ...] = get_args(EventKind)
DIAGNOSES: tuple[str, ...] = get_args(Diagnosis)
BLACK_BOX_DROPS = ("busy", "failed")
DEGRADATIONS = (
    *("cpu_fallback", "building_engine", "throttled", "events_in_memory", "events_lost", "clock_unset", "webhook_failing"),
    *("heat", "telemetry_missing"),
    *("server_unreachable", "server_slow", "server_not_ready", "server_refused", "server_failing"),
)
TELEMETRY_STATES: tuple[str, ...] = get_args(TelemetryState)
HEAT_STEPS: tuple[str, ...] = get_args(HeatStep)
MESSAGE_CAUSES: tuple[str, ...] = get_args(Cause)

_OPENMETRICS, _PLAIN = "application/openmetrics-text", "text/plain"
_OPENMETRICS_VERSIONS = ("", "0.0.1", "1.0.0")  # those that the page is written in; "" is a caller without a preference
_RANGES_LIMIT = 64  # media ranges that are read of an `Accept` header; Prometheus sends five


def metrics_page(snapshot: DaemonSnapshot, accept: str) -> Answer:
    """Return the page `/metrics`: OpenMetrics where the caller accepts it, Prometheus' text format otherwise."""
    registry = CollectorRegistry()
    registry.register(_Families(prometheus(snapshot)))
    ProcessCollector(registry=registry)
    if accepts_openmetrics(accept):
        return Answer(200, openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(registry))  # type: ignore[no-untyped-call]
    return Answer(200, f"{_PLAIN}; version=0.0.4; charset=utf-8", generate_latest(registry))


def accepts_openmetrics(accept: str) -> bool:
    """Return whether an `Accept` header (RFC 9110, section 12.5.1) prefers OpenMetrics 1.0.0 to plain text; no text is an error."""
    best = {_OPENMETRICS: 0.0, _PLAIN: 0.0}
    for media_range in accept.split(",", _RANGES_LIMIT)[:_RANGES_LIMIT]:
        kind, *texts = (part.strip().lower() for part in media_range.split(";"))
        parameters = {name.strip(): value.strip().strip('"') for name, _, value in (text.partition("=") for text in texts)}
        if kind not in best or (kind == _OPENMETRICS and parameters.get("version", "") not in _OPENMETRICS_VERSIONS):
            continue
        best[kind] = max(best[kind], _weight(parameters.get("q", "1")))
    return best[_OPENMETRICS] > 0 and best[_OPENMETRICS] >= best[_PLAIN]


def _weight(text: str) -> float:
    """Return a weight (`q`) of 0 to 1; 0, "not acceptable", where the text is none."""
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def prometheus(snapshot: DaemonSnapshot) -> Iterator[Metric]:
    """Return all metric families of a snapshot."""
    yield InfoMetricFamily("edgepose_build", "Versions, model and backend of this device.", value=dict(snapshot.build))
    yield _gauge("process_threads", "Threads of this process.", {(): snapshot.machine.threads})
    yield from _of_cameras(snapshot)
    yield _histogram("edgepose_stage_duration_seconds", "Time a frame spends in a stage.", "stage", snapshot.metrics.stages)
    yield from _of_stages(snapshot)
    if snapshot.metrics.refine is not None:
        yield from _of_refinement(snapshot.metrics.refine)
    if snapshot.publisher.enabled:
        yield from _of_broker(snapshot.publisher)
    if snapshot.webhook is not None:
        yield from _of_webhook(snapshot.webhook)
    if snapshot.flight is not None:
        yield from _of_flight(snapshot.flight)
    yield from _of_device(snapshot)


class _Families(Collector):
    """Metric families that are computed already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _of_cameras(snapshot: DaemonSnapshot) -> Iterator[Metric]:
    cameras = snapshot.pipeline.cameras
    states = [camera.state for camera in cameras.values()]
    counts = {name: snapshot.metrics.camera(name) for name in cameras}
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
        {(name,): camera.reconnects for name, camera in cameras.items()},
        "camera",
    )
    yield _counter(
        "edgepose_frames_received",
        "Frames that the source delivered.",
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
        {(name,): snapshot.now_s - count.last_frame_s for name, count in counts.items() if count.last_frame_s is not None},
        "camera",
    )
    yield _gauge("edgepose_people", "People in the last pose message.", {(name,): count.people for name, count in counts.items()}, "camera")
    yield _counter(
        "edgepose_people_over_limit",
        "People who were left out since a frame had more than pose.maximum_people.",
        {(name,): count.over_limit for name, count in counts.items()},
        "camera",
    )
    covered = {name: count.coverage for name, count in counts.items() if count.coverage is not None}
    yield _gauge(
        "edgepose_tiles_coverage",
        "Share of the tiles visited within tiles.period_s; absent where there are none.",
        {(name,): share for name, (share, _) in covered.items()},
        "camera",
    )
    yield _gauge(
        "edgepose_tiles_oldest_seconds",
        "Time since the visit of a tile that is longest ago; infinite until every tile was visited once.",
        {(name,): oldest_s for name, (_, oldest_s) in covered.items()},
        "camera",
    )
    yield _counter(
        "edgepose_events",
        "Events, by kind.",
        {(name, kind): count.events.get(kind, 0) for name, count in counts.items() for kind in KINDS},
        "camera",
        "kind",
    )
    yield _counter(
        "edgepose_events_undecidable",
        "People seen from straight above, of whom events cannot be told, by kind of event.",
        {(name, kind): count.undecidable.get(kind, 0) for name, count in counts.items() for kind in UNDECIDABLE_KINDS},
        "camera",
        "kind",
    )
    ages = {name: buckets for name, buckets in snapshot.metrics.ages.items() if name in counts}
    yield _histogram("edgepose_pose_age_seconds", "Time from capture to pose message, live sources.", "camera", ages)


def _of_stages(snapshot: DaemonSnapshot) -> Iterator[Metric]:
    stages = dict.fromkeys((*snapshot.pipeline.stages, "publisher", "writer", *snapshot.restarts))
    yield _counter(
        "edgepose_stage_restarts",
        "Times that a stage died or hung and was restarted.",
        {(stage,): snapshot.restarts.get(stage, 0) for stage in stages},
        "stage",
    )
    yield _gauge(
        "edgepose_stage_stuck", "Whether the stage hangs.", {(stage,): float(stage in snapshot.stuck) for stage in stages}, "stage"
    )


def _of_refinement(counts: RefineCounts) -> Iterator[Metric]:
    yield _counter(
        "edgepose_refined_people",
        "People refined, by whether the refined pose filled the box.",
        {("accepted",): counts.accepted, ("disagreed",): counts.disagreed},
        "result",
    )
    yield _counter("edgepose_refine_skipped_people", "People whom the budget left out.", {(): counts.skipped})
    yield _counter(
        "edgepose_refine_dismissed_people", "People not published: their score after refinement is too low.", {(): counts.dismissed}
    )
    yield _counter(
        "edgepose_refine_double_people", "People not published: their refined pose is nearly that of another.", {(): counts.doubles}
    )
    yield _counter(
        "edgepose_refine_failed_people",
        "People whose refinement failed.",
        {(cause,): value for cause, value in _by_cause(REFINE_FAILURES, counts.failed)},
        "cause",
    )
    yield _gauge("edgepose_refine_cost_seconds", "Current time to refine one person.", {(): counts.cost_ms / 1e3})


def _of_broker(publisher: PublisherStats) -> Iterator[Metric]:
    yield _gauge("edgepose_mqtt_connected", "Whether the broker has accepted the connection.", {(): float(publisher.connected)})
    yield _counter("edgepose_mqtt_reconnects", "Times that the connection to the broker was restored.", {(): publisher.reconnects})
    yield _gauge(
        "edgepose_mqtt_duplicate_session",
        "Whether another daemon publishes under the same device name.",
        {(): float(publisher.duplicate_session is not None)},
    )
    yield _gauge("edgepose_events_waiting", "Events that the broker does not have yet.", {(): publisher.events_waiting})
    yield _gauge("edgepose_events_waiting_limit", "Events that may wait; then the oldest is lost.", {(): publisher.events_limit})
    yield _gauge(
        "edgepose_event_store_failed",
        "Whether events wait in memory only since their file cannot be written.",
        {(): float(publisher.store_failure is not None)},
    )
    yield _counter("edgepose_mqtt_messages_sent", "Messages handed to the network.", {(): publisher.sent})
    yield _counter(
        "edgepose_mqtt_messages_dropped",
        "Messages lost.",
        {(cause,): value for cause, value in _by_cause(MESSAGE_CAUSES, publisher.drops)},
        "cause",
    )
    ignored = publisher.commands_ignored
    yield _counter(
        "edgepose_commands_ignored",
        "Commands that were ignored; absent where none are subscribed to.",
        {(cause,): value for cause, value in _by_cause(IGNORED_CAUSES, ignored)} if ignored is not None else {},
        "cause",
    )


def _of_webhook(webhook: WebhookStats) -> Iterator[Metric]:
    yield _counter("edgepose_webhook_events_delivered", "Events that the receiver accepted.", {(): webhook.delivered})
    yield _gauge("edgepose_webhook_events_waiting", "Events that the receiver has not accepted yet.", {(): webhook.waiting})
    yield _counter(
        "edgepose_webhook_events_dropped",
        "Events that never reached the receiver.",
        {(cause,): value for cause, value in _by_cause(WEBHOOK_DROPS, webhook.drops)},
        "cause",
    )
    yield _counter(
        "edgepose_webhook_requests_failed",
        "Requests that failed.",
        {(cause,): value for cause, value in _by_cause(WEBHOOK_FAILURES, webhook.failures)},
        "cause",
    )


def _of_flight(flight: FlightStats) -> Iterator[Metric]:
    yield _gauge(
        "edgepose_flight_state",
        "1 for the state of the telemetry, 0 for the others.",
        {(name,): float(name == flight.state) for name in TELEMETRY_STATES},
        "state",
    )
    yield _gauge(
        "edgepose_flight_telemetry_age_seconds",
        "Time since the newest attitude or the newest position, whichever is longer ago; absent where one is missing.",
        {} if flight.age_s is None else {(): flight.age_s},
    )
    yield _gauge("edgepose_flight_attitude_rate_hertz", "Attitudes a second over the last two seconds.", {(): flight.rate_hz})
    yield _counter("edgepose_flight_packets", "Packets of the vehicle.", {(): flight.packets})
    yield _counter("edgepose_flight_packets_lost", "Packets of the vehicle that never came, by their numbers.", {(): flight.lost})
    yield _counter(
        "edgepose_flight_packets_dropped",
        "Packets of the vehicle that gave no sample.",
        {(cause,): value for cause, value in _by_cause(TELEMETRY_DROPS, flight.dropped)},
        "cause",
    )
    yield _counter("edgepose_flight_vehicle_restarts", "Times that the vehicle has started again.", {(): flight.restarts})
    battery: dict[tuple[str, ...], float] = {} if flight.battery is None else {(): flight.battery}
    yield _gauge("edgepose_flight_battery_ratio", "Charge of the vehicle's battery; absent where it does not say.", battery)


def _of_device(snapshot: DaemonSnapshot) -> Iterator[Metric]:
    """Return the rest; what is known only as a change since the report before comes from the last health message."""
    health = snapshot.health
    cameras = {} if health is None else health.cameras
    yield _gauge(
        "edgepose_camera_diagnosis",
        "1 for the camera's diagnosis, 0 for the others.",
        {(name, diagnosis): float(diagnosis == camera.diagnosis) for name, camera in cameras.items() for diagnosis in DIAGNOSES},
        "camera",
        "diagnosis",
    )
    degraded = [] if health is None else health.degraded
    yield _gauge(
        "edgepose_degraded",
        "1 for each current degradation.",
        {(name,): float(name in degraded) for name in DEGRADATIONS},
        "degradation",
    )
    refused = float(snapshot.reload_refused is not None)
    yield _gauge("edgepose_reload_refused", "Whether the newest configuration was refused and an older one is in use.", {(): refused})
    lost = None if snapshot.recorder is None else snapshot.recorder.drops
    yield _counter(
        "edgepose_black_box_dropped_frames",
        "Records, one a frame or change of state, that the black box did not keep.",
        {(cause,): value for cause, value in _by_cause(BLACK_BOX_DROPS, lost)} if lost is not None else {},
        "cause",
    )
    service = snapshot.service
    yield _gauge("edgepose_live_viewers", "Connections to the live page.", {} if service is None else {(): service.viewers})
    yield _counter(
        "edgepose_live_dropped_frames",
        "Frames that clients of the live page did not get because they were slow.",
        {} if service is None else {(): service.dropped},
    )
    yield _counter(
        "edgepose_storage_damage",
        "Places of stored files that did not verify.",
        {(cause,): snapshot.storage_damage.get(cause, 0) for cause in DAMAGES},
        "cause",
    )
    yield _gauge(
        "edgepose_temperature_celsius",
        "Temperature by sensor of the kernel.",
        {(name,): value for name, value in snapshot.machine.temperatures_c.items()},
        "sensor",
    )
    throttled: dict[tuple[str, ...], float] = (
        {(): float(health.throttled)} if health is not None and isinstance(health.throttled, bool) else {}
    )
    gpu: dict[tuple[str, ...], float] = {} if snapshot.machine.gpu_load is None else {(): snapshot.machine.gpu_load}
    yield _gauge("edgepose_gpu_load_ratio", "Share of its time that the GPU works; absent where the kernel does not report it.", gpu)
    yield _gauge(
        "edgepose_power_watts",
        "Power by supply rail; absent without a power monitor.",
        {(rail,): value for rail, value in snapshot.machine.power_w.items()},
        "rail",
    )
    yield _gauge(
        "edgepose_heat_step",
        "1 for each step of the heat policy that is taken, 0 for the others.",
        {(step,): float(step in snapshot.heat[0]) for step in HEAT_STEPS},
        "step",
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
            continue  # a stage that is off: its quantiles would not be numbers
        total, cumulative = 0, []
        for bound, count in zip((*buckets.bounds_s, float("inf")), buckets.counts, strict=True):
            total += count
            cumulative.append(("+Inf" if bound == float("inf") else str(bound), total))
        family.add_metric([key], cumulative, buckets.sum_s)
    return family


def _by_cause(known: Iterable[str], counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Return every known cause, zeros included, so that a first loss shows in `rate()`; unknown causes are summed under `other`."""
    names = tuple(known)
    yield from ((name, counts.get(name, 0)) for name in names)
    yield "other", sum(count for name, count in counts.items() if name not in names)


def _one_of(known: Sequence[str], now: str | None) -> Iterator[tuple[str, float]]:
    yield from ((name, float(name == now)) for name in known)
    yield "other", float(now is not None and now not in known)

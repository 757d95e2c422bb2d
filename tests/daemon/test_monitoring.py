"""What is said of a daemon on the local port, without a daemon."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from edgepose.config.schema import MonitoringConfig
from edgepose.daemon.health import DaemonSnapshot, health_message
from edgepose.daemon.monitoring import MonitoringServer, Readiness, readiness
from edgepose.daemon.prometheus import metrics_page
from edgepose.errors import UnavailableError
from edgepose.flight.service import FlightStats
from edgepose.messages.camera_state import CameraState
from edgepose.mqtt.stats import PublisherStats
from edgepose.pipeline.pipeline import CameraStats, PipelineStats
from edgepose.recorder.black_box import RecorderStats
from edgepose.telemetry.http_server import Answer
from edgepose.telemetry.metrics import Metrics

STREAMING = CameraState("front", "streaming", None, None, 0, 64, 48)
AWAY = CameraState("rear", "failed", "refused", "rtsp://rear refused the connection", 3)


def pipeline(*states: CameraState) -> PipelineStats:
    """Cameras and stages that stand still."""
    return PipelineStats({state.camera: CameraStats(state, state.epoch) for state in states}, ("engine", "people"))


@pytest.mark.parametrize(
    ("stuck", "states", "broker", "live", "missing"),
    [
        ([], [STREAMING], "connected", True, []),
        ([], [STREAMING, AWAY], None, True, []),
        ([], [AWAY], "connected", True, ["no camera is streaming: rear is failed (refused)"]),
        ([], [], "connected", True, ["no camera is streaming: none is configured"]),
        ([], [STREAMING], "unreachable: timed out", True, ["the broker is not connected: unreachable: timed out"]),
        (["inference"], [STREAMING], "connected", False, ["the inference loop is stuck"]),
    ],
    ids=["all is well", "one camera is enough", "no video", "no camera", "no broker", "a loop hangs"],
)
def test_ready_is_that_poses_can_leave(
    stuck: Sequence[str], states: Sequence[CameraState], broker: str | None, live: bool, missing: list[str]
) -> None:
    publisher = PublisherStats() if broker is None else PublisherStats(enabled=True, state=broker)
    snapshot = DaemonSnapshot(pipeline=pipeline(*states), publisher=publisher, stuck=tuple(stuck))
    assert readiness(snapshot) == Readiness(live, not missing, missing)


def test_a_disk_that_hangs_does_not_make_the_daemon_unready() -> None:
    assert readiness(DaemonSnapshot(pipeline=pipeline(STREAMING), stuck=("writer",))) == Readiness(True, True, [])


@pytest.mark.parametrize(
    ("now", "live", "ready"),
    [(Readiness(True, True, []), 200, 200), (Readiness(True, False, ["x"]), 200, 503), (Readiness(False, False, ["y", "x"]), 503, 503)],
    ids=["ready", "live", "hanging"],
)
def test_health_answers_with_a_code_and_what_is_missing(now: Readiness, live: int, ready: int) -> None:
    observer = MonitoringServer(MonitoringConfig(port=0), lambda accept: Answer(200, "text/plain", b""), lambda: now)
    observer.start()
    try:
        for paths, code in ((("/healthz/live", "/livez"), live), (("/healthz/ready", "/readyz", "/healthz"), ready)):
            for path in paths:
                connection = HTTPConnection("127.0.0.1", observer.port, timeout=10)
                connection.request("GET", path)
                response = connection.getresponse()
                assert (response.status, response.headers["Content-Type"]) == (code, "application/json")
                assert json.loads(response.read()) == {"live": now.live, "ready": now.ready, "missing": now.missing}
                connection.close()
    finally:
        observer.stop()


@pytest.mark.parametrize(
    ("host", "reason"), [("127.0.0.1", "already in use"), ("192.0.2.1", "cannot assign"), ("no.such.name.invalid", "expected an address")]
)
def test_what_cannot_be_listened_on_is_said_in_a_sentence(host: str, reason: str) -> None:
    observer = MonitoringServer(MonitoringConfig(port=0), lambda accept: Answer(200, "text/plain", b""), lambda: Readiness(True, True, []))
    try:
        with pytest.raises(UnavailableError, match=rf"cannot listen on {host} port {observer.port}: .*{reason}.*monitoring\.port"):
            MonitoringServer(
                MonitoringConfig(host=host, port=observer.port), lambda accept: Answer(200, "", b""), lambda: Readiness(True, True, [])
            )
    finally:
        observer.stop()


def test_the_library_is_loaded_only_where_it_is_used() -> None:
    program = "import sys, edgepose.daemon.daemon, edgepose.daemon.monitoring; sys.exit('prometheus_client' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(snapshot: DaemonSnapshot) -> Samples:
    page = metrics_page(snapshot, "")
    families: list[Any] = list(text_string_to_metric_families(page.body.decode()))
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


def samples(metrics: Metrics, *states: CameraState) -> Samples:
    return samples_of(DaemonSnapshot(build={"version": "0"}, pipeline=pipeline(*states), metrics=metrics.stats()))


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_a_camera_is_in_one_state_for_one_reason() -> None:
    seen = samples(Metrics(), STREAMING, AWAY)
    states = {key[1]: value for key, value in seen.items() if key[0] == "edgepose_camera_state"}
    assert sum(states.values()) == 2
    assert seen[of("edgepose_camera_state", camera="rear", state="failed")] == 1
    assert seen[of("edgepose_camera_fault", camera="rear", cause="refused")] == 1
    assert sum(value for key, value in seen.items() if key[0] == "edgepose_camera_fault") == 1


@pytest.mark.parametrize("cause", ["command", "end_of_stream", "internal", "frozen", "tls"])
def test_every_reason_for_a_camera_without_frames_has_a_series(cause: str) -> None:
    seen = samples(Metrics(), CameraState("rear", "paused", cause, "a sentence", 0))
    assert seen[of("edgepose_camera_fault", camera="rear", cause=cause)] == 1
    assert seen[of("edgepose_camera_fault", camera="rear", cause="other")] == 0


def test_causes_that_nobody_knows_share_one_series() -> None:
    metrics = Metrics()
    for number in range(50):
        metrics.dropped("front", f"new {number}")
    metrics.dropped("front", "stale", 7)
    seen = samples(metrics, STREAMING, CameraState("rear", "failed", "something new", "", 0))
    assert seen[of("edgepose_frames_dropped_total", camera="front", cause="other")] == 50
    assert seen[of("edgepose_frames_dropped_total", camera="front", cause="stale")] == 7
    assert seen[of("edgepose_camera_fault", camera="rear", cause="other")] == 1
    assert len(seen) < 300


def test_events_are_counted_by_kind() -> None:
    metrics = Metrics()
    metrics.happened("front", "fallen")
    seen = samples(metrics, STREAMING)
    assert {dict(key[1])["kind"]: value for key, value in seen.items() if key[0] == "edgepose_events_total" and value} == {"fallen": 1}


def test_people_from_straight_above_are_counted_by_kind_of_event() -> None:
    metrics = Metrics()
    metrics.undecidable("front", "waving")
    seen = samples(metrics, STREAMING)
    undecidable = {dict(key[1])["kind"]: value for key, value in seen.items() if key[0] == "edgepose_events_undecidable_total"}
    assert undecidable == {"fallen": 0, "waving": 1, "arms_up": 0}


def test_losses_are_there_as_zeros_before_the_first() -> None:
    assert samples(Metrics(), STREAMING)[of("edgepose_frames_dropped_total", camera="front", cause="engine_failed")] == 0


def test_histograms_are_cumulative_and_add_up() -> None:
    metrics = Metrics()
    for age_s in (0.015, 0.035, 0.035, 9.0):
        metrics.published("front", 1, age_s)
    seen = samples(metrics, STREAMING)
    assert [
        seen[of("edgepose_pose_age_seconds_bucket", camera="front", le=bound)] for bound in ("0.01", "0.02", "0.04", "5.0", "+Inf")
    ] == [
        0,
        1,
        3,
        3,
        4,
    ]
    assert seen[of("edgepose_pose_age_seconds_count", camera="front")] == 4
    assert seen[of("edgepose_pose_age_seconds_sum", camera="front")] == pytest.approx(9.085)


def labelled(seen: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, label: str) -> dict[str, float]:
    return {dict(key[1])[label]: value for key, value in seen.items() if key[0] == name}


def test_what_health_messages_say_is_said_here_too() -> None:
    metrics = Metrics()
    metrics.published("front", 0, 0.03)
    snapshot = DaemonSnapshot(
        now_s=5.0,
        pipeline=replace(pipeline(STREAMING, AWAY), cpu_fallback=True),
        recorder=RecorderStats({"busy": 3}),
        metrics=metrics.stats(drain=True),
        restarts={"people": 2},
        stuck=("engine",),
        reload_refused="a bad file",
    )
    seen = samples_of(replace(snapshot, health=health_message(snapshot, None)))
    assert labelled(seen, "edgepose_stage_restarts_total", "stage") == {"engine": 0, "people": 2, "publisher": 0, "writer": 0}
    assert labelled(seen, "edgepose_stage_stuck", "stage") == {"engine": 1, "people": 0, "publisher": 0, "writer": 0}
    assert labelled(seen, "edgepose_degraded", "degradation") == {
        "cpu_fallback": 1,
        "building_engine": 0,
        "throttled": 0,
        "events_in_memory": 0,
        "clock_unset": 0,
        "events_lost": 0,
        "webhook_failing": 0,
        "heat": 0,
        "telemetry_missing": 0,
        "server_unreachable": 0,
        "server_slow": 0,
        "server_not_ready": 0,
        "server_refused": 0,
        "server_failing": 0,
    }
    assert seen[of("edgepose_reload_refused")] == 1
    assert labelled(seen, "edgepose_black_box_dropped_frames_total", "cause") == {"busy": 3, "failed": 0, "other": 0}
    assert seen[of("edgepose_camera_diagnosis", camera="front", diagnosis="no_person")] == 1
    assert seen[of("edgepose_camera_diagnosis", camera="rear", diagnosis="no_video")] == 1
    assert sum(value for key, value in seen.items() if key[0] == "edgepose_camera_diagnosis") == 2


def test_a_scrape_leaves_the_latency_samples_to_the_health_report() -> None:
    metrics = Metrics()
    metrics.took("engine", 0.02)
    metrics.published("front", 1, 0.03)
    for _ in range(2):
        assert samples(metrics, STREAMING)[of("edgepose_stage_duration_seconds_count", stage="engine")] == 1
    health = health_message(DaemonSnapshot(now_s=1.0, pipeline=pipeline(STREAMING), metrics=metrics.stats(drain=True)), None)
    assert health.stages_ms["engine"].p50 == 20
    assert health.cameras["front"].age_ms.p50 == 30  # type: ignore[union-attr]
    assert samples(metrics, STREAMING)[of("edgepose_stage_duration_seconds_count", stage="engine")] == 1  # counted since the start


def test_what_is_said_of_telemetry_and_heat() -> None:
    flight = FlightStats("mavlink", "stale", 0.5, packets=900, lost=12, restarts=1, dropped={"no_fix": 4, "new": 1}, battery=0.4, age_s=2.5)
    seen = samples_of(DaemonSnapshot(flight=flight, heat=(("fewer_tiles", "no_tiles"), "hot")))
    states = labelled(seen, "edgepose_flight_state", "state")
    assert (states["stale"], sum(states.values())) == (1, 1)
    assert seen[of("edgepose_flight_telemetry_age_seconds")] == 2.5
    assert seen[of("edgepose_flight_battery_ratio")] == 0.4
    assert [seen[of(f"edgepose_flight_{name}_total")] for name in ("packets", "packets_lost", "vehicle_restarts")] == [900, 12, 1]
    drops = labelled(seen, "edgepose_flight_packets_dropped_total", "cause")
    assert {cause: count for cause, count in drops.items() if count} == {"no_fix": 4, "other": 1}
    assert drops["malformed"] == 0
    steps = labelled(seen, "edgepose_heat_step", "step")
    assert steps == {"fewer_tiles": 1, "no_tiles": 1, "no_refinement": 0, "smaller_input": 0, "fewer_frames": 0}
    without = samples_of(DaemonSnapshot())
    assert not any("flight" in key[0] for key in without)
    assert sum(labelled(without, "edgepose_heat_step", "step").values()) == 0


def test_what_is_said_of_the_broker() -> None:
    publisher = PublisherStats(
        enabled=True, state="connected", sent=7, reconnects=1, drops={"backlog": 2}, events_waiting=3, events_limit=9, duplicate_session="x"
    )
    seen = samples_of(DaemonSnapshot(publisher=publisher))
    assert [seen[of(f"edgepose_mqtt_{name}")] for name in ("connected", "reconnects_total", "duplicate_session")] == [1, 1, 1]
    assert (seen[of("edgepose_events_waiting")], seen[of("edgepose_events_waiting_limit")]) == (3, 9)
    assert seen[of("edgepose_mqtt_messages_sent_total")] == 7
    assert seen[of("edgepose_mqtt_messages_dropped_total", cause="backlog")] == 2
    assert not any("mqtt" in key[0] for key in samples_of(DaemonSnapshot()))


def test_before_the_first_health_message_nothing_is_made_up() -> None:
    seen = samples(Metrics(), STREAMING)
    assert not any(key[0].startswith("edgepose_black_box") for key in seen)
    assert not any(key[0] in ("edgepose_camera_diagnosis", "edgepose_throttled", "edgepose_temperature_celsius") for key in seen)

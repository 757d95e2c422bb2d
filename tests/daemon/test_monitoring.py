"""What is said of a daemon on the local port, without a daemon."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgepose.config.schema import MonitoringConfig
from edgepose.daemon.health import Circumstances, HealthReporter
from edgepose.daemon.link import Link
from edgepose.daemon.monitoring import MonitoringServer, Readiness, readiness
from edgepose.daemon.prometheus import Exporter
from edgepose.errors import UnavailableError
from edgepose.messages.camera_state import CameraState
from edgepose.messages.structs import HealthMessage
from edgepose.telemetry.http_server import Answer
from edgepose.telemetry.metrics import Metrics

STREAMING = CameraState("front", "streaming", None, None, 0, 64, 48)
AWAY = CameraState("rear", "failed", "refused", "rtsp://rear refused the connection", 3)


@pytest.mark.parametrize(
    ("stuck", "states", "broker", "live", "missing"),
    [
        ([], [STREAMING], "connected", True, []),
        ([], [STREAMING, AWAY], None, True, []),
        ([], [AWAY], "connected", True, ["no camera streams: rear is failed (refused)"]),
        ([], [], "connected", True, ["no camera streams: none is there"]),
        ([], [STREAMING], "unreachable: timed out", True, ["the broker is not connected: unreachable: timed out"]),
        (["inference"], [STREAMING], "connected", False, ["the inference loop has got stuck"]),
    ],
    ids=["all is well", "one camera is enough", "no video", "no camera", "no broker", "a loop hangs"],
)
def test_ready_is_that_poses_can_leave(
    stuck: Sequence[str], states: Sequence[CameraState], broker: str | None, live: bool, missing: list[str]
) -> None:
    assert readiness(stuck, states, broker) == Readiness(live, not missing, missing)


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


class Work:
    """Cameras and stages that stand still."""

    def __init__(self, *states: CameraState) -> None:
        self._states = states

    def states(self) -> Sequence[CameraState]:
        return self._states

    def reconnects(self) -> Mapping[str, int]:
        return {state.camera: state.epoch for state in self._states}

    def heartbeats(self) -> Mapping[str, object]:
        return {"engine": None, "people": None}


def samples(
    metrics: Metrics, *states: CameraState, health: HealthMessage | None = None
) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    link = cast(Link, SimpleNamespace(publisher=None))
    page = Exporter(lambda: {"version": "0"}, metrics, Work(*states), link, lambda: health).page("")
    families: list[Any] = list(text_string_to_metric_families(page.body.decode()))
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


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


def test_what_health_messages_say_is_said_here_too(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.published("front", 0, 0.03)
    around = Circumstances(
        restarts={"people": 2}, stuck=["engine"], cpu_fallback=True, reload_refused="a bad file", black_box_drops={"busy": 3}
    )
    health = HealthReporter(metrics, 0.0, tmp_path).report([STREAMING, AWAY], 0, {}, 5.0, around)
    seen = samples(metrics, STREAMING, AWAY, health=health)
    assert labelled(seen, "edgepose_stage_restarts_total", "stage") == {"engine": 0, "people": 2, "publisher": 0, "writer": 0}
    assert labelled(seen, "edgepose_stage_stuck", "stage") == {"engine": 1, "people": 0, "publisher": 0, "writer": 0}
    assert labelled(seen, "edgepose_degraded", "degradation") == {"cpu_fallback": 1, "throttled": 0, "events_in_memory": 0}
    assert seen[of("edgepose_reload_refused")] == 1
    assert labelled(seen, "edgepose_black_box_dropped_frames_total", "cause") == {"busy": 3, "failed": 0, "other": 0}
    assert seen[of("edgepose_camera_diagnosis", camera="front", diagnosis="no_person")] == 1
    assert seen[of("edgepose_camera_diagnosis", camera="rear", diagnosis="no_video")] == 1
    assert sum(value for key, value in seen.items() if key[0] == "edgepose_camera_diagnosis") == 2


def test_before_the_first_health_message_nothing_is_made_up() -> None:
    seen = samples(Metrics(), STREAMING)
    assert not any(key[0].startswith("edgepose_black_box") for key in seen)
    assert not any(key[0] in ("edgepose_camera_diagnosis", "edgepose_throttled", "edgepose_temperature_celsius") for key in seen)

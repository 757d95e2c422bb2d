import json
import resource
from pathlib import Path

import pytest

from edgepose.daemon.health import HealthReporter
from edgepose.messages.camera_state import CameraState
from edgepose.messages.structs import encode
from edgepose.telemetry.metrics import Metrics
from edgepose.telemetry.sensors import Throttling, memory_mb, temperatures_c


def test_quantiles_of_what_was_timed_since_the_last_call() -> None:
    metrics = Metrics()
    for milliseconds in range(101):
        metrics.took("engine", milliseconds / 1e3)
    engine = metrics.latencies()["engine"]
    assert (engine.p50_ms, engine.p95_ms, engine.p99_ms, engine.maximum_ms) == (50, 95, 99, 100)
    assert metrics.latencies() == {}


def test_memory_does_not_grow_with_time() -> None:
    metrics = Metrics(samples=3)
    for seconds in (9, 1, 1, 1):
        metrics.took("engine", seconds)
    assert metrics.latencies()["engine"].maximum_ms == 1000


def test_health_counts_since_the_start_and_rates_since_the_last_report(tmp_path: Path) -> None:
    metrics = Metrics()
    reporter = HealthReporter(metrics, started_s=100.0, system=tmp_path)
    state = CameraState("front", "streaming", None, None, 0, 64, 48)
    for _ in range(10):
        metrics.published("front", 2, age_s=0.04)
    metrics.dropped("front", "superseded", 3)
    first = reporter.report([state], 7, {"no_connection": 1}, now_s=105.0)
    camera = first.cameras["front"]
    assert (first.uptime_s, camera.frames, camera.frames_per_second, camera.drops) == (5.0, 10, 2.0, {"superseded": 3})
    assert camera.age_ms.p50 == 40
    assert (first.messages, first.message_drops) == (7, {"no_connection": 1})
    second = reporter.report([state], 7, {}, now_s=110.0)
    assert (second.cameras["front"].frames, second.cameras["front"].frames_per_second) == (10, 0.0)
    assert b"age_ms" not in encode(second)


def test_health_tells_of_second_looks_where_there_are_any(tmp_path: Path) -> None:
    metrics = Metrics()
    reporter = HealthReporter(metrics, started_s=0.0, system=tmp_path)
    assert b"refine" not in encode(reporter.report([], 0, {}, now_s=1.0))
    metrics.refine_cost(7.1234)
    metrics.refined(5, 2)
    metrics.refine_skipped(3)
    metrics.refine_failed("unavailable", 4)
    metrics.dismissed(1)
    said = json.loads(encode(reporter.report([], 0, {}, now_s=2.0)))["refine"]
    assert said == {
        "refined": 7,
        "accepted": 5,
        "disagreed": 2,
        "dismissed": 1,
        "skipped": 3,
        "failed": {"unavailable": 4},
        "cost_ms": 7.12,
    }


@pytest.mark.parametrize(("flags", "throttled"), [("50000", False), ("50005", True)])
def test_throttling_of_a_raspberry(tmp_path: Path, flags: str, throttled: bool) -> None:
    file = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    file.parent.mkdir(parents=True)
    file.write_text(flags + "\n")
    assert HealthReporter(Metrics(), 0.0, tmp_path).report([], 0, {}, 1.0).throttled is throttled


def test_throttling_of_a_pc_is_what_happened_since_the_last_report(tmp_path: Path) -> None:
    file = tmp_path / "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    file.parent.mkdir(parents=True)
    file.write_text("5\n")
    reporter = HealthReporter(Metrics(), 0.0, tmp_path)
    reports = [reporter.report([], 0, {}, 1.0).throttled]
    for count in ("5", "6"):
        file.write_text(count)
        reports.append(reporter.report([], 0, {}, 2.0).throttled)
    assert reports == [False, False, True]


def test_temperatures_by_sensor(tmp_path: Path) -> None:
    for number, (kind, value) in enumerate([("cpu-thermal", "51500"), ("gpu-thermal", "48000"), ("cpu-thermal", "50000"), ("bad", "none")]):
        zone = tmp_path / f"class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(kind + "\n")
        (zone / "temp").write_text(value + "\n")
    assert temperatures_c(tmp_path) == {"cpu-thermal": 51.5, "gpu-thermal": 48.0, "cpu-thermal-2": 50.0}


def test_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n")
    assert memory_mb(tmp_path / "status") == 100
    assert memory_mb(tmp_path / "status", "VmHWM") == 200
    assert memory_mb(tmp_path / "absent") == 0
    assert memory_mb() > 10


def test_no_descriptor_left_is_no_heat(tmp_path: Path) -> None:
    (tmp_path / "class/thermal").mkdir(parents=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        found = temperatures_c(tmp_path), Throttling(tmp_path).look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == ({}, None)

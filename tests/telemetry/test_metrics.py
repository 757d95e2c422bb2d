import json
import resource
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgepose.daemon.health import DaemonSnapshot, health_message
from edgepose.messages.camera_state import CameraState
from edgepose.messages.structs import QuantilesMessage, encode
from edgepose.mqtt.stats import PublisherStats
from edgepose.pipeline.pipeline import CameraStats, PipelineStats
from edgepose.telemetry.metrics import Metrics
from edgepose.telemetry.sensors import MachineStats, ThrottleSigns, gpu_load, memory_mb, power_w, temperatures_c


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


def test_health_counts_since_the_start_and_rates_since_the_last_report() -> None:
    metrics = Metrics()
    pipeline = PipelineStats({"front": CameraStats(CameraState("front", "streaming", None, None, 0, 64, 48))})
    for _ in range(10):
        metrics.published("front", 2, age_s=0.04)
    metrics.dropped("front", "superseded", 3)
    publisher = PublisherStats(enabled=True, sent=7, drops={"no_connection": 1})
    start = DaemonSnapshot(started_s=100.0, now_s=105.0, pipeline=pipeline, publisher=publisher, metrics=metrics.stats(drain=True))
    first = health_message(start, None)
    camera = first.cameras["front"]
    assert (first.uptime_s, camera.frames, camera.frames_per_second, camera.drops) == (5.0, 10, 2.0, {"superseded": 3})
    assert isinstance(camera.age_ms, QuantilesMessage)
    assert camera.age_ms.p50 == 40
    assert (first.messages, first.message_drops) == (7, {"no_connection": 1})
    second = health_message(replace(start, now_s=110.0, metrics=metrics.stats(drain=True)), start)
    assert (second.cameras["front"].frames, second.cameras["front"].frames_per_second) == (10, 0.0)
    assert b"age_ms" not in encode(second)


def test_health_reports_refinement_where_there_is_any() -> None:
    metrics = Metrics()
    assert b"refine" not in encode(health_message(DaemonSnapshot(now_s=1.0, metrics=metrics.stats(drain=True)), None))
    metrics.refine_cost(7.1234)
    metrics.refined(5, 2)
    metrics.refine_skipped(3)
    metrics.refine_failed("unavailable", 4)
    metrics.dismissed(1)
    metrics.refine_doubles(6)
    said = json.loads(encode(health_message(DaemonSnapshot(now_s=2.0, metrics=metrics.stats(drain=True)), None)))["refine"]
    assert said == {
        "refined": 7,
        "accepted": 5,
        "disagreed": 2,
        "dismissed": 1,
        "doubles": 6,
        "skipped": 3,
        "failed": {"unavailable": 4},
        "cost_ms": 7.12,
    }


@pytest.mark.parametrize(("flags", "throttled"), [("50000", False), ("50005", True)])
def test_throttling_of_a_raspberry(tmp_path: Path, flags: str, throttled: bool) -> None:
    file = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    file.parent.mkdir(parents=True)
    file.write_text(flags + "\n")
    assert health_message(DaemonSnapshot(machine=MachineStats.read(tmp_path)), None).throttled is throttled


def test_throttling_of_a_pc_is_what_happened_since_the_last_report(tmp_path: Path) -> None:
    file = tmp_path / "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    file.parent.mkdir(parents=True)
    file.write_text("5\n")
    snapshots = [DaemonSnapshot(machine=MachineStats.read(tmp_path))]
    reports = [health_message(snapshots[0], None).throttled]
    for count in ("5", "6"):
        file.write_text(count)
        snapshots.append(DaemonSnapshot(machine=MachineStats.read(tmp_path)))
        reports.append(health_message(snapshots[-1], snapshots[-2]).throttled)
    assert reports == [False, False, True]


def test_temperatures_by_sensor(tmp_path: Path) -> None:
    for number, (kind, value) in enumerate([("cpu-thermal", "51500"), ("gpu-thermal", "48000"), ("cpu-thermal", "50000"), ("bad", "none")]):
        zone = tmp_path / f"class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(kind + "\n")
        (zone / "temp").write_text(value + "\n")
    assert temperatures_c(tmp_path) == {"cpu-thermal": 51.5, "gpu-thermal": 48.0, "cpu-thermal-2": 50.0}


def test_a_jetson_reports_its_gpu_and_its_power(tmp_path: Path) -> None:
    assert (gpu_load(tmp_path), power_w(tmp_path)) == (None, {})
    load = tmp_path / "devices/platform/bus@0/17000000.gpu/load"
    load.parent.mkdir(parents=True)
    load.write_text("437\n")
    for number, name in enumerate(("ina3221", "soctherm_oc", "ina3221")):
        monitor = tmp_path / f"class/hwmon/hwmon{number}"
        monitor.mkdir(parents=True)
        (monitor / "name").write_text(name + "\n")
        rails = {1: ("VDD_IN", "5032", "1144"), 2: ("VDD_CPU_GPU_CV", "5032", "n/a"), 7: ("sum of shunt voltages", "", "")}
        for channel, (rail, millivolts, milliamperes) in rails.items() if number == 0 else ():
            (monitor / f"in{channel}_label").write_text(rail + "\n")
            (monitor / f"in{channel}_input").write_text(millivolts)
            (monitor / f"curr{channel}_input").write_text(milliamperes)
    machine = MachineStats.read(tmp_path)
    assert (machine.gpu_load, machine.power_w) == (0.437, {"VDD_IN": 5.757})
    said = json.loads(encode(health_message(DaemonSnapshot(machine=machine), None)))
    assert (said["gpu_load"], said["power_w"]) == (0.437, {"VDD_IN": 5.757})


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
        found = temperatures_c(tmp_path), ThrottleSigns.read(tmp_path).throttled(None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == ({}, None)

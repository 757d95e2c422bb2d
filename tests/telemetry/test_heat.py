"""The heat policy against simulated sensors: the order of sacrifice, hysteresis, and what each step changes."""

from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgepose.config.heat import HeatConfig
from edgepose.config.schema import Config, ModelConfig
from edgepose.engine.backend import pose_model
from edgepose.telemetry.heat import HeatPolicy, reduced
from edgepose.telemetry.sensors import MachineStats

ORDER = ["fewer_tiles", "no_tiles", "no_refinement", "smaller_input", "fewer_frames"]


class Device:
    """A machine of which the kernel shows a temperature, a power rail and a cooled processor; one look a second."""

    def __init__(self, folder: Path, settings: HeatConfig) -> None:
        self._folder, self.policy = folder, HeatPolicy(settings)
        self.now_s = 0.0
        for path, text in {
            "class/thermal/thermal_zone0/type": "cpu-thermal",
            "class/thermal/cooling_device0/type": "cpufreq-cpu0",
            "class/hwmon/hwmon0/name": "ina3221",
            "class/hwmon/hwmon0/in1_label": "VDD_IN",
            "class/hwmon/hwmon0/in1_input": "5000",
        }.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        self.set()

    def set(self, degrees: float = 50, watts: float = 5, *, throttled: bool = False) -> None:
        (self._folder / "class/thermal/thermal_zone0/temp").write_text(str(int(degrees * 1000)))
        (self._folder / "class/hwmon/hwmon0/curr1_input").write_text(str(int(watts * 200)))
        (self._folder / "class/thermal/cooling_device0/cur_state").write_text("1" if throttled else "0")
        self._stats = MachineStats.read(self._folder)

    def run(self, seconds: int, battery: float | None = None) -> list[tuple[float, int]]:
        changes = []
        for _ in range(seconds):
            self.now_s += 1
            if self.policy.turn(self.now_s, self._stats, battery):
                changes.append((self.now_s, len(self.policy.steps)))
        return changes


def test_ten_minutes_over_the_limit_take_every_step_in_its_order_and_all_come_back(tmp_path: Path) -> None:
    device = Device(tmp_path, HeatConfig(limit_c=80, step_s=10, back_s=60))
    assert device.run(60) == []
    device.set(95)
    assert [taken for _, taken in device.run(600)] == [1, 2, 3, 4, 5]
    assert list(device.policy.steps) == ORDER
    assert device.policy.reason == "cpu-thermal has 95 degrees Celsius"
    device.set(76)  # below the limit, and not by the margin
    assert device.run(600) == []
    device.set(70)
    back = device.run(600)
    assert [taken for _, taken in back] == [4, 3, 2, 1, 0]
    assert [later - sooner for (sooner, _), (later, _) in pairwise(back)] == [60] * 4
    assert device.policy.reason == ""


def test_a_temperature_that_swings_around_the_limit_makes_nothing_alternate(tmp_path: Path) -> None:
    device = Device(tmp_path, HeatConfig(limit_c=80, step_s=10, back_s=60))
    device.set(85)
    device.run(15)
    changes = []
    for turn in range(60):
        device.set(83 if turn % 2 else 74)
        changes += device.run(5)
    assert changes == []
    assert list(device.policy.steps) == ["fewer_tiles"]


@pytest.mark.parametrize(
    ("settings", "reading", "reason"),
    [
        (HeatConfig(power_limit_w=15), {"watts": 20.0}, "VDD_IN takes 20.0 W"),
        (HeatConfig(limit_c=80), {"throttled": True}, "a processor is slowed down"),
    ],
)
def test_power_and_throttling_count_too(tmp_path: Path, settings: HeatConfig, reading: dict[str, float], reason: str) -> None:
    device = Device(tmp_path, settings)
    device.set(**reading)  # type: ignore[arg-type]
    assert len(device.run(12)) == 1
    assert device.policy.reason == reason


def test_a_low_battery_counts_and_no_battery_does_not(tmp_path: Path) -> None:
    device = Device(tmp_path, HeatConfig(battery_limit=0.3))
    assert device.run(30) == []
    assert len(device.run(12, battery=0.2)) == 1
    assert device.policy.reason == "the battery has 20 %"


def test_without_a_limit_there_is_no_policy(tmp_path: Path) -> None:
    device = Device(tmp_path, HeatConfig())
    device.set(120, 500, throttled=True)
    assert device.run(100) == []


def test_another_configuration_may_end_it(tmp_path: Path) -> None:
    device = Device(tmp_path, HeatConfig(limit_c=80))
    device.set(95)
    device.run(60)
    device.policy.configure(HeatConfig(limit_c=80, policy=["no_refinement"]))
    assert device.policy.steps == ("no_refinement",)
    device.policy.configure(HeatConfig())
    assert device.policy.steps == ()


def test_each_step_changes_what_it_says() -> None:
    config, info, cpu = Config(), pose_model(ModelConfig()).info, "onnxruntime-cpu"
    assert reduced(config, [], info, cpu) == config
    fewer = reduced(config, ["fewer_tiles"], info, cpu)
    assert (fewer.tiles.enabled, fewer.tiles.per_frame, fewer.tiles.period_s) == (True, 1, 4.0)
    assert not reduced(config, ["fewer_tiles", "no_tiles"], info, cpu).tiles.enabled
    assert reduced(config, ["no_refinement"], info, cpu).refine.people == 0
    for size, smaller in ((640, 480), (320, 224), (160, 160), (96, 96)):
        sized = replace(config, model=replace(config.model, input_size=size))
        assert reduced(sized, ["smaller_input"], info, cpu).model.input_size == smaller
    assert reduced(config, ["smaller_input"], info, "tensorrt") == config
    assert reduced(config, ["fewer_frames"], info, cpu) == config

"""The kernel's reports about this machine: memory, temperature, throttling of the processors; on a Jetson also GPU load and power."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

SYSTEM = Path("/sys")
"""Folder in which the kernel shows its sensors."""

_GPU_LOADS = ("devices/gpu.0/load", "devices/platform/gpu.0/load", "devices/platform/*.gpu/load", "devices/platform/bus@0/*.gpu/load")
_COOLED = re.compile(r"(thermal-)?(cpu|dev)freq")  # cooled by slowing it down, not by a fan


class ThrottleSigns(msgspec.Struct, frozen=True):
    """The kernel's reports about throttling at one moment.

    Attributes:
        active: whether a processor is slowed down now by heat or supply; None where the kernel does not report it.
        count: times that one was slowed down; None where the kernel does not count them.
    """

    active: bool | None = None
    count: int | None = None

    @classmethod
    def read(cls, system: Path = SYSTEM) -> "ThrottleSigns":
        """Read the signs of this machine."""
        states = [state for state in (_raspberry(system), _cooling(system)) if state is not None]
        return cls(any(states) if states else None, _count(system))

    def throttled(self, previous: "ThrottleSigns | None") -> bool | None:
        """Return whether a processor is slowed down now, or was since `previous`; None where the kernel does not report it."""
        if self.active is None and self.count is None:
            return None
        counted = self.count is not None and previous is not None and previous.count is not None and self.count > previous.count
        return bool(self.active) or counted


class MachineStats(msgspec.Struct, frozen=True):
    """This machine and process at one moment.

    Attributes:
        memory_mb: resident memory of this process in MiB.
        threads: threads of this process, those of native libraries included.
        temperatures_c: degrees Celsius of the kernel's thermal zones, by kind.
        throttle: signs of throttling.
        gpu_load: share of its time that a Jetson's GPU works, 0 to 1; None on other machines.
        power_w: watts by supply rail, of a Jetson's power monitor; empty on other machines.
    """

    memory_mb: float = 0.0
    threads: int = 0
    temperatures_c: Mapping[str, float] = msgspec.field(default_factory=dict)
    throttle: ThrottleSigns = msgspec.field(default_factory=ThrottleSigns)
    gpu_load: float | None = None
    power_w: Mapping[str, float] = msgspec.field(default_factory=dict)

    @classmethod
    def read(cls, system: Path = SYSTEM) -> "MachineStats":
        """Read the sensors of this machine."""
        return cls(
            memory_mb(),
            len(_sorted_paths(Path("/proc/self"), "task/*")),
            temperatures_c(system),
            ThrottleSigns.read(system),
            gpu_load(system),
            power_w(system),
        )


def memory_mb(status: Path = Path("/proc/self/status"), field: str = "VmRSS") -> float:
    """Return the resident memory of this process in MiB, with `VmHWM` its maximum so far; 0 where the system does not report it."""
    for line in (read_text(status) or "").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def temperatures_c(system: Path = SYSTEM) -> dict[str, float]:
    """Return degrees Celsius of the kernel's thermal zones, by kind; sensors that cannot be read are left out."""
    found: dict[str, float] = {}
    for zone in _sorted_paths(system, "class/thermal/thermal_zone*"):
        kind, value = read_text(zone / "type"), read_text(zone / "temp")
        if kind and value and value.lstrip("-").isdigit():
            found[kind if kind not in found else f"{kind}-{zone.name.removeprefix('thermal_zone')}"] = int(value) / 1000
    return found


def gpu_load(system: Path = SYSTEM) -> float | None:
    """Return the share of its time that a Jetson's GPU works, 0 to 1; None where the kernel does not report it.

    The driver nvgpu counts in thousandths; the file's folder has another name in each release of Jetson Linux.
    """
    paths = (path for pattern in _GPU_LOADS for path in _sorted_paths(system, pattern))
    loads = [int(text) / 1000 for path in paths if (text := read_text(path)) is not None and text.isdigit()]
    return min(1.0, max(loads)) if loads else None


def power_w(system: Path = SYSTEM) -> dict[str, float]:
    """Return watts by supply rail, of the power monitors (INA3221) of a Jetson: voltage times current of each channel with a label."""
    found: dict[str, float] = {}
    for monitor in _sorted_paths(system, "class/hwmon/hwmon*"):
        if read_text(monitor / "name") != "ina3221":
            continue
        for label in _sorted_paths(monitor, "in*_label"):
            channel = label.name.removeprefix("in").removesuffix("_label")
            rail = read_text(label)
            millivolts, milliamperes = (read_text(monitor / f"{kind}{channel}_input") or "" for kind in ("in", "curr"))
            if rail and millivolts.isdigit() and milliamperes.isdigit():
                found[rail] = round(int(millivolts) * int(milliamperes) / 1e6, 3)
    return found


def _raspberry(system: Path) -> bool | None:
    """Return what the firmware of a Raspberry Pi reports; bits 0 to 3 are about now (voltage, frequency cap, throttling, soft limit)."""
    flags = read_text(system / "devices/platform/soc/soc:firmware/get_throttled")
    try:
        return None if flags is None else bool(int(flags, 16) & 0xF)
    except ValueError:
        return None


def _cooling(system: Path) -> bool | None:
    """Return the state of CPU and GPU as cooling devices (any Linux, also a Jetson); it is above 0 while they are capped."""
    states = [
        read_text(device / "cur_state")
        for device in _sorted_paths(system, "class/thermal/cooling_device*")
        if _COOLED.match(read_text(device / "type") or "")
    ]
    numbers = [int(state) for state in states if state is not None and state.isdigit()]
    return any(numbers) if numbers else None


def _count(system: Path) -> int | None:
    """Return the sum of the counters: of heat on a PC, of over-current on a Jetson."""
    paths = [
        *_sorted_paths(system, "devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"),
        *_sorted_paths(system, "class/hwmon/hwmon*/oc*_event_cnt"),
    ]
    counts = [int(count) for path in paths if (count := read_text(path)) is not None and count.isdigit()]
    return sum(counts) if counts else None


def _sorted_paths(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a pattern, in order; none where no folder can be opened, for example for lack of file descriptors."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def read_text(path: Path) -> str | None:
    """Return the text of a kernel file, None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None

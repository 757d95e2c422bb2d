"""What the kernel tells of this machine: memory, heat, and whether it holds the processors back."""

import re
from pathlib import Path

_COOLED = re.compile(r"(thermal-)?(cpu|dev)freq")  # what is cooled by slowing it down, not by a fan


class Throttling:
    """Whether processors are slowed down by heat or supply; counters are compared with the look before."""

    def __init__(self, system: Path = Path("/sys")) -> None:
        """
        Args:
            system: where the kernel shows its sensors.
        """
        self._system = system
        self._counted: int | None = None

    def look(self) -> bool | None:
        """Whether one is slowed down now, or was since the last look; None where the kernel does not say."""
        said = [answer for answer in (self._raspberry(), self._cooling(), self._events()) if answer is not None]
        return any(said) if said else None

    def _raspberry(self) -> bool | None:
        """The firmware of a Raspberry Pi: bits 0 to 3 are about now (voltage, frequency cap, throttling, soft limit)."""
        flags = read_text(self._system / "devices/platform/soc/soc:firmware/get_throttled")
        try:
            return None if flags is None else bool(int(flags, 16) & 0xF)
        except ValueError:
            return None

    def _cooling(self) -> bool | None:
        """Any Linux, a Jetson among them: CPU and GPU as cooling devices, whose state is above 0 while they are capped."""
        states = [
            read_text(device / "cur_state")
            for device in _there(self._system, "class/thermal/cooling_device*")
            if _COOLED.match(read_text(device / "type") or "")
        ]
        numbers = [int(state) for state in states if state is not None and state.isdigit()]
        return any(numbers) if numbers else None

    def _events(self) -> bool | None:
        """Counters: of heat on a PC, of over-current on a Jetson."""
        paths = [
            *_there(self._system, "devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"),
            *_there(self._system, "class/hwmon/hwmon*/oc*_event_cnt"),
        ]
        counts = [int(count) for path in paths if (count := read_text(path)) is not None and count.isdigit()]
        if not counts:
            return None
        before, self._counted = self._counted, sum(counts)
        return before is not None and self._counted > before


def memory_mb(status: Path = Path("/proc/self/status"), field: str = "VmRSS") -> float:
    """Resident memory of this process in MiB; with `VmHWM` the most it ever was. 0 where the system does not say."""
    for line in (read_text(status) or "").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def temperatures_c(system: Path = Path("/sys")) -> dict[str, float]:
    """Degrees Celsius of the kernel's thermal zones, by kind; sensors that cannot be read are left out."""
    found: dict[str, float] = {}
    for zone in _there(system, "class/thermal/thermal_zone*"):
        kind, value = read_text(zone / "type"), read_text(zone / "temp")
        if kind and value and value.lstrip("-").isdigit():
            found[kind if kind not in found else f"{kind}-{zone.name.removeprefix('thermal_zone')}"] = int(value) / 1000
    return found


def _there(system: Path, pattern: str) -> list[Path]:
    """The files of a pattern, in order; none where no folder can be opened, for want of file descriptors say."""
    try:
        return sorted(system.glob(pattern))
    except OSError:
        return []


def read_text(path: Path) -> str | None:
    """What a file of the kernel says, None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None

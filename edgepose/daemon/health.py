"""What the daemon says of itself: frames, drops by cause, durations, memory, heat."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgepose.daemon.camera import CameraState
from edgepose.daemon.metrics import Latency, LookCounts, Metrics
from edgepose.output.messages import CameraHealthMessage, HealthMessage, QuantilesMessage, RefineHealthMessage, timestamp


class HealthReporter:
    """Builds health messages; rates are over the time since the message before."""

    def __init__(self, metrics: Metrics, started_s: float, system: Path = Path("/sys")) -> None:
        """
        Args:
            started_s: monotonic time of the daemon's start.
            system: where the kernel shows its sensors.
        """
        self._metrics = metrics
        self._started_s = started_s
        self._reported_s = started_s
        self._system = system
        self._published: dict[str, int] = {}
        self._throttle_events: int | None = None

    def report(self, cameras: Sequence[CameraState], messages: int, message_drops: dict[str, int], now_s: float) -> HealthMessage:
        """The health at monotonic time `now_s`.

        Args:
            cameras: what is known of each camera.
            messages: messages handed to the broker since the start.
            message_drops: messages that were not, by cause.
        """
        interval_s = max(1e-3, now_s - self._reported_s)
        self._reported_s = now_s
        ages = self._metrics.ages()
        looks = self._metrics.looks()
        return HealthMessage(
            at=timestamp(time.time_ns()),
            uptime_s=round(now_s - self._started_s, 1),
            cameras={state.camera: self._camera(state, ages.get(state.camera), interval_s) for state in cameras},
            stages_ms={stage: _quantiles(latency) for stage, latency in self._metrics.latencies().items()},
            refine=msgspec.UNSET if looks is None else _refine(looks),
            messages=messages,
            message_drops=message_drops,
            memory_mb=round(memory_mb(), 1),
            temperatures_c=temperatures_c(self._system),
            throttled=self._throttled(),
        )

    def _camera(self, state: CameraState, age: Latency | None, interval_s: float) -> CameraHealthMessage:
        counts = self._metrics.camera(state.camera)
        before = self._published.get(state.camera, 0)
        self._published[state.camera] = counts.published
        return CameraHealthMessage(
            state=state.state,
            frames=counts.published,
            frames_per_second=round((counts.published - before) / interval_s, 2),
            drops=counts.dropped,
            age_ms=msgspec.UNSET if age is None else _quantiles(age),
        )

    def _throttled(self) -> bool | msgspec.UnsetType:
        """Whether the processor was slowed down since the last report; unknown where the kernel does not say."""
        flags = _read(self._system / "devices/platform/soc/soc:firmware/get_throttled")  # Raspberry Pi: bits 0-3 are "now"
        if flags is not None:
            return bool(int(flags, 16) & 0xF)
        counters = [_read(path) for path in self._system.glob("devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")]
        events = [int(counter) for counter in counters if counter is not None and counter.isdigit()]
        if not events:
            return msgspec.UNSET
        before, self._throttle_events = self._throttle_events, sum(events)
        return before is not None and self._throttle_events > before


def memory_mb(status: Path = Path("/proc/self/status"), field: str = "VmRSS") -> float:
    """Resident memory of this process in MiB; with `VmHWM` the most it ever was. 0 where the system does not say."""
    for line in (_read(status) or "").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def temperatures_c(system: Path = Path("/sys")) -> dict[str, float]:
    """Degrees Celsius of the kernel's thermal zones, by kind; sensors that cannot be read are left out."""
    found: dict[str, float] = {}
    for zone in sorted(system.glob("class/thermal/thermal_zone*")):
        kind, value = _read(zone / "type"), _read(zone / "temp")
        if kind and value and value.lstrip("-").isdigit():
            found[kind if kind not in found else f"{kind}-{zone.name.removeprefix('thermal_zone')}"] = int(value) / 1000
    return found


def _refine(looks: LookCounts) -> RefineHealthMessage:
    return RefineHealthMessage(
        looked_at=looks.accepted + looks.disagreed,
        accepted=looks.accepted,
        disagreed=looks.disagreed,
        dismissed=looks.dismissed,
        skipped=looks.skipped,
        failed=looks.failed,
        cost_ms=round(looks.cost_ms, 2),
    )


def _quantiles(latency: Latency) -> QuantilesMessage:
    return QuantilesMessage(p50=latency.p50_ms, p95=latency.p95_ms, maximum=latency.maximum_ms)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None

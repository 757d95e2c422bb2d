"""The heat policy: which steps are taken at a moment, from the sensors, and the settings that a step changes."""

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from edgepose.config.heat import HeatConfig, HeatStep
from edgepose.config.schema import Config
from edgepose.model.file import ModelInfo
from edgepose.telemetry.sensors import MachineStats, ThrottleSigns

_log = logging.getLogger(__name__)

_EVERY_S = 1.0
_INPUT_SHARE = 0.75
_STRIDE, _SMALLEST_PX = 32, 160


class HeatPolicy:
    """The state of the policy: a step more after each `step_s` beyond a limit, a step less after each `back_s` well within all of them.

    Between a limit and its margin nothing changes.

    Args:
        settings: section `heat`.

    Attributes:
        reason: what is beyond its limit, or was when the last step was taken; empty while no step is taken.
    """

    def __init__(self, settings: HeatConfig) -> None:
        self._settings = settings
        self._taken = 0
        self._since_s: float | None = None  # since when values are beyond a limit, or within all margins
        self._over = False
        self._signs: ThrottleSigns | None = None
        self._next_s = 0.0
        self.reason = ""

    @property
    def steps(self) -> tuple[HeatStep, ...]:
        """The steps that are taken now, in their order."""
        return tuple(self._settings.policy[: self._taken])

    def configure(self, settings: HeatConfig) -> None:
        """Apply other settings; steps taken stay as far as the new order has as many."""
        self._settings = settings
        self._taken = min(self._taken, len(settings.policy)) if settings.enabled else 0

    def watch(self, now_s: float, battery: float | None) -> bool:
        """Read the sensors of this machine once a second and take them; return whether the steps have changed, which the log tells.

        Args:
            now_s: monotonic clock.
            battery: as in `turn`.
        """
        if not self._settings.enabled or now_s < self._next_s:
            return False
        self._next_s = now_s + _EVERY_S
        changed = self.turn(now_s, MachineStats.read(), battery)
        if changed:
            _log.warning("heat policy: %s is given up; %s", ", ".join(self.steps) or "nothing", self.reason or "all is within its limits")
        return changed

    def turn(self, now_s: float, machine: MachineStats, battery: float | None = None) -> bool:
        """Take the sensors of a moment; return whether the steps have changed.

        Args:
            now_s: monotonic clock.
            machine: temperatures, throttling, power.
            battery: charge of the vehicle's battery, 0 to 1; None where it is not known.
        """
        if not self._settings.enabled:
            return False
        over, calm = self._judge(machine, battery)
        if not over and not calm:
            self._since_s = None
            return False
        if self._since_s is None or (over != "") != self._over:
            self._since_s, self._over = now_s, over != ""
        if over:
            if now_s - self._since_s < self._settings.step_s or self._taken == len(self._settings.policy):
                return False
            self._taken, self.reason = self._taken + 1, over
        else:
            if now_s - self._since_s < self._settings.back_s or not self._taken:
                return False
            self._taken -= 1
            if not self._taken:
                self.reason = ""
        self._since_s = now_s
        return True

    def _judge(self, machine: MachineStats, battery: float | None) -> tuple[str, bool]:
        """Return what is beyond its limit, in a few words, and whether everything is well within its own."""
        settings, found, calm = self._settings, "", True
        throttled = bool(machine.throttle.throttled(self._signs))
        self._signs = machine.throttle
        if settings.limit_c is not None and machine.temperatures_c:
            name, hottest_c = max(machine.temperatures_c.items(), key=lambda item: item[1])
            if hottest_c > settings.limit_c:
                found = f"{name} has {hottest_c:.0f} degrees Celsius"
            calm = hottest_c <= settings.limit_c * (1 - settings.margin)
        if settings.power_limit_w is not None and machine.power_w:
            rail, power_w = max(machine.power_w.items(), key=lambda item: item[1])
            if power_w > settings.power_limit_w:
                found = found or f"{rail} takes {power_w:.1f} W"
            calm &= power_w <= settings.power_limit_w * (1 - settings.margin)
        if settings.battery_limit is not None and battery is not None:
            if battery < settings.battery_limit:
                found = found or f"the battery has {100 * battery:.0f} %"
            calm &= battery >= settings.battery_limit * (1 + settings.margin)
        if settings.throttled and throttled:
            found = found or "a processor is slowed down"
        return found, calm and not found


def reduced(config: Config, steps: Sequence[HeatStep], info: ModelInfo, backend: str) -> Config:
    """Return a configuration after some steps; `fewer_frames` is not one of its keys.

    Args:
        config: as it is written.
        steps: that are taken.
        info: of the pose network.
        backend: its name; only ONNX Runtime takes inputs of any size, engines and servers have one.
    """
    if "no_tiles" in steps:
        config = replace(config, tiles=replace(config.tiles, enabled=False))
    elif "fewer_tiles" in steps:
        config = replace(config, tiles=replace(config.tiles, per_frame=1, period_s=min(86_400.0, 2 * config.tiles.period_s)))
    if "no_refinement" in steps:
        config = replace(config, refine=replace(config.refine, people=0))
    if "smaller_input" in steps and info.input_height is None and backend.startswith("onnxruntime"):
        input_px = info.long_side(config.model.input_size)
        smaller_px = max(_SMALLEST_PX, int(input_px * _INPUT_SHARE) // _STRIDE * _STRIDE)
        config = replace(config, model=replace(config.model, input_size=min(input_px, smaller_px)))
    return config

"""The section of the configuration that says what a device gives up when it is too hot or short of power."""

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from edgepose.config.fields import Fraction, Seconds, Section

HeatStep = Literal["fewer_tiles", "no_tiles", "no_refinement", "smaller_input", "fewer_frames"]


class HeatConfig(Section, frozen=True):
    """What is given up, step by step, while the device is too hot or short of power; off without one of the limits."""

    policy: Annotated[
        list[HeatStep],
        Meta(
            min_length=1,
            max_length=8,
            description="steps in their order: one tile a frame, none, nobody refined, an input of 3/4 the size, every second live frame",
        ),
    ] = msgspec.field(default_factory=lambda: list(get_args(HeatStep)))
    limit_c: Annotated[
        Annotated[float, Meta(gt=0, le=150)] | None, Meta(description="degrees Celsius of the hottest sensor above which steps are taken")
    ] = None
    power_limit_w: Annotated[
        Annotated[float, Meta(gt=0, le=10_000)] | None, Meta(description="watts of the largest supply rail above which steps are taken")
    ] = None
    battery_limit: Annotated[
        Fraction | None, Meta(description="charge of the vehicle's battery, from telemetry, below which steps are taken")
    ] = None
    throttled: Annotated[bool, Meta(description="also take steps while the kernel reports that a processor is slowed down")] = True
    margin: Annotated[
        float, Meta(gt=0, le=0.5, description="share of a limit by which a value must be better before a step is taken back")
    ] = 0.1
    step_s: Annotated[Seconds, Meta(description="time beyond a limit before the next step")] = 10.0
    back_s: Annotated[Seconds, Meta(description="time within all margins before a step is taken back")] = 60.0

    @property
    def enabled(self) -> bool:
        """Whether any limit is set."""
        return any(limit is not None for limit in (self.limit_c, self.power_limit_w, self.battery_limit))

"""Actions of a figure as functions of time, with the events that each must produce."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from edgepose.simulation.figure import Arm, Pose
from edgepose.simulation.movements import ease, swaying, walking

PoseAt = Callable[[float], Pose]


@dataclass(frozen=True)
class Action:
    """One action.

    Attributes:
        name: of the action.
        lasts_s: duration in seconds; 0 lasts until a walking figure has left the frame.
        pose: function from the time in seconds to the pose.
        walks: walking speed across the frame in body heights per second; 0 for none.
        expected: events that must be reported, with the time in seconds before which they must not.
        allowed: events that may be reported.
        headings: range of directions that the figure faces, see `View`.
    """

    name: str
    lasts_s: float
    pose: PoseAt
    walks: float = 0.0
    expected: dict[str, float] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    headings: tuple[float, float] = (0.0, 360.0)


TOWARDS_CAMERA = (-60.0, 60.0)


def mix(a: float, b: float, share: float) -> float:
    """Interpolate linearly."""
    return a + (b - a) * share


def stand(rng: np.random.Generator) -> Action:
    phase = rng.uniform(0, 6)
    return Action("standing", 8, lambda t: swaying(t, phase))


def walk(rng: np.random.Generator) -> Action:
    pace = rng.uniform(0.7, 1.1)

    # A heading of 90 faces right, the direction of walking.
    expected = {"left": 1.0, "zone_left": 0.0}
    return Action("walking through", 0, lambda t: walking(pace * t), walks=rng.uniform(0.5, 1.0), expected=expected, headings=(70, 110))


def sit_down(rng: np.random.Generator) -> Action:
    lasts = rng.uniform(0.6, 1.5)

    def pose(t: float) -> Pose:
        down = ease(t, 2, lasts) - ease(t, 7, lasts)
        arm = Arm(8, 8, 25 * down, 60 * down + 10)
        return Pose(lean=15 * down + 30 * np.sin(np.pi * down), thighs=(88 * down,) * 2, knees=(88 * down,) * 2, arms=(arm, arm))

    return Action("sitting down on a chair", 10, pose)


def bend_down(rng: np.random.Generator) -> Action:
    knees = rng.choice([0.0, 35.0, 100.0])
    lasts = rng.uniform(0.5, 1.2)

    def pose(t: float) -> Pose:
        down = ease(t, 2, lasts) - ease(t, 2.4 + lasts, lasts)
        arm = Arm(8, 8, mix(0, 75, down), mix(10, 80, down))
        lean = mix(0, 110 if knees < 90 else 55, down)
        return Pose(lean=lean, thighs=(0.9 * knees * down,) * 2, knees=(1.4 * knees * down,) * 2, arms=(arm, arm))

    return Action("bending to pick up", 8, pose)


def kneel(rng: np.random.Generator) -> Action:
    """Kneel on one knee to tie a shoe."""
    lasts = rng.uniform(0.7, 1.3)

    def pose(t: float) -> Pose:
        down = ease(t, 2, lasts) - ease(t, 6, lasts)
        arm = Arm(8, 8, 60 * down, 60 * down + 10)
        return Pose(lean=40 * down, thighs=(80 * down, 5 * down), knees=(80 * down, 90 * down), arms=(arm, arm))

    return Action("kneeling to tie a shoe", 9, pose)


def always_lying(rng: np.random.Generator) -> Action:
    towards, turn = rng.uniform(0, 360), rng.uniform(0, 6)
    return Action("lying all the time", 9, lambda t: replace(swaying(t, turn), tip=88.0, towards=towards, knees=(20.0, 5.0)))


def lie_down(rng: np.random.Generator) -> Action:
    """Kneel or sit on the ground, then lie back."""
    sits, lies, towards = rng.uniform(1.2, 2.0), rng.uniform(1.2, 2.5), rng.choice([90.0, 180.0, 270.0])

    def pose(t: float) -> Pose:
        down, back = ease(t, 2, sits), ease(t, 2 + sits, lies)
        arm = Arm(15, 15, mix(20 * down, 0, back), mix(30 * down, 5, back))
        bent = 100 * down * (1 - back)
        return Pose(
            lean=20 * down * (1 - back),
            thighs=(bent,) * 2,
            knees=(mix(140 * down, 10, back),) * 2,
            arms=(arm, arm),
            tip=88 * back,
            towards=towards,
        )

    return Action("lying down slowly", 10, pose)


def _falling(
    rng: np.random.Generator, name: str, towards: float, *, crumple: float = 0.0, moves: bool = False, rises: bool = False
) -> Action:
    lasts = rng.uniform(0.45, 0.95)
    start, length = rng.uniform(1.5, 2.5), 8.0 if moves or rises else 16.0
    stagger = rng.uniform(0, 8)

    def pose(t: float) -> Pose:
        # Gravity: slow at first, fastest on the ground.
        share = min(1.0, max(0.0, (t - start) / lasts)) ** 1.7
        back = ease(t, start + 3.5, 2.0) if rises else 0.0
        share *= 1 - back
        out = 30 * np.sin(np.pi * min(1.0, share)) + 25 * share
        move = 35 * np.sin(2.5 * t) if moves and share >= 1 else 0.0
        arms = (Arm(10 + out + move, 15 + out + move, 20 * share, 30 * share), Arm(12 + 0.7 * out - move, 20 + out, 10 * share, 20 * share))
        bent = crumple * share
        standing = swaying(t, start)
        return Pose(
            lean=standing.lean + stagger * share,
            thighs=(0.5 * bent + move, 0.4 * bent),
            knees=(bent + 10 * share + abs(move), bent * 0.7),
            spread=3 + 8 * share,
            arms=arms,
            tip=mix(0, rng_tip, share),
            towards=towards,
        )

    rng_tip = rng.uniform(82, 92)
    expected = {"fallen": start}
    if not moves and not rises:
        expected["still"] = start + 9
    return Action(name, length, pose, expected=expected)


def fall_forwards(rng: np.random.Generator) -> Action:
    return _falling(rng, "falling forwards", rng.uniform(-25, 25))


def fall_backwards(rng: np.random.Generator) -> Action:
    return _falling(rng, "falling backwards", rng.uniform(155, 205))


def fall_sideways(rng: np.random.Generator) -> Action:
    return _falling(rng, "falling sideways", rng.choice([90, 270]) + rng.uniform(-30, 30))


def collapse(rng: np.random.Generator) -> Action:
    return _falling(rng, "collapsing, knees first", rng.uniform(0, 360), crumple=70)


def fall_and_move(rng: np.random.Generator) -> Action:
    return _falling(rng, "falling, then moving", rng.uniform(0, 360), moves=True)


def fall_and_rise(rng: np.random.Generator) -> Action:
    return _falling(rng, "falling, then getting up", rng.uniform(0, 360), rises=True)


def wave_one(rng: np.random.Generator) -> Action:
    hz, side, swing = rng.uniform(0.7, 2.0), rng.integers(2), rng.uniform(28, 45)
    upper, whole = (150, 0.7) if rng.uniform() < 0.5 else (115, 0.1)  # the whole arm overhead, or from the elbow

    def pose(t: float) -> Pose:
        up, out = ease(t, 1.5, 0.5), swing * np.sin(2 * np.pi * hz * t)
        waving, other = Arm(mix(8, upper + whole * out, up), mix(10, 165 + out, up), 10, 15), Arm()
        return replace(swaying(t, 1), arms=(waving, other) if side else (other, waving))

    return Action("waving one arm", 8, pose, expected={"waving": 1.5}, headings=TOWARDS_CAMERA)


def wave_both(rng: np.random.Generator) -> Action:
    hz, swing, apart = rng.uniform(0.6, 1.6), rng.uniform(22, 35), rng.uniform(0, 1)

    def pose(t: float) -> Pose:
        up = ease(t, 1.5, 0.5)
        first, second = (swing * np.sin(2 * np.pi * hz * t + side * apart) for side in (0, 1))
        arms = (
            Arm(mix(8, 150 + 0.8 * first, up), mix(10, 160 + first, up), 0, 5),
            Arm(mix(8, 150 + 0.8 * second, up), mix(10, 160 + second, up), 0, 5),
        )
        return replace(swaying(t, 1), arms=arms)

    return Action("waving both arms", 8, pose, expected={"waving": 1.5}, allowed=frozenset({"arms_up"}), headings=TOWARDS_CAMERA)


def raise_arms(rng: np.random.Generator) -> Action:
    start = rng.uniform(1.5, 2.5)

    def pose(t: float) -> Pose:
        up = ease(t, start, 0.6) - ease(t, 6.5, 0.6)
        arm = Arm(mix(8, 158, up), mix(8, 168, up), 0, 5)
        return replace(swaying(t, 2), arms=(arm, arm))

    return Action("arms up", 8, pose, expected={"arms_up": start})


def point(rng: np.random.Generator) -> Action:
    high = rng.uniform(80, 125)

    def pose(t: float) -> Pose:
        out = ease(t, 2, 0.5) - ease(t, 6, 0.5)
        return replace(swaying(t, 3), arms=(Arm(mix(8, high, out), mix(8, high, out)), Arm()))

    return Action("pointing", 8, pose)


def telephone(rng: np.random.Generator) -> Action:
    """Hold a hand at the ear, with the small movements of a person who talks."""

    def pose(t: float) -> Pose:
        up = ease(t, 1.5, 0.5)
        return replace(swaying(t, 3), arms=(Arm(mix(8, 35, up), mix(8, 165 + 5 * np.sin(3 * t), up), mix(0, 25, up), 15), Arm()))

    return Action("telephoning", 8, pose)


def jumping_jacks(rng: np.random.Generator) -> Action:
    hz = rng.uniform(0.7, 1.2)

    def pose(t: float) -> Pose:
        out = 0.5 - 0.5 * np.cos(2 * np.pi * hz * max(0.0, t - 1.5))
        arm = Arm(mix(8, 165, out), mix(8, 172, out), 0, 5)
        return Pose(spread=3 + 22 * out, arms=(arm, arm), lift=0.04 * abs(np.sin(2 * np.pi * hz * t)))

    return Action("jumping jacks", 9, pose)


def clap(rng: np.random.Generator) -> Action:
    hz = rng.uniform(1.5, 3.0)

    def pose(t: float) -> Pose:
        apart = 12 * np.sin(2 * np.pi * hz * t)
        arm = Arm(15, 30 + apart, 35, 60)
        return replace(swaying(t, 4), arms=(arm, arm))

    return Action("clapping", 8, pose)


def gesture(rng: np.random.Generator) -> Action:
    """Gesture with both hands below the shoulders."""
    hz = rng.uniform(0.5, 1.5)

    def pose(t: float) -> Pose:
        out = 35 * np.sin(2 * np.pi * hz * t)
        return replace(swaying(t, 4), arms=(Arm(15, 40 + out, 20, 40), Arm(15, 40 - out, 20, 40)))

    return Action("talking with the hands", 8, pose)


ACTIONS = (
    walk, stand, sit_down, bend_down, kneel, always_lying, lie_down,
    fall_forwards, fall_backwards, fall_sideways, collapse, fall_and_move, fall_and_rise,
    wave_one, wave_both, raise_arms, point, telephone, jumping_jacks, clap, gesture,
)  # fmt: skip
"""Functions that make an action, each from a random generator."""

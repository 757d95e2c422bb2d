"""Movements of a figure as functions of time."""

from dataclasses import replace

import numpy as np

from edgepose.simulation.figure import Arm, Pose


def ease(t_s: float, start_s: float, lasts_s: float) -> float:
    """Return 0 before the start, 1 after its duration, and a smooth transition between."""
    share = min(1.0, max(0.0, (t_s - start_s) / lasts_s))
    return share * share * (3 - 2 * share)


def swaying(t_s: float, phase: float) -> Pose:
    """Return a standing pose with the sway of a standing person.

    Args:
        t_s: time in seconds.
        phase: of the sway at time 0, in radians.
    """
    sway = 2.0 * np.sin(1.3 * t_s + phase)
    arm = Arm(8 + sway, 10 + sway, 0, 15 + 2 * sway)
    return Pose(lean=sway, arms=(arm, replace(arm, upper=10 - sway)))


def walking(steps: float) -> Pose:
    """Return the pose of a person who walks; one full step of both legs is 1."""
    step = np.sin(2 * np.pi * steps)
    left, right = (max(0.0, 40 * np.sin(2 * np.pi * steps + shift)) for shift in (0.8, 0.8 + np.pi))
    arms = (Arm(8, 8, -22 * step, -22 * step + 15), Arm(8, 8, 22 * step, 22 * step + 15))
    return Pose(lean=4, thighs=(25 * step, -25 * step), knees=(left, right), arms=arms)

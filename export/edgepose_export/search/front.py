"""The points of a search that no other beats, as a plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

from edgepose_export.data.figures import save_figure

matplotlib.use("Agg")
from matplotlib import pyplot


@dataclass(frozen=True, slots=True)
class Point:
    """One measured variant.

    Attributes:
        name: of structure and input size.
        structure: name of `edgepose_export.search.variants.Structure`.
        size: long side of the input in pixels.
        box_ap, ap: AP of boxes and of keypoints.
        time_ms: least time of a call on one thread of this machine.
        time_ratio: over that of the start's file, measured in turn.
        multiply_adds: of a square picture.
        parameters: number of trained values.
        file_bytes: size of the ONNX file.
    """

    name: str
    structure: str
    size: int
    box_ap: float
    ap: float
    time_ms: float
    time_ratio: float
    multiply_adds: int
    parameters: int
    file_bytes: int


def front_of(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points that no other one beats in box AP without being slower, by rising time."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.time_ratio, -point.box_ap)):
        if not front or point.box_ap > front[-1].box_ap:
            front.append(point)
    return tuple(front)


def write_front(folder: Path, points: Sequence[Point]) -> tuple[Point, ...]:
    """Plot box AP over time into `front.png`, and return the front.

    Args:
        folder: of the search.
        points: all of them; the first is the start.

    Raises:
        OutputError: the plot cannot be written.
    """
    front = front_of(points)
    figure, axis = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    axis.plot([p.time_ratio for p in points], [p.box_ap for p in points], "o", color="tab:gray", label=f"{len(points)} variants")
    axis.plot([p.time_ratio for p in front], [p.box_ap for p in front], "o-", color="tab:blue", label="front", drawstyle="steps-post")
    axis.plot(points[0].time_ratio, points[0].box_ap, "*", markersize=15, color="tab:red", label="start")
    for point in front:
        place = (point.time_ratio, point.box_ap)
        axis.annotate(f"{point.size} px {point.structure}", place, fontsize=6, xytext=(4, -8), textcoords="offset points")
    axis.set(xlabel="time, relative to the start", ylabel="box AP after the short training")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", fontsize="small")
    save_figure(figure, folder / "front.png")
    return front

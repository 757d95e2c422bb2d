"""What a data set's labels say, and which of them look wrong: figures, a table and a plot to read before hours of training."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from edgepose.person import KEYPOINT_NAMES
from edgepose_export.data.coco import Picture
from edgepose_export.data.figures import save_figure
from edgepose_export.data.suspicious import KINDS, SWAPPED, SuspiciousLabel, find_suspicious

matplotlib.use("Agg")
from matplotlib import pyplot

PERCENTILES = (5, 25, 50, 75, 95)
"""Percentiles of heights in the table."""

_NETWORK_PX = 320
_HEAT_CELLS = 32
_MOST_BARS = 12  # of the histogram of people a picture; the last bar holds all others


@dataclass(frozen=True, slots=True, eq=False)
class LabelStatistics:
    """Figures of the labels of a data set with N pictures and P people with keypoints.

    Attributes:
        pictures: N.
        empty: pictures without any box.
        incomplete: pictures in which people may be without a box (`all_people_labelled: false`).
        people: P.
        boxes_only: people without labeled keypoints.
        crowds: regions that hold any number of people.
        labeled: (17,), share of the people of whom each keypoint is labeled.
        visible: (17,), share of the people of whom each keypoint is labeled visible.
        heights_px: (P,), longer sides of boxes, in pixels of the files.
        scaled_heights_px: (P,), longer sides after the picture is scaled to a long side of 320 px, as the network sees them.
        other_heights_px: longer sides of the boxes of people without keypoints, in pixels of the files.
        people_per_picture: (N,), people with keypoints.
        centers: (P, 2), centers of the boxes as shares of width and height.
        suspicious: labels that look wrong.
    """

    pictures: int
    empty: int
    incomplete: int
    people: int
    boxes_only: int
    crowds: int
    labeled: NDArray[np.float64]
    visible: NDArray[np.float64]
    heights_px: NDArray[np.float64]
    scaled_heights_px: NDArray[np.float64]
    other_heights_px: NDArray[np.float64]
    people_per_picture: NDArray[np.int64]
    centers: NDArray[np.float64]
    suspicious: tuple[SuspiciousLabel, ...]


def label_statistics(pictures: Sequence[Picture]) -> LabelStatistics:
    """Count the labels of a data set; no picture file is read."""
    posed = [picture.keypoints[..., 2].any(1) for picture in pictures]  # a person may have only a box
    people = np.array([chosen.sum() for chosen in posed], np.int64)
    boxes = np.concatenate([np.zeros((0, 4)), *(picture.boxes[chosen] for picture, chosen in zip(pictures, posed, strict=True))])
    sizes = np.repeat(np.array([(p.width, p.height) for p in pictures], float).reshape(-1, 2), people, axis=0)
    visibility = np.concatenate([np.zeros((0, 17)), *(p.keypoints[chosen, :, 2] for p, chosen in zip(pictures, posed, strict=True))])
    others = np.concatenate(
        [
            np.zeros((0, 4)),
            *(picture.boxes[~chosen] for picture, chosen in zip(pictures, posed, strict=True)),
            *(picture.ignored[~picture.ignored_crowds] for picture in pictures),
        ]
    )
    total = max(len(boxes), 1)
    heights = (boxes[:, 2:] - boxes[:, :2]).max(1)
    return LabelStatistics(
        pictures=len(pictures),
        empty=sum(not len(picture.boxes) and not len(picture.ignored) for picture in pictures),
        incomplete=sum(not picture.all_people_labeled for picture in pictures),
        people=len(boxes),
        boxes_only=len(others),
        crowds=sum(int(picture.ignored_crowds.sum()) for picture in pictures),
        labeled=(visibility > 0).sum(0) / total,
        visible=(visibility == 2).sum(0) / total,
        heights_px=heights,
        scaled_heights_px=heights * _NETWORK_PX / sizes.max(1, initial=1.0),
        other_heights_px=(others[:, 2:] - others[:, :2]).max(1),
        people_per_picture=people,
        centers=(boxes[:, :2] + boxes[:, 2:]) / 2 / np.maximum(sizes, 1),
        suspicious=find_suspicious(pictures),
    )


def write_label_statistics(pictures: Sequence[Picture], path: Path) -> LabelStatistics:
    """Write the plot of a data set's labels into a PNG, and return the figures; a trainer calls this at its start.

    Raises:
        OutputError: the PNG cannot be written.
    """
    statistics = label_statistics(pictures)
    plot_label_statistics(path, statistics)
    return statistics


def statistics_table(statistics: LabelStatistics, title: str = "labels") -> Table:
    """Return the figures as a table for people."""
    table = Table(title=title, show_header=False)
    table.add_column("figure")
    table.add_column("value")
    table.add_row("pictures", f"{statistics.pictures}, {statistics.empty} of them without any box")
    if statistics.incomplete:
        table.add_row("incomplete pictures", f"{statistics.incomplete}: nothing outside of their boxes is background")
    table.add_row("people with keypoints", str(statistics.people))
    table.add_row("people with a box only", f"{statistics.boxes_only}, and {statistics.crowds} crowds")
    if statistics.people:
        most = int(statistics.people_per_picture.max())
        table.add_row("people a picture", f"mean {statistics.people / statistics.pictures:.1f}, most {most}")
        for name, heights in (("longer side, px", statistics.heights_px), (f"at {_NETWORK_PX} px", statistics.scaled_heights_px)):
            values = np.percentile(heights, PERCENTILES)
            table.add_row(name, ", ".join(f"{share} %: {value:.0f}" for share, value in zip(PERCENTILES, values, strict=True)))
        shares = sorted(zip(statistics.labeled, statistics.visible, KEYPOINT_NAMES, strict=True), key=lambda entry: entry[0])
        for name, entries in (("rarest keypoints", shares[:3]), ("most frequent keypoints", shares[:-4:-1])):
            table.add_row(name, ", ".join(f"{keypoint} {labeled:.0%} ({seen:.0%} visible)" for labeled, seen, keypoint in entries))
    for kind, count in Counter(label.kind for label in statistics.suspicious).most_common():
        example = next(label for label in statistics.suspicious if label.kind == kind)
        table.add_row(f"suspicious: {KINDS[kind]}", f"{count}, such as person {example.person + 1} in {example.path.name}")
    if warning := swapped_warning(statistics):
        table.add_row("warning", warning)
    return table


def swapped_warning(statistics: LabelStatistics) -> str:
    """Return a sentence where left and right are swapped in the whole set; empty where they are not."""
    swapped = sum(label.kind == SWAPPED for label in statistics.suspicious)
    if swapped < 5 or swapped < 0.05 * statistics.people:  # about 1 in 1000 in COCO
        return ""
    return (
        f"left and right look swapped for {swapped} of {statistics.people} people; "
        "expected the person's own left, which is on the right side of the picture when the person faces the camera"
    )


def plot_label_statistics(path: Path, statistics: LabelStatistics) -> None:
    """Plot heights, shares of keypoints, centers and people a picture into a PNG.

    Raises:
        OutputError: the PNG cannot be written.
    """
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    figure.suptitle(
        f"{statistics.pictures} pictures, {statistics.people} people with keypoints, {statistics.boxes_only} with a box only, "
        f"{statistics.crowds} crowds, {len(statistics.suspicious)} suspicious labels"
    )
    _plot_heights(axes[0, 0], statistics)
    _plot_keypoints(axes[0, 1], statistics)
    _plot_centers(axes[1, 0], statistics)
    _plot_people(axes[1, 1], statistics)
    save_figure(figure, path)


def _plot_heights(axis: Any, statistics: LabelStatistics) -> None:
    edges = np.geomspace(4, 2048, 37)
    shown = {
        "in the file": statistics.heights_px,
        f"with the picture at {_NETWORK_PX} px": statistics.scaled_heights_px,
        "in the file, box only": statistics.other_heights_px,
    }
    for name, heights in shown.items():
        axis.hist(np.clip(heights, edges[0], edges[-1] - 1), edges, histtype="step", label=name)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.set(title="sizes", xlabel="longer side of the box, px", ylabel="people")
    axis.legend(fontsize="small")
    axis.grid(alpha=0.3)


def _plot_keypoints(axis: Any, statistics: LabelStatistics) -> None:
    rows = np.arange(len(KEYPOINT_NAMES))
    axis.barh(rows, statistics.labeled, color="tab:orange", label="labeled, hidden")
    axis.barh(rows, statistics.visible, color="tab:blue", label="labeled, visible")
    axis.set_yticks(rows, KEYPOINT_NAMES, fontsize="small")
    axis.invert_yaxis()
    axis.set(title="keypoints", xlabel="share of the people", xlim=(0, 1))
    axis.legend(fontsize="small")
    axis.grid(axis="x", alpha=0.3)


def _plot_centers(axis: Any, statistics: LabelStatistics) -> None:
    x, y = statistics.centers.T
    counts, _, _ = np.histogram2d(y, x, _HEAT_CELLS, ((0, 1), (0, 1)))
    shown = axis.imshow(counts, extent=(0, 1, 1, 0), cmap="viridis", aspect="auto")
    axis.set(title="centers of the boxes", xlabel="share of the width", ylabel="share of the height")
    axis.figure.colorbar(shown, ax=axis, label="people")


def _plot_people(axis: Any, statistics: LabelStatistics) -> None:
    counts = np.bincount(np.minimum(statistics.people_per_picture, _MOST_BARS), minlength=_MOST_BARS + 1)
    names = [str(number) for number in range(_MOST_BARS)] + [f"{_MOST_BARS}+"]
    axis.bar(names, counts)
    axis.set(title="people with keypoints in a picture", xlabel="people", ylabel="pictures")
    axis.grid(axis="y", alpha=0.3)

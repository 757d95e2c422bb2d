"""The sections about accuracy: summary, precision and recall, keypoints, sizes of people, calibration."""

from collections.abc import Callable, Sequence
from typing import Any

from edgepose_export.evaluation.coco import WORKING_SCORE
from edgepose_export.evaluation.curves import LARGEST_RIGHT_ERROR
from edgepose_export.report.accuracy import SIZES_PX
from edgepose_export.report.html import change, charts, figure, legend, name_html, number, percent, section, table
from edgepose_export.report.svg import SERIES, Axis, Mark, Series, line_chart, row_chart

Columns = Sequence[dict[str, Any]]
"""The columns of a report's figures."""

_SUMMARY = (
    ("AP", "average precision: how right the poses are, over all thresholds of OKS; the figure that networks are compared by"),
    ("AP50", "the same, where roughly right is enough (OKS 0.50)"),
    ("AP75", "the same, where places must be close (OKS 0.75)"),
    ("APm", "AP of middle-sized people, 32² to 96² pixels"),
    ("APl", "AP of large people, above 96² pixels"),
    ("AR", "average recall: share of the people who are found"),
    ("PCK", "share of all keypoints within a fifth of the person's height of their place"),
    ("right", "share of the reported finds that are people"),
    ("found", "share of the people who are reported"),
    ("confident_right", "share of the confident keypoints (above 0.5) that are in their place"),
)


def names_of(columns: Columns) -> list[str]:
    """Return the headings of the columns."""
    return [column["name"] for column in columns]


def summary_section(columns: Columns) -> str:
    """Return the figures of `edgepose-export evaluate`, side by side."""
    first = columns[0]["evaluation"]
    rows = []
    for key, meaning in _SUMMARY:
        cells = [number(first[key])]
        cells += [number(column["evaluation"][key]) + change(column["evaluation"][key], first[key]) for column in columns[1:]]
        rows.append((key.replace("_", " "), meaning, cells))
    if any("refined" in column["evaluation"] for column in columns):
        cells = [number(column["evaluation"].get("refined"), 2) for column in columns]
        rows.append(("refined", "people a picture whose pose a second network improved", cells))
    lead = "All figures lie between 0 and 1; more is better. They are those of the command edgepose-export evaluate."
    if len(columns) > 1:
        lead += f" Small figures are differences from {columns[0]['name']}."
    coarse = [column["name"] for column in columns if not column["refined"]]
    if coarse:
        lead += f" Without a refiner: {', '.join(coarse)}; the keypoints of a shipped pose network alone are coarse."
    return section("accuracy", "Accuracy", lead, table(["", *names_of(columns)], rows))


def curves_section(columns: Columns) -> str:
    """Return precision over recall, and both over the score threshold."""
    figures = []
    texts = {
        "0.50": ("Roughly right poses", "A pose counts from OKS 0.50."),
        "0.75": ("Close poses", "A pose counts from OKS 0.75."),
        "mean": ("Mean of all thresholds", "OKS 0.50 to 0.95; the area under the line is AP."),
    }
    for oks, (title, text) in texts.items():
        lines = []
        for index, column in enumerate(columns):
            curve = column["curves"]
            points = [(x, y if y > 0 else None) for x, y in zip(curve["recall"], curve["precision"][oks], strict=True)]
            lines.append(Series(column["name"], index, points))
        axes = Axis.share("recall: share of the people found"), Axis.share("precision: share of the finds that are right")
        figures.append(figure(title, text, line_chart(f"Precision over recall, {title}", *axes, lines), _curve_table(columns, oks)))
    marks = [Mark(f"default {WORKING_SCORE:g}", x=WORKING_SCORE)]
    for key, title, text, label in (
        ("precision_at_score", "What a threshold keeps clean", "Of the finds with at least this score, how many are people.", "precision"),
        ("recall_at_score", "What a threshold costs", "Of the people, how many have a find with at least this score.", "recall"),
    ):
        lines = [
            Series(column["name"], index, list(zip(column["curves"]["score"], column["curves"][key], strict=True)))
            for index, column in enumerate(columns)
        ]
        chart = line_chart(title, Axis.share("score threshold"), Axis.share(label), lines, marks=marks)
        figures.append(figure(title, text, chart, _threshold_table(columns, key)))
    lead = (
        "A network gives each find a score. A high threshold keeps only sure finds (high precision) and misses people (low recall). "
        "A line that stays higher and reaches farther to the right is better."
    )
    return section("curves", "Precision and recall", lead, legend(names_of(columns)) + charts(figures))


def _curve_table(columns: Columns, oks: str) -> str:
    rows = []
    for index in range(0, 101, 10):
        cells = [number(column["curves"]["precision"][oks][index]) for column in columns]
        rows.append((f"{columns[0]['curves']['recall'][index]:.1f}", "", cells))
    return table(["recall", *names_of(columns)], rows)


def _threshold_table(columns: Columns, key: str) -> str:
    rows = [(f"{index / 100:.1f}", "", [number(column["curves"][key][index]) for column in columns]) for index in range(0, 101, 10)]
    return table(["score", *names_of(columns)], rows)


def keypoints_section(columns: Columns) -> str:
    """Return the error of each keypoint."""
    names = [entry["keypoint"].replace("_", " ") for entry in columns[0]["keypoints"]]

    def series(key: str) -> list[Series]:
        return [
            Series(column["name"], index, [(row, entry[key]) for row, entry in enumerate(column["keypoints"])])
            for index, column in enumerate(columns)
        ]

    def numbers(key: str) -> str:
        rows = [(name, "", [number(column["keypoints"][row][key]) for column in columns]) for row, name in enumerate(names)]
        return table(["keypoint", *names_of(columns)], rows)

    errors = [entry["mean_error"] for column in columns for entry in column["keypoints"]]
    error_axis = Axis.to(max([*errors, 1.5]), "mean error, in units of what people's own labels differ by")
    figures = [
        figure(
            "Error of each keypoint",
            f"Of people who were found; less is better. 1 is about what careful humans differ by; up to {LARGEST_RIGHT_ERROR:.2f}, the "
            "dashed line, a keypoint is in its place. Each error counts at most 5.",
            row_chart("Mean error of each keypoint", names, error_axis, series("mean_error"), marks=[Mark("", x=LARGEST_RIGHT_ERROR)]),
            numbers("mean_error"),
        ),
        figure(
            "Keypoints in their place",
            "Share of the keypoints of found people that lie in their place; more is better.",
            row_chart("Share of keypoints in their place", names, Axis.share("share"), series("right")),
            numbers("right"),
        ),
        figure(
            "Keypoints in their place, of all people",
            "The same, where the keypoints of a person who is not found are wrong.",
            row_chart("Share of all keypoints in their place", names, Axis.share("share"), series("right_of_all")),
            numbers("right_of_all"),
        ),
    ]
    lead = "Eyes and ears are small and labeled exactly; hips hide under clothes. So errors are divided by what careful humans differ by."
    return section("keypoints", "Keypoints", lead, legend(names_of(columns)) + charts(figures))


def sizes_section(columns: Columns) -> str:
    """Return how many people of each size are found, and how well."""
    groups = columns[0]["sizes"]
    bounds = [*SIZES_PX[1:], None]
    ranges = [f"{low}–{high}" if low and high else f"< {high}" if high else f"> {low}" for low, high in zip(SIZES_PX, bounds, strict=True)]
    axis = Axis.of(
        [f"{text}\n({group['people']})" for text, group in zip(ranges, groups, strict=True)], "longer side of the person, px (people)"
    )
    figures = []
    for key, title, text, label in (
        (
            "found",
            "People found",
            "Share of the people of a size with a find that is roughly right (OKS 0.50), at any score.",
            "share found",
        ),
        ("OKS", "Likeness of their poses", "Mean OKS of the people found: 1 is exact, 0.5 is roughly right.", "mean OKS"),
        ("right", "Keypoints in their place", "Share of the keypoints of the people found.", "share in place"),
    ):
        lines = [
            Series(column["name"], index, [(row, entry[key]) for row, entry in enumerate(column["sizes"])], [4.0] * len(groups))
            for index, column in enumerate(columns)
        ]
        rows = [(f"{text} px", "", [number(column["sizes"][row][key]) for column in columns]) for row, text in enumerate(ranges)]
        chart = line_chart(title, axis, Axis.share(label), lines)
        figures.append(figure(title, text, chart, table(["size", *names_of(columns)], rows)))
    lead = "Small people have few pixels. In brackets: how many labeled people there are of that size; few people make a rough figure."
    return section("sizes", "Size of people", lead, legend(names_of(columns)) + charts(figures))


def calibration_section(columns: Columns) -> str:
    """Return reliability diagrams of scores and of confidences."""
    figures = [
        _reliability(columns, "score", "Scores of people", "score that the network gives", "share that are people", "finds"),
        _reliability(
            columns, "keypoint", "Confidences of keypoints", "confidence that the network gives", "share in their place", "keypoints"
        ),
    ]

    def row(name: str, meaning: str, value: Callable[[dict[str, Any]], float | None]) -> tuple[str, str, list[str]]:
        return name, meaning, [number(value(column["calibration"])) for column in columns]

    rows = [
        row("ECE of scores", "expected calibration error: mean distance from the diagonal, all finds", lambda c: c["score"]["ECE"]),
        row("ECE of reported scores", f"the same, of finds from {WORKING_SCORE:g}", lambda c: c["score"]["ECE_reported"]),
        row("ECE of confidences", "the same, of keypoints of people found", lambda c: c["keypoint"]["ECE"]),
    ]
    lead = (
        "Of all finds with a score near 0.7, seven in ten should be people. On the dashed diagonal a number means what it says; below it "
        "the network is too sure, above it too modest. A larger dot stands for more finds."
    )
    return section(
        "calibration",
        "Calibration",
        lead,
        legend(names_of(columns)) + charts(figures) + table(["less is better", *names_of(columns)], rows),
    )


def _reliability(columns: Columns, kind: str, title: str, x: str, y: str, what: str) -> str:
    lines, rows = [], []
    for index, column in enumerate(columns):
        found = column["calibration"][kind]
        points = [(entry["claimed"], entry["right"]) for entry in found["bins"]]
        radii = [2 + 7 * (entry["count"] / max(found["count"], 1)) ** 0.5 for entry in found["bins"]]
        lines.append(Series(column["name"], index, points, radii))
        rows += [(column["name"], "", [number(entry["claimed"]), number(entry["right"]), str(entry["count"])]) for entry in found["bins"]]
    chart = line_chart(title, Axis.share(x), Axis.share(y), lines, marks=[Mark("")])
    errors = ", ".join(f"{column['name']} {number(column['calibration'][kind]['ECE'])}" for column in columns)
    return figure(title, f"Mean distance from the diagonal (ECE): {errors}.", chart, table(["model", "claimed", "right", what], rows))


def cards(columns: Columns) -> str:
    """Return what matters most about each column."""
    first = columns[0]
    parts = []
    for index, column in enumerate(columns):
        precision = column["evaluation"]["AP"]
        compared = change(precision, first["evaluation"]["AP"]) if index else ""
        rows = [("number format", column["precision"]), ("people reported", percent(column["evaluation"]["found"]))]
        if "latency" in column:
            times = column["latency"]["threads"]["1"]["stages"]["all"]
            rows.append(("a picture, one thread", f"{times['p50']:.1f} ms"))
        rows.append(("files", f"{sum(file['bytes'] for file in column['files']) / 1e6:.1f} MB"))
        listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
        big = f'<div class="big">{number(precision)} <small class="muted">AP</small></div>'
        parts.append(f'<div class="card c{index % SERIES}"><h3>{name_html(column["name"])}</h3>{big}{compared}<dl>{listed}</dl></div>')
    return f'<div class="cards">{"".join(parts)}</div>'

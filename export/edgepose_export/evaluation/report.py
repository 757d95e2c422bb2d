"""Evaluations as tables for people and as JSON for programs."""

import json
from collections.abc import Mapping

from rich.table import Table

from edgepose_export.evaluation.boxes import BoxEvaluation
from edgepose_export.evaluation.coco import Evaluation
from edgepose_export.evaluation.robustness import Robustness
from edgepose_export.evaluation.true_boxes import RefinerEvaluation

AnyEvaluation = Evaluation | BoxEvaluation | RefinerEvaluation

_MEANINGS = {
    "AP": "average precision, mean of OKS 0.50 to 0.95",
    "AP50": "at OKS 0.50",
    "AP75": "at OKS 0.75",
    "APm": "of people of 32² to 96² pixels",
    "APl": "of larger ones",
    "AR": "average recall",
    "PCK": "of the keypoints, within 0.2 of the longer side",
}
_COLUMNS = tuple(_MEANINGS)
_WORKING_POINT = {
    "right": "of the finds at score 0.3 that match a person",
    "found": "of the people whom a find at score 0.3 matches",
    "confident_right": "of the keypoints of confidence > 0.5",
}
_BOX_MEANINGS = {
    "box_AP": "average precision, mean of IoU 0.50 to 0.95",
    "box_AP50": "at IoU 0.50",
    "recall_lt24": "found at score 0.3 and IoU 0.4, below 24 px high",
    "recall_24_48": "from 24 to 48 px",
    "recall_gt48": "above 48 px",
    "false_per_image": "false finds a picture at score 0.3",
}
_TRUE_BOX_MEANINGS = {
    "OKS": "mean of the people, in their labeled boxes",
    "AP": "right poses, mean of OKS 0.50 to 0.95",
    "PCK": _MEANINGS["PCK"],
    "confident_right": _WORKING_POINT["confident_right"],
}


def to_json(evaluation: AnyEvaluation) -> str:
    """Return one JSON object on one line, with the fixed keys of `edgepose-export evaluate --json`."""
    return json.dumps(rounded(evaluation))


def robustness_json(robustness: Robustness) -> str:
    """Return one JSON object on one line: `clean` and each corruption, with the keys of `to_json`.

    A corruption has one more key, `AP_of_clean`: its AP as a share of the clean AP, null where that is 0.
    """
    values = {"clean": rounded(robustness.clean)}
    for name, result in robustness.corrupted.items():
        share = robustness.relative(name)
        values[name] = rounded(result) | {"AP_of_clean": None if share is None else round(share, 5)}
    return json.dumps(values)


def rounded(evaluation: AnyEvaluation) -> dict[str, float | int | str | None]:
    """Return the figures of `edgepose-export evaluate --json`, with five decimals."""
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in evaluation.to_json().items()}


def evaluation_table(name: str, evaluation: Evaluation) -> Table:
    """Return a table with one row per figure, which fits a narrow terminal."""
    table = _table(name, evaluation, _MEANINGS | _WORKING_POINT)
    table.add_row("images", str(evaluation.images), "")
    table.add_row("people", str(evaluation.people), "with keypoints")
    if evaluation.refiner:
        table.add_row("refined", f"{evaluation.refined:.2f}", f"people a picture, by {evaluation.refiner}")
    return table


def box_table(name: str, evaluation: BoxEvaluation) -> Table:
    """Return a table of the figures of boxes."""
    table = _table(name, evaluation, _BOX_MEANINGS)
    table.add_row("images", str(evaluation.images), "")
    table.add_row("boxes", str(evaluation.boxes), "that are not crowds")
    return table


def true_box_table(name: str, evaluation: RefinerEvaluation) -> Table:
    """Return a table of the figures of a refiner by itself."""
    rows = dict(_TRUE_BOX_MEANINGS)
    rows |= {f"OKS_{group}": f"seen from about {group} degrees above the horizon" for group in evaluation.oks_by_elevation}
    table = _table(name, evaluation, rows)
    table.add_row("images", str(evaluation.images), "")
    table.add_row("people", str(evaluation.people), "with keypoints")
    return table


def _table(name: str, evaluation: AnyEvaluation, rows: Mapping[str, str]) -> Table:
    """Return a table with one row per key in `rows`, whose values are explanations."""
    table = Table(title=f"{name} ({evaluation.precision})" if evaluation.precision else name, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    values = evaluation.to_json()
    for key, meaning in rows.items():
        table.add_row(key.replace("_", " "), _share(values[key]), meaning)
    table.add_section()
    return table


def robustness_table(name: str, robustness: Robustness) -> Table:
    """Return a table with the clean pictures first, then one row per corruption, worst last."""
    table = Table(title=f"{name} ({robustness.clean.precision})", title_justify="left")
    table.add_column("pictures")
    for heading in (*_COLUMNS, "AP of clean"):
        table.add_column(heading, justify="right")
    rows = sorted(robustness.corrupted, key=lambda name: -robustness.corrupted[name].ap)
    for kind, evaluation in [("clean", robustness.clean), *((row, robustness.corrupted[row]) for row in rows)]:
        values = evaluation.to_json()
        relative = 1.0 if evaluation is robustness.clean else robustness.relative(kind)
        table.add_row(kind, *(_share(values[column]) for column in _COLUMNS), "-" if relative is None else f"{relative:.0%}")
    return table


def _share(value: float | int | str | None) -> str:
    """Format a share with three decimals; a dash where there is none."""
    return f"{value:.3f}" if isinstance(value, float) else "-"

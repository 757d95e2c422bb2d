"""Evaluations as tables for people and as JSON for programs."""

import json

from rich.table import Table

from edgepose_export.evaluation.coco import Evaluation
from edgepose_export.evaluation.robustness import Robustness

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


def to_json(evaluation: Evaluation) -> str:
    """Return one JSON object on one line, with the fixed keys of `edgepose-export evaluate --json`."""
    return json.dumps(_rounded(evaluation))


def robustness_json(robustness: Robustness) -> str:
    """Return one JSON object on one line: `clean` and each corruption, with the keys of `to_json`."""
    return json.dumps({name: _rounded(result) for name, result in {"clean": robustness.clean, **robustness.corrupted}.items()})


def _rounded(evaluation: Evaluation) -> dict[str, float | int | str | None]:
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in evaluation.to_json().items()}


def evaluation_table(name: str, evaluation: Evaluation) -> Table:
    """Return a table with one row per figure, which fits a narrow terminal."""
    table = Table(title=f"{name} ({evaluation.precision})" if evaluation.precision else name, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    values = evaluation.to_json()
    for column in _COLUMNS:
        table.add_row(column, _share(values[column]), _MEANINGS[column])
    table.add_row("right", _share(evaluation.right), "of the detections at score 0.3 that match a person")
    table.add_row("found", _share(evaluation.found), "of the people whom a detection at score 0.3 matches")
    table.add_section()
    table.add_row("images", str(evaluation.images), "")
    table.add_row("people", str(evaluation.people), "with keypoints")
    if evaluation.refiner:
        table.add_row("refined", f"{evaluation.refined:.2f}", f"people a picture, by {evaluation.refiner}")
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

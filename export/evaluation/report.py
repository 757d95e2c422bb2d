"""Evaluations as tables for people and JSON for programs."""

import json
from collections.abc import Mapping

from rich.table import Table

from export.evaluation.coco import Evaluation
from export.evaluation.robustness import Robustness

_COLUMNS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "PCK")


def to_json(evaluation: Evaluation) -> str:
    """One JSON object on one line, with the keys that other programs rely on."""
    rounded = {key: round(value, 5) if isinstance(value, float) else value for key, value in evaluation.to_json().items()}
    return json.dumps(rounded)


def evaluation_table(evaluations: Mapping[str, Evaluation]) -> Table:
    """One row a network, by its name."""
    table = Table(caption="right, found: share of finds that are somebody, of people who are found, at score 0.3 and OKS 0.5")
    for heading in ("model", "precision"):
        table.add_column(heading)
    for heading in (*_COLUMNS, "right", "found", "images", "people"):
        table.add_column(heading, justify="right")
    for name, evaluation in evaluations.items():
        values = evaluation.to_json()
        shares = [_share(values[column]) for column in _COLUMNS]
        shares += [_share(evaluation.right), _share(evaluation.found)]
        table.add_row(name, evaluation.precision, *shares, str(evaluation.images), str(evaluation.people))
    return table


def robustness_table(robustness: Robustness) -> Table:
    """One row a corruption, worst last, beside the clean pictures."""
    table = Table()
    table.add_column("pictures")
    for heading in (*_COLUMNS, "AP of clean"):
        table.add_column(heading, justify="right")
    rows = sorted(robustness.corrupted, key=lambda name: -robustness.corrupted[name].ap)
    for name, evaluation in [("clean", robustness.clean), *((name, robustness.corrupted[name]) for name in rows)]:
        values = evaluation.to_json()
        relative = 1.0 if evaluation is robustness.clean else robustness.relative(name)
        table.add_row(name, *(_share(values[column]) for column in _COLUMNS), "-" if relative is None else f"{relative:.0%}")
    return table


def _share(value: float | int | str | None) -> str:
    """A share to three places; a dash where there is none."""
    return f"{value:.3f}" if isinstance(value, float) else "-"

"""Figures of tracks as tables for people and as JSON for programs."""

import json
from typing import Any

from rich.console import Group
from rich.table import Table

from edgepose_export.evaluation.tracks.evaluation import TrackEvaluation

_MEANINGS = {
    "IDF1": "people and finds in all frames with the right identity",
    "switches": "changes of a person's track number",
    "fragments": "people found, lost and found again",
    "kept_id": "of the frames with a person, those with the number most often theirs",
    "found": "of the people in all frames",
    "false_per_frame": "tracked people who are nobody",
    "jitter_px": "deviation of the keypoints of people at rest before a still camera, pixels",
    "jitter_bodies": "the same in body sizes (square root of the box's area)",
    "jitter_bodies_unsmoothed": "without smoothing",
    "lag_s": "by which waving wrists are late before a still camera, seconds",
    "lag_s_unsmoothed": "without smoothing",
    "ground_drift": "largest drift of places on the ground, body heights",
}


def tracks_json(evaluation: TrackEvaluation) -> str:
    """Return one JSON object on one line; keys as of `TrackEvaluation.to_json`."""
    return json.dumps(_rounded(evaluation.to_json()))


def tracks_tables(name: str, evaluation: TrackEvaluation) -> Group:
    """Return the figures of all clips, then those by camera and elevation, then those of events."""
    figures = evaluation.to_json()
    title = f"{name} ({evaluation.precision})" + (f" + {evaluation.refiner}" if evaluation.refiner else "")
    whole = Table(title=title, title_justify="left", show_header=False)
    whole.add_column()
    whole.add_column(justify="right")
    whole.add_column()
    for key, meaning in _MEANINGS.items():
        whole.add_row(key.replace("_", " "), _text(figures[key]), meaning)
    whole.add_row("frames", str(figures["frames"]), f"of {figures['clips']} clips")
    tables = [whole]
    parts = {f"camera {name}": values for name, values in figures["by_camera"].items()}
    parts |= {f"{group} degrees down": values for group, values in figures["by_elevation"].items()}
    if parts:
        tables.append(_parts_table(parts))
    if figures["events"]:
        tables.append(_event_table(evaluation))
    return Group(*tables)


def _parts_table(parts: dict[str, dict[str, Any]]) -> Table:
    keys = ("IDF1", "switches", "fragments", "found", "false_per_frame", "jitter_bodies", "lag_s", "ground_drift")
    table = Table("clips")
    for key in keys:
        table.add_column(key.replace("_", " "), justify="right")
    for name, values in parts.items():
        table.add_row(name, *(_text(values.get(key)) for key in keys))
    return table


def _event_table(evaluation: TrackEvaluation) -> Table:
    """Return precision / recall (events that happen) of each kind, of all clips and by elevation."""
    table = Table("event", title="precision / recall (events)", title_justify="left")
    for heading in ("all", *(f"{group}°" for group in evaluation.elevations())):
        table.add_column(heading, justify="right")
    for kind in evaluation.events():
        counts = [evaluation.events()[kind], *(evaluation.events(group)[kind] for group in evaluation.elevations())]
        cells = [f"{_short(count.precision)} / {_short(count.recall)} ({count.happened})" for count in counts]
        table.add_row(kind, *cells)
    return table


def _text(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _rounded(value: Any) -> Any:
    """Return figures with floats of five decimals."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return round(value, 5) if isinstance(value, float) else value

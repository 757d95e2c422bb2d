"""Measures precision and recall of events by angle on rendered clips, from their labels and by the shipped networks; writes docs/events.md.

edgepose-export synth --clips --split eval --count 48 --seed 131 --fps 8 \
    --story falls --story waves --story arms_up --story zones --output build/clips-events [--backgrounds …]
python -m tools.write_event_angles docs/events.md build/clips-events
"""

import argparse
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from msgspec.structs import replace

from edgepose.config.schema import Config
from edgepose.model.shipped import find_model
from edgepose_export.evaluation.tracks.evaluation import TrackEvaluation, evaluate_tracks
from edgepose_export.evaluation.tracks.event_scores import KINDS, EventCount

BEGIN, END = "<!-- angles: begin -->", "<!-- angles: end -->"
ANGLES = (0, 30, 60, 90)
LOITER_AFTER_S = 2.0  # clips are short


def cell(counts: Mapping[str, EventCount], kind: str) -> str:
    """Return precision / recall (events that happen; reports where there are none)."""
    count = counts.get(kind, EventCount())
    if not count.happened:
        return f"– ({count.reported} reported)" if count.reported else "–"
    precision = "–" if count.precision is None else f"{count.precision:.2f}"
    return f"{precision} / {count.recall:.2f} ({count.happened})"


def table(title: str, result: TrackEvaluation) -> list[str]:
    """Return one table, with a row for each kind."""
    angles = " | ".join(f"{angle}°" for angle in ANGLES)
    rows = [f"| `{kind}` | {' | '.join(cell(result.events(angle), kind) for angle in ANGLES)} |" for kind in KINDS]
    return [f"| {title} | {angles} |", "|---|" + "---|" * len(ANGLES), *rows]


def main() -> None:
    """Measure, print the section, and write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    config = Config()
    config = replace(config, events=replace(config.events, zones_follow_ground=True, loiter_after_s=LOITER_AFTER_S))
    model = find_model(options.model)
    labels = evaluate_tracks(model, options.clips, config, true_people=True)
    networks = evaluate_tracks(model, options.clips, config)
    names = model.stem + (f" and {Path(networks.refiner).stem}" if networks.refiner else "")
    frames = sum(len(score.clip.truth) for score in networks.scores)
    section = [
        f"`python -m tools.write_event_angles`, {datetime.now(timezone.utc):%Y-%m-%d}, {len(networks.scores)} clips, {frames} frames:"
        " precision / recall (events that happen) by degrees that the camera looks down.",
        "",
        *table("true poses", labels),
        "",
        *table(f"shipped networks ({names})", networks),
    ]
    text = "\n".join(section)
    print(text)
    page = options.page.read_text()
    options.page.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{text}\n{END}", page, flags=re.DOTALL))


if __name__ == "__main__":
    main()

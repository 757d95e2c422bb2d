"""Compares the people that the runtime finds in a real video with those counted by eye; writes a table into the docs.

python tools/count_people.py build/vtest.avi docs/performance.md [MODEL]
"""

import re
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import yaml

from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig, Config, ModelConfig
from edgepose.engine.backend import open_backend
from edgepose.model.shipped import named_model
from edgepose.person import Person
from edgepose.pipeline.offline.people import people_in
from edgepose.pipeline.refiner import Refiner
from edgepose.telemetry.metrics import Metrics

SCORE_THRESHOLD = 0.3
"""Score from which a person counts, as in the default configuration."""

MAXIMUM_DISTANCE_PX = 25.0
"""Maximum distance of a box center from a body counted by eye; bodies here are 30 to 150 px tall."""

BEGIN, END = "<!-- count: begin -->", "<!-- count: end -->"


def compare(people: list[Person], counted: list[list[float]]) -> tuple[int, int]:
    """Return how many of the counted people were found, and how many found people were not counted.

    Args:
        people: as found.
        counted: body centers in pixels, counted by eye.
    """
    unmatched = [np.array(center) for center in counted]
    false = 0
    for person in sorted(people, key=lambda person: -person.score):
        if person.score < SCORE_THRESHOLD:
            continue
        center = (person.box[:2] + person.box[2:]) / 2
        distances = [float(np.linalg.norm(center - other)) for other in unmatched]
        if distances and min(distances) < MAXIMUM_DISTANCE_PX:
            unmatched.pop(int(np.argmin(distances)))
        else:
            false += 1
    return len(counted) - len(unmatched), false


def main() -> int:
    """Print and write the table; return 1 if fewer than half of the people are found, or more than one in five is false."""
    video, page = Path(sys.argv[1]), Path(sys.argv[2])
    model = named_model(sys.argv[3] if len(sys.argv) > 3 else "default", "pose")
    counted: dict[int, list[list[float]]] = yaml.safe_load((Path(__file__).parent / "vtest_people.yaml").read_text())
    config = Config(cameras={"video": CameraConfig(source=str(video))}, model=ModelConfig(path=str(model.path)))
    backend = open_backend(model, config.model)
    metrics = Metrics()
    refiner = Refiner.configured(config, metrics)
    if refiner is not None:
        refiner.open()
    rows, total, right, wrong = [], 0, 0, 0
    for frame, people, _ in people_in(open_source("video", config.cameras["video"]), backend, model.info, config, metrics, refiner):
        if frame.sequence not in counted:
            continue
        by_eye = counted[frame.sequence]
        found, false = compare(people, by_eye)
        rows.append(f"| {frame.sequence} | {len(by_eye)} | {found} | {false} |")
        total, right, wrong = total + len(by_eye), right + found, wrong + false
    table = "\n".join(
        [
            f"`make count`, {datetime.now(timezone.utc):%Y-%m-%d}, model `{model.info.name}` ({model.info.precision}, "
            f"{model.info.input_size} px), tracking on, score ≥ {SCORE_THRESHOLD}:",
            "",
            "| frame | by eye | found | false |",
            "|---|---|---|---|",
            *rows,
            f"| total | {total} | {right} ({right / total:.0%}) | {wrong} |",
        ]
    )
    print(table)
    text = page.read_text()
    page.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL))
    return int(len(rows) != len(counted) or right < total / 2 or wrong * 5 > right + wrong)


if __name__ == "__main__":
    sys.exit(main())

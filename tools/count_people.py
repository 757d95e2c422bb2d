"""Comparison of the people that the runtime finds in a real video with a count by eye; writes a table into the docs.

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
from edgepose.model.file import named_model
from edgepose.person import Person
from edgepose.pipeline.offline import people_in
from edgepose.pipeline.refiner import Refiner
from edgepose.telemetry.metrics import Metrics

BELIEVED = 0.3
"""Lowest score at which a person counts, as in the default configuration."""

NEAR_PX = 25.0
"""Largest distance from the center of a box to the center of its body; bodies here are 30 to 150 px tall."""

BEGIN, END = "<!-- count: begin -->", "<!-- count: end -->"


def compare(people: list[Person], places: list[list[float]]) -> tuple[int, int]:
    """Return the number of positions at which a person was found, and the number of people at none of them."""
    free = [np.array(place) for place in places]
    false = 0
    for person in sorted(people, key=lambda person: -person.score):
        if person.score < BELIEVED:
            continue
        middle = (person.box[:2] + person.box[2:]) / 2
        distances = [float(np.linalg.norm(middle - place)) for place in free]
        if distances and min(distances) < NEAR_PX:
            free.pop(int(np.argmin(distances)))
        else:
            false += 1
    return len(places) - len(free), false


def main() -> int:
    """Print and write the table; return 1 where fewer than half are found or more than one in five is false."""
    video, page = Path(sys.argv[1]), Path(sys.argv[2])
    model = named_model(sys.argv[3] if len(sys.argv) > 3 else "default", "pose")
    counted: dict[int, list[list[float]]] = yaml.safe_load((Path(__file__).parent / "vtest_people.yaml").read_text())
    config = Config(cameras={"video": CameraConfig(source=str(video))}, model=ModelConfig(path=str(model.path)))
    backend = open_backend(model, config.model)
    metrics = Metrics()
    refiner = Refiner.configured(config, metrics)
    if refiner is not None:
        refiner.open()
    rows, seen, right, wrong = [], 0, 0, 0
    for frame, people in people_in(open_source("video", config.cameras["video"]), backend, model.info, config, metrics, refiner):
        if frame.sequence not in counted:
            continue
        places = counted[frame.sequence]
        found, false = compare(people, places)
        rows.append(f"| {frame.sequence} | {len(places)} | {found} | {false} |")
        seen, right, wrong = seen + len(places), right + found, wrong + false
    table = "\n".join(
        [
            f"`make count`, {datetime.now(timezone.utc):%Y-%m-%d}, model `{model.info.name}` ({model.info.precision}, "
            f"{model.info.input_size} px), tracking on, score ≥ {BELIEVED}:",
            "",
            "| frame | by eye | found | false |",
            "|---|---|---|---|",
            *rows,
            f"| total | {seen} | {right} ({right / seen:.0%}) | {wrong} |",
        ]
    )
    print(table)
    text = page.read_text()
    page.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL))
    return int(len(rows) != len(counted) or right < seen / 2 or wrong * 5 > right + wrong)


if __name__ == "__main__":
    sys.exit(main())

"""Measures how right events are, on sequences with known truth and on a real video, and what they cost; writes docs/events.md.

python -m tools.write_events docs/events.md build/vtest.avi [--each 40]
"""

import argparse
import os
import re
import time
from collections import Counter
from datetime import datetime, timezone
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig, Config, EventsConfig
from edgepose.engine.backend import open_backend
from edgepose.errors import EndOfStream
from edgepose.events.detector import EventDetector
from edgepose.frame import Frame
from edgepose.model.file import named_model
from edgepose.person import Person
from edgepose.pipeline.stages import Postprocessor, Preprocessor
from edgepose.telemetry.metrics import Metrics
from testing.events.actions import ACTIONS
from testing.events.scores import Score, lying_was_seen, score
from testing.events.sequences import NoiseBank, Sequence, play
from tools.machine import machine

BEGIN, END = "<!-- events: begin -->", "<!-- events: end -->"
EDGE = 0.5
ALARMS = ("fallen", "still", "waving", "arms_up")
_bank = NoiseBank()


def one(numbers: tuple[int, int, bool]) -> Sequence:
    """One sequence by number of the action and seed, whether or not people are missed as often as measured."""
    number, seed, blind = numbers
    rng = np.random.default_rng([seed, number, int(blind)])
    sequence = play(ACTIONS[number](rng), rng, _bank, blind=blind)
    # A figure's pose is a closure, which does not travel between processes.
    object.__setattr__(sequence.action, "pose", None)
    return sequence


def on_video(path: str) -> tuple[Counter[str], float, float]:
    """Events by kind on a real video, its length in minutes and people a frame."""
    config = Config(cameras={"video": CameraConfig(source=path)})
    model = named_model(config.model.path, "pose")
    backend, source = open_backend(model, config.model), open_source("video", config.cameras["video"])
    inputs, stage = Preprocessor(model.info, 0, lambda *_: None), Postprocessor(config, Metrics())
    said: Counter[str] = Counter()
    first = last = frames = people = 0
    try:
        while True:
            prepared = inputs.prepare(source.read())
            people += len(stage.people(prepared, backend.run(prepared.images)))
            said.update(event.kind for event in stage.events)
            first, last, frames = first or prepared.frame.captured_at, prepared.frame.captured_at, frames + 1
    except EndOfStream:
        return said, (last - first) / 60e9, people / frames


def cost_us(people: int = 5, frames: int = 3000) -> float:
    """Median microseconds that a frame with some waving people and two zones costs."""
    rng = np.random.default_rng(0)
    zones = {"left": [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)], "right": [(0.5, 0.0), (1.0, 0.0), (1.0, 1.0)]}
    detector, image, took = EventDetector(EventsConfig(), zones, "a", 0.2), np.zeros((480, 640, 3), np.uint8), []
    for number in range(frames):
        crowd = []
        for track in range(people):
            keypoints = rng.uniform(0.5, 1, (17, 3)).astype(np.float32)
            keypoints[:, :2] = (100 * track, 100) + rng.uniform(0, 3, (17, 2)) + np.arange(17)[:, None] * (0.5, 8)
            keypoints[9:11, 1] = 90 + 20 * np.sin(number)
            crowd.append(Person(np.array((100 * track, 80, 100 * track + 60, 260), np.float32), 0.9, keypoints, track))
        frame = Frame(image, number * 40_000_000, "host", number, "a")
        start = time.perf_counter()
        detector.update(crowd, frame)
        took.append(time.perf_counter() - start)
    return float(np.median(took)) * 1e6


def at_edge(sequences: list[Sequence]) -> tuple[int, int]:
    """How many of the people who left at the edge of the picture did, and how many were said to."""
    said = [s for s in sequences for _, event in s.said if event.kind == "left" and event.evidence["edge_bodies"] < EDGE]
    return sum("left" in s.expected for s in said), len(said)


def percent_said(right: int, said: int) -> str:
    """A share with what it is of."""
    return f"{right / max(1, said):.2f} ({right} of {said})"


def percent(counts: Score) -> str:
    """Precision and recall with what they are shares of."""
    said, true = counts.right + counts.wrong, counts.right + counts.missed
    first = f"{counts.precision:.2f} ({counts.right} of {said})" if said else "nothing said"
    return f"{first} | {counts.recall:.2f} ({counts.right} of {true})" if true else f"{first} | never true"


def report(each: int, video: str) -> str:
    """The page between its markers."""
    jobs = list(product(range(len(ACTIONS)), range(each), (False, True)))
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        played = pool.map(one, jobs, chunksize=8)
    seeing = [sequence for (_, _, blind), sequence in zip(jobs, played, strict=True) if not blind]
    missing = [sequence for (_, _, blind), sequence in zip(jobs, played, strict=True) if blind]
    seen, with_misses = score([s for s in seeing if lying_was_seen(s)]), score(missing)
    lines = [
        f"`make events`, {datetime.now(timezone.utc):%Y-%m-%d}, {each} sequences of each of {len(ACTIONS)} actions, twice:",
        "",
        "| | people whom the network sees: precision | recall | with all its misses: precision | recall |",
        "|---|---|---|---|---|",
        *(f"| `{kind}` | {percent(seen[kind])} | {percent(with_misses[kind])} |" for kind in seen),
        "",
        f"Of `left`, those of people whom the network sees and who were lost at the edge of the picture (`edge_bodies` below {EDGE}): "
        f"{percent_said(*at_edge(seeing))} true.",
        "",
        "Falls by the height that the figure has standing, in pixels of the network's input, with all misses:",
        "",
        "| height | `fallen` precision | recall |",
        "|---|---|---|",
    ]
    for low, high in ((40, 64), (64, 100), (100, 160)):
        some = [s for s in missing if low <= s.view.height_px / 2 < high]
        lines.append(f"| {low} to {high} px | {percent(score(some)['fallen'])} |")
    lines += [
        "",
        "What was said of each action by those whom the network sees:",
        "",
        f"| action | {' | '.join(f'`{k}`' for k in ALARMS)} |",
    ]
    lines.append("|---|" + "---|" * len(ALARMS))
    for number, start in enumerate(range(0, len(seeing), each)):
        some = [s for s in seeing[start : start + each] if lying_was_seen(s)]
        cells = []
        for kind in ALARMS:
            right = sum(any(event.kind == kind for _, event in s.said) for s in some)
            truth = "**" if kind in some[0].action.expected else ""
            cells.append(f"{truth}{right} of {len(some)}{truth}" if right or truth else "")
        lines.append(f"| {some[0].action.name if some else ACTIONS[number].__name__} | {' | '.join(cells)} |")
    said, minutes, people = on_video(video)
    alarms = ", ".join(f"`{kind}` {said[kind]}" for kind in ALARMS)
    others = ", ".join(f"`{kind}` {count}" for kind, count in sorted(said.items()) if kind not in ALARMS)
    lines += [
        "",
        f"On `{Path(video).name}` (a real street, {minutes:.1f} minutes, {people:.1f} people a frame, nobody falls or waves): "
        f"{alarms}; {others}.",
        "",
        f"Five people and two zones cost {cost_us():.0f} µs a frame ({machine()}).",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("video")
    parser.add_argument("--each", type=int, default=40)
    options = parser.parse_args()
    table = report(options.each, options.video)
    print(table)
    text = options.page.read_text()
    options.page.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL))


if __name__ == "__main__":
    main()

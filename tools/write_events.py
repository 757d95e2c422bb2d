"""Measures precision, recall and cost of events on sequences with known ground truth and on a real video; writes docs/events.md.

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
from edgepose.engine.backend import open_backend, pose_model
from edgepose.errors import EndOfStream
from edgepose.events.detector import EventDetector, Places
from edgepose.frame import Frame
from edgepose.person import Person
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import Preprocessor
from edgepose.telemetry.metrics import Metrics
from testing.events.actions import ACTIONS
from testing.events.scores import Score, lying_was_detected, score
from testing.events.sequences import NoiseBank, Sequence, play
from tools.machine import machine

BEGIN, END = "<!-- events: begin -->", "<!-- events: end -->"
EDGE = 0.5  # body sizes from the edge of the frame
ALARMS = ("fallen", "still", "waving", "arms_up")
_bank = NoiseBank()


def play_one(numbers: tuple[int, int, bool]) -> Sequence:
    """Return a sequence by action, seed, and whether people are missed as often as measured."""
    number, seed, blind = numbers
    rng = np.random.default_rng([seed, number, int(blind)])
    sequence = play(ACTIONS[number](rng), rng, _bank, blind=blind)
    # The pose function is a closure, which cannot be sent between processes.
    object.__setattr__(sequence.action, "pose", None)
    return sequence


def on_video(path: str) -> tuple[Counter[str], float, float]:
    """Return the events by kind on a real video, its length in minutes, and the people per frame."""
    config, metrics = Config(cameras={"video": CameraConfig(source=path)}), Metrics()
    model = pose_model(config.model)
    backend, source = open_backend(model, config.model), open_source("video", config.cameras["video"])
    inputs = Preprocessor(model.info, 0, lambda *_: None)
    stage = Postprocessor("video", config, metrics, Refiner.configured(config, metrics))
    counts: Counter[str] = Counter()
    first = last = frames = people = 0
    try:
        while True:
            prepared = inputs.prepare(source.read())
            people += len(stage.people(prepared, backend.run(prepared.images)))
            counts.update(event.kind for event in stage.events)
            first, last, frames = first or prepared.frame.captured_at_ns, prepared.frame.captured_at_ns, frames + 1
    except EndOfStream:
        return counts, (last - first) / 60e9, people / frames


def cost_us(people: int = 5, frames: int = 3000) -> float:
    """Return the median cost of a frame with waving people and two zones in microseconds."""
    rng = np.random.default_rng(0)
    zones = {"left": [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)], "right": [(0.5, 0.0), (1.0, 0.0), (1.0, 1.0)]}
    detector, image, durations_s = EventDetector(EventsConfig(), Places(zones), "a", 0.2), np.zeros((480, 640, 3), np.uint8), []
    for number in range(frames):
        crowd = []
        for track in range(people):
            keypoints = rng.uniform(0.5, 1, (17, 3)).astype(np.float32)
            keypoints[:, :2] = (100 * track, 100) + rng.uniform(0, 3, (17, 2)) + np.arange(17)[:, None] * (0.5, 8)
            keypoints[9:11, 1] = 90 + 20 * np.sin(number)
            crowd.append(Person(np.array((100 * track, 80, 100 * track + 60, 260), np.float32), 0.9, keypoints, track))
        frame = Frame(image, number * 40_000_000, "host", number, "a")
        start_s = time.perf_counter()
        detector.update(crowd, frame)
        durations_s.append(time.perf_counter() - start_s)
    return float(np.median(durations_s)) * 1e6


def at_edge(sequences: list[Sequence]) -> tuple[int, int]:
    """Return how many reports of people who left at the edge of the frame are true, and how many there are."""
    reported = [s for s in sequences for _, event in s.reported if event.kind == "left" and event.evidence["edge_bodies"] < EDGE]
    return sum("left" in s.expected for s in reported), len(reported)


def share(right: int, total: int) -> str:
    """Return a share and its counts."""
    return f"{right / max(1, total):.2f} ({right} of {total})"


def percent(counts: Score) -> str:
    """Return precision and recall and their counts."""
    reported, true = counts.right + counts.wrong, counts.right + counts.missed
    first = f"{counts.precision:.2f} ({counts.right} of {reported})" if reported else "no reports"
    return f"{first} | {counts.recall:.2f} ({counts.right} of {true})" if true else f"{first} | no true events"


def report(each: int, video: str) -> str:
    """Return the generated section of the page."""
    jobs = list(product(range(len(ACTIONS)), range(each), (False, True)))
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        played = pool.map(play_one, jobs, chunksize=8)
    detected = [sequence for (_, _, blind), sequence in zip(jobs, played, strict=True) if not blind]
    with_misses = [sequence for (_, _, blind), sequence in zip(jobs, played, strict=True) if blind]
    scores, scores_with_misses = score([s for s in detected if lying_was_detected(s)]), score(with_misses)
    lines = [
        f"`make events`, {datetime.now(timezone.utc):%Y-%m-%d}, {each} sequences of each of {len(ACTIONS)} actions, twice:",
        "",
        "| | people whom the network finds: precision | recall | with all its misses: precision | recall |",
        "|---|---|---|---|---|",
        *(f"| `{kind}` | {percent(scores[kind])} | {percent(scores_with_misses[kind])} |" for kind in scores),
        "",
        f"Of `left`, those of people whom the network finds and who were lost at the edge of the frame (`edge_bodies` below {EDGE}): "
        f"{share(*at_edge(detected))} true.",
        "",
        "Falls by the standing height of the figure in pixels of the network input, with all misses:",
        "",
        "| height | `fallen` precision | recall |",
        "|---|---|---|",
    ]
    for low, high in ((40, 64), (64, 100), (100, 160)):
        some = [s for s in with_misses if low <= s.view.height_px / 2 < high]
        lines.append(f"| {low} to {high} px | {percent(score(some)['fallen'])} |")
    lines += [
        "",
        "Events reported per action, for people whom the network finds:",
        "",
        f"| action | {' | '.join(f'`{k}`' for k in ALARMS)} |",
    ]
    lines.append("|---|" + "---|" * len(ALARMS))
    for number, start_s in enumerate(range(0, len(detected), each)):
        some = [s for s in detected[start_s : start_s + each] if lying_was_detected(s)]
        cells = []
        for kind in ALARMS:
            count = sum(any(event.kind == kind for _, event in s.reported) for s in some)
            bold = "**" if kind in some[0].action.expected else ""
            cells.append(f"{bold}{count} of {len(some)}{bold}" if count or bold else "")
        lines.append(f"| {some[0].action.name if some else ACTIONS[number].__name__} | {' | '.join(cells)} |")
    counts, minutes, people = on_video(video)
    alarms = ", ".join(f"`{kind}` {counts[kind]}" for kind in ALARMS)
    others = ", ".join(f"`{kind}` {count}" for kind, count in sorted(counts.items()) if kind not in ALARMS)
    lines += [
        "",
        f"On `{Path(video).name}` (a real street, {minutes:.1f} minutes, {people:.1f} people per frame, nobody falls or waves): "
        f"{alarms}; {others}.",
        "",
        f"Five people and two zones cost {cost_us():.0f} µs per frame ({machine()}).",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print the section, and write it into the page."""
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

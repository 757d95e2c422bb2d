"""Measures what lower scores for finds of impossible sizes are worth (`flight.weigh_sizes`): `python -m tools.measure_sizes --count 480`.

The rendered scenes of `tools.measure_ground`, with the pose network that ships, and telemetry with drawn errors of the sizes that are
configured by default. A find is right where its box overlaps that of a person by half. Needs the extra `synth`.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

import edgepose
from edgepose.config.schema import PoseConfig
from edgepose.flight.sightings import credibility
from tools.measure_ground import CONFIGURED, disturbed, matched, people_in, scenes, view_of

_LOWEST = 0.05
_GROUPS = ((0.0, 35.0, "20, 30"), (35.0, 65.0, "45, 60"), (65.0, 91.0, "75, 90"))


@dataclass
class Finds:
    """The finds in some scenes: score, factor by size, and whether it is a person; and how many people there are."""

    people: int = 0
    scores: list[float] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)


def average_precision(scores: np.ndarray, right: np.ndarray, people: int) -> float:
    """Return the area under the curve of precision over recall."""
    hits = right[np.argsort(-scores, kind="stable")].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate(([0.0], hits / people))
    return float((best * np.diff(recall)).sum())


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=480)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    groups: defaultdict[tuple[str, str], Finds] = defaultdict(Finds)
    with edgepose.load(refine=False, settings={"pose.score_threshold": _LOWEST, "track.low_score_threshold": _LOWEST}) as network:
        for elevation, scene, labeled in scenes(options.count, options.seed):
            found = people_in(network, labeled)
            truth = view_of(scene)
            views = {"exact": truth, "drawn errors": disturbed(truth, rng, CONFIGURED, 0.0)}
            group = next(name for lowest, highest, name in _GROUPS if lowest <= elevation < highest)
            mine = [matched(found, label["bbox"]) for label in labeled.people if not label["iscrowd"]]
            crowds = [matched(found, label["bbox"]) for label in labeled.people if label["iscrowd"]]
            for name, view in views.items():
                finds = groups[name, group]
                finds.people += len(mine)
                for person in found:
                    if any(person is crowd for crowd in crowds):
                        continue
                    finds.scores.append(person.score)
                    finds.factors.append(credibility(person, view))
                    finds.right.append(any(person is one for one in mine))
    threshold = PoseConfig().score_threshold
    print("| telemetry | degrees down | people | found | found, weighed | false | false, weighed | AP50 | AP50, weighed |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (name, group), finds in sorted(groups.items(), key=lambda row: (row[0][0] != "exact", row[0][1])):
        scores, factors, right = np.array(finds.scores), np.array(finds.factors), np.array(finds.right)
        cells = []
        for wanted in (right, ~right):
            cells += [int((wanted & (scores >= threshold)).sum()), int((wanted & (scores * factors >= threshold)).sum())]
        precisions = [f"{average_precision(each, right, finds.people):.3f}" for each in (scores, scores * factors)]
        print(f"| {name} | {group} | {finds.people} | {' | '.join(map(str, cells))} | {' | '.join(precisions)} |")
        lowered = [f"{int((wanted & (factors < 1)).sum())} of {int(wanted.sum())}" for wanted in (right, ~right)]
        print(f"  scores lowered: {lowered[0]} people, {lowered[1]} other finds above {_LOWEST}")


if __name__ == "__main__":
    main()

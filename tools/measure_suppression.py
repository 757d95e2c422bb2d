"""Measure the suppression of dense outputs: `python -m tools.measure_suppression ghost-n FOLDER`.

The outputs of all cells of our pose network, before its own suppression, are handed to the adapter for Ultralytics' layout as if each
cell were an anchor; they are what any dense network gives: several good boxes for each person. A double is a find of a person whom a
stronger find has taken.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from edgepose.config.schema import PoseConfig
from edgepose.engine.ultralytics import ANCHOR_IOU, to_candidates
from edgepose.model.ultralytics_metadata import UltralyticsHead
from edgepose.person import Person
from edgepose.pose.boxes import iou
from edgepose.pose.decode import decode
from edgepose.pose.letterbox import Letterbox
from edgepose_export.data.coco import CocoPose
from edgepose_export.network.candidates import boxes_of, take
from edgepose_export.network.checkpoint import load_deployed
from edgepose_export.network.pose_network import PoseNetwork, keypoints_of
from edgepose_export.shipped import find_checkpoint

_SETTINGS = ((0.5, 0.7), (0.6, 0.7), (0.7, 0.7), (0.8, 0.7), (0.85, 0.7), (1.0, 1.0))  # IoU of anchors, `pose.nms_oks`
_MATCH_IOU = 0.5
_STRIDE_PX = 32


def dense_output(network: PoseNetwork, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the output of all cells for an input (H, W, 3), in Ultralytics' layout (1, 56, cells)."""
    with torch.inference_mode():
        maps = network(network.normalize(torch.from_numpy(image[None])))
        cells = torch.arange(maps.score.shape[1])[None]
        boxes = boxes_of(maps, cells)
        keypoints = keypoints_of(boxes, take(maps.keypoints, cells))
        scores = torch.sigmoid(network.score_slope * maps.score + network.score_bias)
        center, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        rows = torch.cat([center, size, scores[..., None], keypoints.flatten(2)], -1)
    return np.ascontiguousarray(rows.transpose(1, 2).numpy(), np.float32)


def count(people: list[Person], labels: NDArray[np.float32]) -> Counter[str]:
    """Return how many finds show a labeled person first, and again."""
    counts: Counter[str] = Counter(labels=len(labels), finds=len(people))
    taken: set[int] = set()
    for person in people:  # by falling score
        overlaps = iou(person.box[None], labels) if len(labels) else np.zeros(0, np.float32)
        best = int(overlaps.argmax()) if overlaps.size else -1
        if best < 0 or overlaps[best] < _MATCH_IOU:
            continue  # nobody, or somebody without labeled keypoints
        counts["doubles" if best in taken else "found"] += 1
        taken.add(best)
    return counts


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--limit", type=int, default=0)
    options = parser.parse_args()
    network = load_deployed(find_checkpoint(options.checkpoint))
    if not isinstance(network, PoseNetwork):
        parser.error(f"{options.checkpoint} is a refiner; expected a pose network")
    data, head = CocoPose([options.data]), UltralyticsHead("output0", 1, 0)
    counts = {setting: Counter[str]() for setting in _SETTINGS}
    for index in track(range(len(data) if not options.limit else min(options.limit, len(data))), "finding people"):
        image = data.image(index)
        height, width = image.shape[:2]
        scale = options.size / max(height, width)
        sides = (max(_STRIDE_PX, -(-round(side * scale) // _STRIDE_PX) * _STRIDE_PX) for side in (height, width))
        letterbox = Letterbox.fit(height, width, *sides)
        output = dense_output(network, letterbox.apply(image))
        labels = data[index].boxes
        for (threshold, oks), total in counts.items():
            candidates = to_candidates(output, head, iou=threshold)
            people = decode(candidates, 0, letterbox, PoseConfig(nms_oks=oks, nms_iou=max(threshold, PoseConfig().nms_iou)))
            total.update(count(people, labels))
    print("| IoU of anchors | pose.nms_oks | labels | found | doubles |\n|---|---|---|---|---|")
    for (threshold, oks), total in counts.items():
        name = f"**{threshold:g}**" if threshold == ANCHOR_IOU else f"{threshold:g}"
        print(f"| {name} | {oks:g} | {total['labels']} | {total['found']} | {total['doubles']} |")


if __name__ == "__main__":
    main()

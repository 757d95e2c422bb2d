"""Figures of labels, and labels that look wrong."""

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from edgepose.errors import OutputError
from edgepose.person import FLIP_PAIRS
from edgepose_export.data.coco import CocoPose, Picture
from edgepose_export.data.statistics import (
    label_statistics,
    plot_label_statistics,
    statistics_table,
    swapped_warning,
    write_label_statistics,
)
from edgepose_export.data.suspicious import find_suspicious
from testing.export.annotations import BYSTANDER, CROWD, person, write
from testing.shared import SHARED

# A standing person who faces the camera: the person's left is on the right of the picture.
FACING = np.array(
    [
        *((50, 12), (52, 10), (48, 10), (54, 11), (46, 11), (60, 25), (40, 25), (63, 40), (37, 40), (64, 55), (36, 55)),
        *((56, 55), (44, 55), (56, 75), (44, 75), (56, 95), (44, 95)),
    ],
    np.float32,
)


def labeled(*people: np.ndarray, box: tuple[float, float, float, float] = (34, 6, 66, 98)) -> Picture:
    """A picture of 120 x 100 px with these keypoints in one box each."""
    count = len(people)
    keypoints = np.full((count, 17, 3), 2, np.float32)
    keypoints[..., :2] = np.array(people, np.float32).reshape(-1, 17, 2)
    return Picture(
        path=Path("p.png"), identity=1, width=120, height=100, keypoints=keypoints,
        boxes=np.array([box] * count, np.float32).reshape(-1, 4),
        areas=np.ones(count, np.float32), ignored=np.zeros((0, 4), np.float32), ignored_areas=np.zeros(0, np.float32),
        ignored_crowds=np.zeros(0, bool), all_people_labeled=True, certainty=np.ones(count, np.float32),
        keypoint_certainty=np.ones((count, 17), np.float32),
    )  # fmt: skip


def swapped(picture: Picture) -> Picture:
    order = np.arange(17)
    for left, right in FLIP_PAIRS:
        order[[left, right]] = order[[right, left]]
    return replace(picture, keypoints=picture.keypoints[:, order])


def shown(pictures: list[Picture]) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(statistics_table(label_statistics(pictures)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_labels_are_counted(tmp_path: Path) -> None:
    pictures = [*CocoPose([write(tmp_path / "a", [person(), BYSTANDER, CROWD]), write(tmp_path / "b", [])])]
    statistics = label_statistics(pictures)
    assert (statistics.pictures, statistics.empty, statistics.people, statistics.boxes_only, statistics.crowds) == (2, 1, 1, 1, 1)
    assert statistics.labeled.tolist() == [1.0] * 15 + [0.0] * 2
    assert statistics.heights_px.tolist() == [24]
    assert statistics.scaled_heights_px.tolist() == [24 * 320 / 64]
    assert statistics.other_heights_px.tolist() == [10]
    assert statistics.people_per_picture.tolist() == [1, 0]
    np.testing.assert_allclose(statistics.centers, [[18 / 64, 16 / 48]])
    text = shown(pictures)
    assert "2, 1 of them without any box" in text
    assert "50 %: 24" in text


def test_correct_labels_are_not_suspicious() -> None:
    assert find_suspicious([labeled(FACING), labeled()]) == ()
    turned = FACING * (-1, 1) + (100, 0)  # seen from behind; the face is hidden then
    behind = labeled(turned)
    behind.keypoints[:, :5, 2] = 1
    assert find_suspicious([behind]) == ()
    assert find_suspicious([labeled(np.array((100, 100)) - FACING)]) == ()  # upside down


@pytest.mark.parametrize(
    ("picture", "kind", "count"),
    [
        (swapped(labeled(FACING)), "swapped", 1),
        (labeled(np.concatenate((FACING[:16], [(110, 95)]))), "keypoints", 1),
        (labeled(FACING, box=(34, 6, 140, 98)), "box", 1),
        (labeled(FACING, FACING), "twice", 1),
        (labeled(np.full((17, 2), 50)), "collapsed", 1),
    ],
)
def test_wrong_labels_are_found(picture: Picture, kind: str, count: int) -> None:
    found = find_suspicious([picture])
    assert [label.kind for label in found] == [kind] * count


def test_a_set_with_left_and_right_swapped_is_warned_of() -> None:
    pictures = [swapped(labeled(FACING)) for _ in range(20)]
    assert "swapped for 20 of 20 people" in swapped_warning(label_statistics(pictures))
    assert "look swapped" in shown(pictures)
    assert not swapped_warning(label_statistics([*pictures[:1], *(labeled(FACING) for _ in range(100))]))


@pytest.mark.parametrize("pictures", [[], [labeled()], [labeled(FACING)] * 20], ids=["nothing", "nobody", "people"])
def test_the_plot_is_drawn(pictures: list[Picture], tmp_path: Path) -> None:
    write_label_statistics(pictures, tmp_path / "run" / "labels.png")
    image = cv2.imread(str(tmp_path / "run" / "labels.png"))
    assert image is not None
    assert image.shape == (800, 1100, 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        plot_label_statistics(tmp_path / "file" / "labels.png", label_statistics(pictures))


@pytest.mark.skipif(SHARED is None, reason="the folder of photographs is not there")
def test_hardly_any_label_of_coco_is_suspicious_until_left_and_right_are_swapped() -> None:
    assert SHARED is not None
    pictures = [*CocoPose([SHARED / "data" / "coco-train"])]
    assert len(find_suspicious(pictures)) < 0.001 * sum(len(picture.boxes) for picture in pictures)
    assert swapped_warning(label_statistics([swapped(picture) for picture in pictures]))

"""Precision, recall and errors of keypoints agree with the figures that they explain."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.errors import ConfigError, OutputError
from edgepose.person import OKS_SIGMAS, Person
from edgepose_export.data.coco import Picture
from edgepose_export.evaluation.coco import evaluate_predictions
from edgepose_export.evaluation.curves import keypoint_errors, precision_recall
from edgepose_export.evaluation.plots import plot_keypoint_errors, write_curves
from testing.bodies import standing_person

NEAR, FAR = standing_person(20, 50, 200, score=0.9), standing_person(250, 60, 80, score=0.4)
STRANGER = standing_person(300, 250, 90, score=0.6)


def labeled(*people: Person) -> Picture:
    boxes = np.array([person.box for person in people], np.float32).reshape(-1, 4)
    keypoints = np.array([person.keypoints for person in people], np.float32).reshape(-1, 17, 3)
    keypoints[..., 2] = 2
    count = len(people)
    return Picture(
        path=Path("nowhere.png"), identity=1, width=400, height=400, boxes=boxes, keypoints=keypoints,
        areas=0.5 * (boxes[:, 2:] - boxes[:, :2]).prod(1), ignored=np.zeros((0, 4), np.float32), ignored_areas=np.zeros(0, np.float32),
        ignored_crowds=np.zeros(0, bool), all_people_labeled=True, certainty=np.ones(count, np.float32),
        keypoint_certainty=np.ones((count, 17), np.float32),
    )  # fmt: skip


def moved(person: Person, keypoint: int, distance: float, confidence: float = 1.0) -> Person:
    keypoints = person.keypoints.copy()
    keypoints[keypoint, 0] += distance
    keypoints[keypoint, 2] = confidence
    return replace(person, keypoints=keypoints)


def test_precision_and_recall_are_those_of_the_evaluation() -> None:
    pictures = [labeled(NEAR, FAR), labeled(NEAR), labeled()]
    found = [[moved(NEAR, 3, 12), STRANGER], [NEAR, moved(FAR, 1, 4)], [FAR]]
    curve = precision_recall(found, pictures)
    evaluation = evaluate_predictions(found, pictures)
    assert curve.ap.mean() == pytest.approx(evaluation.ap)
    assert curve.ap[0] == pytest.approx(evaluation.ap50)
    assert curve.people == 3
    assert curve.scores.tolist() == pytest.approx([0.9, 0.9, 0.6, 0.4, 0.4])
    assert curve.right.tolist() == [True, True, False, False, False]
    assert curve.best_score() == pytest.approx(0.9)


def test_nothing_found_has_a_curve_too() -> None:
    curve = precision_recall([[]], [labeled(NEAR)])
    assert (curve.ap.max(), len(curve.scores), curve.best_score()) == (0, 0, 0.0)


def test_errors_are_in_normal_errors_of_each_keypoint() -> None:
    wrist, knee = 9, 13
    size = float(np.sqrt(labeled(NEAR).areas[0]))
    right, wrong = (errors * 2 * OKS_SIGMAS[wrist] * size for errors in (1.0, 1.5))
    pictures = [labeled(NEAR), labeled(NEAR), labeled(FAR)]
    errors = keypoint_errors([[moved(NEAR, wrist, right)], [moved(NEAR, wrist, wrong, confidence=0.2)], []], pictures)
    assert errors.labeled.tolist() == [3] * 17
    assert errors.found.tolist() == [2] * 17
    assert errors.mean[wrist] == pytest.approx(1.25, rel=1e-3)
    assert errors.median[wrist] == pytest.approx(1.25, rel=1e-3)
    assert (errors.right[wrist], errors.sure[wrist], errors.sure_right[wrist]) == (0.5, 1, 1.0)
    assert errors.overall[wrist] == pytest.approx(1 / 3)
    assert (errors.mean[knee], errors.right[knee], errors.overall[knee]) == (0, 1, pytest.approx(2 / 3))


def test_keypoints_without_a_label_count_nowhere() -> None:
    picture = labeled(NEAR)
    picture.keypoints[0, 5:] = 0
    errors = keypoint_errors([[NEAR]], [picture])
    assert errors.found.tolist() == [1] * 5 + [0] * 12
    assert np.isnan(errors.median[5:]).all()


def test_nobody_labeled_is_refused() -> None:
    for measure in (precision_recall, keypoint_errors):
        with pytest.raises(ConfigError, match="nothing to measure against"):
            measure([[NEAR]], [labeled()])


@pytest.mark.parametrize("found", [[[]], [[NEAR, STRANGER]]], ids=["nothing", "people"])
def test_plots_are_drawn(found: list[list[Person]], tmp_path: Path) -> None:
    pictures = [labeled(NEAR, FAR)]
    write_curves(tmp_path / "plots", found, pictures)
    for name in ("precision-recall", "keypoints"):
        image = cv2.imread(str(tmp_path / "plots" / f"{name}.png"))
        assert image is not None
        assert image.shape[1] == 1100
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        plot_keypoint_errors(tmp_path / "file" / "a.png", keypoint_errors(found, pictures))

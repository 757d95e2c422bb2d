"""A refiner by itself, with answers of known similarity."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgepose.errors import ConfigError
from edgepose.model.file import ModelInfo, read_model
from edgepose.person import OKS_SIGMAS
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.report import to_json, true_box_table
from edgepose_export.evaluation.true_boxes import evaluate_true_boxes, refine_true_boxes
from testing.export.annotations import BYSTANDER, person, write
from testing.onnx_files import refined, write_edgepose, write_refiner

# The box [8, 4, 20, 24] with margin 1.25: a region of 30 px around (18, 16), a crop of 64 px.
LEFT, TOP, SCALE = 3, 1, 64 / 30
LABEL = np.array([(10 + i, 5 + i) for i in range(17)], float)  # 15 of them are labeled
AREA = 250.5


@pytest.fixture
def info(tmp_path: Path) -> ModelInfo:
    return read_model(write_refiner(tmp_path / "refiner.onnx")).info


class KnownRefiner:
    """Answers with the label of `person()`, each keypoint moved so that its similarity is that of the picture."""

    def __init__(self, *similarities: float, confidences: npt.ArrayLike = 0.9) -> None:
        self._similarities = iter(similarities)
        self._confidences = np.asarray(confidences, np.float32)

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        assert (crops.shape[1:], crops.dtype) == ((64, 64, 3), np.uint8)
        if len(crops) > 1:  # the same person in other turns
            return np.zeros((len(crops), 17, 3), np.float32)
        # COCO: similarity = exp(-d^2 / (2 area (2 sigma)^2))
        away = np.sqrt(-2 * np.log(next(self._similarities)) * AREA) * 2 * np.array(OKS_SIGMAS)
        moved = LABEL + np.stack((away, np.zeros(17)), 1)
        found = np.zeros((1, 17, 3), np.float32)
        found[0, :, :2] = (moved - (LEFT, TOP)) * SCALE
        found[0, :, 2] = self._confidences
        return found


def pictures(folder: Path, *fields: dict[str, object]) -> CocoPose:
    images = [{"id": number, "file_name": "a.png", "width": 64, "height": 48} | field for number, field in enumerate(fields)]
    return CocoPose([write(folder, [person(image_id=number) for number in range(len(fields))], images=images)])


def test_mean_similarity_and_the_share_of_thresholds_passed(tmp_path: Path, info: ModelInfo) -> None:
    data = pictures(tmp_path / "a", {}, {}, {})
    result = refine_true_boxes(KnownRefiner(0.999, 0.72, 0.3), info, data)
    assert result.oks == pytest.approx((0.999 + 0.72 + 0.3) / 3, abs=1e-3)
    assert result.ap == pytest.approx((10 + 5 + 0) / 30)
    assert (result.images, result.people, result.oks_by_elevation) == (3, 3, {})
    assert result.confident_right == pytest.approx(2 / 3)


def test_groups_by_elevation(tmp_path: Path, info: ModelInfo) -> None:
    data = pictures(tmp_path / "a", {"elevation": 12}, {"elevation": 31.5}, {"elevation": 70, "group_elevation": 90}, {"elevation": 40}, {})
    result = refine_true_boxes(KnownRefiner(0.9, 0.8, 0.7, 0.6, 0.5), info, data)
    assert result.oks_by_elevation == {
        0: pytest.approx(0.9, abs=1e-3),
        30: pytest.approx(0.7, abs=1e-3),
        90: pytest.approx(0.7, abs=1e-3),
    }
    values = json.loads(to_json(result))
    assert list(values) == ["OKS", "OKS_0", "OKS_30", "OKS_90", "AP", "PCK", "confident_right", "images", "people", "precision"]
    assert true_box_table("refine-n", result).row_count == 4 + 3 + 2


def test_only_labeled_and_confident_keypoints_are_judged(tmp_path: Path, info: ModelInfo) -> None:
    """The last two keypoints are not labeled, so nobody knows whether they are right."""
    data = pictures(tmp_path / "a", {})
    confidences = np.array([0.4] * 5 + [0.6] * 12)
    assert refine_true_boxes(KnownRefiner(0.45, confidences=confidences), info, data).confident_right == 0
    assert refine_true_boxes(KnownRefiner(0.55, confidences=confidences), info, data).confident_right == 1
    assert refine_true_boxes(KnownRefiner(0.55, confidences=0.5), info, data).confident_right is None


def test_a_refiner_file_runs_on_the_crops_of_the_runtime(tmp_path: Path) -> None:
    """The labels are what the tiny refiner answers, mapped back to the picture."""
    points = refined()[:, :2] / SCALE + (LEFT, TOP)
    keypoints = np.concatenate((points, np.full((17, 1), 2)), 1).astype(float).ravel().tolist()
    annotations = [person(keypoints=keypoints, num_keypoints=17), BYSTANDER]
    folder = write(tmp_path / "a", annotations, images=[{"id": 7, "file_name": "a.png", "width": 64, "height": 48, "set": "red"}])
    done: list[tuple[int, int]] = []
    refiner = write_refiner(tmp_path / "refiner.onnx")
    result = evaluate_true_boxes(refiner, folder, groups=("red",), progress=lambda *now: done.append(now))
    assert (result.oks, result.ap, result.pck) == (pytest.approx(1, abs=1e-4), 1, 1)
    assert (result.people, result.precision, done) == (1, "int8", [(1, 1)])


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    refiner = write_refiner(tmp_path / "refiner.onnx")
    with pytest.raises(ConfigError, match="has people with keypoints"):
        evaluate_true_boxes(refiner, write(tmp_path / "a", [BYSTANDER]))
    with pytest.raises(ConfigError, match="expected a refiner"):
        evaluate_true_boxes(write_edgepose(tmp_path / "tiny.onnx"), tmp_path / "a")

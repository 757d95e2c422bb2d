import io
import json
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgepose.config import schema
from edgepose.errors import ConfigError
from edgepose.person import OKS_SIGMAS, Person
from edgepose_export.data.coco import CocoPose, Picture
from edgepose_export.evaluation.coco import evaluate, evaluate_predictions, predictions_of
from testing.bodies import standing_person
from testing.onnx_files import answers, write_edgepose, write_refiner
from testing.shared import SHARED


def picture(people=(), ignored=(), crowds=(), complete=True, size=400) -> Picture:
    """Labels that are exactly these people."""
    boxes = np.array([person.box for person in people], np.float32).reshape(-1, 4)
    keypoints = np.array([person.keypoints for person in people], np.float32).reshape(-1, 17, 3)
    keypoints[..., 2] = 2
    regions = np.array(ignored, np.float32).reshape(-1, 4)
    return Picture(
        path=Path("nowhere.png"),
        identity=1,
        width=size,
        height=size,
        boxes=boxes,
        keypoints=keypoints,
        areas=0.5 * (boxes[:, 2:] - boxes[:, :2]).prod(1),
        ignored=regions,
        ignored_areas=(regions[:, 2:] - regions[:, :2]).prod(1),
        ignored_crowds=np.array(crowds or [False] * len(regions), bool),
        all_people_labeled=complete,
        certainty=np.ones(len(boxes), np.float32),
        keypoint_certainty=np.ones((len(boxes), 17), np.float32),
    )


def shifted(person: Person, x: float, count: int = 17) -> Person:
    keypoints = person.keypoints.copy()
    keypoints[:count, 0] += x
    return replace(person, keypoints=keypoints)


NEAR, FAR = standing_person(20, 50, 200, score=0.9), standing_person(250, 60, 80, score=0.4)


def test_perfect_finds_are_worth_one():
    result = evaluate_predictions([[FAR, NEAR], [NEAR]], [picture([NEAR, FAR]), picture([NEAR])])
    assert (result.ap, result.ap50, result.ap75, result.ar, result.pck, result.right, result.found) == pytest.approx((1,) * 7)
    assert (result.images, result.people) == (2, 3)
    assert result.ap_medium == pytest.approx(1)
    assert result.ap_large is None or result.ap_large == pytest.approx(1)


def test_nobody_found():
    result = evaluate_predictions([[], []], [picture([NEAR]), picture()])
    assert (result.ap, result.ar, result.pck, result.right, result.found) == (0, 0, 0, 0, 0)


def test_sizes_that_are_not_there_have_no_figure():
    result = evaluate_predictions([[FAR]], [picture([FAR])])
    assert (result.ap_medium, result.ap_large) == (pytest.approx(1), None)
    assert json.loads(json.dumps(result.to_json()))["APl"] is None


def test_a_stranger_costs_precision_unless_in_an_ignore_region():
    stranger = standing_person(250, 60, 80, score=0.95)
    box = stranger.box.tolist()
    punished = evaluate_predictions([[stranger, NEAR]], [picture([NEAR])])
    assert punished.ap == pytest.approx(0.5)
    assert punished.right == 0.5
    for labels in (
        picture([NEAR], [box]),
        picture([NEAR], [box], crowds=[True]),
        picture([NEAR], complete=False),
    ):
        spared = evaluate_predictions([[stranger, NEAR]], [labels])
        assert spared.ap == pytest.approx(1)
        assert (spared.right, spared.found) == (1, 1)
    assert punished.found == 1


def test_a_crowd_takes_any_number_of_finds_and_a_bystander_one():
    twins = [standing_person(250, 60, 80, score=0.95), standing_person(255, 60, 80, score=0.94)]
    region = [240, 50, 300, 150]
    assert evaluate_predictions([[*twins, NEAR]], [picture([NEAR], [region], crowds=[True])]).ap == pytest.approx(1)
    assert evaluate_predictions([[*twins, NEAR]], [picture([NEAR], [region])]).ap == pytest.approx(0.5)


def test_weak_finds_count_for_average_precision_and_not_at_the_working_point():
    weak = replace(NEAR, score=0.2)
    result = evaluate_predictions([[weak]], [picture([NEAR])])
    assert (result.ap, result.pck) == (pytest.approx(1), 1)
    assert (result.right, result.found) == (0, 0)


@pytest.mark.parametrize(
    ("shift", "count", "pck"),
    [(0.19, 17, 1), (0.21, 17, 0), (0.21, 5, 12 / 17), (-0.21, 1, 16 / 17)],
)
def test_pck_is_counted_by_the_longer_side_of_the_box(shift, count, pck):
    result = evaluate_predictions([[shifted(NEAR, shift * 200, count)]], [picture([NEAR])])
    assert result.pck == pytest.approx(pck)


def test_pck_gives_each_person_one_find_the_strongest_first():
    wrong = shifted(NEAR, 45, 8)
    first_wrong = evaluate_predictions([[replace(wrong, score=0.99), NEAR]], [picture([NEAR])])
    first_right = evaluate_predictions([[replace(wrong, score=0.1), NEAR]], [picture([NEAR])])
    assert (first_wrong.pck, first_right.pck) == (pytest.approx(9 / 17), 1)


def away(person: Person, similarity: float, area: float) -> Person:
    """Move every keypoint so far that its similarity to where it was is this."""
    keypoints = person.keypoints.copy()
    keypoints[:, 0] += np.sqrt(-2 * np.log(similarity) * area) * 2 * np.array(OKS_SIGMAS)
    return replace(person, keypoints=keypoints)


@pytest.mark.parametrize(("similarity", "share"), [(0.999, 1), (0.51, 1), (0.49, 0), (0.1, 0)])
def test_a_confident_keypoint_is_right_by_its_own_similarity(similarity, share):
    labels = picture([NEAR, FAR])
    found = [away(NEAR, similarity, labels.areas[0]), away(FAR, similarity, labels.areas[1])]
    assert evaluate_predictions([found], [labels]).confident_right == share


def test_only_confident_keypoints_that_are_labeled_are_judged():
    labels = picture([NEAR])
    wrong = away(NEAR, 0.1, labels.areas[0]).keypoints
    mixed = NEAR.keypoints.copy()
    mixed[:4] = wrong[:4]
    mixed[:, 2] = [0.6, 0.6, 0.5, 0.5, *[0.9] * 10, 0.1, 0.1, 0.1]
    # Confident: 0 and 1, which are wrong, and 4 to 13, which are right. 0 is not labeled in the second picture.
    assert evaluate_predictions([[replace(NEAR, keypoints=mixed)]], [labels]).confident_right == pytest.approx(10 / 12)
    labels.keypoints[0, 0] = 0
    assert evaluate_predictions([[replace(NEAR, keypoints=mixed)]], [labels]).confident_right == pytest.approx(10 / 11)
    mixed[:, 2] = 0.5
    assert evaluate_predictions([[replace(NEAR, keypoints=mixed)]], [labels]).confident_right is None


def test_a_second_find_of_a_person_is_not_judged():
    labels = picture([NEAR])
    double = replace(away(NEAR, 0.1, labels.areas[0]), score=0.5)
    assert evaluate_predictions([[NEAR, double]], [labels]).confident_right == 1
    assert evaluate_predictions([[double]], [labels]).confident_right == 0


def test_people_with_only_a_box_are_ignored_as_ignore_regions_are():
    labels = picture([NEAR, FAR])
    labels.keypoints[1] = 0
    result = evaluate_predictions([[NEAR, FAR]], [labels])
    assert (result.ap, result.people, result.pck, result.right, result.found) == (pytest.approx(1), 1, 1, 1, 1)


def test_sets_without_people_and_lists_of_other_length_are_refused():
    with pytest.raises(ConfigError, match="nothing to measure"):
        evaluate_predictions([[]], [picture()])
    with pytest.raises(ValueError, match="1 predictions for 2 pictures"):
        evaluate_predictions([[]], [picture([NEAR]), picture()])


def write_answers(folder: Path, scale_x: float, scale_y: float, width: int, height: int) -> Path:
    """White pictures whose labels are what the tiny model answers at 256 px, in source pixels."""
    boxes, _, keypoints = answers()
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in (1, 2, 3):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), np.full((height, width, 3), 255, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        for box, points in zip(boxes.astype(float), keypoints.astype(float), strict=True):
            points = points * (1 / scale_x, 1 / scale_y, 0) + (0, 0, 2)
            x1, y1, x2, y2 = box / (scale_x, scale_y, scale_x, scale_y)
            bbox = [x1, y1, x2 - x1, y2 - y1]
            annotation = {"image_id": number, "bbox": bbox, "area": bbox[2] * bbox[3], "keypoints": points.ravel().tolist()}
            annotations.append(annotation | {"num_keypoints": 17, "iscrowd": 0})
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder


def test_a_model_file_is_evaluated_through_letterbox_engine_and_decoder(tmp_path):
    """The answers are exact only if everything maps them back to source pixels as it should."""
    model = write_edgepose(tmp_path / "tiny.onnx")
    # 512 x 400 -> 256 x 200; padded to 256 x 224 with black, so that the tiny model's scores fall with the brightness.
    data = write_answers(tmp_path / "data", 0.5, 0.5, 512, 400)
    done = []
    settings = schema.ModelConfig(backend="cpu", threads=1)
    result = evaluate(model, data, settings=settings, pose=schema.PoseConfig(nms_oks=1, nms_iou=1), progress=lambda *now: done.append(now))
    assert result.ap == pytest.approx(1)
    assert result.pck == 1
    assert (result.images, result.people, result.precision) == (3, 18, "int8")
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert list(result.to_json()) == [
        "AP", "AP50", "AP75", "APm", "APl", "AR", "PCK", "images", "people", "precision", "right", "found", "confident_right",
    ]  # fmt: skip
    assert evaluate(model, data, settings=settings, limit=2, plots=tmp_path / "plots").images == 2
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["keypoints.png", "precision-recall.png"]
    assert evaluate(model, data, settings=settings, input_size=128).ap < 0.5  # the answers are those for 256 px


@pytest.mark.parametrize(
    ("limits", "refined"),
    [({}, 4), ({"score": 0.02}, 6), ({"score": 0.1}, 2), ({"score": 0, "people": 5}, 5), ({"refine_people": 3}, 3)],
    ids=["from 0.05", "all six", "from 0.1", "five at most", "three refined"],
)
def test_everybody_is_who_scores_enough(tmp_path, limits, refined):
    """The pictures are white, with a black margin at the bottom: scores are 0.89 of those in the file."""
    data = write_answers(tmp_path / "a", 0.5, 0.5, 512, 400)
    scores = np.array([0.9, 0.5, 0.07, 0.06, 0.04, 0.03], np.float32)
    model = write_edgepose(tmp_path / "tiny.onnx", scores=scores)
    refiner = write_refiner(tmp_path / "again.onnx")
    pose = schema.PoseConfig(nms_oks=1, nms_iou=1)
    settings = schema.ModelConfig(backend="cpu", threads=1)
    assert evaluate(model, data, settings=settings, pose=pose, refiner=refiner, **limits).refined == refined


def test_a_set_that_does_not_exist_is_refused(tmp_path):
    data, model = write_answers(tmp_path / "a", 0.5, 0.5, 512, 400), write_edgepose(tmp_path / "tiny.onnx")
    with pytest.raises(ConfigError, match="no picture of the set 'night'; expected no set: its images name none"):
        evaluate(model, data, groups=("night",))


@pytest.mark.parametrize(("refine_people", "refined"), [(0, 6), (2, 2), (50, 6)], ids=["everybody", "two", "more than there are"])
def test_a_refiner_refines_so_many_people(tmp_path, refine_people, refined):
    data, model = write_answers(tmp_path / "a", 0.5, 0.5, 512, 400), write_edgepose(tmp_path / "tiny.onnx")
    refiner = write_refiner(tmp_path / "again.onnx")
    pose = schema.PoseConfig(nms_oks=1, nms_iou=1)
    settings = schema.ModelConfig(backend="cpu", threads=1)
    result = evaluate(model, data, settings=settings, pose=pose, refiner=refiner, refine_people=refine_people)
    assert (result.refiner, result.refined) == ("again.onnx", refined)
    assert list(result.to_json())[-2:] == ["refiner", "refined"]


def test_a_pose_network_is_no_refiner(tmp_path):
    data, model = write_answers(tmp_path / "a", 0.5, 0.5, 512, 400), write_edgepose(tmp_path / "tiny.onnx")
    with pytest.raises(ConfigError, match="expected a refiner"):
        evaluate(model, data, refiner=model)


def reference(path: Path, predictions: list[list[Person]], data: CocoPose) -> list[float]:
    """The plain way: pycocotools on the annotations file itself."""
    detections = [
        {"image_id": labels.identity, "category_id": 1, "score": person.score, "keypoints": person.keypoints.astype(float).ravel().tolist()}
        for labels, people in zip(data, predictions, strict=True)
        for person in people
    ]
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluator = COCOeval(truth, truth.loadRes(detections), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return list(evaluator.stats[:6])


@pytest.mark.skipif(SHARED is None, reason="needs the labeled pictures beside the repository")
def test_figures_are_those_of_pycocotools_on_the_file():
    assert SHARED is not None
    data = CocoPose([SHARED / "data" / "coco-dev"])
    rng = np.random.default_rng(0)
    predictions = []
    for labels in data:
        people = []
        for box, keypoints in zip(labels.boxes, labels.keypoints, strict=True):
            size = np.sqrt((box[2:] - box[:2]).prod())
            found = np.where(keypoints[:, 2:] > 0, keypoints[:, :2], (box[:2] + box[2:]) / 2)
            found = found + rng.normal(0, rng.uniform(0, 0.15), (17, 2)) * size
            people.append(Person(box, float(rng.random()), np.concatenate((found, np.ones((17, 1))), 1).astype(np.float32)))
        people += [
            standing_person(rng.uniform(0, 300), rng.uniform(0, 300), height=rng.uniform(30, 150), score=float(rng.random()))
            for _ in range(rng.integers(3))
        ]
        predictions.append(people)
    result = evaluate_predictions(predictions, data)
    ours = [result.ap, result.ap50, result.ap75, result.ap_medium, result.ap_large, result.ar]
    assert 0.1 < result.ap < 0.9
    assert SHARED is not None
    np.testing.assert_allclose(
        np.array(ours, float), reference(SHARED / "data" / "coco-dev" / "annotations.json", predictions, data), atol=1e-6
    )


def test_a_callable_sees_every_picture_once(tmp_path):
    data = CocoPose([write_answers(tmp_path / "a", 1, 1, 300, 260)])
    seen = []

    def predict(image):
        seen.append(image.shape)
        return []

    assert predictions_of(predict, data, 2, None) == [[], []]
    assert seen == [(260, 300, 3)] * 2

import numpy as np
import pytest

from edgepose.person import OKS_SIGMAS, Person
from edgepose.pose.boxes import body_size, box_area, iou
from edgepose.pose.suppress import oks, pose_nms, without_doubles
from testing.bodies import moved, standing_person


def kept(people: list[Person], oks_threshold: float = 0.7, iou_threshold: float = 0.85) -> list[int]:
    boxes, keypoints = np.stack([p.box for p in people]), np.stack([p.keypoints for p in people])
    scores = np.array([p.score for p in people], np.float32)
    indices: list[int] = pose_nms(boxes, keypoints, scores, oks_threshold, iou_threshold).tolist()
    return indices


def test_oks_is_that_of_coco() -> None:
    """The formula of computeOks in pycocotools, for one pair."""
    person, other = standing_person(), moved(standing_person(), np.random.default_rng(0).normal(0, 6, (17, 2)))
    area = 0.53 * 80 * 200
    terms = []
    for keypoint in range(17):
        dx, dy = (person.keypoints[keypoint] - other.keypoints[keypoint])[:2]
        terms.append(np.exp(-(dx**2 + dy**2) / (2 * OKS_SIGMAS[keypoint]) ** 2 / area / 2))
    found = oks(person.keypoints, other.keypoints, box_area(person.box), np.ones(17, np.float32))
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-4)
    assert 0.1 < float(found) < 0.9


def test_weights_choose_the_keypoints() -> None:
    person = standing_person()
    other = moved(person, np.array((500.0, 0.0)), keypoint=9)
    weights = np.ones(17, np.float32)
    assert float(oks(person.keypoints, other.keypoints, box_area(person.box), weights)) == pytest.approx(16 / 17, abs=1e-4)
    weights[9] = 0
    assert float(oks(person.keypoints, other.keypoints, box_area(person.box), weights)) == pytest.approx(1)
    assert float(oks(person.keypoints, other.keypoints, box_area(person.box), weights * 0)) == 0


@pytest.mark.parametrize(
    ("box", "other", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 10, 20, 20), 0.0),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),
        ((10, 10, 0, 0), (0, 0, 10, 10), 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
    ],
)
def test_iou(box: tuple[float, ...], other: tuple[float, ...], expected: float) -> None:
    assert float(iou(np.array(box, np.float32), np.array(other, np.float32))) == pytest.approx(expected)


def test_body_size() -> None:
    np.testing.assert_allclose(body_size(np.array([(0, 0, 40, 90), (5, 5, 5, 5)], np.float32)), (60, 1))


def test_of_two_similar_people_the_higher_score_stays() -> None:
    assert kept([standing_person(score=0.5), standing_person(left=102, score=0.9), standing_person(left=300, score=0.4)]) == [1, 2]


def test_close_neighbors_with_different_poses_stay() -> None:
    """One person half behind another: the boxes overlap by far more than the usual NMS threshold of 0.45."""
    people = [standing_person(100, score=0.9), standing_person(120, score=0.8)]
    assert float(iou(people[0].box, people[1].box)) == pytest.approx(0.6)
    assert kept(people) == [0, 1]


def test_boxes_decide_if_poses_differ() -> None:
    person = standing_person(score=0.9)
    scattered = moved(standing_person(score=0.8), np.random.default_rng(0).normal(0, 80, (17, 2)))
    assert kept([person, scattered]) == [0]
    assert kept([person, scattered], iou_threshold=1.0) == [0, 1]


def test_only_kept_people_suppress_others() -> None:
    """A resembles B and B resembles C: A suppresses B, so B cannot suppress C."""
    people = [standing_person(100, score=0.9), standing_person(107, score=0.8), standing_person(114, score=0.7)]
    assert kept(people) == [0, 2]


def test_hundreds_of_candidates_match_the_plain_algorithm() -> None:
    generator = np.random.default_rng(3)
    people = [
        moved(standing_person(50.0 * (index % 12), score=float(generator.uniform(0.3, 1))), generator.normal(0, 3, (17, 2)))
        for index in range(200)
    ]
    plain: list[int] = []
    for index in sorted(range(200), key=lambda index: -people[index].score):
        weights = [people[keeper].keypoints[:, 2] for keeper in plain]
        similarities = [
            float(oks(people[keeper].keypoints, people[index].keypoints, box_area(people[keeper].box), weight))
            for keeper, weight in zip(plain, weights, strict=True)
        ]
        overlaps = [float(iou(people[keeper].box, people[index].box)) for keeper in plain]
        if all(value <= 0.7 for value in similarities) and all(value <= 0.85 for value in overlaps):
            plain.append(index)
    assert kept(people) == plain
    assert len(plain) >= 12


def double(person: Person, score: float, track: int | None = None) -> Person:
    """Another find of a person, with a box of its own."""
    return Person(person.box + np.array((-20, 0, 10, 30), np.float32), score, person.keypoints + np.float32(1), track)


@pytest.mark.parametrize(
    ("tracks", "scores", "stays"),
    [
        ((None, None), (0.8, 0.7), 0),
        ((None, None), (0.7, 0.8), 1),
        ((2, 1), (0.8, 0.7), 1),  # the older track: scores alternate from frame to frame
        ((None, 5), (0.8, 0.7), 1),
    ],
)
def test_of_two_people_with_one_refined_pose_one_stays(tracks: tuple[int | None, ...], scores: tuple[float, ...], stays: int) -> None:
    first, other = standing_person(score=scores[0], track=tracks[0]), standing_person(400, 50, score=0.1, track=9)
    people = [first, other, double(first, scores[1], tracks[1])]
    assert kept([people[0], people[2]], iou_threshold=1.0) == [int(np.argmax(scores))]
    assert without_doubles(people, [True] * 3, 0.7) == [person for person in people if person is not people[2 - 2 * stays]]


def test_only_refined_poses_make_a_double() -> None:
    person = standing_person(score=0.8)
    people = [person, double(person, 0.7)]
    for refined in ([True, False], [False, True], [False, False]):
        assert without_doubles(people, refined, 0.7) == people
    assert without_doubles(people, [True, True], 1.0) == people
    assert without_doubles([], [], 0.7) == []


def test_two_people_in_one_box_are_no_doubles() -> None:
    person = standing_person(score=0.8)
    behind = moved(person, np.array((25, 0)))
    assert without_doubles([person, behind], [True, True], 0.7) == [person, behind]

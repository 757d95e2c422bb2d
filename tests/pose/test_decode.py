import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgepose.config.schema import PoseConfig
from edgepose.person import Candidates, Person
from edgepose.pose.decode import decode
from edgepose.pose.letterbox import Letterbox
from testing.bodies import standing_person

COORDINATES = st.floats(width=32, allow_nan=True, allow_infinity=True) | st.floats(-100, 400, width=32)
CONFIDENCES = st.floats(width=32, allow_nan=True, allow_infinity=True) | st.floats(0, 1, width=32)
LETTERBOX = Letterbox.fit(480, 640, 256, 256)


def candidates_of(people: list[Person], letterbox: Letterbox) -> Candidates:
    return Candidates(
        boxes=np.stack([letterbox.to_input(person.box.reshape(2, 2)).reshape(4) for person in people])[None],
        scores=np.array([[person.score for person in people]], np.float32),
        keypoints=np.stack([np.c_[letterbox.to_input(person.keypoints[:, :2]), person.keypoints[:, 2]] for person in people])[None],
    )


@settings(max_examples=80)
@given(
    arrays(np.float32, (1, 5, 4), elements=COORDINATES),
    arrays(np.float32, (1, 5), elements=CONFIDENCES),
    arrays(np.float32, (1, 5, 17, 3), elements=COORDINATES, fill=st.floats(0, 300, width=32)),
    st.integers(1, 4),
)
def test_any_candidates_become_people_inside_the_frame(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], keypoints: NDArray[np.float32], maximum: int
) -> None:
    config = PoseConfig(score_threshold=0.2, maximum_people=maximum)
    people = decode(Candidates(boxes, scores, keypoints), 0, LETTERBOX, config)
    assert len(people) <= maximum
    assert [person.score for person in people] == sorted((person.score for person in people), reverse=True)
    for person in people:
        assert 0.2 <= person.score <= 1
        assert person.box.shape == (4,)
        assert person.keypoints.shape == (17, 3)
        assert np.isfinite(person.box).all()
        assert np.isfinite(person.keypoints).all()
        assert 0 <= person.box[0] < person.box[2] <= 640
        assert 0 <= person.box[1] < person.box[3] <= 480
        assert (person.keypoints >= 0).all()
        assert (person.keypoints <= (640, 480, 1)).all()


def test_people_come_back_in_source_pixels() -> None:
    people = [standing_person(100, 50, 200, 0.9), standing_person(400, 100, 300, 0.5), standing_person(300, 100, 100, 0.29)]
    found = decode(candidates_of(people, LETTERBOX), 0, LETTERBOX, PoseConfig())
    assert [person.score for person in found] == pytest.approx([0.9, 0.5])
    for person, wanted in zip(found, people, strict=False):
        np.testing.assert_allclose(person.box, wanted.box, atol=1e-3)
        np.testing.assert_allclose(person.keypoints, wanted.keypoints, atol=1e-3)
        assert person.track is None


def test_the_tracker_gets_people_with_lower_scores() -> None:
    candidates = candidates_of([standing_person(score=0.2)], LETTERBOX)
    assert decode(candidates, 0, LETTERBOX, PoseConfig()) == []
    assert len(decode(candidates, 0, LETTERBOX, PoseConfig(), score_threshold=0.15)) == 1


def test_the_requested_frame_of_a_batch_is_decoded() -> None:
    one, two = candidates_of([standing_person(100)], LETTERBOX), candidates_of([standing_person(300)], LETTERBOX)
    both = Candidates(*(np.concatenate((getattr(one, name), getattr(two, name))) for name in ("boxes", "scores", "keypoints")))
    assert decode(both, 0, LETTERBOX, PoseConfig())[0].box[0] == pytest.approx(100, abs=1e-3)
    assert decode(both, 1, LETTERBOX, PoseConfig())[0].box[0] == pytest.approx(300, abs=1e-3)


def test_keypoints_outside_the_frame_have_no_confidence() -> None:
    person = standing_person(-40, 50, 200)  # its left half is outside the frame
    found = decode(candidates_of([person], LETTERBOX), 0, LETTERBOX, PoseConfig())[0]
    far_outside = person.keypoints[:, 0] < -0.05 * np.sqrt(40 * 200)
    assert far_outside.sum() == 7
    np.testing.assert_array_equal(found.keypoints[:, 2] == 0, far_outside)
    np.testing.assert_allclose(found.keypoints[:, 0], np.maximum(person.keypoints[:, 0], 0), atol=1e-3)
    np.testing.assert_allclose(found.box, (0, 50, 40, 250), atol=1e-3)


def test_no_candidates_are_no_people() -> None:
    empty = Candidates(np.zeros((1, 0, 4), np.float32), np.zeros((1, 0), np.float32), np.zeros((1, 0, 17, 3), np.float32))
    assert decode(empty, 0, LETTERBOX, PoseConfig()) == []
    assert decode(candidates_of([standing_person(700)], LETTERBOX), 0, LETTERBOX, PoseConfig()) == []  # in the padding

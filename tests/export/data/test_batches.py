import threading
from typing import Any

import cv2
import numpy as np
import pytest

from edgepose.errors import ConfigError
from edgepose_export.data.augment import Augmentation
from edgepose_export.data.batches import Batches, Position
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import CropPlans
from testing.export.annotations import write
from testing.export.folders import write_dotted

SETTINGS: dict[str, Any] = {"batch_size": 2, "sizes": (64, 96), "seed": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    sizes = [(300, 220), (301, 227), (300, 300), (310, 240), (320, 230), (330, 240), (360, 250)]
    return CocoPose([write_dotted(tmp_path_factory.mktemp("dots") / "a", sizes=sizes)])


def take(count, data, **changes):
    with Batches(data, Augmentation(), **(SETTINGS | changes)) as batches:
        return [next(batches) for _ in range(count)]


def assert_equal(first, second):
    for name in ("images", "boxes", "keypoints", "areas", "people", "ignored", "regions"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.following == second.following


def test_shapes_and_padding(data):
    for batch in take(8, data):
        size = batch.images.shape[1]
        assert batch.images.shape == (2, size, size, 3)
        assert size in (64, 96)
        people = batch.boxes.shape[1]
        assert batch.people.max() == people
        assert batch.keypoints.shape == (2, people, 17, 3)
        assert batch.areas.shape == (2, people)
        assert batch.ignored.shape == (2, batch.regions.max(), 4)
        for i, count in enumerate(batch.people):
            assert (batch.areas[i, :count] > 0).all()
            assert not batch.boxes[i, count:].any()
            assert not batch.keypoints[i, count:].any()


def test_pictures_need_not_be_square(data):
    for batch in take(4, data, sizes=((64, 96),)):
        assert batch.images.shape == (2, 64, 96, 3)
        assert batch.boxes[..., 2].max() <= 96
        assert batch.boxes[..., 3].max() <= 64


def test_sizes_vary_and_epochs_shuffle_again(data):
    plain = {"sizes": (32, 64, 96)}
    assert {batch.images.shape[1] for batch in take(20, data, **plain)} == {32, 64, 96}
    with Batches(data, Augmentation.none(), batch_size=7, sizes=(32,), seed=1) as batches:
        epochs = [next(batches).images for _ in range(3)]
    as_sets = [sorted(image.tobytes() for image in images) for images in epochs]
    assert as_sets[0] == as_sets[1] == as_sets[2]
    assert not np.array_equal(epochs[0], epochs[1])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("seen", [1, 3, 4])
def test_resumed_stream_is_the_stream_itself(data, workers, seen):
    whole = take(9, data)
    rest = take(9 - seen, data, start=whole[seen - 1].following, workers=workers, prefetch=2)
    for first, second in zip(whole[seen:], rest, strict=True):
        assert_equal(first, second)


def test_position_is_that_of_the_batch_given_not_of_the_batches_waiting(data):
    with Batches(data, Augmentation(), **SETTINGS) as batches:
        assert batches.position == Position(0, 0)
        next(batches)
        assert batches.position == Position(0, 2)
        next(batches)
        next(batches)
        assert batches.position == Position(1, 0)


def test_ranks_share_the_pictures(data):
    """Two ranks of 3 see six of the seven pictures, none twice, at the same sizes."""
    shards = []
    for rank in range(2):
        with Batches(data, Augmentation.none(), batch_size=3, sizes=(64, 96), seed=5, rank=rank, world_size=2) as batches:
            shards.append([next(batches).images for _ in range(4)])
    for first, second in zip(*shards, strict=True):
        assert first.shape == second.shape
        assert len({image.tobytes() for image in (*first, *second)}) == 6


def test_fewer_pictures_than_a_batch(data):
    (batch,) = take(1, data, batch_size=16)
    assert len(batch.images) == 16


def test_one_picture_is_enough_and_nobody_to_refine_is_refused(tmp_path):
    one = CocoPose([write_dotted(tmp_path / "one", sizes=[(300, 220)])])
    for plans in (None, CropPlans(one, 1.25)):
        (batch,) = take(1, one, batch_size=16, plans=plans)
        assert len(batch.images) == 16
    nobody = CocoPose([write(tmp_path / "nobody")])
    assert take(1, nobody)[0].people.tolist() == [0, 0]  # pictures without people teach too
    with pytest.raises(ConfigError, match="for a refiner people with labeled keypoints"):
        Batches(nobody, Augmentation(), plans=CropPlans(nobody, 1.25), **SETTINGS)


def test_close_leaves_no_thread_and_ends_the_stream(data):
    before = threading.active_count()
    opencv_threads = cv2.getNumThreads()
    batches = Batches(data, Augmentation(), workers=3, **SETTINGS)
    next(batches)
    batches.close()
    batches.close()
    assert threading.active_count() == before
    assert cv2.getNumThreads() == opencv_threads
    with pytest.raises(StopIteration):
        next(batches)


def test_unreadable_picture_reaches_the_caller(tmp_path):
    data = CocoPose([write_dotted(tmp_path / "a")])
    for picture in data:
        picture.path.write_bytes(b"gone")
    with Batches(data, Augmentation(), **SETTINGS) as batches, pytest.raises(ConfigError, match="cannot be decoded"):
        next(batches)


@pytest.mark.parametrize(
    "change", [{"sizes": (100,)}, {"sizes": ((64, 100),)}, {"sizes": ()}, {"batch_size": 0}, {"rank": 1}, {"prefetch": 0}]
)
def test_settings_that_make_no_sense_are_refused(data, change):
    with pytest.raises(ConfigError):
        Batches(data, Augmentation(), **(SETTINGS | change))

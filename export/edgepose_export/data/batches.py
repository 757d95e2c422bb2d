"""An endless stream of augmented batches, made in the background; a restart continues the same stream."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgepose.errors import ConfigError, EdgeposeError
from edgepose_export.data.augment import Augmentation, PicturePlan, PicturePlans, paint
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.warp import Canvas, canvas_sides, turn_deg

SIZE_STEP_PX = 32
"""Sides of the network's input are multiples of this."""

Images = NDArray[np.uint8] | Tensor
Painter = Callable[[Sequence[PicturePlan], Canvas], Images]
"""Paints plans for pictures of one size: uint8 (B, H, W, 3), RGB. Several workers call it concurrently."""


class Plans(Protocol):
    """Plans of all pictures: `edgepose_export.data.augment.PicturePlans` or `edgepose_export.data.crops.CropPlans`."""

    def __len__(self) -> int:
        """Return the number of plans in an epoch."""
        ...

    def plan(self, index: int, size: Canvas, augmentation: Augmentation, rng: np.random.Generator) -> PicturePlan:
        """Make plan `index` for a canvas of `size`."""
        ...


_BATCH_TIMEOUT_S = 120.0  # a batch takes well under a second; only a failed disk takes this long


@dataclass(frozen=True, slots=True)
class Position:
    """A position in the stream: the epoch, and the number of its pictures that all ranks together have used.

    It counts pictures, not batches, so that a run can continue with another batch size or number of ranks.
    """

    epoch: int = 0
    pictures: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B pictures of one size with padded labels, in pixels of the pictures.

    Attributes:
        images: uint8 (B, H, W, 3), RGB; a tensor where a device made them.
        boxes: float32 (B, P, 4), x1 y1 x2 y2; P is the most people in any picture of the batch.
        keypoints: float32 (B, P, 17, 3), x y v; v is 0 (not labeled: x and y are 0), 1 (hidden), 2 (visible) or -1 (a refiner's crop of
            nobody: absent).
        areas: float32 (B, P), px², the scale of OKS.
        people: int64 (B,), number of real entries among P.
        ignored: float32 (B, I, 4), ignore regions, in which a detection is neither right nor wrong. They can cover people.
        regions: int64 (B,), number of real entries among I.
        following: position of the stream after this batch.
        turns_deg: float32 (B,), how far each picture is turned, to either side; of a mosaic the most turned part.
    """

    images: Images
    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    areas: NDArray[np.float32]
    people: NDArray[np.int64]
    ignored: NDArray[np.float32]
    regions: NDArray[np.int64]
    following: Position
    turns_deg: NDArray[np.float32]


class Batches(Iterator[Batch]):
    """An endless iterator of batches, whose order depends on `seed`, `start` and the rank, not on the number of workers.

    Each epoch has its own random order. The ranks share its pictures and agree on the size of each batch. Pictures left over
    at the end of an epoch are skipped. Workers are threads, because OpenCV releases the interpreter's lock. OpenCV's own threads
    are off in the whole process while the stream is open, because they would compete with the network for the cores.

    Args:
        data: labeled pictures.
        augmentation: how much pictures change.
        batch_size: B, of this rank.
        sizes: each batch has a random one of these; sides are multiples of 32 px.
        seed: the same seed gives the same stream.
        start: position to continue at.
        rank: index of this process among `world_size`.
        world_size: number of processes that share the pictures.
        workers: threads that make batches.
        prefetch: most batches made in advance.
        plans: plans to paint; None is whole pictures.
        painter: makes the pixels; None is OpenCV. `edgepose_export.data.device_batches` has one for GPUs.

    Raises:
        ConfigError: a value is out of range; while iterating, a picture cannot be read.
    """

    def __init__(
        self,
        data: CocoPose,
        augmentation: Augmentation,
        *,
        batch_size: int,
        sizes: Sequence[Canvas] = (256,),
        seed: int = 0,
        start: Position | None = None,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 1,
        prefetch: int = 4,
        plans: Plans | None = None,
        painter: Painter | None = None,
    ) -> None:
        if not sizes or any(side <= 0 or side % SIZE_STEP_PX for size in sizes for side in canvas_sides(size)):
            raise ConfigError(f"input sizes are {list(sizes)}; expected one or more multiples of {SIZE_STEP_PX} pixels")
        if min(batch_size, workers, prefetch, world_size) < 1 or not 0 <= rank < world_size:
            raise ConfigError(
                f"batch_size {batch_size}, workers {workers}, prefetch {prefetch} and world_size {world_size} must be at least 1, "
                f"and rank {rank} from 0 to world_size - 1"
            )
        self._plans: Plans = PicturePlans(data) if plans is None else plans
        if not len(self._plans):
            raise ConfigError("the data has nothing to train on; expected pictures, and for a refiner people with labeled keypoints")
        self.batches_per_epoch = max(1, len(self._plans) // (batch_size * world_size))
        self.position = start or Position()
        self._data, self._augmentation = data, augmentation
        self._paint = painter or self._paint_with_opencv
        self._batch_size, self._sizes, self._seed = batch_size, tuple(sizes), seed
        self._rank, self._world_size = rank, world_size
        self._epoch, self._batch = self.position.epoch, self.position.pictures // (batch_size * world_size)
        self._order: tuple[int, NDArray[np.intp]] = (-1, np.zeros(0, np.intp))
        self._opencv_threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
        self._waiting: deque[Future[Batch]] = deque()
        for _ in range(prefetch):
            self._submit()

    def __next__(self) -> Batch:
        if not self._waiting:
            raise StopIteration  # closed
        try:
            batch = self._waiting[0].result(_BATCH_TIMEOUT_S)
        except FutureTimeoutError as error:
            raise EdgeposeError(
                f"no batch of training pictures came within {_BATCH_TIMEOUT_S:.0f} s; expected a disk that still answers"
            ) from error
        self._waiting.popleft()
        self._submit()
        self.position = batch.following
        return batch

    def close(self) -> None:
        """Stop the workers after their current batches; a second call does nothing."""
        if self._waiting:
            self._waiting.clear()
            self._pool.shutdown(wait=True, cancel_futures=True)
            cv2.setNumThreads(self._opencv_threads)

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self) -> None:
        """Submit the next batch to the workers."""
        if self._batch >= self.batches_per_epoch:
            self._epoch, self._batch = self._epoch + 1, 0
        if self._order[0] != self._epoch:
            self._order = (self._epoch, self._shuffled(self._epoch))
        first = (self._batch * self._world_size + self._rank) * self._batch_size
        indices = self._order[1][first : first + self._batch_size].tolist()
        self._waiting.append(self._pool.submit(self._make, self._epoch, self._batch, indices))
        self._batch += 1

    def _shuffled(self, epoch: int) -> NDArray[np.intp]:
        """Return the order of the pictures in one epoch, repeated in new orders where a batch of all ranks needs more pictures."""
        rng = np.random.default_rng((self._seed, epoch))
        needed = self._batch_size * self._world_size
        count = len(self._plans)
        return np.concatenate([rng.permutation(count) for _ in range(-(-needed // count))])

    def _make(self, epoch: int, batch: int, indices: list[int]) -> Batch:
        size = self._sizes[int(np.random.default_rng((self._seed, epoch, batch)).integers(len(self._sizes)))]
        rng = np.random.default_rng((self._seed, epoch, batch, self._rank))
        plans = [self._plans.plan(index, size, self._augmentation, rng) for index in indices]
        done = (batch + 1) * self._batch_size * self._world_size
        following = Position(epoch, done) if batch + 1 < self.batches_per_epoch else Position(epoch + 1, 0)
        return collate(plans, self._paint(plans, size), following)

    def _paint_with_opencv(self, plans: Sequence[PicturePlan], size: Canvas) -> NDArray[np.uint8]:
        return np.stack([paint(self._data, made, size) for made in plans])


def collate(plans: Sequence[PicturePlan], images: Images, following: Position) -> Batch:
    """Collate pictures of one size into a batch; pad labels with zeros to the most people and regions of a picture."""
    people = np.array([len(made.labels.boxes) for made in plans], np.int64)
    regions = np.array([len(made.labels.ignored) for made in plans], np.int64)
    count = len(plans)
    boxes = np.zeros((count, people.max(), 4), np.float32)
    keypoints = np.zeros((count, people.max(), 17, 3), np.float32)
    areas = np.zeros((count, people.max()), np.float32)
    ignored = np.zeros((count, regions.max(), 4), np.float32)
    for i, made in enumerate(plans):
        boxes[i, : people[i]] = made.labels.boxes
        keypoints[i, : people[i]] = made.labels.keypoints
        areas[i, : people[i]] = made.labels.areas
        ignored[i, : regions[i]] = made.labels.ignored
    turns_deg = np.array([max(turn_deg(part.matrix) for part in made.parts) for made in plans], np.float32)
    return Batch(images, boxes, keypoints, areas, people, ignored, regions, following, turns_deg)

"""Pose networks and refiners over any library: what goes in and what comes out is checked here, once for all backends."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.engine import ultralytics
from edgepose.engine.output_checks import check_finite, check_people, check_pixels, check_positions, check_shares, clearly_sound
from edgepose.errors import EngineError
from edgepose.model.file import ModelFile
from edgepose.person import KEYPOINT_NAMES, Candidates

_OUTPUTS = ("boxes", "scores", "keypoints")


class LoadedNetwork:
    """A network that is loaded on one device; see `edgepose.engine.backend.Network` for the attributes.

    A library's own class computes: `_compute` and `close`.
    """

    def __init__(self, model: ModelFile, *, name: str, device: str, reason: str) -> None:
        self.name = name
        self.device = device
        self.precision: str = model.info.precision
        self.reason = reason
        self.fallback = False
        """Whether it runs on the CPU because a faster device does not work."""
        self.info = model.info
        self._input_type: type[np.floating[Any]] = np.float32  # of a file with float inputs

    def close(self) -> None:
        """Free the device; idempotent."""
        raise NotImplementedError

    def _compute(self, outputs: Sequence[str], tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the named outputs for one input; EngineError where the library fails."""
        raise NotImplementedError

    def _batch_limit(self) -> int | None:
        """Return the images of one call; None for any number."""
        return self.info.batch

    def _batches(self, images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Split images into the batches that the network accepts."""
        limit = self._batch_limit()
        if limit is None or len(images) <= limit:
            return [images]
        return [images[index : index + limit] for index in range(0, len(images), limit)]


class PoseNetwork(LoadedNetwork):
    """A pose network."""

    def __init__(self, model: ModelFile, *, name: str, device: str, reason: str) -> None:
        super().__init__(model, name=name, device=device, reason=reason)
        self._head = model.info.head
        self._output_names = list(_OUTPUTS) if self._head is None else [self._head.output]

    def run(self, images: NDArray[np.uint8]) -> Candidates:
        """Return candidates for letterboxed images.

        Args:
            images: uint8 (N, H, W, 3) RGB; H and W as fixed by the file, or multiples of its stride.

        Raises:
            EngineError: the shape or type is wrong, the library fails, or an output is broken (`edgepose.engine.output_checks`).
        """
        self._check_images(images)
        if self._head is not None:
            outputs = [self._compute(self._output_names, ultralytics.to_input(part, self._input_type))[0] for part in self._batches(images)]
            return ultralytics.to_candidates(_joined(outputs), self._head, self.name)
        computed = [self._compute(self._output_names, np.ascontiguousarray(part)) for part in self._batches(images)]
        return self._checked(Candidates(*(_joined(parts) for parts in zip(*computed, strict=True))), len(images))

    def _check_images(self, images: NDArray[np.uint8]) -> None:
        height, width, stride = self.info.input_height, self.info.input_width, self.info.stride
        shape = images.shape
        valid = images.dtype == np.uint8 and len(shape) == 4 and shape[0] > 0 and shape[3] == 3
        if valid and height is not None:
            valid = shape[1:3] == (height, width)
        elif valid:
            valid = shape[1] > 0 and shape[2] > 0 and shape[1] % stride == 0 and shape[2] % stride == 0
        if not valid:
            expected = f"(N, {height}, {width}, 3)" if height is not None else f"(N, H, W, 3) with H and W multiples of {stride}"
            raise EngineError(f"the images are {images.dtype} {shape}; expected uint8 {expected}")

    def _checked(self, candidates: Candidates, images: int) -> Candidates:
        count = candidates.scores.shape[1] if candidates.scores.ndim == 2 else -1
        found = (candidates.boxes.shape, candidates.scores.shape, candidates.keypoints.shape)
        if found != ((images, count, 4), (images, count), (images, count, len(KEYPOINT_NAMES), 3)):
            raise EngineError(
                f"{self.name} returned boxes, scores and keypoints of shapes {found}; expected (N, K, 4), (N, K), (N, K, 17, 3)"
            )
        boxes, scores, keypoints = candidates.boxes, candidates.scores, candidates.keypoints
        if clearly_sound(boxes, scores, keypoints):
            return candidates
        check_finite(self.name, {"boxes": boxes, "scores": scores, "keypoints": keypoints})
        check_shares(self.name, {"scores": scores, "confidences": keypoints[..., 2]})
        check_positions(self.name, {"boxes": boxes, "keypoints": keypoints[..., :2]})
        check_people(self.name, boxes, scores, keypoints)
        return candidates


class RefinerNetwork(LoadedNetwork):
    """A refiner."""

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the keypoints of one person per crop.

        Args:
            crops: uint8 (M, H, W, 3) RGB, of the size that the file fixes.

        Returns:
            float32 (M, 17, 3), x y in crop pixels and confidence.

        Raises:
            EngineError: the shape or type is wrong, the library fails, or the keypoints are not finite.
        """
        height, width = self.info.crop_shape
        if crops.dtype != np.uint8 or crops.ndim != 4 or not len(crops) or crops.shape[1:] != (height, width, 3):
            raise EngineError(f"the crops are {crops.dtype} {crops.shape}; expected uint8 (M, {height}, {width}, 3)")
        parts = [self._compute(["keypoints"], np.ascontiguousarray(part))[0] for part in self._batches(crops)]
        keypoints = _joined(parts)
        if keypoints.shape != (len(crops), len(KEYPOINT_NAMES), 3):
            raise EngineError(f"{self.name} returned keypoints of shape {keypoints.shape} for {len(crops)} crops; expected (M, 17, 3)")
        check_finite(self.name, {"keypoints": keypoints})
        check_shares(self.name, {"confidences": keypoints[..., 2]})
        check_positions(self.name, {"keypoints": keypoints[..., :2]})
        check_pixels(self.name, {"keypoints": keypoints[..., :2]})
        return keypoints


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the outputs of several calls as one; EngineError where their shapes differ."""
    if len(parts) == 1:
        return parts[0]
    if len({part.shape[1:] for part in parts}) > 1:
        raise EngineError(f"the network returned shapes {sorted({part.shape for part in parts})} for single images; expected equal ones")
    return np.concatenate(parts)

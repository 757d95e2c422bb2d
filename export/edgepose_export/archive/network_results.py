"""What a pose network said of images, by their pixels: computed in one place, asked for in another.

A video is cut at key frames, and its parts go through the network on different machines. Decoding from a key frame in the middle of a file
can give other pixels than decoding from its beginning, so results are looked up by a hash of the very pixels that the network would see.
Where there is none, the network runs: nothing but time depends on the cuts.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.engine.backend import Backend
from edgepose.person import Candidates


class _Passed:
    """A network, passed on."""

    def __init__(self, network: Backend) -> None:
        self._network = network

    @property
    def name(self) -> str:
        """Library and kind of device."""
        return self._network.name

    @property
    def device(self) -> str:
        """The device in words."""
        return self._network.device

    @property
    def precision(self) -> str:
        """Precision of the weights."""
        return self._network.precision

    @property
    def reason(self) -> str:
        """The reason why this backend was chosen."""
        return self._network.reason

    def close(self) -> None:
        """Leave the network open: it belongs to the caller."""


class RememberingNetwork(_Passed):
    """A network that keeps what it said, for a file.

    Args:
        network: that runs.
        lowest_score: candidates below it are not kept; no threshold may be lower.
    """

    def __init__(self, network: Backend, lowest_score: float) -> None:
        super().__init__(network)
        self._lowest_score = lowest_score
        self._results: dict[bytes, tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]] = {}
        self._places = 0

    def run(self, images: NDArray[np.uint8]) -> Candidates:
        """Return what the network says, and keep it."""
        found = self._network.run(images)
        kept = int(np.count_nonzero(found.scores[0] >= self._lowest_score))
        self._places = found.scores.shape[1]
        self._results[_hash(images)] = (found.boxes[0, :kept].copy(), found.scores[0, :kept].copy(), found.keypoints[0, :kept].copy())
        return found

    def save(self, path: Path) -> None:
        """Write the results into a file."""
        results = list(self._results.values())
        np.savez_compressed(
            path,
            hashes=np.frombuffer(b"".join(self._results), np.uint8).reshape(-1, 16),
            counts=np.array([len(scores) for _, scores, _ in results], np.int32),
            places=np.array(self._places),
            boxes=np.concatenate([boxes for boxes, _, _ in results] or [np.empty((0, 4), np.float32)]),
            scores=np.concatenate([scores for _, scores, _ in results] or [np.empty(0, np.float32)]),
            keypoints=np.concatenate([keypoints for _, _, keypoints in results] or [np.empty((0, 17, 3), np.float32)]),
        )


class RecalledNetwork(_Passed):
    """A network whose results are partly known.

    Args:
        network: runs where a result is not known.
        paths: files of `RememberingNetwork`.

    Attributes:
        missed: images of which no result was known.
    """

    def __init__(self, network: Backend, paths: list[Path]) -> None:
        super().__init__(network)
        self.missed = 0
        self._known: dict[bytes, tuple[int, int, int]] = {}  # number of the file, first and last candidate
        self._files: list[tuple[int, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]] = []
        for number, path in enumerate(paths):
            with np.load(path, allow_pickle=False) as file:
                ends = np.cumsum(file["counts"]).tolist()
                for row, count, end in zip(file["hashes"], file["counts"].tolist(), ends, strict=True):
                    self._known[row.tobytes()] = (number, end - count, end)
                self._files.append((int(file["places"]), file["boxes"], file["scores"], file["keypoints"]))

    @property
    def known(self) -> int:
        """Number of images whose result is known."""
        return len(self._known)

    def run(self, images: NDArray[np.uint8]) -> Candidates:
        """Return what the network said of these pixels, or says."""
        found = self._known.get(_hash(images))
        if found is None:
            self.missed += 1
            return self._network.run(images)
        number, begin, end = found
        places, boxes, scores, keypoints = self._files[number]
        count = end - begin
        result = Candidates(
            np.zeros((1, places, 4), np.float32), np.zeros((1, places), np.float32), np.zeros((1, places, 17, 3), np.float32)
        )
        result.boxes[0, :count], result.scores[0, :count], result.keypoints[0, :count] = (
            boxes[begin:end],
            scores[begin:end],
            keypoints[begin:end],
        )
        return result


def _hash(images: NDArray[np.uint8]) -> bytes:
    digest = hashlib.blake2b(repr(images.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(images).data)
    return digest.digest()

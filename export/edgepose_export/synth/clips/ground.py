"""The ground of a clip, which stays in its place while the camera moves: drawn, or a photograph laid on it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose_export.synth.backgrounds import Photographs, paint_ground
from edgepose_export.synth.camera import Camera

_SKY_M = 1e4  # distance of what is above the horizon
_TEXTURE_PX = 1024
_BLURS_PX = (0.0, 2.5, 8.0)  # of the photograph, for ground that is farther away than its pixels are apart


class ClipGround:
    """The ground of one clip.

    Args:
        rng: random numbers of this ground alone.
        photographs: one of them is laid on the ground, mirrored beyond its edges; without any the ground is drawn.
        pixel_m: size of a pixel on the ground in the middle of the picture, meters.
        width: of the picture in pixels.
        steep: whether photographs may be turned by quarters.
    """

    def __init__(self, rng: np.random.Generator, photographs: Photographs, pixel_m: float, width: int, *, steep: bool) -> None:
        self._seed = int(rng.integers(2**32))
        self._pixel_m = pixel_m
        self._photographs: list[NDArray[np.float32]] = []
        if photographs:
            image = photographs.draw(rng, _TEXTURE_PX, from_above=steep) * np.float32(rng.uniform(0.85, 1.15))
            self._photographs = [cv2.GaussianBlur(image, (0, 0), blur) if blur else image for blur in _BLURS_PX]
            self._texture_m = rng.uniform(1.3, 2.0) * width * pixel_m
            self._offset = rng.uniform(0, 2, 2)

    def seen(self, camera: Camera, top: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the ground from a camera, float32 (H, W, 3), RGB, 0 to 1, and its distance (H, W), without `top` rows above and below."""
        rows, columns = np.mgrid[top : camera.size - top, 0 : camera.size]
        flat, distance = camera.ground(np.stack((columns.ravel(), rows.ravel()), 1) + 0.5)
        x, y = flat.T.reshape(2, *rows.shape)
        far = np.minimum(distance, _SKY_M).reshape(rows.shape).astype(np.float32)
        if self._photographs:
            image = self._laid(camera, x, y, far)
        else:
            place = [x.astype(np.float32), y.astype(np.float32)]
            image = paint_ground(np.random.default_rng(self._seed), place, far, self._pixel_m)
        return np.clip(image, 0, 1), far

    def _laid(self, camera: Camera, x: NDArray[np.float64], y: NDArray[np.float64], far: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the photograph on the ground, and haze in the sky."""
        u, v = (
            ((1 - np.abs(np.mod(axis / self._texture_m + offset, 2) - 1)) * (_TEXTURE_PX - 1)).astype(np.float32)
            for axis, offset in zip((x, y), self._offset, strict=True)
        )
        # A pixel spans more ground the farther and the flatter it is seen; there the blurred photograph is the right one.
        step = far**2 / (camera.focal_px * max(float(camera.eye[2]), 0.3)) * (_TEXTURE_PX / self._texture_m)
        image = cv2.remap(self._photographs[0], u, v, cv2.INTER_LINEAR)
        for blur, photograph in zip(_BLURS_PX[1:], self._photographs[1:], strict=True):
            share = np.clip(step / blur - 0.7, 0, 1)[..., None]
            if share.any():
                image = image * (1 - share) + cv2.remap(photograph, u, v, cv2.INTER_LINEAR) * share
        sky = np.clip((far - 60) / 600, 0, 1)[..., None]
        return np.asarray(image * (1 - sky) + np.array([0.72, 0.79, 0.87], np.float32) * sky, np.float32)

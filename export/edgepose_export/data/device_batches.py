"""Training pictures in the memory of a device, which warps and colors them.

A GPU trains on more pictures a second than a CPU can decode and warp, and copying each batch takes time too. So all pictures are
decoded once and stay in the device's memory as uint8; a few tensor operations paint a batch. Random choices, matrices and labels
still come from the CPU (`edgepose_export.data.augment.plan`).

Differences from `edgepose_export.data.augment.paint`: blur, motion blur and JPEG compression are left out; a picture that is drawn
small is averaged over squares of pixels instead of being decoded at a fraction; noise has other random values.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from edgepose.errors import ConfigError
from edgepose_export.data import warp
from edgepose_export.data.augment import Cover, Part, PicturePlan
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.color import Appearance

LONGEST_PX = 320
"""Long side of the kept pictures in pixels: about the input side of the recipes."""

_LARGEST_SHRINK = 8
_LOAD_BATCH = 64
_PAINT_BATCH = 64  # bounds the memory of painting: about 1.2 MB per picture and operation at 320 px


class DevicePictures:
    """All pictures of a data set in the memory of a device; `paint` is a painter for `edgepose_export.data.batches.Batches`.

    A picture lies at the top left of a square; its last row and column repeat to the edges. Larger pictures are shrunk.
    14,430 pictures of at most 320 px take 4.4 GB.

    Args:
        data: labeled pictures.
        device: holds and paints the pictures.
        longest_px: longest side of a picture on the device.
        workers: threads that decode.

    Raises:
        ConfigError: a picture cannot be read, or the device has too little memory.
    """

    def __init__(self, data: CocoPose, device: torch.device, *, longest_px: int = LONGEST_PX, workers: int = 1) -> None:
        longest = min(longest_px, max(max(picture.width, picture.height) for picture in data))
        self.side = -(-longest // _LARGEST_SHRINK) * _LARGEST_SHRINK
        self.device = device
        self._data = data
        scales = [min(1.0, longest / max(picture.width, picture.height)) for picture in data]
        self._widths = [max(1, round(picture.width * scale)) for picture, scale in zip(data, scales, strict=True)]
        self._heights = [max(1, round(picture.height * scale)) for picture, scale in zip(data, scales, strict=True)]
        shape = (len(data), 3, self.side, self.side)
        try:
            self._pixels = torch.empty(shape, dtype=torch.uint8, device=device)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"{len(data)} training pictures take {np.prod(shape) / 1e9:.1f} GB at {self.side} px, more than {device} has free; "
                "expected fewer data folders"
            ) from error
        with ThreadPoolExecutor(workers, thread_name_prefix="pictures") as pool:
            for first in range(0, len(data), _LOAD_BATCH):
                indices = range(first, min(first + _LOAD_BATCH, len(data)))
                squares = np.stack(list(pool.map(self._square, indices)))
                self._pixels[first : indices.stop] = torch.from_numpy(squares).to(device).permute(0, 3, 1, 2)

    def paint(self, plans: Sequence[PicturePlan], size: warp.Canvas) -> Tensor:
        """Paint a batch: uint8 (B, H, W, 3), RGB, on the device.

        Args:
            plans: of the pictures.
            size: of the pictures.
        """
        groups: dict[int, list[tuple[int, Part, warp.Matrix]]] = {}
        for canvas, plan in enumerate(plans):
            for part in plan.parts:
                matrix, shrink = self._matrix_and_shrink(part)
                groups.setdefault(shrink, []).append((canvas, part, matrix))
        canvases = torch.zeros((len(plans), 3, *warp.canvas_sides(size)), device=self.device)
        for shrink, group in groups.items():
            for first in range(0, len(group), _PAINT_BATCH):
                numbers, parts, matrices = zip(*group[first : first + _PAINT_BATCH], strict=True)
                # Rectangles of one canvas do not overlap, so adding is painting.
                canvases.index_add_(0, self._tensor(numbers, torch.int64), self._paint_parts(parts, matrices, shrink, size))
        for canvas, plan in enumerate(plans):
            for cover in plan.covers:
                self._cover(canvases[canvas], cover, size)
        return canvases.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _matrix_and_shrink(self, part: Part) -> tuple[warp.Matrix, int]:
        """Return the matrix of a part from the kept picture, and the shrink at which it is drawn."""
        picture, width, height = self._data[part.index], self._widths[part.index], self._heights[part.index]
        matrix = part.matrix @ warp.scaled(picture.width / width, picture.height / height)
        return matrix, warp.coarsest_shrink(warp.magnification(matrix, width, height))

    def _cover(self, canvas: Tensor, cover: Cover, size: warp.Canvas) -> None:
        """Paint a cover on a canvas, float (3, H, W)."""
        x1, y1, x2, y2 = cover.rectangle
        canvas[:, y1:y2, x1:x2] = self._tensor(cover.color, torch.float32)[:, None, None]
        if cover.part is not None:
            matrix, shrink = self._matrix_and_shrink(cover.part)
            canvas[:, y1:y2, x1:x2] = self._paint_parts([cover.part], [matrix], shrink, size)[0, :, y1:y2, x1:x2]

    def _paint_parts(self, parts: Sequence[Part], matrices: Sequence[warp.Matrix], shrink: int, size: warp.Canvas) -> Tensor:
        """Paint each part on its own canvas: float (N, 3, H, W)."""
        indices = [part.index for part in parts]
        images = self._pixels.index_select(0, self._tensor(indices, torch.int64)).float()
        if shrink > 1:
            images = F.avg_pool2d(images, shrink)
        images = _change(images, [part.appearance for part in parts])
        # Padding is black, as in flight, independent of the light.
        steps = torch.arange(images.shape[2], device=self.device)
        rows = steps < self._tensor([-(-self._heights[index] // shrink) for index in indices], torch.int64)[:, None]
        columns = steps < self._tensor([-(-self._widths[index] // shrink) for index in indices], torch.int64)[:, None]
        images *= rows[:, None, :, None] & columns[:, None, None, :]

        # From canvas back to picture, in grid_sample's units: -1 and 1 are the outer edges of the square, at any shrink.
        unit = warp.moved(-1, -1) @ warp.scaled(2 / self.side, 2 / self.side)
        back = self._tensor(np.stack([unit @ np.linalg.inv(matrix) for matrix in matrices]), torch.float32)[..., None, None]
        y, x = (torch.arange(side, device=self.device) + 0.5 for side in warp.canvas_sides(size))
        places = back[:, :, 0] * x + back[:, :, 1] * y[:, None] + back[:, :, 2]  # (N, 3, H, W)
        depth = torch.where(places[:, 2:].abs() < 1e-6, 1e-6, places[:, 2:])  # avoids the horizon of a tilted plane
        grid = (places[:, :2] / depth).clamp(-9, 9).permute(0, 2, 3, 1)
        drawn: Tensor = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        x1, y1, x2, y2 = self._tensor([part.rectangle for part in parts], torch.float32).T[..., None]
        rows = (y > y1) & (y < y2)
        columns = (x > x1) & (x < x2)
        drawn *= rows[:, None, :, None] & columns[:, None, None, :]
        return drawn

    def _tensor(self, values: Sequence[object] | NDArray[np.float64], dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(values, dtype=dtype).to(self.device)

    def _square(self, index: int) -> NDArray[np.uint8]:
        """Decode one picture, shrink it if needed and fill the square: uint8 (M, M, 3), RGB."""
        image = self._data.image(index)
        width, height = self._widths[index], self._heights[index]
        if (height, width) != image.shape[:2]:
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        # Repeated, not black: averages over squares at the edge must not get darker.
        filled = cv2.copyMakeBorder(image, 0, self.side - height, 0, self.side - width, cv2.BORDER_REPLICATE)
        return np.asarray(filled, np.uint8)


def _change(images: Tensor, appearances: Sequence[Appearance]) -> Tensor:
    """Change light, color, response and noise of float pictures (N, 3, H, W) on 0..255; see `edgepose_export.data.color`."""
    device = images.device
    if any(appearance.matrix is not None for appearance in appearances):
        same = np.eye(3, 4)
        matrices = np.stack([same if appearance.matrix is None else appearance.matrix for appearance in appearances])
        matrix = torch.as_tensor(matrices, dtype=torch.float32).to(device)
        images = (torch.einsum("nij,njhw->nihw", matrix[..., :3], images) + matrix[..., 3, None, None]).clamp(0, 255)
    curved = [number for number, appearance in enumerate(appearances) if appearance.gamma is not None]
    if curved:
        exponents = torch.tensor([appearance.gamma for appearance in appearances if appearance.gamma is not None])
        images[curved] = 255 * (images[curved] / 255) ** exponents.to(device)[:, None, None, None]
    noisy = {number: appearance.noise for number, appearance in enumerate(appearances) if appearance.noise is not None}
    if noisy:
        generator = torch.Generator(device).manual_seed(next(iter(noisy.values()))[1])
        sigmas = torch.tensor([sigma for sigma, _ in noisy.values()]).to(device)[:, None, None, None]
        noise = torch.randn((len(noisy), *images.shape[1:]), generator=generator, device=device)
        images[list(noisy)] = (images[list(noisy)] + sigmas * noise).clamp(0, 255)
    return images

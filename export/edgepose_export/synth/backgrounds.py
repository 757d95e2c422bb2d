"""What lies behind the people: photographs without people, or ground that is drawn (asphalt, grass, sand, tiles, water, snow)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.errors import ConfigError
from edgepose_export.synth.camera import Camera
from edgepose_export.synth.views import Split

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_EVAL_SHARE = 5  # every fifth photograph, by the hash of its name, is kept for the eval split
_DRAWN = 0.3  # share of pictures with drawn ground where there are photographs
_CACHED = 64  # decoded photographs a process keeps

_TONES = {
    "asphalt": ((0.3, 0.3, 0.31), 0.12),
    "concrete": ((0.62, 0.6, 0.57), 0.12),
    "grass": ((0.25, 0.36, 0.14), 0.3),
    "sand": ((0.76, 0.67, 0.5), 0.12),
    "soil": ((0.4, 0.3, 0.2), 0.25),
    "tiles": ((0.6, 0.5, 0.43), 0.15),
    "snow": ((0.88, 0.9, 0.94), 0.05),
}


class Photographs:
    """The photographs of one split in folders.

    A folder in COCO layout gives the pictures in which nobody is labeled and, by its own word, nobody is left out. Of any other
    folder all pictures are taken. Each folder is drawn from as often as the others, whatever its size.

    Raises:
        ConfigError: a folder is missing, or has no picture without people for this split.
    """

    def __init__(self, folders: Sequence[Path], split: Split) -> None:
        self._folders = [_without_people(folder, split) for folder in folders]
        self._level = np.array([(folder / "annotations.json").is_file() for folder in folders])
        self._cache: dict[Path, NDArray[np.uint8]] = {}

    def __bool__(self) -> bool:
        return bool(self._folders)

    def draw(self, rng: np.random.Generator, size: int, *, from_above: bool) -> NDArray[np.float32]:
        """Draw a part of a photograph, mirrored and (seen from above) turned at random: float32 (S, S, 3), RGB, 0 to 1."""
        shares = np.where(self._level, 0.4 if from_above else 1.6, 1.0)
        files = self._folders[int(rng.choice(len(self._folders), p=shares / shares.sum()))]
        image = self._read(files[rng.integers(len(files))])
        short = min(image.shape[:2])
        side = max(int(short * rng.uniform(0.5, 1.0)), min(short, size // 2))
        top, left = rng.integers(image.shape[0] - side + 1), rng.integers(image.shape[1] - side + 1)
        part: NDArray[np.uint8] = image[top : top + side, left : left + side]
        if from_above:
            part = np.rot90(part, int(rng.integers(4)))
        if rng.random() < 0.5:
            part = part[:, ::-1]
        scaled = cv2.resize(np.ascontiguousarray(part), (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)
        return np.asarray(scaled[..., ::-1] / np.float32(255), np.float32)

    def _read(self, path: Path) -> NDArray[np.uint8]:
        if path not in self._cache:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise ConfigError(f"{path} is not a readable picture; expected a JPEG, PNG or WebP file")
            if len(self._cache) >= _CACHED:
                self._cache.pop(next(iter(self._cache)))
            self._cache[path] = image
        return self._cache[path]


def _without_people(folder: Path, split: Split) -> list[Path]:
    annotations = folder / "annotations.json"
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; expected a folder of pictures without people")
    if annotations.is_file():
        labels = msgspec.json.decode(annotations.read_bytes())
        taken = {label["image_id"] for label in labels["annotations"]}
        names = [image["file_name"] for image in labels["images"] if image["id"] not in taken and image.get("all_people_labelled", True)]
        files = [folder / "images" / name for name in names]
    else:
        files = [path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES]
    chosen = sorted(path for path in files if (_name_hash(path) % _EVAL_SHARE == 0) == (split == "eval"))
    if not chosen:
        raise ConfigError(f"{folder} holds no picture without people for the split {split}; expected JPEG, PNG or WebP files")
    return chosen


def _name_hash(path: Path) -> int:
    return int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16)


def draw_background(rng: np.random.Generator, photographs: Photographs, camera: Camera, *, steep: bool, water: bool) -> NDArray[np.float32]:
    """Draw what is behind the people: float32 (S, S, 3), RGB, 0 to 1."""
    if water or not photographs or rng.random() < _DRAWN:
        image = _drawn(rng, camera, water=water)
    else:
        image = photographs.draw(rng, camera.size, from_above=steep)
    image *= (rng.uniform(0.95, 1.05, 3) * rng.uniform(0.8, 1.2)).astype(np.float32)
    return np.clip(image, 0, 1)


def _drawn(rng: np.random.Generator, camera: Camera, *, water: bool) -> NDArray[np.float32]:
    """Draw flat ground as the camera sees it, and sky above the horizon."""
    size, step = camera.size, 4
    rows, columns = np.mgrid[0 : size + 1 : step, 0 : size + 1 : step]
    flat, distance = camera.ground(np.stack((columns.ravel(), rows.ravel()), 1).astype(np.float64) + 0.5)
    shape = rows.shape
    place = [cv2.resize(axis.reshape(shape).astype(np.float32), (size, size)) for axis in flat.T]
    far = cv2.resize(np.minimum(distance, 1e4).reshape(shape).astype(np.float32), (size, size))
    return paint_ground(rng, place, far, float(np.median(far)) / camera.focal_px, water=water)


def paint_ground(
    rng: np.random.Generator, place: Sequence[NDArray[np.float32]], far: NDArray[np.float32], pixel_m: float, *, water: bool = False
) -> NDArray[np.float32]:
    """Draw ground and sky: float32 (H, W, 3), RGB. The same random numbers and `pixel_m` draw the same ground from anywhere.

    Args:
        rng: random numbers.
        place: x and y (H, W) of the ground at each pixel, meters.
        far: distance (H, W) of the ground, meters; 1e4 in the sky.
        pixel_m: size of a pixel on the ground, meters; nothing finer is drawn.
        water: whether to draw water.
    """
    image = _water(rng, place, pixel_m) if water else _ground(rng, place, pixel_m)
    sky = np.clip((far - 300) / 3000, 0, 1)[..., None]
    haze = np.array([0.75, 0.82, 0.9], np.float32) * rng.uniform(0.7, 1.1)
    return np.asarray(image * (1 - sky) + haze * sky, np.float32)


def _noise(rng: np.random.Generator, place: Sequence[NDArray[np.float32]], scale_m: float) -> NDArray[np.float32]:
    """Return smooth random values of deviation 1 on the ground whose blotches have a size in meters."""
    cells = 256
    tile = np.pad(rng.standard_normal((cells, cells), np.float32), ((4, 5), (4, 5)), mode="wrap")  # repeats without a seam
    tile = cv2.GaussianBlur(tile, (0, 0), 1.0)[4:-4, 4:-4]
    tile /= tile.std()
    cosine, sine = np.cos(turn := rng.uniform(0, 2 * np.pi)), np.sin(turn)
    x, y = (place[0] * cosine - place[1] * sine) / scale_m, (place[0] * sine + place[1] * cosine) / scale_m
    grid_x, grid_y = (np.mod(axis * 2, cells).astype(np.float32) for axis in (x, y))
    return np.asarray(cv2.remap(tile, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)


def _ground(rng: np.random.Generator, place: Sequence[NDArray[np.float32]], pixel_m: float) -> NDArray[np.float32]:
    kind = str(rng.choice(list(_TONES)))
    tone, rough = _TONES[kind]
    value = np.ones_like(place[0])
    for scale, share in ((max(0.02, 1.5 * pixel_m), 0.5), (max(0.1, 5 * pixel_m), 0.4), (max(0.6, 20 * pixel_m), 0.4), (8.0, 0.5)):
        value += rough * share * rng.uniform(0.3, 1.2) * _noise(rng, place, scale)
    image = value[..., None] * (np.array(tone) * rng.uniform(0.75, 1.15) * rng.uniform(0.93, 1.07, 3)).astype(np.float32)
    if kind == "tiles" or rng.random() < 0.2:
        side = rng.uniform(0.2, 1.2)
        for axis in place:
            joint = np.abs(np.mod(axis / side, 1.0) - 0.5) > 0.5 - max(0.02, 0.6 * pixel_m / side)
            image[joint] *= rng.uniform(0.5, 0.9)
    if rng.random() < 0.3:  # another surface beside it: a path, a curb, a lawn
        edge = (
            place[0] * np.cos(turn := rng.uniform(0, 6.3)) + place[1] * np.sin(turn) + 0.3 * _noise(rng, place, 3.0) * (rng.random() < 0.5)
        )
        band = (edge > rng.uniform(-6, 0)) & (edge < rng.uniform(1, 9))
        other, _ = _TONES[str(rng.choice(list(_TONES)))]
        image[band] = value[band][:, None] * np.array(other, np.float32)
    if rng.random() < 0.25:  # painted lines
        line = np.mod(place[0] * np.cos(turn := rng.uniform(0, 6.3)) + place[1] * np.sin(turn), rng.uniform(2, 6)) < rng.uniform(0.1, 0.3)
        image[line] = image[line] * 0.3 + np.array([0.6, 0.6, 0.58 if rng.random() < 0.7 else 0.1], np.float32)
    return image


def _water(rng: np.random.Generator, place: Sequence[NDArray[np.float32]], pixel_m: float) -> NDArray[np.float32]:
    deep = np.array([(0.05, 0.25, 0.35), (0.1, 0.45, 0.55), (0.12, 0.2, 0.18), (0.25, 0.6, 0.7)][rng.integers(4)], np.float32)
    value = np.ones_like(place[0])
    for scale in (max(0.3, 4 * pixel_m), 1.2, 5.0):
        value += 0.1 * rng.uniform(0.3, 1.3) * _noise(rng, place, scale)
    sparkle = np.clip(_noise(rng, place, max(0.15, 2 * pixel_m)) - rng.uniform(1.4, 2.6), 0, 1)
    return np.asarray(value[..., None] * deep + sparkle[..., None] * 0.5, np.float32)

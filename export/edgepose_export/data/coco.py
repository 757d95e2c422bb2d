"""Labeled pictures of people, from any number of data sets.

A data set is a folder with `annotations.json` and `images/`, or has one of the other forms of `edgepose_export.data.formats`. It gives
three kinds of label:

- *people*: boxes with keypoints, to learn from;
- *ignore regions*: boxes of people without keypoints (too small, a crowd, from a detector): neither background nor positive,
  so neither a detection nor a miss there counts. With `box_people`, a box that a human drew around one person is a person
  without keypoints instead; crowds (`iscrowd`), possible crowds (`maybe_crowd`) and finds of a detector (`detector`) stay
  ignore regions;
- the flag of an image `all_people_labelled` (the spelling of the files): where it is false, or where a detector boxed the people
  without keypoints and may have missed some (`completed_by` names it), the area outside of all boxes is not background either.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import cv2
import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edgepose.errors import ConfigError
from edgepose.person import KEYPOINT_NAMES
from edgepose_export.callbacks import Progress
from edgepose_export.data.formats import find_source
from edgepose_export.data.yolo_pose import read_yolo_pose

KEYPOINTS = len(KEYPOINT_NAMES)

# A JPEG decodes to a fraction of its size in a fraction of the time, because the inverse transform uses fewer coefficients. It is
# then low-pass filtered too, which a later bilinear warp needs.
_READ_FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


_CACHE_BYTES = 4 << 30  # the pictures of COCO are 19 GB


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """The labels of one picture, in its own pixels; (0, 0) is the top-left corner of the top-left pixel.

    Attributes:
        path: the image file.
        identity: `id` of the picture in its annotations file.
        width: in pixels.
        height: in pixels.
        boxes: float32 (P, 4), x1 y1 x2 y2 of the people.
        keypoints: float32 (P, 17, 3), x y v; v is 0 (not labeled), 1 (hidden) or 2 (visible); all 0 for a person who has
            only a box (see `CocoPose`).
        areas: float32 (P,), px², of the person's outline where known: the scale of OKS.
        ignored: float32 (I, 4), x1 y1 x2 y2 of ignore regions.
        ignored_areas: float32 (I,), px².
        ignored_crowds: bool (I,), regions that hold any number of people (COCO's `iscrowd`).
        all_people_labeled: whether everybody has a box; if false, nothing outside of the boxes is background.
        certainty: float32 (P,), probability that the person is real; below 1 for pseudo-labels (`edgepose_export.data.pseudo_labels`).
        keypoint_certainty: float32 (P, 17), probability that a keypoint is correct.
        group: part of a data set that the picture belongs to (field `set` of the image); empty where the file names none.
        elevation_deg: how far down the camera looks, 0 (level) to 90 (straight down); None where the file does not say.
        exif_orientation: whether labels are for the picture turned by its EXIF orientation; if false, for the stored pixels.
        hard_negatives: float32 (N, 4), x1 y1 x2 y2 of finds that show nobody (`edgepose_export.data.hard_negatives`).
    """

    path: Path
    identity: int
    width: int
    height: int
    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    areas: NDArray[np.float32]
    ignored: NDArray[np.float32]
    ignored_areas: NDArray[np.float32]
    ignored_crowds: NDArray[np.bool_]
    all_people_labeled: bool
    certainty: NDArray[np.float32]
    keypoint_certainty: NDArray[np.float32]
    group: str = ""
    elevation_deg: float | None = None
    exif_orientation: bool = False
    hard_negatives: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))


def sample_labels(picture: Picture, rng: np.random.Generator) -> Picture:
    """Keep each pseudo-label of a picture with its probability of being right; a person who is not kept becomes an ignore region.

    So does a person whose labeled keypoints are all dropped; a person who has only a box is kept with `certainty` alone. Over many
    draws, the mean loss is the loss weighted by the probabilities. Without pseudo-labels `rng` is not used.
    """
    if picture.keypoint_certainty.min(initial=1.0) >= 1 and picture.certainty.min(initial=1.0) >= 1:
        return picture
    kept = rng.random(picture.keypoint_certainty.shape) < picture.keypoint_certainty
    keypoints = np.where(kept[..., None], picture.keypoints, 0)
    complete = keypoints[..., 2].any(1) | ~picture.keypoints[..., 2].any(1)
    stays = (rng.random(len(picture.certainty)) < picture.certainty) & complete
    return replace(
        picture,
        boxes=picture.boxes[stays],
        keypoints=keypoints[stays],
        areas=picture.areas[stays],
        ignored=np.concatenate((picture.ignored, picture.boxes[~stays])),
        ignored_areas=np.concatenate((picture.ignored_areas, picture.areas[~stays])),
        ignored_crowds=np.concatenate((picture.ignored_crowds, np.zeros(int((~stays).sum()), np.bool_))),
        certainty=picture.certainty[stays],
        keypoint_certainty=picture.keypoint_certainty[stays],
    )


class CocoPose:
    """The labeled pictures of data sets, in the order of sets and files.

    Image files stay in memory as they are on disk (compressed) after the first read, so that an epoch does not wait for the disk;
    decoding a JPEG of 320 px takes about a millisecond. Threads may read concurrently.

    Args:
        folders: data sets, each in one of the forms of `edgepose_export.data.formats`.
        cache: keep image files in memory, up to 4 GB.
        box_people: whether a person whose box a human drew, but who has no keypoints, is a person instead of an ignore region.
        groups: keep only the pictures of these groups (`Picture.group`); empty keeps all.
        progress: called after each picture whose labels are read.

    Raises:
        ConfigError: a folder, a file or a label is refused.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        cache: bool = True,
        box_people: bool = False,
        groups: Collection[str] = (),
        progress: Progress | None = None,
    ) -> None:
        if not folders:
            raise ConfigError("no data folder is named; expected at least one folder with annotations.json and images/")
        self.folders = tuple(Path(folder) for folder in folders)
        read = [
            (number, picture)
            for number, folder in enumerate(self.folders)
            for picture in read_pictures(folder, box_people=box_people, progress=progress)
        ]
        self._numbers, self._pictures = [number for number, _ in read], [picture for _, picture in read]
        if groups:
            self._keep(groups)
        self._bytes: list[NDArray[np.uint8] | None] = [None] * len(self._pictures)
        self._cache_left = _CACHE_BYTES if cache else 0

    def _keep(self, groups: Collection[str]) -> None:
        """Keep the pictures of groups alone, in their order."""
        existing = {picture.group for picture in self._pictures}
        for group in groups:
            if group not in existing:
                named = ", ".join(sorted(existing - {""}))
                where = ", ".join(str(folder) for folder in self.folders)
                raise ConfigError(f"{where} has no picture of the set {group!r}; expected {named or 'no set: its images name none'}")
        kept = [index for index, picture in enumerate(self._pictures) if picture.group in groups]
        self._numbers, self._pictures = [self._numbers[index] for index in kept], [self._pictures[index] for index in kept]

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Picture:
        return self._pictures[index]

    def __iter__(self) -> Iterator[Picture]:
        return iter(self._pictures)

    def source(self, index: int) -> int:
        """Return which of the folders a picture comes from."""
        return self._numbers[index]

    def image(self, index: int, shrink: int = 1) -> NDArray[np.uint8]:
        """Decode one picture: uint8 (height, width, 3), RGB.

        Args:
            index: index of the picture.
            shrink: 1, 2, 4 or 8: divisor of the decoded size, to within a pixel at the right and bottom.

        Raises:
            ConfigError: the file is missing, is not a picture, or differs in size from its labels.
        """
        picture = self._pictures[index]
        data = self._bytes[index]
        if data is None:
            try:
                data = np.fromfile(picture.path, np.uint8)
            except OSError as error:
                raise ConfigError(f"picture {picture.path} cannot be read: {error.strerror or error}") from error
            if data.size <= self._cache_left:
                self._cache_left -= data.size
                self._bytes[index] = data
        decoded = _decode(data, shrink, picture.exif_orientation)
        if decoded is not None and not _fits(decoded, shrink, picture):
            turned = _decode(data, shrink, True)  # some programs label the picture as it is shown, and do not say so
            decoded = turned if turned is not None and _fits(turned, shrink, picture) else decoded
        if decoded is None:
            raise ConfigError(f"picture {picture.path} cannot be decoded; expected a JPEG or PNG file")
        if not _fits(decoded, shrink, picture):
            height, width = decoded.shape[:2]
            found = f"about {width * shrink}x{height * shrink}" if shrink > 1 else f"{width}x{height}"
            raise ConfigError(f"picture {picture.path} is {found} pixels, but its annotations say {picture.width}x{picture.height}")
        image: NDArray[np.uint8] = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded)
        return image

    @property
    def people(self) -> int:
        """The number of people in all pictures, those without keypoints included."""
        return sum(len(picture.boxes) for picture in self._pictures)


def _decode(data: NDArray[np.uint8], shrink: int, turn: bool) -> NDArray[np.uint8] | None:
    """Decode a picture to BGR, as it is stored or turned by its EXIF orientation."""
    flags = _READ_FLAGS[shrink] | (0 if turn else cv2.IMREAD_IGNORE_ORIENTATION)
    decoded: NDArray[np.uint8] | None = cv2.imdecode(data, flags) if data.size else None
    return decoded


def _fits(image: NDArray[np.uint8], shrink: int, picture: Picture) -> bool:
    """Return whether a decoded picture has the size that its labels say."""
    height, width = image.shape[:2]
    return bool(abs(height * shrink - picture.height) < shrink) and bool(abs(width * shrink - picture.width) < shrink)


class _Image(msgspec.Struct):
    id: int
    file_name: str
    width: int
    height: int
    all_people_labeled: bool = msgspec.field(default=True, name="all_people_labelled")
    completed_by: str = ""
    group: str = msgspec.field(default="", name="set")
    elevation: float | None = None
    group_elevation: float | None = None
    exif_orientation: bool = False


class _Annotation(msgspec.Struct):
    image_id: int
    bbox: tuple[float, float, float, float]
    keypoints: list[float] = []
    num_keypoints: int | None = None
    area: float | None = None
    iscrowd: int = 0
    category_id: int | None = None
    id: int | str | None = None
    score: Annotated[float, Meta(ge=0, le=1)] = 1.0
    keypoint_scores: list[Annotated[float, Meta(ge=0, le=1)]] = []
    maybe_crowd: bool | int = False
    detector: bool | int = False
    hard_negative: bool = False

    @property
    def has_pose(self) -> bool:
        """Whether this is one person with at least one labeled keypoint."""
        return not self.iscrowd and any(self.keypoints[2::3]) and self.num_keypoints != 0

    @property
    def is_box_of_person(self) -> bool:
        """Whether this is a box that a human drew around one person, without keypoints."""
        return not (self.has_pose or self.iscrowd or self.maybe_crowd or self.detector)


class _Category(msgspec.Struct):
    id: int
    name: str
    keypoints: list[str] = []


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category] = []


# Share of a person's box that COCO's masks fill, for annotations without an area.
_AREA_OF_BOX = 0.521


def read_pictures(source: Path, *, box_people: bool = False, progress: Progress | None = None) -> list[Picture]:
    """Read the labels of a data set and check them against its image files.

    Args:
        source: see `edgepose_export.data.formats`.
        box_people: see `CocoPose`.
        progress: called after each picture whose labels are read.

    Raises:
        ConfigError: a file or a label is refused.
    """
    place = find_source(source)
    path = place.labels
    if place.images is None:
        return _pictures(msgspec.convert(read_yolo_pose(path, place.split, progress), _File), path, Path(), box_people)
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        files = {entry.name for entry in place.images.iterdir()}
    except OSError as error:
        raise ConfigError(
            f"data folder {source} cannot be read: {error.strerror}: {error.filename}; expected annotations.json and images/"
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a COCO annotations file: {error}") from error
    if not file.images:
        raise ConfigError(f"{path} lists no images; expected at least one")
    for image in file.images:
        if image.file_name not in files and not (place.images / image.file_name).is_file():
            raise ConfigError(f"{path}: image {image.id} names the file {image.file_name!r}, which is not in {place.images}")
    return _pictures(file, path, place.images, box_people, progress)


def _pictures(file: _File, path: Path, folder: Path, box_people: bool, progress: Progress | None = None) -> list[Picture]:
    """Convert a file's labels; `folder` is what the names of pictures are relative to."""
    people_of: dict[int, list[_Annotation]] = {}
    for image in file.images:
        if image.id in people_of:
            raise ConfigError(f"{path}: two images have the number {image.id}; expected each once")
        if image.width <= 0 or image.height <= 0:
            raise ConfigError(f"{path}: image {image.id} is {image.width}x{image.height} pixels; expected at least 1x1")
        people_of[image.id] = []

    persons = _person_categories(file.categories, path)
    for number, annotation in enumerate(file.annotations):
        if persons and annotation.category_id not in persons:
            continue
        if annotation.image_id not in people_of:
            raise ConfigError(f"{path}: annotation {number} belongs to image {annotation.image_id}, which is not in the file")
        if not any(annotation.keypoints) and min(annotation.bbox[2:]) == 0:
            continue  # COCO has a few empty boxes
        _check(annotation, number, path)
        people_of[annotation.image_id].append(annotation)
    pictures = []
    for image in file.images:
        pictures.append(_picture(folder / image.file_name, image, people_of[image.id], box_people))
        if progress is not None:
            progress(len(pictures), len(file.images))
    return pictures


def _person_categories(categories: list[_Category], path: Path) -> set[int]:
    """Return the categories of people: those named person, or the only one; refuse keypoints in another order than COCO's."""
    people = [category for category in categories if category.name.lower() == "person"] or categories
    if len(people) > 1 and people is categories:
        listed = ", ".join(category.name for category in categories)
        raise ConfigError(f"{path} has the categories {listed}; expected one category, or one of the name person")
    for category in people:
        names = [name.lower().replace(" ", "_").replace("-", "_") for name in category.keypoints]
        if names and names != list(KEYPOINT_NAMES):
            raise ConfigError(
                f"{path}: category {category.name} has {len(names)} keypoints ({', '.join(names)}); "
                f"expected the 17 COCO keypoints: {', '.join(KEYPOINT_NAMES)}"
            )
    return {category.id for category in people}


def _check(annotation: _Annotation, number: int, path: Path) -> None:
    """Refuse an annotation that is useless for training and measurement."""
    where = f"{path}: annotation {number}" + ("" if annotation.id is None else f" (id {annotation.id})")
    if annotation.bbox[2] <= 0 or annotation.bbox[3] <= 0:
        raise ConfigError(f"{where} has the box {list(annotation.bbox)}; expected [x, y, width, height] with width and height above 0")
    if annotation.keypoints and len(annotation.keypoints) != 3 * KEYPOINTS:
        raise ConfigError(f"{where} has {len(annotation.keypoints)} keypoint values; expected {3 * KEYPOINTS} (17 COCO keypoints: x, y, v)")
    if any(visible not in (0, 1, 2) for visible in annotation.keypoints[2::3]):
        raise ConfigError(f"{where} has a keypoint visibility other than 0, 1 or 2")
    if len(annotation.keypoint_scores) not in (0, KEYPOINTS):
        raise ConfigError(f"{where} has {len(annotation.keypoint_scores)} keypoint scores; expected {KEYPOINTS}, or none")
    if annotation.num_keypoints and not annotation.keypoints:
        raise ConfigError(f"{where} claims {annotation.num_keypoints} keypoints and has none")


def _picture(path: Path, image: _Image, annotations: list[_Annotation], box_people: bool) -> Picture:
    """Convert the annotations of one image to arrays."""
    people: list[_Annotation] = []
    ignored: list[_Annotation] = []
    for annotation in annotations:
        is_person = annotation.has_pose or (box_people and annotation.is_box_of_person)
        if not annotation.hard_negative:
            (people if is_person else ignored).append(annotation)
    nothing = [0.0] * (3 * KEYPOINTS)
    keypoints = np.array([a.keypoints if a.has_pose else nothing for a in people], np.float32).reshape(-1, KEYPOINTS, 3)
    keypoints[keypoints[..., 2] == 0] = 0
    return Picture(
        path=path,
        identity=image.id,
        width=image.width,
        height=image.height,
        boxes=_boxes(people),
        keypoints=keypoints,
        areas=_areas(people),
        ignored=_boxes(ignored),
        ignored_areas=_areas(ignored),
        ignored_crowds=np.array([bool(a.iscrowd) for a in ignored], np.bool_),
        all_people_labeled=image.all_people_labeled and not image.completed_by,
        certainty=np.array([a.score for a in people], np.float32),
        keypoint_certainty=np.array([a.keypoint_scores or [1.0] * KEYPOINTS for a in people], np.float32).reshape(-1, KEYPOINTS),
        group=image.group,
        elevation_deg=image.elevation if image.group_elevation is None else image.group_elevation,
        exif_orientation=image.exif_orientation,
        hard_negatives=_boxes([annotation for annotation in annotations if annotation.hard_negative]),
    )


def _boxes(annotations: list[_Annotation]) -> NDArray[np.float32]:
    boxes = np.array([a.bbox for a in annotations], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _areas(annotations: list[_Annotation]) -> NDArray[np.float32]:
    return np.array([a.area if a.area else a.bbox[2] * a.bbox[3] * _AREA_OF_BOX for a in annotations], np.float32)

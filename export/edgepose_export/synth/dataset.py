"""A folder of pictures in COCO layout, written by several processes, which may be interrupted and continued."""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from edgepose.errors import ConfigError, OutputError, UnavailableError
from edgepose.person import KEYPOINT_NAMES, SKELETON
from edgepose_export.synth.backgrounds import Photographs
from edgepose_export.synth.labels import labels_file, read_labels, write_labels
from edgepose_export.synth.pictures import LabeledPicture, PictureMaker, Plan
from edgepose_export.synth.renderer import Renderer

PERSON_CATEGORY: dict[str, Any] = {
    "id": 1,
    "name": "person",
    "keypoints": list(KEYPOINT_NAMES),
    "skeleton": [[first + 1, second + 1] for first, second in SKELETON],
}
"""The only one of COCO's `categories`."""

_SAVE_EVERY = 200  # pictures between two saves of the labels
_FORMAT = 1  # rises with every change that gives other pictures for the same seed

_maker: PictureMaker | None = None  # of a worker process


def write_dataset(plan: Plan, count: int, output: Path, jobs: int, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Write pictures 0 to `count` - 1 with their labels to a folder, and return the labels.

    Pictures that the folder already holds from an interrupted run of the same plan stay as they are.

    Raises:
        ConfigError: the folder holds something else, or a folder of backgrounds is refused.
        UnavailableError: a library of the extra `synth` or EGL is missing.
        OutputError: a file cannot be written.
    """
    done = _read_done(plan, output)
    missing = [index for index in range(count) if index not in done]
    try:
        (output / "images").mkdir(parents=True, exist_ok=True)
        for number, (index, picture) in enumerate(_make(plan, missing, jobs), 1):
            (output / "images" / _file_name(index)).write_bytes(picture.jpeg)
            done[index] = _records(plan, index, picture)
            progress(count - len(missing) + number, count)
            if number % _SAVE_EVERY == 0:
                _save(plan, done, output)
        return _save(plan, {index: record for index, record in done.items() if index < count}, output)
    except OSError as error:
        raise OutputError(f"{output} cannot be written ({error}); expected a folder with free space") from error


def labels_hash(labels: dict[str, Any]) -> str:
    """Return the SHA-256 of the labels of all pictures, and of the clips if there are any, independent of the formatting of the file."""
    parts = [labels[key] for key in ("images", "annotations", "videos", "events") if key in labels]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _make(plan: Plan, indices: Sequence[int], jobs: int) -> Iterator[tuple[int, LabeledPicture]]:
    if jobs <= 1 or len(indices) < 2:
        maker = PictureMaker(plan) if indices else None
        for index in indices:
            assert maker is not None
            yield index, maker.make(index)
        return
    with Renderer(plan.size):  # what is missing is said here, once
        Photographs(plan.backgrounds, plan.split)
    context = multiprocessing.get_context("spawn")  # neither torch nor OpenGL survives a fork
    pool = ProcessPoolExecutor(min(jobs, len(indices)), context, _start_worker, (plan,))
    try:
        yield from zip(indices, pool.map(_make_one, indices, chunksize=4), strict=True)
    except BrokenProcessPool as error:
        raise UnavailableError(f"a process that renders ended ({error}); expected about 1 GB of free memory for each job") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(plan: Plan) -> None:
    global _maker
    _maker = PictureMaker(plan)


def _make_one(index: int) -> LabeledPicture:
    assert _maker is not None
    return _maker.make(index)


def _file_name(index: int) -> str:
    return f"{index:06d}.jpg"


def _records(plan: Plan, index: int, picture: LabeledPicture) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the picture's entry and its annotations, whose identities follow from the number of the picture."""
    image = {"id": index + 1, "file_name": _file_name(index), "width": plan.size, "height": plan.size, **picture.image}
    people = [{"id": (index + 1) * 100 + number, "image_id": index + 1, **person} for number, person in enumerate(picture.people)]
    return image, people


def _info(plan: Plan) -> dict[str, Any]:
    looks = {"looks": list(plan.looks)} if plan.looks else {}
    return {
        "description": "Synthetic people (edgepose-export synth)",
        "format": _FORMAT,
        "seed": plan.seed,
        "split": plan.split,
        "size": plan.size,
        "backgrounds": [folder.name for folder in plan.backgrounds],
        **looks,
    }


def _save(plan: Plan, done: dict[int, tuple[dict[str, Any], list[dict[str, Any]]]], output: Path) -> dict[str, Any]:
    labels = {
        "info": _info(plan),
        "images": [done[index][0] for index in sorted(done)],
        "annotations": [person for index in sorted(done) for person in done[index][1]],
        "categories": [PERSON_CATEGORY],
    }
    write_labels(output, labels)
    return labels


def _read_done(plan: Plan, output: Path) -> dict[int, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Return what an interrupted run has left, by the number of the picture."""
    path = labels_file(output)
    if not path.exists():
        if output.is_dir() and any((output / "images").glob("*.jpg")):
            return {}  # interrupted before the first save
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise ConfigError(f"{output} is neither empty nor a folder of synthetic pictures; expected a new folder")
        return {}
    labels = read_labels(output)
    if labels["info"] != _info(plan):
        raise ConfigError(
            f"{output} holds pictures of {labels['info']}; expected a new folder, or the same seed, split, size and backgrounds"
        )
    people: dict[int, list[dict[str, Any]]] = {}
    for person in labels["annotations"]:
        people.setdefault(person["image_id"], []).append(person)
    return {
        image["id"] - 1: (image, people.get(image["id"], []))
        for image in labels["images"]
        if (output / "images" / image["file_name"]).exists()
    }

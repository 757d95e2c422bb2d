"""A folder of clips in the layout of COCO for videos, written by several processes, which may be interrupted and continued."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgepose.errors import ConfigError, OutputError, UnavailableError
from edgepose.frame import NS_PER_S
from edgepose.output.video import ImageWriter, VideoWriter
from edgepose.pixels import unguarded
from edgepose_export.synth.backgrounds import Photographs
from edgepose_export.synth.clips.maker import ClipMaker, ClipPlan
from edgepose_export.synth.dataset import PERSON_CATEGORY
from edgepose_export.synth.labels import labels_file, read_labels, write_labels
from edgepose_export.synth.renderer import Renderer

Records = dict[str, Any]
"""The entries of one clip: `video`, `images`, `annotations` and `events`."""

_FORMAT = 1  # rises with every change that gives other clips for the same seed
_MOST = 1000  # numbers that a clip has for its frames, people and events

_maker: ClipMaker | None = None  # of a worker process


def write_clips(
    plan: ClipPlan, count: int, output: Path, jobs: int, progress: Callable[[int, int], None], *, videos: bool = False
) -> Records:
    """Write clips 0 to `count` - 1 with their labels to a folder, and return the labels.

    Clips that the folder already holds from an interrupted run of the same plan stay as they are.

    Args:
        plan: of the clips.
        count: of clips.
        output: folder.
        jobs: processes.
        progress: called after each frame, or with several processes after each clip; takes the frames done and all frames.
        videos: whether to write an MP4 file of each clip too.

    Raises:
        ConfigError: the folder holds something else, or a folder of backgrounds is refused.
        UnavailableError: a library of the extra `synth` or EGL is missing.
        OutputError: a file cannot be written.
    """
    done = _read_done(plan, output)
    missing = [index for index in range(count) if index not in done]
    frames = (count - len(missing)) * plan.frames

    def advance(number: int) -> None:
        nonlocal frames
        frames += number
        progress(frames, count * plan.frames)

    try:
        output.mkdir(parents=True, exist_ok=True)
        for index, records in _make(plan, missing, output, jobs, videos, advance):
            done[index] = records
            _save(plan, done, output)
        return _save(plan, {index: records for index, records in done.items() if index < count}, output)
    except OSError as error:
        raise OutputError(f"{output} cannot be written ({error}); expected a folder with free space") from error


def _make(
    plan: ClipPlan, indices: Sequence[int], output: Path, jobs: int, videos: bool, advance: Callable[[int], None]
) -> Iterator[tuple[int, Records]]:
    if jobs <= 1 or len(indices) < 2:
        maker = ClipMaker(plan) if indices else None
        for index in indices:
            assert maker is not None
            yield index, _write(maker, plan, index, output, videos, advance)
        return
    with Renderer(plan.width):  # what is missing is said here, once
        Photographs(plan.backgrounds, plan.split)
    context = multiprocessing.get_context("spawn")  # neither torch nor OpenGL survives a fork
    pool = ProcessPoolExecutor(min(jobs, len(indices)), context, _start_worker, (plan,))
    try:
        tasks = [(plan, index, output, videos) for index in indices]
        for made in zip(indices, pool.map(_make_one, tasks), strict=True):
            advance(plan.frames)
            yield made
    except BrokenProcessPool as error:
        raise UnavailableError(f"a process that renders ended ({error}); expected about 1 GB of free memory for each job") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(plan: ClipPlan) -> None:
    global _maker
    _maker = ClipMaker(plan)


def _make_one(task: tuple[ClipPlan, int, Path, bool]) -> Records:
    assert _maker is not None
    plan, index, output, videos = task
    return _write(_maker, plan, index, output, videos, lambda number: None)


def _write(maker: ClipMaker, plan: ClipPlan, index: int, output: Path, videos: bool, advance: Callable[[int], None]) -> Records:
    """Write the frames of a clip, and return its entries, whose numbers follow from that of the clip."""
    name, first = f"{index:04d}", (index + 1) * _MOST
    clip = maker.clip(index)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with ExitStack() as opened:
        folder = ImageWriter(output / "images" / name)
        if videos:
            (output / "videos").mkdir(exist_ok=True)
            video = opened.enter_context(VideoWriter(output / "videos" / f"{name}.mp4"))
        for number, frame in enumerate(clip):
            folder.write(unguarded(frame.pixels), f"{number:06d}")
            if videos:
                video.write(unguarded(frame.pixels), round(frame.image["captured_at"] * NS_PER_S))
            images.append({"id": first + number, "video_id": index + 1, "file_name": f"{name}/{number:06d}.jpg", **frame.image})
            for person, labels in frame.people.items():
                identity = (first + number) * 100 + person
                annotations.append({"id": identity, "image_id": first + number, "track_id": _track(index, person), **labels})
            advance(1)
    events = []
    for number, event in enumerate(clip.events):
        about = {key: value for key, value in event.items() if key != "person"}
        events.append({"id": first + number, "video_id": index + 1, "track_id": _track(index, event["person"]), **about})
    return {"video": {"id": index + 1, "name": name, **clip.video}, "images": images, "annotations": annotations, "events": events}


def _track(index: int, person: int) -> int:
    return (index + 1) * 100 + person


def _info(plan: ClipPlan) -> dict[str, Any]:
    what = asdict(plan) | {"backgrounds": [folder.name for folder in plan.backgrounds]}
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in what.items()}
    return {"description": "Synthetic clips (edgepose-export synth --clips)", "format": _FORMAT, **values}


def _save(plan: ClipPlan, done: dict[int, Records], output: Path) -> Records:
    clips = [done[index] for index in sorted(done)]
    labels = {
        "info": _info(plan),
        "videos": [clip["video"] for clip in clips],
        **{key: [entry for clip in clips for entry in clip[key]] for key in ("images", "annotations", "events")},
        "categories": [PERSON_CATEGORY],
    }
    write_labels(output, labels)
    return labels


def _read_done(plan: ClipPlan, output: Path) -> dict[int, Records]:
    """Return what an interrupted run has left, by the number of the clip."""
    path = labels_file(output)
    if not path.exists():
        others = {entry.name for entry in output.iterdir()} - {"images", "videos"} if output.is_dir() else {output.name}
        if output.exists() and others:
            raise ConfigError(f"{output} is neither empty nor a folder of synthetic clips; expected a new folder")
        return {}
    labels = read_labels(output)
    if labels["info"] != _info(plan):
        raise ConfigError(
            f"{output} holds other data ({labels['info']}); expected a new folder, or clips of the same seed, size, duration and choice"
        )
    clips: dict[int, Records] = {
        video["id"] - 1: {"video": video, "images": [], "annotations": [], "events": []} for video in labels["videos"]
    }
    clip_of: dict[int, int] = {}
    for image in labels["images"]:
        clip_of[image["id"]] = image["video_id"] - 1
        clips[image["video_id"] - 1]["images"].append(image)
    for person in labels["annotations"]:
        clips[clip_of[person["image_id"]]]["annotations"].append(person)
    for event in labels["events"]:
        clips[event["video_id"] - 1]["events"].append(event)
    files = output / "images"
    return {index: clip for index, clip in clips.items() if all((files / image["file_name"]).exists() for image in clip["images"])}

"""The process of one job: it reads one open file and writes results into one folder, behind fences, with the functions of `edgepose infer`.

Its order comes as JSON on standard input, its progress leaves as JSON lines on standard output. The upload is a file without a name, open
as a descriptor; the process gives it a name in its own folder, by which all results call it.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from edgepose.config.schema import Config

MESSAGES, TABLE, COCO, VIDEO, PICTURE = "poses.jsonl", "poses.csv", "poses.coco.json", "annotated.mp4", "annotated.jpg"
"""Names of the results."""

RESULTS = "results"
"""Folder of the results, below that of the job."""

_EVERY_S = 0.2


class JobOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a job shall do.

    Attributes:
        descriptor: of the open file that is read.
        name: of the upload, made safe, with the suffix of its kind.
        is_picture: whether it is a still picture.
        formats, codecs: demuxers and decoders of FFmpeg that may read it.
        config: sections that find people; the others have their defaults.
        model_paths: files of networks, or folders that hold them.
        result_limit_mb: largest file that is written.
    """

    descriptor: int
    name: str
    is_picture: bool
    formats: str
    codecs: str
    config: Config
    model_paths: list[str]
    result_limit_mb: int


def main() -> None:
    """Run the job in the current folder."""
    sys.path[:] = [place for place in sys.path if place not in ("", os.getcwd())]  # nothing here is a program
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no progress
    try:
        order = msgspec.json.decode(sys.stdin.buffer.read(), type=JobOrder)
        _fence_in(order)
        out.write(json.dumps({"done": _run(order, out)}) + "\n")
    except Exception as error:  # the parent says it to the person who uploaded
        out.write(json.dumps({"error": _sentence(error)}) + "\n")
        out.flush()
        os._exit(1)
    out.flush()
    os._exit(0)  # nothing is left to be done that a library may do at its end


def _fence_in(order: JobOrder) -> None:
    """Leave this process its own folder, its programs and the networks; before anything starts a thread."""
    from edgepose.web import fences

    web = order.config.web
    os.nice(10)
    fences.limit_resources(web.job_memory_mb, 4 * web.job_timeout_s, order.result_limit_mb)
    fences.refuse_network()
    programs = {
        sys.prefix,
        sys.base_prefix,
        *(place for place in sys.path if place),
        str(Path(__file__).parents[1]),  # of an editable installation, which no path names
        "/usr",
        "/lib",
        "/lib64",
        "/opt/nvidia",
        "/etc/alternatives",
    }
    system = ("/etc/ld.so.cache", "/etc/localtime", "/proc", "/sys")
    fences.allow_files([*programs, *system, *order.model_paths], [os.getcwd(), "/dev"], [order.descriptor])


def _run(order: JobOrder, out: Any) -> dict[str, Any]:
    import time

    from edgepose.capture import limits
    from edgepose.config.schema import FilesConfig
    from edgepose.errors import SourceError
    from edgepose.pipeline.offline.run import OfflineRun
    from edgepose.pipeline.offline.settings import offline_config
    from edgepose.validation.inputs import OfflineInput

    upload = Path(order.name)
    upload.symlink_to(f"/proc/self/fd/{order.descriptor}")
    results = Path(RESULTS)
    results.mkdir()
    if not order.is_picture:
        limits.file_options.update(format_whitelist=order.formats, codec_whitelist=order.codecs, protocol_whitelist="file,pipe")
        _check_video(order)
    web = order.config.web
    one = OfflineInput(upload.stem, order.name, still=order.is_picture)
    files = FilesConfig(
        jsonl=str(results / MESSAGES),
        csv=str(results / TABLE),
        video=None if order.is_picture else str(results / VIDEO),
        images=str(results) if order.is_picture else None,
    )
    config = offline_config(order.config, [one], files)
    camera = msgspec.structs.replace(config.cameras[one.camera], frame_limit_mb=web.frame_limit_mb)
    config = msgspec.structs.replace(config, cameras={one.camera: camera})
    frames = 0
    told_s = 0.0
    expected: int | None = None

    def begin(_: str, count: int | None) -> None:
        nonlocal expected
        expected = count
        out.write(json.dumps({"frames": 0, "expected": count}) + "\n")

    def advance() -> None:
        nonlocal frames, told_s
        frames += 1
        if frames > web.video_limit_frames:
            raise SourceError(
                f"{order.name} has more than {web.video_limit_frames} frames; expected at most that (web.video_limit_frames)", "too_large"
            )
        now_s = time.monotonic()
        if now_s - told_s >= _EVERY_S:
            told_s = now_s
            out.write(json.dumps({"frames": frames, "expected": expected}) + "\n")

    with OfflineRun(config, [one], coco=results / COCO, start_ns=time.time_ns()) as run:
        summary = run.run(advance, lambda: False, begin)
    if order.is_picture:
        (results / f"{upload.stem}.jpg").rename(results / PICTURE)
    return {
        "frames": summary.frames,
        "people": summary.people,
        "corrupt": summary.corrupt,
        "refined": summary.refined,
        "frames_per_second": summary.frames_per_second,
        "model": summary.model,
        "refiner": summary.refiner,
        "backend": summary.backend,
        "notes": [*summary.notes, *summary.missing.values()],
    }


def _check_video(order: JobOrder) -> None:
    """Refuse a video that is too long, or needs a decoder that is not on the list; nothing is decoded yet."""
    import av

    from edgepose.capture.limits import file_options
    from edgepose.errors import SourceError

    web = order.config.web
    try:
        container = av.open(f"file:{order.name}", options=dict(file_options), timeout=(30, 30), metadata_errors="ignore")
    except (OSError, ValueError) as error:  # av.FFmpegError is one of both
        raise SourceError(f"{order.name} cannot be read: it is damaged, or in a format that is not read here", "unsupported") from error
    with container:
        decoders = {stream.codec_context.name if stream.codec_context is not None else "none" for stream in container.streams.video}
        unknown = decoders - set(order.codecs.split(","))
        if unknown:
            raise SourceError(f"{order.name} needs the decoder {', '.join(sorted(unknown))}; expected one of {order.codecs}", "unsupported")
        duration_s = (container.duration or 0) / av.time_base
        if duration_s > web.video_limit_s:
            raise SourceError(
                f"{order.name} lasts {duration_s:.0f} s; expected at most {web.video_limit_s:g} s (web.video_limit_s)", "too_large"
            )


def _sentence(error: Exception) -> str:
    from edgepose.errors import EdgeposeError

    if isinstance(error, EdgeposeError):
        return str(error)
    if isinstance(error, MemoryError):
        return "the job needs more memory than it may have (web.job_memory_mb); expected a smaller picture or video"
    return f"the job failed: {type(error).__name__}: {error}"


if __name__ == "__main__":
    main()

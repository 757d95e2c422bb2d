"""The videos of an archive: what the sources of a command line name."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepose.capture.source import path_of
from edgepose.errors import SourceError
from edgepose.validation.inputs import find_inputs
from edgepose_export.archive.locations import file_system, is_remote

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
    )
)
"""Suffixes of the files in a folder that are read; a file that is named itself may have any."""


@dataclass(frozen=True, slots=True)
class ArchivedVideo:
    """A video of an archive.

    Attributes:
        source: path or address, as its results name it.
        size: bytes; with `modified_ns` it tells whether the file is still the same.
        modified_ns: time of its last change, nanoseconds since the Unix epoch; 0 where its store does not say.
    """

    source: str
    size: int
    modified_ns: int

    @property
    def camera(self) -> str:
        """Name of the camera in its results, as `edgepose infer` gives it."""
        return Path(self.source).stem or "source"

    @property
    def name(self) -> str:
        """Name of its files of results; no other source has the same."""
        return f"{self.camera[:80]}-{hashlib.sha256(self.source.encode()).hexdigest()[:12]}"


def find_videos(sources: Sequence[str]) -> tuple[list[ArchivedVideo], dict[str, int]]:
    """Return the videos that sources name, each once and in order, and how much is not read, by cause.

    Args:
        sources: video files, folders (with all below them), patterns, lists (`.txt`), and the same on object stores.

    Raises:
        SourceError: a source does not exist, or none of them is a video.
    """
    found: dict[str, ArchivedVideo] = {}
    skipped: dict[str, int] = {}
    for source in sources:
        path = path_of(source)
        if is_remote(source):
            videos = _remote_videos(source)
        elif path is not None and path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            videos = [_video(file) for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
            if others := len(files) - len(videos):
                skipped["no_video"] = skipped.get("no_video", 0) + others
        else:
            videos = []
            for one in find_inputs([source]).inputs:
                if one.still or not one.paths():
                    kind = "images" if one.still else "stream"
                    skipped[kind] = skipped.get(kind, 0) + max(1, len(one.images))
                else:
                    videos.append(_video(one.paths()[0]))
        found |= {video.source: video for video in videos}
    if not found:
        raise SourceError(f"{', '.join(sources)} names no video; expected video files, or folders of them", "no_video")
    return list(found.values()), skipped


def _video(path: Path) -> ArchivedVideo:
    status = path.stat()
    return ArchivedVideo(str(path), status.st_size, status.st_mtime_ns)


def _remote_videos(source: str) -> list[ArchivedVideo]:
    system, path = file_system(source)
    try:
        if any(mark in path for mark in "*?["):
            details = system.glob(path, detail=True).values()
        elif system.isdir(path):
            details = [one for one in system.find(path, detail=True).values() if Path(one["name"]).suffix.lower() in VIDEO_SUFFIXES]
        else:
            details = [system.info(path)]
    except Exception as error:  # each store has errors of its own
        raise SourceError(f"{source} cannot be read: {error}; expected a file or folder that this machine may read", "not_found") from error
    scheme = source.partition("://")[0]
    return [
        ArchivedVideo(
            f"{scheme}://{str(one['name']).lstrip('/') if scheme != 'memory' else one['name']}", int(one.get("size") or 0), _changed_ns(one)
        )
        for one in sorted(details, key=lambda one: str(one["name"]))
        if one.get("type", "file") == "file"
    ]


def _changed_ns(details: dict[str, object]) -> int:
    for name in ("LastModified", "last_modified", "mtime", "updated", "created"):
        changed = details.get(name)
        if isinstance(changed, int | float):
            return round(changed * 1e9)
        timestamp = getattr(changed, "timestamp", None)
        if callable(timestamp):
            return round(float(timestamp()) * 1e9)
    return 0

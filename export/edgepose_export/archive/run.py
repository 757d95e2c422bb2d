"""A run over an archive: on this machine in one process, or on a Ray cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgepose_export.archive.locations import ResultFolder
from edgepose_export.archive.videos import ArchivedVideo
from edgepose_export.archive.worker import AnnotateSettings, VideoDone, Worker, done_before


@dataclass(slots=True)
class ArchiveSummary:
    """The summary of a run.

    Attributes:
        videos: videos whose results are complete now.
        before: those of them that an earlier run completed.
        frames, people, events: in the results of this run.
        recomputed: frames whose chunk was decoded to other pixels, so that the network ran again.
        failed: why videos have no results, by source.
        missing: how much of a cut file is missing, by source.
        interrupted: whether the run was stopped.
    """

    videos: int = 0
    before: int = 0
    frames: int = 0
    people: int = 0
    events: int = 0
    recomputed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False

    def add(self, mark: VideoDone) -> None:
        """Count a video of this run."""
        if mark.failure:
            self.failed[mark.source] = mark.failure
            return
        self.videos += 1
        self.frames += mark.frames
        self.people += mark.people
        self.events += mark.events
        self.recomputed += mark.recomputed
        if mark.missing:
            self.missing[mark.source] = mark.missing


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run tells while it goes on.

    Attributes:
        begin: called with a label and the number of steps that follow; None where that is not known.
        advance: called after each step: a frame here, a chunk or a video on a cluster.
        stop: asked now and then; True ends the run.
    """

    begin: Callable[[str, int | None], None]
    advance: Callable[[], None]
    stop: Callable[[], bool]


def split_done(videos: Sequence[ArchivedVideo], settings: AnnotateSettings) -> tuple[list[ArchivedVideo], ArchiveSummary]:
    """Return the videos that are still to do, and a summary with those that an earlier run completed."""
    results = ResultFolder(settings.output)
    known = set(results.names("done"))
    todo = [video for video in videos if f"{video.name}.json" not in known or done_before(results, video, settings) is None]
    before = len(videos) - len(todo)
    return todo, ArchiveSummary(videos=before, before=before)


def run_here(videos: Sequence[ArchivedVideo], settings: AnnotateSettings, progress: Progress) -> ArchiveSummary:
    """Annotate videos one after the other in this process, whose network uses the cores of the machine.

    Raises:
        ConfigError, ModelError, EngineError, OutputError: the run cannot go on.
    """
    todo, summary = split_done(videos, settings)
    worker = Worker(settings)
    try:
        for number, video in enumerate(todo, 1):
            progress.begin(f"{video.source} ({number}/{len(todo)})", None)
            mark = worker.annotate(video, progress.advance, progress.stop)
            if mark is None:
                summary.interrupted = True
                break
            summary.add(mark)
    finally:
        worker.close()
    return summary

"""A run over an archive on a Ray cluster, with Ray Data.

Two passes, each of tasks that may be repeated: the chunks of long videos go through the pose network wherever there is a worker, then each
video is completed by one worker, in order. A task whose node dies runs again elsewhere; results replace one another whole, so that each
video has them once.
"""

import logging
import os
import pickle
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepose.errors import EdgeposeError, UnavailableError
from edgepose_export.archive.chunks import Chunk
from edgepose_export.archive.run import ArchiveSummary, Progress, split_done
from edgepose_export.archive.videos import ArchivedVideo
from edgepose_export.archive.worker import AnnotateSettings, Worker

if TYPE_CHECKING:
    import ray.data


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Where and how wide a run is.

    Attributes:
        address: of a Ray cluster; None starts one on this machine, for this run.
        workers: most workers at a time; each has a network of its own. The cluster may grow for them.
        cpus, gpus: of the cluster for each worker.
    """

    address: str | None = None
    workers: int = 2
    cpus: float = 1.0
    gpus: float = 0.0


class TaskFailedError(EdgeposeError):
    """A task that no repetition would mend, from a worker."""


def run_on_cluster(
    videos: Sequence[ArchivedVideo], settings: AnnotateSettings, options: ClusterOptions, progress: Progress
) -> ArchiveSummary:
    """Annotate videos on a cluster.

    Raises:
        UnavailableError: Ray is not installed, or the cluster does not answer.
        TaskFailedError: a worker cannot go on: its configuration, model, engine or output.
    """
    todo, summary = split_done(videos, settings)
    if not todo:
        return summary
    with _connected(options):
        chunks: list[Chunk] = []
        progress.begin("looking for key frames", len(todo))
        for found in _results(_planned(todo, settings, options), progress):
            chunks += found
        if chunks and not progress.stop():
            progress.begin("chunks", len(chunks))
            for _ in _results(_worked(chunks, settings, options), progress):
                pass
        if not progress.stop():
            progress.begin("videos", len(todo))
            for mark in _results(_worked(todo, settings, options), progress):
                summary.add(mark)
    summary.interrupted = progress.stop()
    return summary


class ArchiveTask:
    """A worker as Ray Data keeps it, an actor: each row is a pickled chunk or video, and becomes a pickled number of frames or mark.

    A failure that would come again travels as a row, since Ray repeats what raises an exception.
    """

    def __init__(self, settings: AnnotateSettings) -> None:
        self._worker = Worker(settings)

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """Return the result of a row."""
        work = pickle.loads(row["work"])
        try:
            result: object = self._worker.run_chunk(work) if isinstance(work, Chunk) else self._worker.annotate(work)
        except EdgeposeError as error:
            result = TaskFailedError(str(error))
        return {"result": pickle.dumps(result)}


def _planned(videos: Sequence[ArchivedVideo], settings: AnnotateSettings, options: ClusterOptions) -> "ray.data.Dataset":
    def plan(row: dict[str, bytes]) -> dict[str, bytes]:
        return {"result": pickle.dumps(Worker(settings).plan(pickle.loads(row["work"])))}

    return _rows(videos).map(plan, num_cpus=options.cpus)


def _worked(work: Sequence[ArchivedVideo | Chunk], settings: AnnotateSettings, options: ClusterOptions) -> "ray.data.Dataset":
    import ray.data

    most = min(options.workers, len(work))
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=most)
    return _rows(work).map(ArchiveTask, fn_constructor_args=[settings], compute=pool, num_cpus=options.cpus, num_gpus=options.gpus or None)


def _rows(work: Sequence[ArchivedVideo | Chunk]) -> "ray.data.Dataset":
    """Return a row for each piece of work, each a block of its own, so that it has a task of its own."""
    import ray.data

    return ray.data.from_items([{"work": pickle.dumps(one)} for one in work], override_num_blocks=len(work))


def _results(data: "ray.data.Dataset", progress: Progress) -> Iterator[Any]:
    """Yield the results of all rows, in any order, until the run is stopped.

    Raises:
        TaskFailedError: as a worker says.
    """
    for row in data.iter_rows():
        result = pickle.loads(row["result"])
        if isinstance(result, TaskFailedError):
            raise result
        yield result
        progress.advance()
        if progress.stop():
            return


@contextmanager
def _connected(options: ClusterOptions) -> Iterator[None]:
    """Connect to a cluster, or start one that only this machine reaches: on the loopback, with a token, without a dashboard."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if options.address is None and os.environ["RAY_AUTH_MODE"] == "token":
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError as error:
        raise UnavailableError(f"a cluster needs Ray ({error}); expected pip install 'edgepose-export[archive]'") from error
    try:
        if options.address is None:
            ray.init(
                address="local",
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                num_cpus=max(1, round(options.workers * options.cpus)),
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            here = options.address.rpartition(":")[0] if options.address.startswith("127.") else None
            ray.init(address=options.address, _node_ip_address=here, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UnavailableError(
            f"the Ray cluster {options.address or 'on this machine'} does not answer: {error}; expected `auto`, or the address of a cluster"
            " whose token is in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False  # the program has a line of its own
    try:
        yield
    finally:
        ray.shutdown()

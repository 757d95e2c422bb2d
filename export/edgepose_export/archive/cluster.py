"""A run over an archive on a Ray cluster, with Ray Data.

Two passes, each of tasks that may be repeated: the chunks of long videos go through the pose network wherever there is a worker, then each
video is completed by one worker, in order. A task whose node dies runs again elsewhere; results replace one another whole, so that each video
has them once.
"""

import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgepose.errors import EdgeposeError, UnavailableError
from edgepose_export.archive.chunks import Chunk
from edgepose_export.archive.run import ArchiveSummary, Progress, split_done
from edgepose_export.archive.videos import ArchivedVideo
from edgepose_export.archive.worker import AnnotateSettings, VideoDone, Worker

_log = logging.getLogger(__name__)


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
    with _connected(options):
        plans = _mapped([{"video": video} for video in todo], _Plan, settings, options, without_network=True)
        chunks: list[Chunk] = []
        progress.begin("looking for key frames", len(todo))
        for row in plans:
            chunks += row["chunks"]
            progress.advance()
            if progress.stop():
                summary.interrupted = True
                return summary
        if chunks:
            progress.begin("chunks", len(chunks))
            for _ in _mapped([{"chunk": chunk} for chunk in chunks], _RunChunk, settings, options):
                progress.advance()
                if progress.stop():
                    summary.interrupted = True
                    return summary
        progress.begin("videos", len(todo))
        for row in _mapped([{"video": video} for video in todo], _Annotate, settings, options):
            summary.add(row["mark"])
            progress.advance()
            if progress.stop():
                summary.interrupted = True
                break
    return summary


class _Task:
    """A task of Ray Data: rows in, rows out. A failure that would come again travels as a row, so that Ray does not try again for ever."""

    def __init__(self, settings: AnnotateSettings) -> None:
        self.worker = Worker(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"result": self.work(row)}
        except EdgeposeError as error:
            return {"result": TaskFailedError(str(error))}

    def work(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the result of a row."""
        raise NotImplementedError


class _Plan(_Task):
    def work(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"chunks": self.worker.plan(row["video"])}


class _RunChunk(_Task):
    def work(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"frames": self.worker.run_chunk(row["chunk"])}


class _Annotate(_Task):
    def work(self, row: dict[str, Any]) -> dict[str, Any]:
        mark = self.worker.annotate(row["video"])
        assert isinstance(mark, VideoDone)
        return {"mark": mark}


def _mapped(
    rows: list[dict[str, Any]],
    task: type[_Task],
    settings: AnnotateSettings,
    options: ClusterOptions,
    *,
    without_network: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield the results of rows, in any order, each row being a block of its own.

    Raises:
        TaskFailedError: as a worker says.
    """
    import ray.data

    if not rows:
        return
    most = min(options.workers, len(rows))
    gpus = 0.0 if without_network else options.gpus
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        task,
        fn_constructor_args=[settings],
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=most),
        num_cpus=options.cpus,
        num_gpus=gpus or None,
        max_restarts=-1,
        max_task_retries=-1,
    )
    for row in data.iter_rows():
        result = row["result"]
        if isinstance(result, TaskFailedError):
            raise result
        yield result


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
            ray.init(address=options.address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UnavailableError(
            f"the Ray cluster {options.address or 'on this machine'} does not answer: {error}; expected `auto`, or the address of a cluster"
            " whose token is in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    try:
        yield
    finally:
        ray.shutdown()

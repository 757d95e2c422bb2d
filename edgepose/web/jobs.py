"""Jobs: uploads that wait, run one after the other in processes of their own, and leave results for a while.

An upload is a file without a name, which is gone with the last process that has it open: at the end of its job, and after a crash or a
power cut as well. Results lie in one folder a job; what an earlier run of the program left is deleted at the start.
"""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import time
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
from msgspec.structs import replace

from edgepose.config.load import job_variables
from edgepose.config.schema import Config
from edgepose.errors import OutputError
from edgepose.messages.structs import timestamp
from edgepose.printable import printable
from edgepose.web.access import RefusedError
from edgepose.web.content import CODECS, ContentKind
from edgepose.web.job_process import RESULTS, JobOrder

_log = logging.getLogger(__name__)

JobState = Literal["waiting", "running", "done", "failed", "canceled"]

UPLOADS_AT_ONCE = 8
"""Uploads that are received at the same time."""

_MB = 1_000_000
_SECTIONS = ("model", "pose", "refine", "tiles", "track", "smooth", "motion", "plausibility", "privacy", "web")
_FREE_SHARE = 0.02  # of the disk that stays free whatever the limit says
_KEPT_JOBS = 500
_NAME_CHARACTERS = 80
_LINE_BYTES = 64 * 1024
_RESULT_FACTOR = 4
_LOG_BYTES = 2000


class _Report(msgspec.Struct):
    """A line of a job's process; a stranger's file may have taken it over, so its types are checked."""

    frames: int | None = None
    expected: int | None = None
    done: dict[str, int | float | str | list[str] | None] | None = None
    error: str | None = None


@dataclass(slots=True)
class Job:
    """One job.

    Attributes:
        name: as the upload was called, printable.
        frames, expected: frames so far, and in all where that is known.
        summary: of the finished job.
        error: why it failed, in a sentence.
    """

    id: str
    account: str
    name: str
    stem: str
    kind: ContentKind
    size: int
    folder: Path
    config: Config
    created_at: str
    state: JobState = "waiting"
    frames: int = 0
    expected: int | None = None
    summary: dict[str, Any] | None = None
    error: str | None = None
    file: BinaryIO | None = None
    ended_s: float | None = None
    result_bytes: int = 0
    process: "asyncio.subprocess.Process | None" = field(default=None, repr=False)

    def shown(self) -> dict[str, Any]:
        """Return what everybody who may see the job sees."""
        return {
            "id": self.id,
            "name": self.name,
            "kind": "picture" if self.kind.is_picture else "video",
            "account": self.account,
            "bytes": self.size,
            "created_at": self.created_at,
            "state": self.state,
            "frames": self.frames,
            "expected_frames": self.expected,
            "summary": self.summary,
            "error": self.error,
        }


class JobQueue:
    """The jobs; used by the thread of the server."""

    def __init__(self, config: Config, folder: Path) -> None:
        """
        Args:
            config: of the web page, and of all that finds people.
            folder: of the jobs; emptied.

        Raises:
            OutputError: it cannot be written.
        """
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self.version = 0
        """Changes with every job."""
        self._config = Config(**{name: getattr(config, name) for name in _SECTIONS})
        self._web = config.web
        self._folder = folder
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._reserved: dict[object, int] = {}  # bytes by upload in progress
        self._uploads: dict[str, deque[float]] = {}  # times by account
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {error.strerror}; expected a folder in web.folder") from error

    def start(self) -> None:
        """Start working."""
        self._tasks = [asyncio.create_task(self._work(), name=f"jobs-{number}") for number in range(self._web.jobs_at_once)]

    async def close(self) -> None:
        """End all jobs and delete everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for identifier in list(self.jobs):
            self.delete(identifier)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def change_after(self, version: int, within_s: float) -> int:
        """Wait until the version differs, or for a time; return the version."""
        if self.version == version:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), within_s)
        return self.version

    @contextlib.contextmanager
    def reservation(self, account: str, size: int) -> Iterator[None]:
        """Keep room for an upload while it is received.

        Raises:
            RefusedError: a limit is reached; it names the limit.
        """
        web = self._web
        if len(self._reserved) >= UPLOADS_AT_ONCE:
            raise RefusedError(
                429, f"{UPLOADS_AT_ONCE} uploads are received already; expected one to end first", limit="uploads_at_once", retry_s=2
            )
        if sum(job.state == "waiting" for job in self.jobs.values()) + len(self._reserved) >= web.jobs_waiting:
            raise RefusedError(
                429,
                f"{web.jobs_waiting} jobs wait already (web.jobs_waiting); expected one to end first",
                limit="web.jobs_waiting",
                retry_s=5,
            )
        times = self._uploads.setdefault(account, deque())
        present_s = time.monotonic()
        while times and present_s - times[0] > 60:
            times.popleft()
        if len(times) >= web.uploads_per_minute:
            raise RefusedError(
                429,
                f"{web.uploads_per_minute} uploads came within a minute (web.uploads_per_minute); expected a pause",
                limit="web.uploads_per_minute",
                retry_s=60 - (present_s - times[0]),
            )
        if self.used_bytes() + size > web.disk_limit_mb * _MB:
            raise RefusedError(
                507,
                f"uploads and results take {web.disk_limit_mb} MB (web.disk_limit_mb); expected some to be deleted",
                limit="web.disk_limit_mb",
            )
        disk = os.statvfs(self._folder)
        if disk.f_bavail * disk.f_frsize - size < _FREE_SHARE * disk.f_blocks * disk.f_frsize:
            raise RefusedError(507, "the disk is almost full; expected room on it", limit="disk")
        key = object()
        self._reserved[key] = size
        times.append(present_s)
        try:
            yield
        finally:
            del self._reserved[key]

    def used_bytes(self) -> int:
        """Return the bytes of uploads and results."""
        return sum(self._reserved.values()) + sum(
            job.result_bytes + (job.size if job.file is not None else 0) for job in self.jobs.values()
        )

    def new_file(self) -> BinaryIO:
        """Return an open file without a name, in the folder of the jobs."""
        descriptor = os.open(self._folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "w+b")

    def add(self, account: str, name: str, kind: ContentKind, file: BinaryIO, size: int, score_threshold: float | None) -> Job:
        """Let an upload wait for its turn, and return its job."""
        while len(self.jobs) >= _KEPT_JOBS:
            self.delete(next(iter(self.jobs)))
        identifier = secrets.token_hex(8)
        config = self._config
        if score_threshold is not None:
            low = min(config.track.low_score_threshold, score_threshold)
            config = replace(
                config,
                pose=replace(config.pose, score_threshold=score_threshold),
                track=replace(config.track, low_score_threshold=low),
            )
        shown = printable(name, 100) or "upload"
        job = Job(
            identifier, account, shown, safe_stem(name), kind, size, self._folder / identifier, config, timestamp(time.time_ns()), file=file
        )
        self.jobs[identifier] = job
        self._waiting.put_nowait(job)
        self._note()
        return job

    def cancel(self, job: Job) -> None:
        """End a job that waits or runs."""
        if job.state in ("waiting", "running"):
            self._end(job, "canceled")

    def delete(self, identifier: str) -> None:
        """End a job and delete all that is left of it."""
        job = self.jobs.pop(identifier, None)
        if job is not None:
            self._end(job, "canceled" if job.state in ("waiting", "running") else job.state)
            shutil.rmtree(job.folder, ignore_errors=True)
            self._note()

    def sweep(self) -> list[Job]:
        """Delete results that were kept long enough, and return their jobs."""
        present_s = time.monotonic()
        old = [job for job in self.jobs.values() if job.ended_s is not None and present_s - job.ended_s > 60 * self._web.keep_minutes]
        for job in old:
            self.delete(job.id)
        return old

    def _note(self) -> None:
        self.version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _end(self, job: Job, state: JobState, error: str | None = None) -> None:
        """Give a job its last state, end its process, and let go of the upload."""
        if job.file is not None:
            job.file.close()
            job.file = None
        if job.process is not None and job.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGKILL)
        if job.ended_s is None:
            job.state, job.error, job.ended_s = state, error, time.monotonic()
        if state != "done":
            shutil.rmtree(job.folder, ignore_errors=True)
        self._note()

    async def _work(self) -> None:
        while True:
            job = await self._waiting.get()
            if job.state != "waiting" or job.file is None:
                continue
            try:
                await self._run(job)
            except asyncio.CancelledError:
                self._end(job, "canceled")
                raise
            except Exception as error:
                _log.exception("job %s failed", job.id)
                self._end(job, "failed", f"the job could not be run: {type(error).__name__}")

    async def _run(self, job: Job) -> None:
        assert job.file is not None
        job.state = "running"
        self._note()
        job.folder.mkdir(mode=0o700)
        model = job.config.model.path
        order = JobOrder(
            descriptor=job.file.fileno(),
            name=job.stem + job.kind.suffix,
            is_picture=job.kind.is_picture,
            formats=job.kind.formats,
            codecs=",".join(CODECS),
            config=job.config,
            model_paths=[
                str(Path(each).absolute()) for each in (model, job.config.refine.path, job.config.model.engines) if each and "/" in each
            ],
            result_limit_mb=max(64, _RESULT_FACTOR * self._web.upload_limit_mb),
        )
        with (job.folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "edgepose.web.job_process",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=job.folder,
                env=job_variables(),
                pass_fds=(job.file.fileno(),),
                start_new_session=True,
                limit=_LINE_BYTES,
            )
        job.process = process
        report = None
        try:
            report = await asyncio.wait_for(self._follow(job, process, order), self._web.job_timeout_s)
            error = None if report.done is not None else report.error
        except asyncio.TimeoutError:
            error = f"the job took longer than {self._web.job_timeout_s:g} s (web.job_timeout_s); expected a shorter video"
        except (ValueError, msgspec.MsgspecError):
            error = "the job reported something that is no report"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if job.ended_s is not None:  # canceled
            shutil.rmtree(job.folder, ignore_errors=True)
            return
        if report is not None and report.done is not None:
            job.summary = report.done
            job.frames = job.expected = int(report.done["frames"])  # type: ignore[arg-type]
            job.result_bytes = sum(each.stat().st_size for each in (job.folder / RESULTS).iterdir())
            self._end(job, "done")
            return
        with contextlib.suppress(OSError):
            _log.debug("job %s: %s", job.id, (job.folder / "log").read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace"))
        self._end(job, "failed", printable(error or _killed(process.returncode), 500))

    async def _follow(self, job: Job, process: "asyncio.subprocess.Process", order: JobOrder) -> _Report:
        """Give a process its order and return its last report."""
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):
            process.stdin.write(msgspec.json.encode(order))
            await process.stdin.drain()
            process.stdin.close()
        while line := await process.stdout.readline():
            report = msgspec.json.decode(line, type=_Report)
            if report.done is not None or report.error is not None:
                return report
            job.frames, job.expected = report.frames or 0, report.expected
            self._note()
        await process.wait()
        return _Report()


def safe_stem(name: str) -> str:
    """Return the name of an upload without folders and suffix, with no character that means anything to a shell, a path or a header."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    stem = last.rpartition(".")[0] or last
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in stem)
    while len(safe.encode()) > _NAME_CHARACTERS:
        safe = safe[:-1]
    return safe.lstrip(".-") or "upload"


def _killed(status: int | None) -> str:
    if status == -signal.SIGXCPU:
        return "the job took too much processor time (web.job_timeout_s); expected a shorter video"
    if status is not None and status < 0:
        return (
            f"the job was ended by signal {-status}, probably for the memory that it took (web.job_memory_mb);"
            " expected a smaller picture or video"
        )
    return "the job ended without a result"

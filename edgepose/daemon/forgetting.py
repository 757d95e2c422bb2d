"""Deletion of what is stored: a span on request, with the daemon running or without, and what is too old."""

import fcntl
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgepose.config.retention import DAY_NS, kept_days
from edgepose.config.schema import Config
from edgepose.encryption.files import state_files
from edgepose.errors import EdgeposeError, OutputError, UnavailableError
from edgepose.messages.occupancy_states import OccupancyStates
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.output.retention import forget_pictures, forget_result_lines, remove_pictures, remove_result_lines
from edgepose.pipeline.delivery import Delivery
from edgepose.pipeline.file_sinks import open_sinks
from edgepose.storage.chained_lines import forget_lines
from edgepose.storage.event_file import forget_events
from edgepose.storage.mailbox import Counts, Mailbox
from edgepose.storage.span import Span
from edgepose.validation.output_paths import video_paths

if TYPE_CHECKING:
    from edgepose.daemon.commands import CommandHandler
    from edgepose.recorder.black_box import BlackBox
    from edgepose.webhook.sender import WebhookSender

_log = logging.getLogger(__name__)

RETENTION_S = 3600.0
"""Interval between two deletions of what is too old."""

_FIRST_S = 60.0
_DISK_S = 20.0
_FILES_S = 5.0
_IMAGE = r"-\d+-\d{6,}\.(jpg|png)"


class RunningParts(msgspec.Struct, frozen=True):
    """The parts of a daemon that hold what is stored."""

    config: Config
    publisher: MqttPublisher
    webhook: "WebhookSender | None"
    box: "BlackBox | None"
    delivery: Delivery
    occupancy: OccupancyStates
    commands: "CommandHandler | None"


class Forgetting:
    """The deletions of a daemon, one after the other, in a thread that the main thread starts."""

    def __init__(self, config: Config, parts: Callable[[], RunningParts], is_clock_set: Callable[[], bool]) -> None:
        """
        Args:
            config: names the folder of the requests.
            parts: those of the moment.
            is_clock_set: whether ages can be believed.
        """
        folder = request_folder(config)
        self._mailbox = Mailbox(folder) if folder is not None else None
        self._parts = parts
        self._is_clock_set = is_clock_set
        self._next_s: float | None = None
        self._thread: threading.Thread | None = None

    def turn(self, now_s: float) -> None:
        """Start a deletion that was requested, or is due; called regularly."""
        if self._mailbox is None or (self._thread is not None and self._thread.is_alive()):
            return
        if self._next_s is None:
            self._next_s = now_s + _FIRST_S
        span = self._mailbox.taken()
        if span is not None:
            self._start(lambda: self._forget(span))
        elif now_s >= self._next_s:
            self._next_s = now_s + RETENTION_S
            if self._is_clock_set():
                self._start(lambda: remove_old(self._parts(), time.time_ns()))

    def _start(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except (OSError, EdgeposeError) as error:
                _log.error("stored data could not be deleted: %s", error)
            except Exception as error:  # an internal fault must not go unnoticed, nor end the daemon
                _log.error("stored data could not be deleted: unexpected %s: %s", type(error).__name__, error)

        self._thread = threading.Thread(target=guarded, name="forgetting", daemon=True)
        self._thread.start()

    def _forget(self, span: Span) -> None:
        assert self._mailbox is not None
        counts: Counts = {}
        try:
            counts = forget_running(self._parts(), span)
        finally:
            self._mailbox.answer(counts)
        _log.info("a span was deleted on request: %s", ", ".join(f"{name} {count}" for name, count in counts.items()))


def request_folder(config: Config) -> Path | None:
    """Return the folder in which a daemon looks for requests; None where it stores nothing."""
    files = [config.events.store, config.webhook.store, config.commands.audit, config.files.jsonl, config.files.csv, config.files.video]
    for file in files:
        if file is not None and Path(file).parent.is_dir() and not Path(file).is_relative_to("/dev"):
            return Path(file).parent
    return next((Path(folder) for folder in (config.black_box.path, config.files.images) if folder is not None), None)


def forget_running(parts: RunningParts, span: Span) -> Counts:
    """Delete a span from everything that a running daemon holds, and return how much."""
    config = parts.config
    counts: Counts = {"events": parts.publisher.forget(span.holds_message, _DISK_S)}
    if parts.webhook is not None:
        counts["webhook_events"] = parts.webhook.forget(span, _DISK_S)
    if parts.box is not None:
        counts["records"] = parts.box.forget(span, _DISK_S)
    if any((config.files.jsonl, config.files.csv, config.files.video, config.files.images)):
        parts.delivery.exchange([], None, _FILES_S)
        try:
            counts.update(_forget_results(config, span))
        finally:
            parts.delivery.exchange(open_sinks(config), lambda: open_sinks(config), _FILES_S)
    counts["commands"] = parts.commands.forget(span) if parts.commands is not None else _forget_audit(config, span)
    if parts.commands is not None:
        parts.commands.note_forgotten()
    parts.occupancy.forget(span.camera, time.time_ns())
    return counts


def forget_stored(config: Config, span: Span) -> Counts:
    """Delete a span from all files of a daemon that does not run, and return how much.

    Raises:
        UnavailableError: it runs.
        OutputError: the disk fails.
    """
    counts: Counts = {}
    try:
        for name, store in (("events", config.events.store), ("webhook_events", config.webhook.store)):
            if store is not None:
                counts[name] = forget_events(Path(store), span.holds_message)
        counts["commands"] = _forget_audit(config, span)
        if config.black_box.path is not None and Path(config.black_box.path).is_dir():
            counts["records"] = _forget_recordings(Path(config.black_box.path), span)
        counts.update(_forget_results(config, span))
    except BlockingIOError as error:
        raise UnavailableError("a daemon works with these files and does not answer; expected it to answer, or to be stopped") from error
    except OSError as error:
        raise OutputError(f"stored data could not be deleted: {error}; expected folders that this user can write to") from error
    return counts


def remove_old(parts: RunningParts, now_ns: int) -> None:
    """Delete what is older than `retention` allows, and result files beyond `files.limit_mb`."""
    config = parts.config
    age_ns = int(kept_days(config) * DAY_NS)
    old, old_commands = Span(0, now_ns - age_ns), Span(0, now_ns - int(config.retention.audit_days * DAY_NS))
    parts.publisher.forget(old.holds_message, _DISK_S, always=False)
    if parts.webhook is not None:
        parts.webhook.forget(old, _DISK_S, always=False)
    if parts.box is not None:
        parts.box.forget(old, _DISK_S, is_coarse=True)
    if parts.commands is not None:
        parts.commands.forget(old_commands)
    for store in filter(None, (config.events.store, config.webhook.store)):
        damaged = state_files().place(Path(f"{store}.damaged"))
        if damaged.exists() and damaged.stat().st_mtime_ns < old.to_ns:
            damaged.unlink()
    for path in _line_files(config):
        remove_result_lines(path, age_ns, now_ns)
    for folder, is_ours in _pictures(config, None):
        remove_pictures(folder, is_ours, old.to_ns, config.files.limit_mb * 1_000_000)


def _forget_audit(config: Config, span: Span) -> int:
    return 0 if config.commands.audit is None else forget_lines(Path(config.commands.audit), span.holds_line)


def _forget_recordings(folder: Path, span: Span) -> int:
    from edgepose.recorder.forgetting import forget_recordings

    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return forget_recordings(folder, span)
    finally:
        os.close(lock)


def _forget_results(config: Config, span: Span) -> Counts:
    lines = sum(forget_result_lines(path, span) for path in _line_files(config))
    pictures = sum(forget_pictures(folder, is_ours, span) for folder, is_ours in _pictures(config, span.camera))
    return {"lines": lines, "pictures": pictures}


def _line_files(config: Config) -> list[Path]:
    named = [Path(path) for path in (config.files.jsonl, config.files.csv) if path is not None and path != "-"]
    return [path for path in named if not path.is_relative_to("/dev")]


def _pictures(config: Config, camera: str | None) -> list[tuple[Path, Callable[[str], bool]]]:
    """Return each folder of videos or images, and what tells them from other files."""
    found: list[tuple[Path, Callable[[str], bool]]] = []
    if config.files.video is not None and not Path(config.files.video).is_relative_to("/dev"):
        path = video_paths(config)[camera] if camera in config.cameras else Path(config.files.video)
        several = rf"(-.+)?{re.escape(path.suffix)}"
        found.append((path.parent, _matching(re.escape(path.stem) + several)))
    if config.files.images is not None:
        found.append((Path(config.files.images), _matching((".+" if camera is None else re.escape(camera)) + _IMAGE)))
    return found


def _matching(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda name: compiled.fullmatch(name) is not None

"""Deletion of a span from what the web page keeps: uploads and results, and its audit log."""

from collections.abc import Callable
from pathlib import Path

from edgepose.encryption.scratch import remove_scratch
from edgepose.errors import OutputError
from edgepose.storage.chained_lines import forget_lines
from edgepose.storage.mailbox import Counts
from edgepose.storage.span import Span, nanoseconds
from edgepose.web.jobs import JobQueue
from edgepose.web.live.feed import LiveFeed


def forget_page(jobs: JobQueue | None, feed: LiveFeed | None, forget_audit: Callable[[Span], int], span: Span) -> Counts:
    """Delete a span from a running page: jobs that were started in it, with uploads and results, events that it shows, and audit lines.

    Args:
        jobs: of the page; None for the live page, which has none.
        feed: of the live page; None for the other one.
        forget_audit: deletes the lines of a span.
        span: with a camera, jobs stay: they are of none.
    """
    gone = (
        []
        if jobs is None or span.camera is not None
        else [job for job in jobs.jobs.values() if span.holds(nanoseconds(job.created_at) or 0)]
    )
    for job in gone:
        assert jobs is not None
        jobs.delete(job.id)
    counts: Counts = {} if jobs is None else {"jobs": len(gone)}
    if feed is not None:
        counts["shown_events"] = feed.forget(span)
    return counts | {"commands": forget_audit(span)}


def forget_stored_page(folder: Path, span: Span) -> Counts:
    """Delete a span from the files of a page that does not run; no job outlives its page.

    Raises:
        OutputError: the disk fails.
    """
    try:
        if span.camera is None:
            remove_scratch(folder / "jobs")
        return {"commands": forget_lines(folder / "audit.jsonl", span.holds_line)}
    except OSError as error:
        raise OutputError(f"stored data could not be deleted: {error}; expected folders that this user can write to") from error

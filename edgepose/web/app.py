"""The web applications: routes of accounts, with those of jobs or of the live page, the page's files, and one way to refuse."""

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException

from edgepose import __version__
from edgepose.config.retention import DAY_NS
from edgepose.config.schema import Config
from edgepose.daemon.forgetting import RETENTION_S
from edgepose.encryption.scratch import scratch_folder
from edgepose.errors import EdgeposeError
from edgepose.storage.mailbox import Mailbox
from edgepose.storage.span import Span
from edgepose.web.access import Door, RefusedError
from edgepose.web.account_routes import accounts_router
from edgepose.web.accounts.first_start import forget_used_link
from edgepose.web.accounts.logins import Enrollments, early_sign_in
from edgepose.web.boundary import Boundary
from edgepose.web.forgetting import forget_page
from edgepose.web.job_routes import jobs_router
from edgepose.web.jobs import JobQueue
from edgepose.web.live.feed import LiveFeed
from edgepose.web.live.routes import live_router
from edgepose.web.live.view import LiveView
from edgepose.web.request_rate import RequestRates

_log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"

_TURN_S = 1.0
_OPEN_BEFORE_SETUP = ("/setup", "/api/v1/setup/", "/static/")
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


def make_app(config: Config, folder: Path) -> Boundary:
    """Return the whole application of `edgepose serve`.

    Args:
        config: of the page, and of all that finds people.
        folder: of accounts, results and audit log.

    Raises:
        OutputError: the folder cannot be written.
        ConfigError: the file of accounts is damaged.
    """
    app = _app(Door.of(config, folder, ("uploads",)), "People in pictures and videos: boxes, keypoints and confidences.")
    app.state.jobs = JobQueue(config, scratch_folder(folder / "jobs"))
    app.include_router(jobs_router)
    return _bounded(app)


def make_live_app(door: Door, view: LiveView) -> Boundary:
    """Return the application of the live page.

    Args:
        door: of the page.
        view: of the daemon.
    """
    app = _app(door, "What cameras show now: people, events, health; commands and areas.")
    app.state.live = view
    app.include_router(live_router)
    return _bounded(app, RequestRates())


def _app(door: Door, summary: str) -> FastAPI:
    app = FastAPI(
        title="edgepose",
        version=__version__,
        summary=summary,
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        lifespan=_lifespan,
    )
    app.state.door = door
    app.state.jobs = None
    app.state.live = None
    app.state.enrollments = Enrollments(door)
    app.state.sockets = []
    app.include_router(accounts_router)
    app.add_api_route("/static/{name}", _static, include_in_schema=False)
    for page in ("/", "/setup"):
        app.add_api_route(page, _page, include_in_schema=False)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _refused_by_route)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(EdgeposeError, _broken)
    return app


def _bounded(app: FastAPI, rates: RequestRates | None = None) -> Boundary:
    door: Door = app.state.door
    web = door.config.web
    return Boundary(
        app, web.allowed_hosts, web.trusted_proxies, lambda path: _closed(door, path), rates, functools.partial(early_sign_in, door)
    )


def _closed(door: Door, path: str) -> str | None:
    if door.guest is not None or door.accounts.read().is_set_up or path.startswith(_OPEN_BEFORE_SETUP):
        return None
    return "this page is not set up yet; expected somebody to open its first link, which `edgepose accounts setup` shows on the device"


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    jobs: JobQueue | None = app.state.jobs
    door: Door = app.state.door
    if jobs is not None:
        jobs.start()
    view: LiveView | None = app.state.live
    turns = asyncio.create_task(_turns(door, jobs, None if view is None else view.feed))
    try:
        yield
    finally:
        turns.cancel()
        if jobs is not None:
            await jobs.close()
        door.passwords.close()
        door.audit.close()


async def _turns(door: Door, jobs: JobQueue | None, feed: LiveFeed | None) -> None:
    """Delete old results and write merged lines of the audit log, once a second."""
    mailbox = Mailbox(door.folder)
    next_s = time.monotonic()
    while True:
        await asyncio.sleep(_TURN_S)
        span = mailbox.taken()
        if span is not None:
            mailbox.answer(forget_page(jobs, feed, door.audit.forget, span))
            door.note("forget", None, "edgepose forget")
        if time.monotonic() >= next_s and door.clock.unset() is None:
            next_s = time.monotonic() + RETENTION_S
            door.audit.forget(Span(0, time.time_ns() - int(door.config.retention.audit_days * DAY_NS)))
        for job in jobs.sweep() if jobs is not None else ():
            door.note("delete job", None, "edgepose", target=f"{job.id} {job.name}")
        forget_used_link(door.accounts)
        if door.accounts.changed_elsewhere:
            door.accounts.changed_elsewhere = False
            door.note("change accounts", None, "edgepose accounts")
        door.audit.turn(asyncio.get_running_loop().time())


async def _page() -> FileResponse:
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")


async def _static(name: str) -> FileResponse:
    path = STATIC / name
    if name not in {each.name for each in STATIC.iterdir()} or path.suffix not in _TYPES:
        raise RefusedError(404, "there is no such file")
    return FileResponse(path, media_type=_TYPES[path.suffix])


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    content: dict[str, Any] = {"error": error.sentence}
    headers = {}
    if error.limit is not None:
        content["limit"] = error.limit
    if error.retry_s is not None:
        headers["retry-after"] = str(math.ceil(error.retry_s))
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="edgepose"'
    return JSONResponse(content, error.status, headers)


async def _refused_by_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {404: "there is no such page", 405: "this page is not used in this way; see /api/v1/openapi.json"}
    return JSONResponse({"error": sentences.get(error.status_code, str(error.detail))}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    """Answer that a value is not accepted, and which; the value itself is not repeated."""
    assert isinstance(error, RequestValidationError)
    faults = [f"{'.'.join(str(part) for part in each['loc'][1:]) or 'the body'}: {each['msg']}" for each in error.errors()[:5]]
    return JSONResponse({"error": "; ".join(faults)}, 422)


async def _broken(request: Request, error: Exception) -> Response:
    _log.error("a request failed: %s", error)
    return JSONResponse({"error": "this cannot be done now; the log of the device has the reason"}, 500)

"""Routes of jobs: upload, progress, results, cancel, delete."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from edgepose.config.schema import WebConfig
from edgepose.person import KEYPOINT_NAMES, SKELETON
from edgepose.web.access import RefusedError, caller_of, door_of, needs
from edgepose.web.accounts.sessions import Identity
from edgepose.web.content import ACCEPTED, RefusedContentError, kind_of
from edgepose.web.job_process import COCO, MESSAGES, PICTURE, RESULTS, TABLE, VIDEO
from edgepose.web.jobs import Job, JobQueue
from edgepose.web.sockets import CHECK_S, VOID, admitted, sent, still_holds, until_gone

STALL_S = 20.0
"""Longest wait for the next bytes of an upload."""

LOWEST_BYTES_PER_S = 16_000
"""Lowest rate of an upload as a whole; what is slower is refused."""

_MB = 1_000_000
_CHUNK_BYTES = 1_000_000
_PAUSE_S = 0.25
_SHOWN_JOBS = 100

Viewer = Annotated[Identity, Depends(needs("viewer"))]
Operator = Annotated[Identity, Depends(needs("operator"))]

ResultName = Literal["poses.jsonl", "poses.csv", "poses.coco.json", "annotated.mp4", "annotated.jpg"]

_TYPES = {
    MESSAGES: "application/jsonl",
    TABLE: "text/csv",
    COCO: "application/json",
    VIDEO: "video/mp4",
    PICTURE: "image/jpeg",
}

jobs_router = APIRouter(prefix="/api/v1", tags=["jobs"])

_BINARY = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}


@jobs_router.get("/limits")
async def limits(request: Request, who: Viewer) -> dict[str, Any]:
    """Return what may be uploaded."""
    web = _web(request)
    return {
        "accepted": ACCEPTED,
        "upload_limit_mb": web.upload_limit_mb,
        "video_limit_s": web.video_limit_s,
        "keep_minutes": web.keep_minutes,
        "uploads_per_minute": web.uploads_per_minute,
        "skeleton": SKELETON,
        "keypoint_names": KEYPOINT_NAMES,
    }


@jobs_router.post("/jobs", status_code=201, openapi_extra=_BINARY)
async def start_job(
    request: Request,
    who: Operator,
    name: Annotated[str, Query(max_length=300, description="name of the file, by which results call it")] = "upload",
    score_threshold: Annotated[
        float | None, Query(ge=0, le=1, description="lowest score of a person; the configured one where absent")
    ] = None,
) -> dict[str, Any]:
    """Upload a picture or a video: the body is the file itself. Its people are found as soon as its turn comes."""
    door, queue = door_of(request), _queue(request)
    try:
        job = await _received(request, who, queue, name, score_threshold)
    except RefusedError as error:
        door.note("start job", caller_of(request), who, error.sentence, target=name)
        await _drain(request)
        raise
    door.note("start job", caller_of(request), who, target=f"{job.id} {job.name}")
    return job.shown()


@jobs_router.get("/jobs")
async def list_jobs(request: Request, who: Viewer) -> list[dict[str, Any]]:
    """Return all jobs, the newest first."""
    return [job.shown() for job in reversed(_queue(request).jobs.values())]


@jobs_router.get("/jobs/{identifier}")
async def show_job(identifier: str, request: Request, who: Viewer) -> dict[str, Any]:
    """Return one job."""
    return _job(request, identifier).shown()


@jobs_router.get("/jobs/{identifier}/result")
async def show_result(identifier: str, request: Request, who: Viewer) -> StreamingResponse:
    """Return the people of every frame: boxes, scores, and keypoints with their confidences, as `edgepose infer` writes them."""
    job = _job(request, identifier)
    path = _result(job, MESSAGES)
    head = {
        "job": job.shown(),
        "keypoint_names": KEYPOINT_NAMES,
        "skeleton": SKELETON,
        "files": [each for each in _TYPES if (job.folder / RESULTS / each).exists()],
    }
    file = open(path, "rb") if os.path.exists(path) else None  # noqa: SIM115 (the body of the answer closes it)
    return StreamingResponse(_framed(head, file), media_type="application/json", headers={"content-disposition": "inline"})


@jobs_router.get("/jobs/{identifier}/files/{result}")
async def download(identifier: str, result: ResultName, request: Request, who: Viewer) -> FileResponse:
    """Download a result: poses as JSON lines, CSV or COCO, the annotated picture or video."""
    job = _job(request, identifier)
    path = _result(job, result)
    if not os.path.exists(path):
        raise RefusedError(404, f"this job has no {result}; expected one of the files that its result names")
    return FileResponse(path, media_type=_TYPES[result], filename=f"{job.stem}.{result}", content_disposition_type="attachment")


@jobs_router.post("/jobs/{identifier}/cancel")
async def cancel_job(identifier: str, request: Request, who: Operator) -> dict[str, Any]:
    """Cancel a job that waits or runs."""
    job = _job(request, identifier)
    _queue(request).cancel(job)
    door_of(request).note("cancel job", caller_of(request), who, target=f"{job.id} {job.name}")
    return job.shown()


@jobs_router.delete("/jobs/{identifier}", status_code=204)
async def delete_job(identifier: str, request: Request, who: Operator) -> None:
    """Cancel a job and delete its upload and results."""
    job = _job(request, identifier)
    _queue(request).delete(identifier)
    door_of(request).note("delete job", caller_of(request), who, target=f"{job.id} {job.name}")


@jobs_router.websocket("/updates")
async def updates(socket: WebSocket, ticket: str = "") -> None:
    """Send the jobs whenever something changes, as JSON; opened with a ticket, closed when its owner's rights end or change."""
    async with admitted(socket, ticket) as who:
        if who is not None:
            await _send_updates(socket, who)


async def _send_updates(socket: WebSocket, who: Identity) -> None:
    queue: JobQueue = socket.app.state.jobs
    gone = asyncio.create_task(until_gone(socket))
    version = -1
    try:
        while not gone.done():
            if not still_holds(socket, who):
                await socket.close(VOID)
                return
            if queue.version != version:
                version = queue.version
                shown = [job.shown() for job in list(reversed(queue.jobs.values()))[:_SHOWN_JOBS]]
                await sent(socket, msgspec.json.encode({"jobs": shown}).decode())
                await asyncio.sleep(_PAUSE_S)
            changed = asyncio.create_task(queue.change_after(version, CHECK_S))
            await asyncio.wait((changed, gone), return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
    except (asyncio.TimeoutError, WebSocketDisconnect, RuntimeError, OSError):
        return  # it does not read, or has left
    finally:
        gone.cancel()


async def _received(request: Request, who: Identity, queue: JobQueue, name: str, score_threshold: float | None) -> Job:
    """Return the job of an upload that was received completely."""
    limit = _web(request).upload_limit_mb * _MB
    said = request.headers.get("content-length", "")
    size = int(said) if said.isdecimal() and len(said) < 20 else None
    too_large = RefusedError(
        413, f"the upload is larger than {limit // _MB} MB; expected at most that (web.upload_limit_mb)", limit="web.upload_limit_mb"
    )
    if size is not None and size > limit:
        raise too_large
    with queue.reservation(who.account, limit if size is None else size):
        file = queue.new_file()
        try:
            received = await _stored(request, file, limit, too_large)
            kind = await asyncio.to_thread(kind_of, file, received)
        except RefusedContentError as error:
            file.close()
            raise RefusedError(415, f"the upload {error}") from error
        except BaseException:
            file.close()
            raise
    return queue.add(who.account, name, kind, file, received, score_threshold)


async def _stored(request: Request, file: BinaryIO, limit: int, too_large: RefusedError) -> int:
    """Write the body of a request to a file as it comes; return its size."""
    clock = asyncio.get_running_loop().time
    began_s = clock()
    received = 0
    pending: list[bytes] = []
    held = 0
    stream = aiter(request.stream())
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), STALL_S)
        except StopAsyncIteration:
            break
        except asyncio.TimeoutError as error:
            raise RefusedError(408, f"the upload stood still for {STALL_S:g} s; expected it to go on", limit="stall") from error
        except ClientDisconnect as error:
            raise RefusedError(400, "the upload was cut off") from error
        received += len(chunk)
        if received > limit:
            raise too_large
        if clock() - began_s > STALL_S + received / LOWEST_BYTES_PER_S:
            raise RefusedError(
                408, f"the upload is slower than {LOWEST_BYTES_PER_S // 1000} kB/s; expected a faster connection", limit="rate"
            )
        pending.append(chunk)
        held += len(chunk)
        if held >= _CHUNK_BYTES:
            await asyncio.to_thread(file.write, b"".join(pending))
            pending.clear()
            held = 0
    await asyncio.to_thread(file.write, b"".join(pending))
    await asyncio.to_thread(file.flush)
    return received


async def _drain(request: Request) -> None:
    """Read and drop what a refused caller still sends, within bounds: an answer that comes meanwhile would be lost with the connection."""
    if request.headers.get("expect", "").lower() == "100-continue":
        return
    dropped = 0
    try:
        async with asyncio.timeout(STALL_S) if hasattr(asyncio, "timeout") else _Anyway():
            async for chunk in request.stream():
                dropped += len(chunk)
                if dropped > _web(request).upload_limit_mb * _MB:
                    return
    except (asyncio.TimeoutError, ClientDisconnect, RuntimeError):
        return


class _Anyway:
    """A block without a deadline, for Python 3.10."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


async def _framed(head: dict[str, Any], file: BinaryIO | None) -> AsyncIterator[bytes]:
    """Yield one JSON object around the lines of a file."""
    yield msgspec.json.encode(head)[:-1] + b',"frames":['
    if file is not None:
        with file:
            first = True
            while lines := await asyncio.to_thread(file.readlines, _CHUNK_BYTES):
                text = b",".join(line.rstrip(b"\n") for line in lines)
                yield text if first else b"," + text
                first = False
    yield b"]}"


def _web(request: Request) -> WebConfig:
    return door_of(request).config.web


def _queue(request: Request) -> JobQueue:
    queue = request.app.state.jobs
    assert isinstance(queue, JobQueue)
    return queue


def _job(request: Request, identifier: str) -> Job:
    job = _queue(request).jobs.get(identifier)
    if job is None:
        raise RefusedError(404, "there is no such job; its results may have been deleted")
    return job


def _result(job: Job, name: str) -> str:
    if job.state != "done":
        raise RefusedError(409, f"this job has no result: it is {job.state}; expected one that is done")
    return str(job.folder / RESULTS / name)

"""Routes of the live page: what runs, stills, commands, areas, and the WebSocket of skeletons."""

import asyncio
import hmac
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Request, Response, WebSocket
from pydantic import BaseModel, Field

from edgepose.config.areas import CameraAreas, text_of
from edgepose.errors import ConfigError
from edgepose.web.access import GUEST, RefusedError, allows, caller_of, door_of, needs
from edgepose.web.account_routes import open_session
from edgepose.web.accounts.file import digest
from edgepose.web.accounts.sessions import Identity
from edgepose.web.live.feed import still
from edgepose.web.live.updates import serve_updates
from edgepose.web.live.view import STILLS_AT_ONCE, LiveView

Viewer = Annotated[Identity, Depends(needs("viewer"))]
Operator = Annotated[Identity, Depends(needs("operator"))]

PageCommand = Literal["pause", "resume", "set-threshold", "record", "reload"]
"""Commands of operators, with the payloads that they have over MQTT."""

STILL_WITHIN_S = 5.0
"""Longest wait of a still for the next frame."""

_POLL_S = 0.05

live_router = APIRouter(prefix="/api/v1/live", tags=["live"])


class GuestLink(BaseModel):
    """The text of the link that the demo prints."""

    link: Annotated[str, Field(max_length=300)]


@live_router.post("/guest")
async def enter_as_guest(order: GuestLink, request: Request, response: Response) -> dict[str, Any]:
    """Look on as a viewer, by the link of a page that has one: that of `edgepose demo`, for as long as it runs."""
    door, caller = door_of(request), caller_of(request)
    if door.guest is None or not hmac.compare_digest(door.guest, digest(order.link)):
        door.note("enter as guest", caller, None, "the link is void")
        raise RefusedError(401, "this link is void; expected that of a demo which runs")
    door.note("enter as guest", caller, GUEST)
    return open_session(request, response, GUEST)


@live_router.get("")
async def describe(request: Request, who: Viewer) -> dict[str, Any]:
    """Return the cameras with their areas, the thresholds, and what of people may be shown."""
    return _view(request).described()


@live_router.get("/state")
async def state(request: Request, who: Viewer) -> Response:
    """Return health, states of the cameras and the reasons why there are poses or none, as the WebSocket sends them."""
    return Response(_view(request).state()[1], media_type="application/json")


@live_router.get("/cameras/{camera}/still", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
async def show_still(camera: str, request: Request, who: Viewer) -> Response:
    """Return the next frame of a camera as a JPEG, as far as `privacy.pixels` lets it out."""
    view = _view(request)
    _known(view, camera)
    if view.host.config.privacy.pixels == "never":
        raise RefusedError(409, "privacy.pixels is never, so that no image leaves this device; expected blurred or allowed")
    if view.stills.locked():
        raise RefusedError(429, f"{STILLS_AT_ONCE} stills are made already; expected fewer at a time", limit="stills", retry_s=1)
    async with view.stills:
        view.feed.want_pictures(camera, 1)
        try:
            before, clock = view.feed.frames, asyncio.get_running_loop().time
            until_s = clock() + STILL_WITHIN_S
            while (frame := view.feed.newest_of(camera)) is None or frame.number <= before or frame.result is None:
                if clock() > until_s:
                    said = f"camera {camera} gave no frame within {STILL_WITHIN_S:g} s; expected one that is streaming"
                    raise RefusedError(503, said, retry_s=STILL_WITHIN_S)
                await asyncio.sleep(_POLL_S)
        finally:
            view.feed.want_pictures(camera, -1)
        try:
            jpeg = await asyncio.to_thread(still, frame.result, view.host.config)
        except ConfigError as error:
            raise RefusedError(409, str(error)) from error
    return Response(jpeg, media_type="image/jpeg")


@live_router.post("/commands/{command}")
async def give_command(command: PageCommand, request: Request, who: Operator) -> dict[str, Any]:
    """Execute a command: `pause`, `resume`, `set-threshold`, `record` or `reload`, with the JSON payload that it has over MQTT."""
    payload = await request.body() or b"{}"
    reply = await _view(request).command(command, payload, who, caller_of(request))
    answer: dict[str, Any] = msgspec.to_builtins(reply)
    return answer


@live_router.get("/cameras/{camera}/areas.yaml", response_class=Response, responses={200: {"content": {"application/yaml": {}}}})
async def download_areas(camera: str, request: Request, who: Viewer) -> Response:
    """Download the areas of a camera as a part of a configuration file."""
    view = _view(request)
    _known(view, camera)
    configured = view.host.config.cameras[camera]
    text = text_of({camera: CameraAreas(zones=configured.zones, lines=configured.lines, masks=configured.masks)})
    return Response(text, media_type="application/yaml", headers={"content-disposition": f'attachment; filename="{camera}.areas.yaml"'})


@live_router.put("/cameras/{camera}/areas")
async def apply_areas(camera: str, request: Request, who: Operator) -> dict[str, Any]:
    """Apply other zones, lines and masks of a camera and keep them; masks need the role admin. Masks of the configuration stay."""
    view = _view(request)
    _known(view, camera)
    try:
        areas = msgspec.json.decode(await request.body(), type=CameraAreas)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(422, f"the areas are not accepted: {error}; expected zones, lines and masks as in the configuration") from error
    await _apply(request, view, camera, areas, who)
    return view.described()


@live_router.delete("/cameras/{camera}/areas")
async def forget_areas(camera: str, request: Request, who: Operator) -> dict[str, Any]:
    """Return to the areas of the configuration."""
    view = _view(request)
    _known(view, camera)
    await _apply(request, view, camera, None, who)
    return view.described()


@live_router.websocket("/updates")
async def updates(socket: WebSocket, ticket: str = "") -> None:
    """Send skeletons (binary), events and state (JSON); opened with a ticket, closed when its owner's rights end or change."""
    await serve_updates(socket, ticket)


async def _apply(request: Request, view: LiveView, camera: str, areas: CameraAreas | None, who: Identity) -> None:
    door, caller = door_of(request), caller_of(request)
    action = "draw areas" if areas is not None else "forget areas"
    try:
        await view.apply(camera, areas, who, caller, allows(who.role, "admin"))
    except RefusedError as error:
        door.note(action, caller, who, error.sentence, target=camera)
        raise
    door.note(action, caller, who, target=camera)


def _known(view: LiveView, camera: str) -> None:
    if camera not in view.host.config.cameras:
        raise RefusedError(404, f"there is no such camera; expected one of {', '.join(view.host.config.cameras)}")


def _view(request: Request) -> LiveView:
    view = request.app.state.live
    assert isinstance(view, LiveView)
    return view

"""The configuration of a run over the sources of a command line."""

from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from msgspec.structs import replace

from edgepose.capture.source import path_of
from edgepose.config.schema import CameraConfig, Config, FilesConfig
from edgepose.errors import SourceError
from edgepose.validation.inputs import OfflineInput, find_inputs, is_image

_FRAME_LIMIT_MB = 512  # nothing runs beside it, and a photograph may be large

_FILE_PATIENCE_S = 60.0
"""Time-outs of files and pipes at least: a slow disk, or a slow sender, must not end a run that nobody waits for."""


def offline_config(
    config: Config,
    source: str | Sequence[OfflineInput],
    files: FilesConfig,
    *,
    model: str | None = None,
    refiner: str | None = None,
    refine_people: int | None = None,
    track: bool | None = None,
    rate: float | None = None,
    cameras: Sequence[str] = (),
) -> Config:
    """Return a configuration for a run over one or several sources.

    A camera of the configuration lends its settings (transport, certificates, time-outs) to the source that it names, or that is on the
    same host.

    Args:
        config: for everything that is not given here.
        source: video file, image, folder of images or stream, or the inputs of `find_inputs`; each camera is named after its file.
        files: to write.
        model: name or file of the pose network; None for the configured one.
        refiner: name or file of the refiner, for as many people as configured, or everybody where none are; None for the configured one.
        refine_people: maximum number of people refined in a frame; None for the configured number.
        track: whether people get track numbers; None for the configured choice on videos, and False on still images.
        rate: frames per second of images and of files without timestamps; None for the configured rate.
        cameras: names of cameras in the configuration that lend their settings whatever they name.
    """
    inputs = [_input_of(source)] if isinstance(source, str) else source
    settings = {one.camera: _camera(config, one, cameras) for one in inputs}
    if rate is not None:
        settings = {name: replace(camera, rate=rate) for name, camera in settings.items()}
    config = replace(config, cameras=settings, files=files)
    if model is not None:
        config = replace(config, model=replace(config.model, path=model))
    if refiner is not None:
        config = replace(config, refine=replace(config.refine, path=refiner, people=config.refine.people or config.pose.maximum_people))
    if refine_people is not None:
        config = replace(config, refine=replace(config.refine, people=refine_people))
    if track is None:
        track = config.track.enabled and not all(one.still for one in inputs)
    return replace(config, track=replace(config.track, enabled=track))


def _input_of(source: str) -> OfflineInput:
    """Return the input for one source, which need not exist yet."""
    with suppress(SourceError, OSError):
        found = find_inputs([source]).inputs
        if len(found) == 1:
            return found[0]
    path = path_of(source)
    return OfflineInput(
        "stream" if path is None else path.stem or "source", source, still=path is not None and (path.is_dir() or is_image(path))
    )


def _camera(config: Config, one: OfflineInput, named: Sequence[str]) -> CameraConfig:
    """Return the settings for an input, from the camera of the configuration that lends them, or the defaults."""
    name = one.camera if one.camera in named or len(named) != 1 else named[0]
    lender = config.cameras.get(name) if name in named else next(
        (camera for camera in config.cameras.values() if camera.source == one.source),
        next((camera for camera in config.cameras.values() if _is_same_host(camera.source, one.source)), None),
    )  # fmt: skip
    source = str(one.images[0]) if one.images else one.source
    default = CameraConfig(source=source)
    camera = default if lender is None else replace(lender, source=source, loop=False, realtime=False, zones={})
    if camera.frame_limit_mb == default.frame_limit_mb:
        camera = replace(camera, frame_limit_mb=_FRAME_LIMIT_MB)
    if path_of(source) is None or name in named:
        return camera
    patience = {key: max(getattr(camera, key), _FILE_PATIENCE_S) for key in ("open_timeout_s", "read_timeout_s")}
    return replace(camera, **patience)


def _is_same_host(one: str, other: str) -> bool:
    if path_of(one) is not None or path_of(other) is not None:
        return False
    try:
        first, second = urlsplit(one), urlsplit(other)
    except ValueError:
        return False
    return bool(first.hostname) and (first.scheme, first.hostname) == (second.scheme, second.hostname)

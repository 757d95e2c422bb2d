"""Messages and labels that describe what runs on this device."""

import platform

import av
import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from edgepose import __version__
from edgepose.capture.redact import show
from edgepose.config.load import device_name
from edgepose.config.schema import Config, MqttConfig, PrivacyConfig
from edgepose.engine.backend import Backend, Network
from edgepose.messages.camera_state import CameraState
from edgepose.messages.structs import (
    BackendMessage,
    CameraMessage,
    CameraStatusMessage,
    InfoMessage,
    ModelMessage,
    PosesInfoMessage,
    PrivacyInfoMessage,
    RefinerMessage,
    timestamp,
)
from edgepose.model.file import ModelFile
from edgepose.pipeline.refiner import Refiner


def info_message(
    config: Config, model: ModelFile, backend: Backend, refiner: Refiner | None, started_ns: int, not_better: str = ""
) -> InfoMessage:
    """Return the message that describes what runs on the device; the publisher adds the session.

    Args:
        config: in use.
        model: in use.
        backend: in use.
        refiner: in use; None where nobody is refined.
        started_ns: when the daemon started, nanoseconds since the Unix epoch.
        not_better: why a better backend is not used; empty where the best one is.
    """
    message = refiner_message(config, refiner)
    return InfoMessage(
        device=device_name(config),
        started_at=timestamp(started_ns),
        versions={
            "edgepose": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "av": av.__version__,
            "msgspec": msgspec.__version__,
        },
        model=ModelMessage(
            name=model.path.name,
            sha256=model.sha256,
            precision=model.info.precision,
            input_size=model.info.long_side(config.model.input_size),
            license=model.info.license,
        ),
        backend=_backend_message(backend, not_better),
        refiner=UNSET if message is None else message,
        poses=poses_info(config.mqtt),
        privacy=privacy_info(config.privacy),
        cameras=[CameraMessage(name=name, source=show(camera.source)) for name, camera in config.cameras.items()],
    )


def poses_info(mqtt: MqttConfig) -> PosesInfoMessage | UnsetType:
    """Return how poses are published; absent without a broker."""
    if not mqtt.enabled:
        return UNSET
    rate_hz = UNSET if mqtt.poses.rate_hz is None else mqtt.poses.rate_hz
    return PosesInfoMessage(encoding=mqtt.encoding, rate_hz=rate_hz, only_changes=mqtt.poses.only_changes)


def privacy_info(privacy: PrivacyConfig) -> PrivacyInfoMessage:
    """Return what messages and files tell of people."""
    return PrivacyInfoMessage(profile=privacy.profile, pixels=privacy.pixels)


def camera_message(state: CameraState, now_ns: int) -> CameraStatusMessage:
    """Return the status message of one camera.

    Args:
        state: of the camera.
        now_ns: nanoseconds since the Unix epoch.
    """
    return CameraStatusMessage(
        camera=state.camera,
        state=state.state,
        cause=state.cause if state.cause is not None else UNSET,
        # A file name may hold bytes that are not UTF-8, which Python keeps as lone surrogates and no encoder takes.
        detail=state.detail.encode("utf-8", "backslashreplace").decode() if state.detail is not None else UNSET,
        epoch=state.epoch,
        width=state.width if state.width is not None else UNSET,
        height=state.height if state.height is not None else UNSET,
        at=timestamp(now_ns),
    )


def build_labels(model: ModelFile, backend: Backend, refiner: Refiner | None) -> dict[str, str]:
    """Return what runs, as labels of a metric; `refiner` is empty where nobody is refined."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "model": model.path.name,
        "model_sha256": model.sha256[:12],
        "refiner": refiner.model.path.name if refiner is not None else "",
        "backend": backend.name,
        "hardware": backend.device,
        "precision": backend.precision,
    }


def refiner_message(config: Config, refiner: Refiner | None) -> RefinerMessage | None:
    """Return the description of the refiner, None where nobody is refined."""
    if refiner is None or refiner.network is None:
        return None
    model = refiner.model
    return RefinerMessage(
        name=model.path.name,
        sha256=model.sha256,
        precision=model.info.precision,
        input_size=model.info.input_size,
        license=model.info.license,
        backend=_backend_message(refiner.network),
        people=config.refine.people,
        budget_ms=config.refine.budget_ms,
    )


def _backend_message(network: Network, not_better: str = "") -> BackendMessage:
    return BackendMessage(
        name=network.name,
        device=network.device,
        precision=network.precision,
        reason=f"{network.reason}; {not_better}" if not_better else network.reason,
        images_sent_to=getattr(network, "sends_to", None) or UNSET,
    )

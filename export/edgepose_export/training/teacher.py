"""The frozen teacher of a run: the network in the start checkpoint that the student must not forget, or a better one."""

from pathlib import Path

import msgspec
import torch

from edgepose.errors import ConfigError
from edgepose_export.network.checkpoint import Network, NetworkSpec, build, load_deployed, load_weights, read_checkpoint
from edgepose_export.network.layers import fuse
from edgepose_export.network.pose_network import PoseSpec
from edgepose_export.network.rtmdet import load_rtmdet
from edgepose_export.network.tinypose import load_tinypose


def load_plain(path: Path, spec: NetworkSpec) -> Network:
    """Load a trained network to learn from: RTMDet-nano or PP-TinyPose as ONNX, with the parts of `spec` that it lacks, or a checkpoint.

    Raises:
        ConfigError: the file is missing or is another network.
    """
    if path.suffix == ".pt":
        return load_deployed(path)
    if isinstance(spec, PoseSpec):
        return load_rtmdet(path, msgspec.structs.replace(spec, ghost=(), maps={}, early_activation="silu", activation="silu"))
    return load_tinypose(path)


def load_teacher(start: Path, spec: NetworkSpec, device: torch.device, other: Path | None = None) -> Network:
    """Load the teacher of a run: `other`, or the one that `edgepose-export ghostify` stored, or else the checkpoint's own network.

    A run from a shipped checkpoint has no other teacher; its own start then keeps it from forgetting what it knows.

    Args:
        start: checkpoint that the run starts from.
        spec: network in training.
        device: of the run.
        other: file as of `load_plain`.

    Raises:
        ConfigError: a file is no checkpoint, or `other` is a network for another task.
    """
    if other is not None:
        teacher = load_plain(other, spec)
        if type(teacher.spec) is not type(spec):
            raise ConfigError(f"teacher {other} is a network for another task; expected the task of the network in training")
    else:
        checkpoint = read_checkpoint(start)
        stored = checkpoint.get("teacher", {"spec": checkpoint["spec"], "state": checkpoint.get("average", checkpoint["state"])})
        teacher = build(msgspec.convert(stored["spec"], NetworkSpec))
        load_weights(teacher, stored["state"], str(start))
    fuse(teacher)
    teacher.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return teacher

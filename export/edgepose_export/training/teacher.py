"""The frozen teacher of a run: the network in the start checkpoint that the student must not forget."""

from pathlib import Path

import msgspec
import torch

from edgepose_export.network.checkpoint import Network, NetworkSpec, build, load_weights, read_checkpoint
from edgepose_export.network.layers import fuse


def load_teacher(start: Path, device: torch.device) -> Network:
    """Load the teacher of a checkpoint: the one that `edgepose-export ghostify` stored, or else the checkpoint's own network.

    A run from a shipped checkpoint has no other teacher; its own start then keeps it from forgetting what it knows.

    Raises:
        ConfigError: the file is no checkpoint.
    """
    checkpoint = read_checkpoint(start)
    stored = checkpoint.get("teacher", {"spec": checkpoint["spec"], "state": checkpoint.get("average", checkpoint["state"])})
    teacher = build(msgspec.convert(stored["spec"], NetworkSpec))
    load_weights(teacher, stored["state"], str(start))
    fuse(teacher)
    teacher.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return teacher

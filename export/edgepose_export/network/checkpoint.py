"""Checkpoints: a network's structure and weights in one file."""

from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from edgepose.errors import ConfigError
from edgepose_export.network.layers import ConvNorm, fuse
from edgepose_export.network.pose_network import PoseNetwork, PoseSpec
from edgepose_export.network.refiner import RefinerNetwork, RefinerSpec

Network = PoseNetwork | RefinerNetwork
NetworkSpec = PoseSpec | RefinerSpec


def build(spec: NetworkSpec) -> Network:
    """Return the network that a spec describes, with fresh weights."""
    return PoseNetwork(spec) if isinstance(spec, PoseSpec) else RefinerNetwork(spec)


def parameters_count(network: Network) -> int:
    """Return the number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters())


def save_network(path: Path, network: Network, *, half: bool = False, **extra: Any) -> None:
    """Write a checkpoint atomically: the spec, the weights (in half precision if `half`) and `extra`."""
    state = network.state_dict()
    if half:
        state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    temporary = path.with_suffix(path.suffix + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"spec": msgspec.to_builtins(network.spec), "state": state, **extra}, temporary)
    temporary.replace(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint: a dictionary with `spec`, `state` and what the writer added.

    Raises:
        ConfigError: the file is missing or is not a checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(f"checkpoint {path} does not exist") from error
    except Exception as error:
        raise ConfigError(f"{path} is not a checkpoint of edgepose-export: torch cannot read it ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict) or not {"spec", "state"} <= checkpoint.keys():
        raise ConfigError(f"{path} is not a checkpoint of edgepose-export: it holds no `spec` and `state`")
    return checkpoint


def network_spec(path: Path) -> NetworkSpec:
    """Return the structure of the network of a checkpoint; ConfigError as of `load_network`."""
    return _spec_of(read_checkpoint(path), path)


def load_network(path: Path) -> Network:
    """Load the network of a checkpoint, with batch-norms where the weights have them.

    Raises:
        ConfigError: the file is missing, is not a checkpoint, or its weights do not fit its spec.
    """
    checkpoint = read_checkpoint(path)
    network = _network_of(checkpoint, path)
    load_weights(network, checkpoint["state"], str(path))
    return network


def load_averaged(path: Path) -> Network:
    """Load the network of a checkpoint with averaged weights where the run kept them, and with batch-norms where the weights have them.

    Raises:
        ConfigError: see `load_network`.
    """
    checkpoint = read_checkpoint(path)
    network = _network_of(checkpoint, path)
    load_weights(network, checkpoint.get("average", checkpoint["state"]), str(path))
    return network


def load_deployed(path: Path) -> Network:
    """Load the network of a checkpoint for export: averaged weights where the run kept them, batch-norms folded.

    Raises:
        ConfigError: see `load_network`.
    """
    network = load_averaged(path)
    fuse(network)
    return network.eval()


def load_weights(network: Network, state: dict[str, Tensor], origin: str) -> None:
    """Load weights, giving each `ConvNorm` a batch-norm where the weights have one.

    Raises:
        ConfigError: the weights do not fit.
    """
    for name, module in network.named_modules():
        if isinstance(module, ConvNorm) and f"{name}.norm.weight" in state:
            width = module.conv.out_channels
            module.add_norm(torch.zeros(width), torch.ones(width))
    try:
        network.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    except RuntimeError as error:
        raise ConfigError(f"the weights of {origin} do not fit its network: {str(error).splitlines()[1].strip()}") from error


def blend_networks(start: Network, trained: Network, share: float) -> Network:
    """Return a network whose weights lie between those of two (M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).

    Args:
        start: with batch-norms folded.
        trained: trained from `start`, with batch-norms folded.
        share: of `trained`, 0 to 1.

    Raises:
        ConfigError: the networks differ in their structure.
    """
    if start.spec != trained.spec:
        raise ConfigError("the two checkpoints hold networks of different structure; expected one that was trained from the other")
    first, second = start.state_dict(), trained.state_dict()
    blended = build(start.spec)
    state = {name: value.lerp(second[name], share) if value.is_floating_point() else value for name, value in first.items()}
    load_weights(blended, state, "the blend")
    return blended.eval()


def _network_of(checkpoint: dict[str, Any], path: Path) -> Network:
    return build(_spec_of(checkpoint, path))


def _spec_of(checkpoint: dict[str, Any], path: Path) -> NetworkSpec:
    try:
        return msgspec.convert(checkpoint["spec"], NetworkSpec)  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise ConfigError(f"checkpoint {path} describes a network that this version does not know: {error}") from error

"""The parameters that a phase trains, and their shares of its learning rate."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from edgepose.errors import ConfigError
from edgepose_export.training.recipe import Phase

_GENTLE_SHARE = 0.25
"""Share of the learning rate for the parameters that a phase names `gentle`."""

_SMALLEST_RMS = 2.0**-7
"""Tensors with a smaller root mean square move as if it were this large, because some begin at zero."""


def parameter_groups(network: nn.Module, phase: Phase, rms: dict[str, float]) -> list[dict[str, Any]]:
    """Group the trained parameters by the magnitude of their values, for AdamW.

    Adam moves every value by about the learning rate, whatever its magnitude. Weights of a warm start span three orders of
    magnitude (depthwise kernels about 1, fitted 1x1 weights about 0.01), so the learning rate is relative: the step of a
    tensor is a share of the root mean square of its values, rounded to a power of two.

    Args:
        network: the network to train; parameters that the phase does not train get `requires_grad = False`.
        phase: names the parameters by their prefixes.
        rms: root mean square of each trained tensor at the beginning of the phase, by name. Missing entries are filled in;
            a resumed run passes the values of its checkpoint.

    Returns:
        Groups with `params`, `weight_decay` and `share`, the group's share of the phase's learning rate.

    Raises:
        ConfigError: no parameter has one of the prefixes.
    """
    for prefix in (*phase.train, *phase.gentle, *phase.fresh):
        if not any(_matches(name, [prefix]) for name, _ in network.named_parameters()):
            raise ConfigError(f"phase {phase.name} trains {prefix!r}, but no parameter of the network begins so")
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        share = _GENTLE_SHARE if _matches(name, phase.gentle) else 1.0 if _matches(name, phase.train) else 0.0
        parameter.requires_grad_(share > 0)
        if _matches(name, phase.fresh):
            parameter.requires_grad_(True)
            groups.setdefault((phase.fresh_learning_rate / phase.learning_rate, parameter.ndim > 1), []).append(parameter)
        elif share:
            if name not in rms:
                rms[name] = float(parameter.detach().square().mean().sqrt())
            magnitude = min(max(rms[name], _SMALLEST_RMS), 1.0)
            groups.setdefault((share * 2.0 ** round(math.log2(magnitude)), parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "share": share, "weight_decay": phase.weight_decay if decays else 0.0}
        for (share, decays), parameters in groups.items()
    ]


def set_modes(network: nn.Module, phase: Phase) -> None:
    """Keep batch-norms at their calibrated statistics, unless the phase lets the trained ones follow the batches."""
    network.eval()
    if phase.batch_statistics:
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d) and _matches(name, [*phase.train, *phase.gentle, *phase.fresh]):
                module.train()


def _matches(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)

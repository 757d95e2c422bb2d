"""Learning rate over a phase, and the moving average of the weights."""

import math

import torch
from torch import Tensor, nn


def learning_rate_factor(done: float, warm_up: float, floor: float) -> float:
    """Return the share of the learning rate at `done` (0 to 1) of a phase: linear warm-up, then a cosine down to `floor`."""
    if done < warm_up:
        return max(done / warm_up, 0.01)
    progress = min((done - warm_up) / max(1 - warm_up, 1e-9), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


class MovingAverage:
    """Exponential moving average of a network's weights and batch-norm statistics.

    It updates every `every` steps, because an update takes time on a CPU.
    """

    def __init__(self, network: nn.Module, *, decay: float = 0.998, every: int = 4) -> None:
        self.decay = decay
        self.every = every
        self.steps = 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Count one step, and update the average every `every` steps."""
        self.steps += 1
        if self.steps % self.every:
            return
        # The average follows fast at the start, because the first weights are the worst.
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) ** self.every
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                averages.append(self.state[name])
                values.append(value)
            else:
                self.state[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

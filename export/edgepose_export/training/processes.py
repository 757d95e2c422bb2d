"""The processes that train one network together, as torchrun starts them: one per GPU, or several on CPUs."""

from collections.abc import Sequence

import torch
from torch import distributed as dist
from torch import nn

from edgepose.errors import ConfigError


def choose_device(local_rank: int, gpus: int) -> torch.device:
    """Return the device of one of the processes of a machine: a GPU of its own, or the CPU where the machine has no GPU.

    Raises:
        ConfigError: the machine has more processes than GPUs.
    """
    if not gpus:
        return torch.device("cpu")
    if local_rank >= gpus:
        raise ConfigError(f"process {local_rank + 1} of this machine has no GPU of its own: expected at most {gpus} processes, one per GPU")
    return torch.device("cuda", local_rank)


class ProcessGroup:
    """This process among those that share a run; a run without torchrun is a group of one.

    GPUs communicate over NCCL, CPUs over gloo.

    Attributes:
        device: of this process.
        rank: of this process, from 0.
        size: number of processes.
    """

    def __init__(self) -> None:
        self.device = choose_device(dist.get_node_local_rank(fallback_rank=0), torch.cuda.device_count())
        self.rank, self.size = 0, 1
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if dist.is_torchelastic_launched():
            if not dist.is_initialized():
                dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average the gradients over all processes, in place.

        All processes send the same tensors, so a missing gradient counts as 0: a batch without people gives the refinement none.
        """
        if self.size == 1:
            return
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        dist.all_reduce(flat)
        flat /= self.size
        offset = 0
        for p in parameters:
            p.grad = flat[offset : offset + p.numel()].view_as(p).clone()
            offset += p.numel()

    def agree(self, answer: bool) -> bool:
        """Return the answer of the first process in every process, so that none waits for one that has stopped."""
        if self.size == 1:
            return answer
        return bool(self.shared(float(answer)))

    def shared(self, value: float) -> float:
        """Return the value of the first process in every process."""
        if self.size == 1:
            return value
        sent = torch.tensor([value], dtype=torch.float32, device=self.device)
        dist.broadcast(sent, 0)
        return float(sent.item())

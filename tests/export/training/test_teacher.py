"""Who teaches a run: the start itself, the teacher that is stored in it, or another file."""

from pathlib import Path

import msgspec
import pytest
import torch

from edgepose.errors import ConfigError
from edgepose_export.network.checkpoint import Network, build, save_network
from edgepose_export.network.layers import fuse
from edgepose_export.training.teacher import load_teacher
from testing.export.tiny import TINY, TINY_REFINER

CPU = torch.device("cpu")


def first_weights(network: Network) -> torch.Tensor:
    return next(iter(network.parameters()))


@pytest.mark.parametrize("who", ["start", "stored", "other"])
def test_another_file_comes_before_the_stored_teacher_and_that_before_the_start(who: str, tmp_path: Path) -> None:
    networks = {name: build(TINY) for name in ("start", "stored", "other")}
    if who == "start":
        save_network(tmp_path / "start.pt", networks["start"])
    else:
        stored = {"spec": msgspec.to_builtins(TINY), "state": networks["stored"].state_dict()}
        save_network(tmp_path / "start.pt", networks["start"], teacher=stored)
    save_network(tmp_path / "other.pt", networks["other"])
    teacher = load_teacher(tmp_path / "start.pt", TINY, CPU, tmp_path / "other.pt" if who == "other" else None)
    expected = networks[who]
    fuse(expected)
    assert torch.equal(first_weights(teacher), first_weights(expected))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_a_teacher_for_another_task_is_refused(tmp_path: Path) -> None:
    save_network(tmp_path / "start.pt", build(TINY))
    save_network(tmp_path / "refiner.pt", build(TINY_REFINER))
    with pytest.raises(ConfigError, match=r"teacher .*refiner\.pt is a network for another task"):
        load_teacher(tmp_path / "start.pt", TINY, CPU, tmp_path / "refiner.pt")

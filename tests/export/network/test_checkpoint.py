"""Checkpoints come back as they were written, and other files are refused."""

from pathlib import Path

import msgspec
import pytest
import torch
from click.testing import CliRunner

from edgepose.errors import ConfigError
from edgepose_export.cli.main import cli
from edgepose_export.network.checkpoint import (
    Network,
    NetworkSpec,
    blend_networks,
    build,
    load_deployed,
    load_network,
    parameters_count,
    read_checkpoint,
    save_network,
)
from edgepose_export.network.layers import ConvNorm, add_norms
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.network.refiner import RefinerNetwork
from testing.export.tiny import TINY, TINY_REFINER, lively

SPECS = pytest.mark.parametrize("spec", [TINY, TINY_REFINER], ids=["pose", "refiner"])


def output(network: Network) -> torch.Tensor:
    x = torch.randn((2, 3, 64, 32), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        result: torch.Tensor = network(x).score if isinstance(network, PoseNetwork) else network(x)
    return result


def norms(network: Network) -> int:
    return sum(module.norm is not None for module in network.modules() if isinstance(module, ConvNorm))


def normed(spec: NetworkSpec) -> Network:
    network = lively(0, spec)
    add_norms(network, lambda: network(torch.randn(4, 3, 64, 32)))
    made: Network = network.eval()
    return made


@SPECS
@pytest.mark.parametrize("half", [False, True])
def test_a_checkpoint_comes_back(tmp_path: Path, spec: NetworkSpec, half: bool) -> None:
    network: Network = lively(3, spec)
    save_network(tmp_path / "new" / "a.pt", network, half=half, note=7)
    again = load_network(tmp_path / "new" / "a.pt").eval()
    assert again.spec == spec
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())
    expected = output(network)
    assert torch.allclose(output(again), expected, atol=2e-2 * float(expected.std()) if half else 0)
    checkpoint = read_checkpoint(tmp_path / "new" / "a.pt")
    assert checkpoint["note"] == 7
    assert {value.dtype for value in checkpoint["state"].values() if value.is_floating_point()} == {torch.half if half else torch.float}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.pt"]


@SPECS
def test_norms_come_back_and_are_folded_for_export(tmp_path: Path, spec: NetworkSpec) -> None:
    network = normed(spec)
    expected = output(network)
    # The refinement is no part of `forward`, so it has not run and has no statistics.
    assert norms(network) == sum(
        isinstance(module, ConvNorm) and not name.startswith("refinement") for name, module in network.named_modules()
    )
    assert torch.allclose(output(lively(0, spec)), expected, atol=1e-3 * float(expected.std()))
    save_network(tmp_path / "a.pt", network)
    again, deployed = load_network(tmp_path / "a.pt").eval(), load_deployed(tmp_path / "a.pt")
    assert norms(again) == norms(network)
    assert torch.equal(output(again), expected)
    assert norms(deployed) == 0
    assert torch.allclose(output(deployed), expected, atol=1e-3 * float(expected.std()))
    assert not deployed.training


@SPECS
def test_the_average_is_what_is_deployed(tmp_path: Path, spec: NetworkSpec) -> None:
    network: Network = lively(0, spec)
    other: Network = lively(1, spec)
    save_network(tmp_path / "a.pt", network, average=other.state_dict())
    assert torch.equal(output(load_deployed(tmp_path / "a.pt")), output(other))
    assert torch.equal(output(load_network(tmp_path / "a.pt").eval()), output(network))


def test_both_kinds_are_built_by_their_specs() -> None:
    assert isinstance(build(TINY), PoseNetwork)
    assert isinstance(build(TINY_REFINER), RefinerNetwork)
    assert parameters_count(build(TINY)) == sum(parameter.numel() for parameter in PoseNetwork(TINY).parameters())


def test_what_is_no_checkpoint_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bytes.pt").write_bytes(b"nonsense")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"spec": {"task": "pose", "backbone": 3}, "state": {}}, tmp_path / "older.pt")
    torch.save({"spec": {"task": "dance"}, "state": {}}, tmp_path / "other.pt")
    state = lively().state_dict()
    del state["head.keypoints.out.conv.weight"]
    torch.save({"spec": msgspec.to_builtins(TINY), "state": state}, tmp_path / "half.pt")
    for name, message in (
        ("missing", "does not exist"),
        ("bytes", "torch cannot read it"),
        ("list", "it holds no `spec` and `state`"),
        ("older", "describes a network that this version does not know"),
        ("other", "describes a network that this version does not know"),
        ("half", r"do not fit its network: Missing key\(s\).*head.keypoints.out.conv.weight"),
    ):
        for load in (load_network, load_deployed):
            with pytest.raises(ConfigError, match=message) as failure:
                load(tmp_path / f"{name}.pt")
            assert "\n" not in str(failure.value)
            assert f"{name}.pt" in str(failure.value)


@SPECS
def test_a_blend_lies_between_its_networks(spec: NetworkSpec) -> None:
    start, trained = lively(1, spec), lively(2, spec)
    for share in (0.0, 0.25, 1.0):
        blended = blend_networks(start, trained, share).state_dict()
        for name, value in start.state_dict().items():
            expected = value + share * (trained.state_dict()[name] - value) if value.is_floating_point() else value
            torch.testing.assert_close(blended[name], expected)


def test_networks_of_different_structure_are_not_blended() -> None:
    with pytest.raises(ConfigError, match="different structure"):
        blend_networks(lively(1, TINY), lively(1, TINY_REFINER), 0.5)


def test_blend_writes_a_checkpoint(tmp_path: Path) -> None:
    for name, seed in (("start", 1), ("trained", 2)):
        save_network(tmp_path / f"{name}.pt", lively(seed, TINY_REFINER))
    arguments = ["blend", tmp_path / "start.pt", tmp_path / "trained.pt", "--share", "0.5", "--output", tmp_path / "blended.pt"]
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    expected = blend_networks(load_network(tmp_path / "start.pt"), load_network(tmp_path / "trained.pt"), 0.5)
    torch.testing.assert_close(output(load_network(tmp_path / "blended.pt").eval()), output(expected), rtol=1e-2, atol=1e-2)

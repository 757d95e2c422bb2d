from pathlib import Path

import numpy as np
import pytest

from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_backend, open_refiner_backend
from edgepose.engine.golden import check_pose_network, check_refiner, compare_candidates, golden_crops, golden_image
from edgepose.engine.networks import PoseNetwork, RefinerNetwork
from edgepose.errors import EngineError, ModelError
from edgepose.model.file import read_model
from edgepose.model.shipped import named_model
from edgepose.person import Candidates
from testing.onnx_files import write_edgepose

CPU = ModelConfig(backend="cpu", threads=1)


def pose_network() -> PoseNetwork:
    network = open_backend(named_model("default", "pose", backend="cpu"), CPU)
    assert isinstance(network, PoseNetwork)
    return network


def shifted(found: Candidates, *, px: float = 0.0, score: float = 0.0) -> Candidates:
    keypoints = found.keypoints.copy()
    keypoints[..., :2] += px
    return Candidates(found.boxes + np.float32(px), found.scores + np.float32(score), keypoints)


def test_the_photograph_shows_the_shipped_network_two_people() -> None:
    network = pose_network()
    result = check_pose_network(network, network, 0)
    assert (result.people, result.least_oks, result.most_difference) == (2, 1.0, 0.0)
    assert result.words == "2 people, OKS 1.000 or more, scores within 0.000"


def test_different_people_are_refused_and_rounding_is_not() -> None:
    network = pose_network()
    expected = network.run(golden_image(network.info, 0))
    compare_candidates(shifted(expected, px=0.5, score=0.02), expected, "tensorrt")
    with pytest.raises(ModelError, match=r"tensorrt does not find the people .*: 2 people, OKS 0\.\d+ or more"):
        compare_candidates(shifted(expected, px=6), expected, "tensorrt")
    with pytest.raises(ModelError, match=r"scores within 0\.060; expected OKS 0.9 or more and scores within 0.05"):
        compare_candidates(shifted(expected, score=-0.06), expected, "tensorrt")


def test_people_who_are_missing_or_invented_are_refused() -> None:
    network = pose_network()
    expected = network.run(golden_image(network.info, 0))
    nobody = Candidates(expected.boxes, expected.scores * 0, expected.keypoints)
    for found, wanted in ((nobody, expected), (expected, nobody)):
        with pytest.raises(ModelError, match="does not find the people"):
            compare_candidates(found, wanted, "tensorrt")
    assert compare_candidates(nobody, nobody, "tensorrt").people == 0


def test_a_refiner_is_compared_on_the_people_of_the_photograph() -> None:
    model = named_model("refine-n", "refine", backend="cpu")
    network = open_refiner_backend(model, CPU)
    assert isinstance(network, RefinerNetwork)
    result = check_refiner(network, network)
    assert (result.people, result.least_oks) == (2, 1.0)
    assert golden_crops(model.info).shape == (2, *model.info.crop_shape, 3)

    class Wrong(type(network)):  # type: ignore[misc]
        def run(self, crops: np.ndarray) -> np.ndarray:
            return np.asarray(network.run(crops) + np.array([9, 0, 0], np.float32))

    wrong = Wrong.__new__(Wrong)
    wrong.name = "tensorrt"
    with pytest.raises(ModelError, match="tensorrt does not find the people"):
        check_refiner(wrong, network)


def test_the_photograph_fits_any_input(tmp_path: Path) -> None:
    fixed = read_model(write_edgepose(tmp_path / "fixed.onnx", input_shape=(1, 64, 96, 3))).info
    assert golden_image(fixed, 0).shape == (1, 64, 96, 3)
    free = read_model(write_edgepose(tmp_path / "free.onnx")).info
    assert golden_image(free, 0).shape == (1, 192, 256, 3)
    assert golden_image(free, 640).shape == (1, 480, 640, 3)


def test_a_package_without_its_photograph_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("edgepose.engine.golden._PHOTOGRAPH", tmp_path / "none.jpg")
    with pytest.raises(EngineError, match="expected the package to be complete"):
        golden_image(pose_network().info, 0)

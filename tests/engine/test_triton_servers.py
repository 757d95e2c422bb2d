"""Inference on real servers (`make triton`): Triton Inference Server, and MLServer for what is optional in the protocol."""

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgepose.config.schema import ModelConfig, RemoteConfig
from edgepose.engine.backend import Backend, open_backend, open_refiner_backend, pose_model, refiner_model
from edgepose.errors import EngineError, ModelError
from edgepose.model.shipped import find_model
from edgepose.person import Candidates
from testing.requirements import missing
from testing.waiting import PATIENCE, wait_for

if (reason := missing("tritonclient", "triton", "mlserver")) is not None:
    pytest.skip(reason, allow_module_level=True)

from testing.servers.triton import MlServer, Triton

POSE, REFINER = find_model("default"), find_model("refine-n")
LOCAL = ModelConfig(backend="cpu", precision="float32", threads=1)
PATIENT_S = 5 * PATIENCE

pytestmark = pytest.mark.xdist_group("inference-servers")


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    """A frame of the demo video with people, as the pose network's input."""
    video = cv2.VideoCapture(str(POSE.with_name("demo.mp4")))
    frame = video.read()[1][:, :, ::-1]
    return np.ascontiguousarray(cv2.resize(frame, (320, 192)))[None].astype(np.uint8)


@pytest.fixture(scope="module")
def expected(image: NDArray[np.uint8]) -> Candidates:
    backend = open_backend(pose_model(LOCAL), LOCAL)
    found = backend.run(image)
    assert (found.scores > 0.3).sum() >= 2
    return found


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with Triton(tmp_path_factory.mktemp("triton"), {"pose": POSE, "refiner": REFINER}) as server:
        yield server


def opened(config: ModelConfig) -> Backend:
    return open_backend(pose_model(config), config)


def equal(found: Candidates, expected: Candidates) -> None:
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.01)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.parametrize("shared_memory", [True, False])
def test_triton_finds_the_same_poses(triton: Triton, image: NDArray[np.uint8], expected: Candidates, shared_memory: bool) -> None:
    config = ModelConfig(path=triton.url("pose"), backend="triton", remote=RemoteConfig(timeout_s=PATIENT_S, shared_memory=shared_memory))
    backend = opened(config)
    equal(backend.run(image), expected)
    transport = vars(backend)["_client"].transport
    assert transport == ("shared memory" if shared_memory else "gRPC")
    twice = backend.run(np.concatenate((image, image)))
    assert twice.scores.shape[0] == 2
    backend.close()


def test_triton_refines_the_same_poses(triton: Triton) -> None:
    crops = np.random.default_rng(0).integers(0, 255, (3, 128, 96, 3), np.uint8)
    here = open_refiner_backend(refiner_model("refine-n", LOCAL), LOCAL).run(crops)
    config = ModelConfig(remote=RemoteConfig(timeout_s=PATIENT_S))
    there = open_refiner_backend(refiner_model(triton.url("refiner"), config), config)
    np.testing.assert_allclose(there.run(crops), here, atol=0.01)
    there.close()


def test_a_refiner_is_no_pose_network(triton: Triton) -> None:
    config = ModelConfig(path=triton.url("refiner"), remote=RemoteConfig(timeout_s=PATIENT_S))
    with pytest.raises(ModelError, match=r"refiner is a refiner \(task 'refine'\); expected a pose network"):
        pose_model(config)
    with pytest.raises(ModelError, match="does not serve the model nobody"):
        pose_model(ModelConfig(path=triton.url("nobody"), remote=config.remote))


def test_triton_is_frozen_killed_and_used_again(triton: Triton, image: NDArray[np.uint8], expected: Candidates) -> None:
    backend = opened(ModelConfig(path=triton.url("pose"), remote=RemoteConfig(timeout_s=PATIENT_S)))
    equal(backend.run(image), expected)
    hasty = opened(ModelConfig(path=triton.url("pose"), remote=RemoteConfig(timeout_s=1, header="default")))
    triton.freeze()
    try:
        with pytest.raises(EngineError, match="did not answer in time"):
            hasty.run(image)
        assert vars(hasty)["state"] == "slow"
    finally:
        triton.thaw()
    triton.kill()
    with pytest.raises(EngineError):
        backend.run(image)
    wait_for(lambda: state_after(backend, image) == "unreachable", every_s=0.2)
    triton.start()
    wait_for(lambda: state_after(backend, image) == "", within_s=30, every_s=0.5)
    equal(backend.run(image), expected)
    assert vars(backend)["_client"].transport == "shared memory"


def state_after(backend: Backend, image: NDArray[np.uint8]) -> str:
    try:
        backend.run(image)
    except EngineError:
        time.sleep(0.1)
    return str(vars(backend)["state"])


def test_mlserver_with_a_local_header_finds_the_same_poses(tmp_path: Path, image: NDArray[np.uint8], expected: Candidates) -> None:
    with MlServer(tmp_path, "pose", POSE) as server:
        undescribed = ModelConfig(path=server.url("pose"), remote=RemoteConfig(timeout_s=PATIENT_S))
        wait_for(lambda: asked(undescribed) == "undescribed", within_s=30, every_s=0.5)
        backend = opened(ModelConfig(path=server.url("pose"), remote=RemoteConfig(timeout_s=PATIENT_S, header="default")))
        equal(backend.run(image), expected)
        assert vars(backend)["_client"].transport == "gRPC"


def asked(config: ModelConfig) -> str:
    try:
        pose_model(config)
    except ModelError as error:
        return "undescribed" if "does not describe itself" in str(error) else "unknown"
    except EngineError:
        return "away"
    return "described"

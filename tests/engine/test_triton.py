"""Inference on a server, against one of this process that speaks the real protocol; the real servers: test_triton_servers.py."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from edgepose.config.schema import ModelConfig, RemoteConfig
from edgepose.engine.backend import Backend, open_backend, open_refiner_backend, pose_model, refiner_model
from edgepose.errors import ConfigError, EngineError, ModelError
from edgepose.model.file import read_model
from testing.onnx_files import write_edgepose, write_refiner, write_ultralytics
from testing.requirements import missing
from testing.servers.certificates import Authority
from testing.stranger_models import SIDE, anchors_of, boxes_of, write_yolo
from testing.waiting import in_time, wait_for

if (reason := missing("tritonclient")) is not None:
    pytest.skip(reason, allow_module_level=True)

from testing.servers.kserve import KServeServer

WHITE = np.full((1, 64, 96, 3), 255, np.uint8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_edgepose(tmp_path / "tiny.onnx")


@pytest.fixture
def server(file: Path) -> Iterator[KServeServer]:
    with KServeServer(file) as running:
        yield running


def settings(server: KServeServer, **remote: object) -> ModelConfig:
    return ModelConfig(path=server.url, backend="triton", remote=replace(RemoteConfig(timeout_s=5), **remote))


def opened(server: KServeServer, **remote: object) -> Backend:
    config = settings(server, **remote)
    return open_backend(pose_model(config), config)


def state(backend: Backend) -> str:
    return str(getattr(backend, "state"))  # noqa: B009 (not part of the protocol of all backends)


def fails(backend: Backend) -> str:
    with pytest.raises(EngineError) as caught:
        backend.run(WHITE)
    return str(caught.value)


@pytest.mark.parametrize("dialect", [{}, {"typed": True}, {"shared_memory": False}, {"maximum_batch": 2}])
def test_the_server_computes_what_this_process_computes(file: Path, dialect: dict[str, bool]) -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 64, 96, 3), np.uint8)
    expected = open_backend(read_model(file), ModelConfig(backend="cpu")).run(images)
    with KServeServer(file, **dialect) as server:  # type: ignore[arg-type]
        found = opened(server).run(images)
        assert server.batches == ([2, 2, 1] if dialect.get("maximum_batch") else [5])
        assert set(server.transports) == {"raw" if dialect.get("shared_memory") is False else "shared memory"}
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.01)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_a_network_of_ultralytics_is_described_by_its_metadata_and_run(tmp_path: Path) -> None:
    file = write_yolo(tmp_path / "yolo.onnx", anchors_of(boxes_of(3)).T.copy(), input_shape=(1, 3, SIDE, SIDE))
    images = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    expected = open_backend(read_model(file), ModelConfig(backend="cpu")).run(images)
    with KServeServer(file) as server:
        found = opened(server).run(images)
    assert server.batches == [1, 1]
    assert expected.boxes.shape == (2, 3, 4)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.01)


def test_a_refiner_runs_on_the_server_too(tmp_path: Path) -> None:
    file = write_refiner(tmp_path / "refiner.onnx")
    crops = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    local = ModelConfig(backend="cpu")
    expected = open_refiner_backend(read_model(file), local).run(crops)
    with KServeServer(file, "refiner") as server:
        config = settings(server)
        found = open_refiner_backend(refiner_model(server.url, config), config).run(crops)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_larger_images_get_a_larger_region(server: KServeServer) -> None:
    backend = opened(server)
    for height in (64, 128, 64):
        assert backend.run(np.full((1, height, 96, 3), 255, np.uint8)).scores.shape[0] == 1
    assert server.transports == ["shared memory"] * 3
    backend.close()
    backend.close()
    assert not list(Path("/dev/shm").glob(f"edgepose-{os.getpid()}-*"))
    assert "closed" in fails(backend)


def test_the_description_is_the_servers_own(server: KServeServer, file: Path) -> None:
    model = pose_model(settings(server))
    assert model.info == read_model(file).info
    assert (model.where, model.path.name, model.data) == (server.url, "pose", b"")
    assert model.sha256 == pose_model(settings(server)).sha256
    assert model.sha256 != read_model(file).sha256


def test_a_server_without_parameters_needs_a_header(file: Path, tmp_path: Path) -> None:
    with KServeServer(file, parameters=False) as server:
        with pytest.raises(ModelError, match=r"does not describe itself; expected the parameters edgepose\.\* .* as model.remote.header"):
            pose_model(settings(server))
        assert opened(server, header=str(file)).run(WHITE).scores.shape[0] == 1
        with pytest.raises(ModelError, match=r"triton\+grpc://.* has the outputs boxes .*; expected of any name|is a refiner|expected"):
            opened(server, header=str(write_refiner(tmp_path / "refiner.onnx")))


def test_a_header_of_another_network_is_refused(file: Path, tmp_path: Path) -> None:
    other = write_edgepose(tmp_path / "fixed.onnx", input_shape=("N", 64, 64, 3))
    with KServeServer(other, parameters=False) as server:
        assert opened(server, header=str(other)).run(WHITE[:, :, :64]).scores.shape[0] == 1
    expected = r"has the inputs .*; expected one, images uint8 \(\?, \?, \?, 3\)"
    with KServeServer(write_ultralytics(tmp_path / "yolo.onnx"), parameters=False) as server, pytest.raises(ModelError, match=expected):
        opened(server, header=str(file))


def test_a_model_that_the_server_does_not_have_is_an_error_of_the_configuration(server: KServeServer) -> None:
    config = settings(server)
    other = replace(config, path=server.url + "-large")
    for remote in (config.remote, replace(config.remote, header="default")):
        wrong = replace(other, remote=remote)
        with pytest.raises(ModelError, match="does not serve the model pose-large") as caught:
            open_backend(pose_model(wrong), wrong)
        assert caught.value.exit_code == 78


def test_a_server_that_is_away_at_the_start_is_waited_for(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = KServeServer(file)
    with pytest.raises(EngineError, match=r"cannot be reached: .* with model.remote.header the daemon starts without") as caught:
        pose_model(settings(server))
    assert caught.value.exit_code == 69
    with caplog.at_level(logging.INFO, "edgepose"):
        backend = opened(server, header=str(file))
        assert state(backend) == "unreachable"
        assert "cannot be reached" in fails(backend)
        with server:
            wait_for(lambda: _works(backend), every_s=0.1)
            assert state(backend) == ""
    texts = [record.message for record in caplog.records]
    assert sum("is unreachable, trying again" in text for text in texts) == 1
    assert sum("works again, over shared memory" in text for text in texts) == 1


def _works(backend: Backend) -> bool:
    try:
        return bool(backend.run(WHITE).scores.shape[0] == 1)
    except EngineError:
        return False


def test_a_server_that_is_killed_and_returns_is_used_again(server: KServeServer) -> None:
    backend = opened(server)
    backend.run(WHITE)
    for _ in range(2):
        server.stop()
        fails(backend)
        wait_for(lambda: fails(backend) and state(backend) == "unreachable")
        server.start()
        wait_for(lambda: _works(backend), every_s=0.1)
        assert server.transports[-1] == "shared memory"


def test_a_server_is_slow_when_its_time_is_over(server: KServeServer) -> None:
    backend = opened(server, timeout_s=0.5)
    backend.run(WHITE)
    server.delay_s = 3
    for _ in range(4):  # the connection is replaced on the way
        began_s = time.monotonic()
        assert "did not answer in time" in fails(backend)
        assert in_time(time.monotonic() - began_s, 1.0, 2.9)
        assert state(backend) == "slow"
    server.delay_s = 0
    wait_for(lambda: _works(backend), every_s=0.1)
    assert state(backend) == ""


def test_a_model_that_is_loading_is_not_ready(server: KServeServer) -> None:
    backend = opened(server)
    server.stop()
    fails(backend)
    server.ready = False
    server.start()
    wait_for(lambda: "not ready" in fails(backend), every_s=0.1)
    assert state(backend) == "not_ready"
    server.ready = True
    wait_for(lambda: _works(backend), every_s=0.1)


def test_a_model_that_vanishes_is_waited_for(server: KServeServer) -> None:
    backend = opened(server)
    server.name = "other"
    assert "does not serve the model pose" in fails(backend)
    assert state(backend) == "not_ready"
    server.name = "pose"
    assert _works(backend)


def test_another_network_after_a_restart_is_an_error_of_the_model(server: KServeServer, tmp_path: Path) -> None:
    backend = opened(server)
    server.stop()
    fails(backend)
    server.serve(write_edgepose(tmp_path / "fixed.onnx", input_shape=("N", 64, 96, 3)))
    server.start()

    def refused() -> bool:
        with pytest.raises((EngineError, ModelError)) as caught:
            backend.run(WHITE)
        return isinstance(caught.value, ModelError) and "is another network now: input_height was None and is 64" in str(caught.value)

    wait_for(refused, every_s=0.1)


def test_a_broken_answer_is_an_error(file: Path, tmp_path: Path, server: KServeServer) -> None:
    backend = opened(server)
    server.serve(write_edgepose(tmp_path / "nan.onnx", scores=np.full(6, np.nan, np.float32)))
    assert "not finite" in fails(backend)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("triton+grpc://10.0.0.1:8001/pose", "unencrypted to 10.0.0.1"),
        ("triton+grpc://localhost.example.org/pose", "unencrypted"),
        ("triton+grpcs://host", "names no model"),
        ("triton+grpcs://host/a/b", "names no model"),
        ("triton+grpcs://host:x/a", "is no URL"),
        ("triton+grpcs://user:word@host/a", "holds more than a host"),
    ],
)
def test_an_address_that_is_not_allowed_is_refused(url: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        pose_model(ModelConfig(path=url))


def test_a_certificate_is_verified(file: Path, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    with KServeServer(file, tls=ours.issue("server", host="localhost")) as server:
        config = ModelConfig(path=f"triton+grpcs://localhost:{server.port}/pose", remote=RemoteConfig(ca_file=str(ours.certificate)))
        backend = open_backend(pose_model(config), config)
        assert backend.run(WHITE).scores.shape[0] == 1
        backend.close()
        for remote, host in ((replace(config.remote, ca_file=str(theirs.certificate)), "localhost"), (config.remote, "127.0.0.1")):
            wrong = replace(config, path=f"triton+grpcs://{host}:{server.port}/pose", remote=remote)
            with pytest.raises(EngineError, match="is not trusted"):
                pose_model(wrong)
            distrustful = replace(wrong, remote=replace(remote, header=str(file)))
            assert state(open_backend(pose_model(distrustful), distrustful)) == "refused"
    with pytest.raises(ConfigError, match=r"model.remote.key_file: /none cannot be read: No such file .*; expected a PEM file"):
        pose_model(replace(config, remote=replace(config.remote, key_file="/none")))


def test_a_close_from_another_thread_ends_a_request(server: KServeServer) -> None:
    backend = opened(server)
    server.delay_s = 2
    closing = threading.Timer(0.2, backend.close)
    closing.start()
    fails(backend)
    closing.join()

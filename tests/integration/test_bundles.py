"""A daemon that takes bundles from a real broker and a real file server: what is wrong is refused, what does not work is rolled back."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepose.bundles.manifest import BundleFile
from edgepose.cli.main import run
from edgepose.storage.chained_lines import verify_lines
from edgepose_export.cli.bundle import signed
from testing.bundles import OTHER_KEY, FileServer, Fleet, last, manifest, message, reference, states, works
from testing.servers.mosquitto import Mosquitto, free_port
from testing.waiting import wait_for
from tools.bundle_cuts import cut

pytestmark = pytest.mark.xdist_group("bundles")


@pytest.fixture
def fleet(tmp_path: Path, broker: Mosquitto) -> Iterator[Fleet]:
    with FileServer(tmp_path) as server:
        yield Fleet(tmp_path, broker, server)


def test_what_is_wrong_is_refused_and_the_old_one_runs(fleet: Fleet) -> None:
    server = fleet.server
    good = server.put("other.onnx", fleet.other)
    broken = server.put("broken.onnx", b"not a network")
    away = reference("away.onnx", f"https://localhost:{free_port()}/away.onnx?token=secret", fleet.other)
    changed = reference("changed.onnx", f"{server.url}/other.onnx", fleet.other[::-1])
    large = BundleFile(name="large.onnx", url=f"{server.url}/other.onnx", size=1_000_001, sha256="0" * 64)
    slow = reference("slow.onnx", f"{server.url}/slow.onnx", fleet.other)
    server.files["/slow.onnx"] = server.slowly(fleet.other, 0.05)
    right = message(5, "model: {path: other.onnx}\n", (good,))
    flipped = bytearray(right)
    flipped[len(flipped) // 2] ^= 1
    refusals = [
        (b"hello", "is no bundle"),
        (right[:-20], "is no bundle"),
        (bytes(flipped), "is not that of the key|is no bundle"),
        (signed(manifest(5), OTHER_KEY), "is signed with the key"),
        (message(5, devices=["other"]), "bundle 5 is for other; expected drone among them"),
        (message(5, devices=["drone"], expires="2020-01-01T00:00:00Z"), "expired at 2020"),
        (message(5, devices=["drone"], not_before="2120-01-01T00:00:00Z"), "is for the time from 2120"),
        (message(5, "mqtt: {host: evil.example}\n"), "sets mqtt.host, and mqtt.host is pinned"),
        (message(5, "bundles: {enabled: false}\n"), "sets bundles.enabled, and bundles is pinned"),
        (message(5, "commands: {enabled: false}\n"), "sets commands.enabled, and commands is pinned"),
        (message(5, "privacy: {pixels: allowed}\n"), "sets privacy.pixels, and privacy is pinned"),
        (message(5, "pose: {score_threshold: 7}\n"), "pose.score_threshold is 7"),
        (message(5, "poze: {}\n"), "unknown key poze"),
        (message(5, "a: ["), "is not valid YAML"),
        (message(5, "cameras: {front: {source: nothere.avi}}\n"), "nothere.avi does not exist"),
        (message(5, "model: {path: broken.onnx}\n", (broken,)), "broken.onnx"),
        (message(5, "model: {path: missing.onnx}\n"), "missing.onnx"),
        (message(5, "", (changed,)), "has the SHA-256"),
        (message(5, "", (large,)), "have 1.0 MB; expected at most bundles.size_limit_mb"),
        (message(5, "", (away,)), "does not deliver away.onnx: Connection refused"),
        (message(5, "", (slow,)), "of slow.onnx arrived|does not deliver slow.onnx: no answer in time"),
        (message(5, "", (reference("x.onnx", "http://files.example/x.onnx", b"x"),)), "address of x.onnx is not accepted"),
        (message(5, "", (reference("x.onnx", "file:///etc/passwd", b"x"),)), "no bundles.media_folder"),
    ]
    with fleet.device() as (daemon, heard):
        assert last(heard) == {"state": "none"}
        works(heard)
        for payload, why in refusals:
            before = len(heard.on("bundle"))
            fleet.publish(payload)
            said = wait_for(
                lambda: [each for each in heard.on("bundle")[before:] if each["state"] == "refused"],  # noqa: B023
                within_s=20,
            )[-1]
            assert re.search(why, said["reason"]), (why, said)
            assert "active" not in said
        works(heard)
        assert {each["epoch"] for each in heard.on("cameras/front/status")} == {0}  # never opened again
        assert {each["model"]["name"] for each in heard.on("info")} == {"tiny.onnx"}
        fleet.publish(right)  # after all that, the right one is taken
        wait_for(lambda: last(heard) == {"state": "active", "number": 5, "active": 5}, within_s=20)
        assert heard.on("info")[-1]["model"]["name"] == "other.onnx"
        log = daemon.log.read_text()
        assert "Traceback" not in log
        assert "secret" not in log
    refused = [line for line in fleet.record() if line["outcome"] == "refused"]
    assert len(refused) == len(refusals)
    assert verify_lines(fleet.folder / "bundles" / "audit.jsonl").problems == []


def test_a_bundle_is_taken_step_by_step_and_outlives_restarts(fleet: Fleet) -> None:
    good = fleet.server.put("other.onnx", fleet.other)
    second = message(8, "model: {path: other.onnx}\nmqtt: {poses: {rate_hz: 4}}\n", (good,), groups=["night"])
    with fleet.device() as (daemon, heard):
        works(heard)
        fleet.publish(message(7, "model: {path: other.onnx}\n", (good,)))
        wait_for(lambda: last(heard) == {"state": "active", "number": 7, "active": 7}, within_s=20)
        order = [state for state in states(heard) if state != "received"]
        assert [state for state in ("fetching", "checking", "trying", "active") if state in order] == [
            state for state in order if state != "none"
        ]
        assert heard.on("info")[-1]["model"]["name"] == "other.onnx"
        asked = len(fleet.server.requests)
        fleet.publish(second, "edgepose/groups/night/bundle/new")  # of its group; the file is here already
        wait_for(lambda: last(heard) == {"state": "active", "number": 8, "active": 8}, within_s=20)
        assert len(fleet.server.requests) == asked
        fleet.publish(message(7, "model: {path: other.onnx}\n", (good,)), retain=False)  # again
        wait_for(lambda: "bundle 7 is not newer than 8" in last(heard).get("reason", ""))
        daemon.process.kill()
        daemon.process.wait(30)
    # The broker retains both; the older one is no news, and neither is the one in use.
    with fleet.device() as (daemon, heard):
        wait_for(lambda: last(heard) == {"state": "active", "number": 8, "active": 8}, within_s=20)
        works(heard)
        assert heard.on("info")[-1]["model"]["name"] == "other.onnx"
        # The operator's own file has the last word: without bundles it is used alone, at once.
        daemon.reload(fleet.configuration().replace("enabled: true", "enabled: false"))
        wait_for(lambda: heard.on("bundle")[-1] is None, within_s=20)
        wait_for(lambda: heard.on("info")[-1]["model"]["name"] == "tiny.onnx", within_s=20)
        daemon.reload(fleet.configuration())
        wait_for(lambda: heard.on("info")[-1]["model"]["name"] == "other.onnx", within_s=20)
        assert daemon.terminate(20) == 0
    model = fleet.folder / "bundles" / "8" / "other.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    with fleet.device() as (daemon, heard):
        works(heard)
        assert heard.on("bundle")[-1]["state"] == "rolled_back"
        assert "other.onnx is damaged" in heard.on("bundle")[-1]["reason"]
        assert "bundle 8 is rolled back to bundle 7" in daemon.log.read_text()


def test_one_that_does_not_work_is_rolled_back(fleet: Fleet) -> None:
    nothing = f"cameras: {{front: {{source: 'rtsp://127.0.0.1:{free_port()}/cam'}}}}\n"
    with fleet.device() as (daemon, heard):
        works(heard)
        daemon.reload(fleet.configuration(trial_s=2))
        fleet.publish(message(3, nothing))
        said = wait_for(lambda: [each for each in heard.on("bundle") if each["state"] == "rolled_back"], within_s=20)[-1]
        assert (said["number"], said.get("active")) == (3, None)
        assert "within 2 s camera front delivered fewer than 4 frames" in said["reason"]
        works(heard)
        fleet.publish(message(3, nothing), retain=False)
        wait_for(lambda: "bundle 3 is not newer than 3" in last(heard).get("reason", ""))
        assert "Traceback" not in daemon.log.read_text()
    # One that ends the daemon again and again: it is started three times, and then the old one runs.
    fleet.publish(b"")
    place = fleet.folder / "bundles"
    pointer = json.loads((place / "pointer.json").read_text())
    (place / "4").mkdir()
    payload = message(4, "pose: {score_threshold: 0.4}\n")
    (place / "4" / "bundle.json").write_bytes(payload)
    (place / "4" / "config.yaml").write_text("pose: {score_threshold: 0.4}\n")
    pointer |= {"current": 4, "highest": 4, "trial": {"starts": 3, "cameras": ["front"]}, "attempt": None}
    (place / "pointer.json").write_text(json.dumps(pointer))
    with fleet.device() as (daemon, heard):
        works(heard)
        wait_for(lambda: last(heard).get("reason") == "it was started 3 times without a success")


def test_one_that_does_not_start_gives_way_to_the_one_before(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """A power cut in the trial, and what the configuration names is gone at the next start."""
    place = fleet.folder / "bundles"
    (place / "4").mkdir(parents=True)
    configuration = "model: {path: /nowhere/gone.onnx}\n"
    (place / "4" / "bundle.json").write_bytes(message(4, configuration))
    (place / "4" / "config.yaml").write_text(configuration)
    trial = {"starts": 1, "cameras": ["front"]}
    (place / "pointer.json").write_text(json.dumps({"schema": 1, "current": 4, "highest": 4, "trial": trial}))
    with fleet.device() as (daemon, heard):
        works(heard)
        wait_for(lambda: last(heard)["state"] == "rolled_back")
        assert "gone.onnx" in last(heard)["reason"]
        process = daemon.process
        assert process.poll() is None  # the same process, which started again
        assert daemon.terminate(20) == 0
    assert run(["bundle", "status", "--config", str(fleet.folder / "config.yaml")]) == 0
    out = capsys.readouterr().out
    assert "in use\tnone" in out
    assert "bundle 4 was rolled back" in out
    (fleet.folder / "new.json").write_bytes(message(4))
    assert run(["bundle", "verify", str(fleet.folder / "new.json"), "--config", str(fleet.folder / "config.yaml")]) == 78
    (fleet.folder / "new.json").write_bytes(message(5))
    assert run(["bundle", "verify", str(fleet.folder / "new.json"), "--config", str(fleet.folder / "config.yaml")]) == 0


def test_power_is_cut_at_any_moment(fleet: Fleet) -> None:
    """`make bundle-cuts` does it 50 times."""
    assert sum(cut(fleet, 2, seed=1).values()) == 2

"""Faults of the daemon itself."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import edgepose
from edgepose.storage.event_file import recovered
from testing.faults.row import Row, mount_needed
from testing.faults.world import World, fill, mounted, random_moments

_ASSETS = Path(edgepose.__file__).parent / "assets"


def _sigkill(times: int, most_s: float, world: World) -> None:
    world.start()
    world.fault()
    for moment_s in random_moments(times, 0.1, most_s):
        world.sleep(moment_s)
        world.kill_daemon()
        _state_is_whole(world)
        world.healed()
        before = len(world.heard.said.poses)
        world.start_daemon()
        # Every other time it is killed on its way up.
        if moment_s > most_s / 2:
            world.wait(lambda before=before: len(world.heard.said.poses) > before, "poses after a restart", 30)  # type: ignore[misc]
            world.found.recovery_s.append(world.heard.said.poses[before].heard_s - world.healed_s)
    world.healed()
    world.wait(lambda: world.heard.said.poses[-1].heard_s > world.healed_s, "poses after the last restart", 30)
    world.hold(8)


def _state_is_whole(world: World) -> None:
    store = world.folder / "events.db"
    if store.exists():
        found = recovered(store.read_bytes())
        world.check(not found.damaged and found.lost == 0, f"the event store is damaged: {found.lost} events are lost")


def _no_descriptors(world: World) -> None:
    world.start()
    world.fault()
    pid = world.daemon.pid
    limit = len(os.listdir(f"/proc/{pid}/fd"))
    before = subprocess.run(["prlimit", "--pid", str(pid), "--nofile", "--output", "SOFT", "--noheadings", "--raw"], capture_output=True)
    subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={limit}:"], check=True)
    world.camera.restart()
    world.relay.shut()
    world.hold(3)
    world.relay.open()
    world.hold(10)
    subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={before.stdout.decode().strip()}:"], check=True)
    world.healed()
    world.back()


def _full_disk(world: World) -> None:
    with ExitStack() as stack:
        disk = world.folder / "disk"
        mounted(stack, disk, 1024)
        world.settings["files.csv"] = str(disk / "people.csv")
        world.events_known = False  # the file that they are known from is closed with the other
        world.start()
        world.fault()
        ballast = fill(disk)
        before = len(world.heard.said.poses)
        world.hold(15)
        world.check(len(world.heard.said.poses) - before > 50 * world.patience, "poses did not go on")
        world.check(world.logged("people.csv"), "the log does not name the file that cannot be written")
        drops = world.heard.said.health[-1][1]["cameras"]["front"]["drops"]
        world.check(drops.get("writer_failed", 0) > 0, f"no lost writes are counted: {drops}")
        ballast.unlink()
        size = (disk / "people.csv").stat().st_size
        world.healed()
        world.back()
        try:
            world.wait(lambda: (disk / "people.csv").stat().st_size > size, "", 65)  # the daemon tries once a minute at the latest
        except AssertionError:
            world.found.broken.append("nothing is written to the file after there is room again")
        world.conclude()


def _model_replaced(world: World) -> None:
    model = world.folder / "model.onnx"
    shutil.copy(_ASSETS / "ghost-n.onnx", model)
    world.settings["model.path"] = str(model)
    world.start()
    world.fault()
    first = world.heard.said.info[-1][1]["model"]["sha256"]
    model.write_bytes(os.urandom(model.stat().st_size))  # in place: a process that maps the file sees it
    world.hold(5)
    before = len(world.heard.said.poses)
    world.wait(lambda: len(world.heard.said.poses) > before + 10, "poses on the old model", 10)
    world.daemon.send_signal(signal.SIGTERM)
    world.daemon.wait(10)
    world.start_daemon()
    code = world.daemon.wait(30)
    world.check(code == 78, f"started with a file that is no model it ended with code {code}, expected 78")
    words = world.last_words().strip().splitlines()[-1]
    world.check(str(model) in words, f"its last words do not name the model: {words}")
    shutil.copy(_ASSETS / "ghost-n-int8.onnx", world.folder / "next.onnx")
    (world.folder / "next.onnx").replace(model)
    world.start_daemon()
    world.healed()
    world.back(within_s=20)
    second = world.heard.said.info[-1][1]["model"]["sha256"]
    world.check(first != second, "info does not say that the model is another")


ROWS: Sequence[Row] = (
    Row(
        "daemon",
        "SIGKILL",
        "50 times at random moments, half of them during startup",
        "it starts again and publishes; the event store is intact each time",
        lambda world: _sigkill(50, 8.0, world),
    ),
    Row(
        "daemon",
        "SIGKILL, few",
        "3 times at random moments",
        "it starts again and publishes; the event store is intact each time",
        lambda world: _sigkill(3, 4.0, world),
        quick=True,
        spare=True,
    ),
    Row(
        "daemon",
        "no file descriptors",
        "no new descriptors for 13 s, camera and broker restarted meanwhile",
        "no crash; poses within 5 s of new descriptors",
        _no_descriptors,
    ),
    Row(
        "daemon",
        "outputs on a full disk",
        "no disk space for its files for 15 s",
        "poses continue; lost writes are counted and logged; writing continues when there is space",
        _full_disk,
        needs=(mount_needed,),
    ),
    Row(
        "daemon",
        "model replaced",
        "its file overwritten in place with noise, then by another model",
        "poses continue; a start with noise is refused with exit code 78; with the other model it runs and reports it",
        _model_replaced,
    ),
)

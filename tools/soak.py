"""Endurance run with a fault every half minute: memory, files, threads, and an account of every frame and event (`make soak`).

A real `edgepose run` reads a real RTSP server and publishes to a real mosquitto. The faults are those of `testing/faults`, drawn from a
seeded generator; the same fault never comes twice in a row. Needs `mosquitto`, `ffmpeg` and GStreamer's RTSP server, which `.ci/run`
installs.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from testing.faults.camera_rows import flipped
from testing.faults.presence import account, lines
from testing.faults.world import CLOCKS_S, LATE_S, STALE_S, World, street_video
from tools.soak_report import Fault, Result, Sample, failures, write

_EVERY_S = 30.0
_SAMPLE_EVERY_S = 5.0
_LAST_FAULT_BEFORE_END_S = 120.0  # the last minute, in which memory is measured, has no fault
_BACK_WITHIN_S = 20.0  # after this time a fault counts as not recovered


class _Run:
    """Fault world with its clock and samples."""

    def __init__(self, world: World, other_video: Path) -> None:
        self.world = world
        self.videos = [world.video, other_video]
        self.generator = random.Random(12)
        self.samples: list[Sample] = []
        self.quiet: list[Sample] = []
        self._start_s = self._next_s = time.monotonic()

    def now_s(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self._start_s

    def until(self, moment_s: float) -> None:
        """Wait until this time of the run and take samples.

        Raises:
            AssertionError: the daemon ended.
        """
        while self.now_s() < moment_s:
            if time.monotonic() >= self._next_s:
                self._next_s += _SAMPLE_EVERY_S
                self.samples.append(_sample(self.world.daemon.pid, self.now_s()))
            self.world.sleep(min(0.1, max(0.0, moment_s - self.now_s())))

    def hold(self, seconds: float) -> None:
        """Wait for this many seconds."""
        self.until(self.now_s() + seconds)


def _camera_killed(run: _Run) -> None:
    run.world.camera.kill()
    run.hold(run.generator.uniform(1, 8))
    run.world.camera.start()


def _camera_silent(run: _Run) -> None:
    run.world.camera.freeze()
    run.hold(run.generator.uniform(1, 10))
    run.world.camera.thaw()


def _camera_changed(run: _Run) -> None:
    run.videos.reverse()
    run.world.camera.restart("--file", str(run.videos[0]))


def _camera_mute(run: _Run) -> None:
    run.world.camera_relay.mute = True
    run.hold(run.generator.uniform(1, 10))
    run.world.camera_relay.mute = False


def _camera_cut(run: _Run) -> None:
    run.world.camera_relay.cut()


def _camera_corrupt(run: _Run) -> None:
    run.world.camera_relay.mangle = lambda data: flipped(data, run.generator)
    run.hold(run.generator.uniform(2, 8))
    run.world.camera_relay.mangle = None


def _broker_killed(run: _Run) -> None:
    run.world.relay.shut()
    run.world.broker.kill()
    run.world.heard.deaf()
    run.hold(run.generator.uniform(1, 8))
    run.world.broker.start()
    run.world.heard.ready()
    run.world.relay.open()


def _broker_silent(run: _Run) -> None:
    run.world.broker.freeze()
    run.hold(run.generator.uniform(1, 12))
    run.world.broker.thaw()


def _broker_cut(run: _Run) -> None:
    run.world.relay.cut()


def _daemon_suspended(run: _Run) -> None:
    run.world.daemon.send_signal(signal.SIGSTOP)
    time.sleep(run.generator.uniform(0.5, 3))
    run.world.daemon.send_signal(signal.SIGCONT)


FAULTS: dict[str, Callable[[_Run], None]] = {
    "camera killed": _camera_killed,
    "camera silent": _camera_silent,
    "camera changed resolution": _camera_changed,
    "camera link silent": _camera_mute,
    "camera link cut": _camera_cut,
    "camera link corrupt": _camera_corrupt,
    "broker killed": _broker_killed,
    "broker silent": _broker_silent,
    "broker link cut": _broker_cut,
    "daemon suspended": _daemon_suspended,
}


def soak(minutes: float, scratch: Path, settings: dict[str, str]) -> Result:
    """Run daemon, servers and faults, and return what was measured.

    Raises:
        AssertionError: a server does not start, or the daemon ends.
    """
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    street = street_video(scratch, minutes=min(60, minutes + 5))
    other = street_video(scratch, 384, 288, minutes=min(60, minutes + 5))
    with World(scratch, street) as world:
        world.camera_relayed = True
        world.settings |= {"health.interval_s": "5", **settings}
        world.start()
        run = _Run(world, other)
        faults = _faults(run, minutes * 60)
        run.until(minutes * 60)
        world.camera.kill()  # so that all counters stop changing
        run.hold(15)
        health = world.heard.said.health[-1][1]
        info = world.heard.said.info[-1][1]
        world.daemon.send_signal(signal.SIGTERM)
        exit_code = world.daemon.wait(10)
        time.sleep(1)
        file = world.folder / "people-1.jsonl"
        epochs: dict[int, int] = {}
        published = 0
        for epoch, message in lines(file):
            epochs[epoch] = message.sequence
            published += 1
        events = account([file], [message for _, message in world.heard.said.events])
        poses = world.heard.said.poses
        front = health["cameras"]["front"]
        return Result(
            commit=commit,
            minutes=minutes,
            every_s=_EVERY_S,
            model=info["model"]["name"],
            precision=info["model"]["precision"],
            backend=f"{info['backend']['name']} ({info['backend']['device']})",
            samples=run.samples,
            quiet=run.quiet,
            faults=faults,
            epochs=list(epochs.values()),
            counted=front["frames"],
            published=published,
            heard=len(poses),
            stale=sum(pose.written_s > STALE_S for pose in poses),
            oldest_s=max(pose.written_s for pose in poses),
            late=sum(pose.age_s > LATE_S and pose.written_s <= STALE_S for pose in poses),
            drops=front["drops"],
            message_drops=health["message_drops"],
            events_awaited=events.awaited,
            events_missing=list(events.missing),
            events_repeated=events.repeated,
            traceback=world.logged("Traceback"),
            exit_code=exit_code,
        )


def _faults(run: _Run, length_s: float) -> list[Fault]:
    faults: list[Fault] = []
    names: list[str] = []
    moment_s = _EVERY_S
    while moment_s < length_s - min(_LAST_FAULT_BEFORE_END_S, length_s / 4):
        run.until(moment_s)
        run.quiet.append(_sample(run.world.daemon.pid, run.now_s()))
        if not names:
            names = run.generator.sample(list(FAULTS), len(FAULTS))
            if faults and names[-1] == faults[-1].name:
                names.reverse()
        name = names.pop()
        began_s = run.now_s()
        FAULTS[name](run)
        back_s = time.monotonic()
        back_at_s = run.now_s()
        returned_s = _first_pose_after(run, back_s)
        faults.append(Fault(name, began_s, back_at_s - began_s, returned_s))
        click.echo(f"{began_s / 60:6.1f} min  {name:<32} {back_at_s - began_s:5.1f} s, back after {returned_s} s")
        moment_s = max(moment_s + _EVERY_S, run.now_s() + _EVERY_S / 3)
    run.until(run.now_s() + _EVERY_S)
    run.quiet.append(_sample(run.world.daemon.pid, run.now_s()))
    return faults


def _sample(pid: int, at_s: float) -> Sample:
    """Return the current memory, descriptors and threads of a process."""
    kilobytes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        kilobytes[name.rstrip(":")] = int(value)
    folder = Path(f"/proc/{pid}")
    return Sample(
        at_s=at_s,
        rss_mb=kilobytes["Rss"] / 1024,
        pss_mb=kilobytes["Pss"] / 1024,
        descriptors=len(os.listdir(folder / "fd")),
        threads=len(os.listdir(folder / "task")),
    )


def _first_pose_after(run: _Run, back_s: float) -> float | None:
    """Return the seconds until the next fresh pose; None where none comes in time."""
    poses = run.world.heard.said.poses
    deadline_s = time.monotonic() + _BACK_WITHIN_S
    while time.monotonic() < deadline_s:
        recent = [pose.heard_s for pose in poses[-400:] if pose.heard_s >= back_s and pose.heard_s - pose.age_s >= back_s - CLOCKS_S]
        if recent:
            return round(recent[0] - back_s, 2)
        run.hold(0.05)
    return None


@click.command()
@click.option("--minutes", type=click.FloatRange(3, 24 * 60), default=120, show_default=True, help="Length of the run.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a key of the daemon; repeatable, as in `edgepose run`.")
@click.option("--result", type=click.Path(dir_okay=False, path_type=Path), help="Also write the measurements to this file.")
@click.option("--from", "before", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Only report such a file.")
@click.option("--report/--no-report", default=True, help="Whether to write docs/reliability.md and its plot.")
def main(minutes: float, settings: tuple[str, ...], result: Path | None, before: Path | None, report: bool) -> None:
    """Run the daemon under faults; exit code 1 where a criterion is not met."""
    if before is not None:
        found = msgspec.json.decode(before.read_bytes(), type=Result)
    else:
        with tempfile.TemporaryDirectory(prefix="edgepose-soak-") as scratch:
            found = soak(minutes, Path(scratch), {name: value for name, _, value in (setting.partition("=") for setting in settings)})
    if result is not None:
        result.write_bytes(msgspec.json.encode(found))
    if report:
        write(found)
    missed = failures(found)
    for sentence in missed:
        click.echo(f"MISSED: {sentence}", err=True)
    click.echo(f"{len(found.faults)} faults, memory {found.growth_mb:+.2f} MiB, {len(missed)} criteria missed")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server keeps running
    main()

"""The surroundings of a fault: a camera, a broker, a subscriber and `edgepose run` between them, each a process of its own."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import edgepose
from testing.faults import network
from testing.faults.network import Network
from testing.faults.presence import account
from testing.faults.recorder import Recorder
from testing.faults.relay import Relay
from testing.requirements import FAKETIME, require
from testing.servers.mosquitto import Mosquitto
from testing.servers.rtsp import RtspServer

STALE_S = 2.5
"""Age of a frame from which its poses are stale when they are written: `mqtt.pose_expiry_s`, and the time of inference."""

LATE_S = 3.0
"""Age of a frame from which its poses are late when they arrive, if not stale: something on the way has delayed them."""

CLOCKS_S = 0.05
"""Largest difference of the clocks of sender, daemon and subscriber, all on one machine."""

DEVICE = "faults"
_VIDEO = Path(__file__).parents[2] / "build" / "vtest.avi"
_START_S = 60.0  # generous, since others use the machine too


def street_video(folder: Path, width: int = 320, height: int = 240, minutes: float = 10) -> Path:
    """Write a video at ten frames a second as H.264 with a key frame a second: people in a street, or those of the packaged clip."""
    require("ffmpeg")
    source = _VIDEO if _VIDEO.is_file() and _VIDEO.stat().st_size else Path(edgepose.__file__).parent / "assets" / "demo.mp4"
    once, whole = folder / f"once-{height}.mp4", folder / f"street-{height}.mp4"
    ffmpeg = ["ffmpeg", "-v", "error", "-y"]
    encode = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "10", "-pix_fmt", "yuv420p", "-threads", "1"]
    subprocess.run([*ffmpeg, "-i", str(source), "-an", "-r", "10", "-vf", f"scale={width}:{height}", *encode, str(once)], check=True)
    subprocess.run([*ffmpeg, "-stream_loop", "-1", "-i", str(once), "-t", f"{minutes * 60:.0f}", "-c", "copy", str(whole)], check=True)
    once.unlink()
    return whole


@dataclass
class Findings:
    """The findings of one fault.

    Attributes:
        recovery_s: seconds from the return of the failed part to the first fresh pose, one each time.
        told: causes that the camera's status named.
        lost: frames and messages by cause, as the daemon counts them, stale frames and events as a subscriber sees them.
        broken: criteria that did not hold, one sentence each.
        notes: other facts.
    """

    recovery_s: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class World:
    """All processes around one fault; a context manager. Change `settings` and the like before `start`.

    Attributes:
        settings: of the daemon, by the names of `--set`.
        environment: of the daemon, besides PATH.
        users: None, or passwords by name that the broker accepts.
        gated: whether the daemon connects to the broker through `relay`, which is shut while the broker is away, so that the
            subscriber is there before the daemon when the broker returns.
        camera_relayed: whether the daemon connects to the camera through `camera_relay`.
        events_known: whether the daemon's file of poses is whole, so that it says which events there must be.
        late_allowed: number of poses that may be late, since something outside of the daemon delays them.
        late_s: age from which they are late.
        patience: factor on the duration of faults.
        leniency: factor on all time limits.
    """

    def __init__(self, folder: Path, video: Path, *, patience: float = 1.0, leniency: float = 1.0) -> None:
        self.folder = folder
        self.video = video
        self.patience = patience
        self.leniency = leniency
        self.settings: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.users: dict[str, str] | None = None
        self.gated = True
        self.camera_relayed = False
        self.events_known = True
        self.late_allowed = 0
        self.late_s = LATE_S
        self.network: Network | None = None
        self.found = Findings()
        self.log = folder / "daemon.log"
        self.sessions = 0
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.healed_s = time.monotonic()
        self._began_s = time.monotonic()
        self._concluded = False

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_daemon()
        self._stack.close()

    # -- before the fault

    def separate(self) -> None:
        """Put the daemon into a network of its own."""
        self.network = self._stack.enter_context(Network())
        self.gated = False

    def start(self, *, daemon: bool = True) -> None:
        """Start camera, broker, subscriber and daemon, and wait for people."""
        listen, address = ("127.0.0.1", "127.0.0.1") if self.network is None else ("0.0.0.0", network.HOST)
        self.camera = self._stack.enter_context(RtspServer(self.folder, "--file", str(self.video), address=listen))
        self.broker = self._stack.enter_context(Mosquitto(self.folder, users=self.users, address=listen))
        self.relay = self._stack.enter_context(Relay(self.broker.port, listen))
        self.camera_relay = self._stack.enter_context(Relay(self.camera.port, listen))
        name, password = next(iter((self.users or {}).items()), (None, None))
        self.heard = self._stack.enter_context(Recorder(self.broker.port, f"edgepose/{DEVICE}", name, password))
        self.heard.ready()
        self.settings = {
            "device": DEVICE,
            "cameras.front.source": f"rtsp://{address}:{(self.camera_relay if self.camera_relayed else self.camera).port}/cam",
            "model.backend": "cpu",
            "model.threads": "1",
            "mqtt.host": address,
            "mqtt.port": str(self.relay.port if self.gated else self.broker.port),
            "health.interval_s": "1",
            "events.store": str(self.folder / "events.db"),
        } | self.settings
        if daemon:
            self.start_daemon()
            self.wait(lambda: self.heard.said.poses, "poses", _START_S * self.leniency)
            self.wait(lambda: self.heard.said.health, "a health message", _START_S * self.leniency)
            self.sleep(4)  # so that `entered` has been published

    def start_daemon(self) -> None:
        """Start the daemon, or start it again; each run writes its poses to a file of its own."""
        self.sessions += 1
        settings = {"files.jsonl": str(self.folder / f"people-{self.sessions}.jsonl")} | self.settings
        command = [*(self.network.prefix if self.network else ()), sys.executable, "-m", "edgepose", "run"]
        command += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]} | self.environment)

    @property
    def daemon(self) -> "subprocess.Popen[bytes]":
        """The daemon's process."""
        assert self._process is not None, "the daemon was not started"
        return self._process

    def kill_daemon(self) -> None:
        """Kill the daemon with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def fake_clock(self) -> Callable[[float], None]:
        """Give the daemon a wall clock that can be changed; return the function that sets its offset in seconds."""
        clock = self.folder / "fake-clock"  # `clock` is the daemon's own
        clock.write_text("+0\n")
        self.environment |= {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

        def put(seconds: float) -> None:
            fresh = clock.with_suffix(".new")
            fresh.write_text(f"{seconds:+.0f}\n")
            self.heard.offsets_s = (self.heard.offsets_s[-1], seconds)
            fresh.replace(clock)

        return put

    # -- during the fault

    def hold(self, seconds: float) -> None:
        """Wait while the fault lasts, and check that the daemon lives."""
        self.sleep(seconds * self.patience)

    def sleep(self, seconds: float) -> None:
        """Wait, and check that the daemon lives."""
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            if self.daemon.poll() is not None:
                raise AssertionError(f"the daemon ended by itself with code {self.daemon.returncode}: {self.last_words()}")
            time.sleep(0.05)

    def wait(self, probe: Callable[[], Any], what: str, within_s: float) -> float:
        """Wait for a condition and return how long it took; fail where it does not come true in time."""
        began_s = time.monotonic()
        while not probe():
            if time.monotonic() - began_s > within_s:
                raise AssertionError(f"no {what} within {within_s:g} s; {self.last_words()}")
            if self._process is not None and self._process.poll() is not None:
                raise AssertionError(f"the daemon ended by itself with code {self._process.returncode}: {self.last_words()}")
            time.sleep(0.01)
        return time.monotonic() - began_s

    def check(self, holds: bool, sentence: str) -> None:
        """Note a criterion that does not hold."""
        if not holds:
            self.found.broken.append(sentence)

    def last_words(self) -> str:
        """Return the end of the daemon's log."""
        return self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""

    def logged(self, words: str) -> bool:
        """Return whether the daemon's log contains these words."""
        return words in self.log.read_text(errors="replace")

    def told(self, *causes: str, within_s: float = 10.0, state: str | None = None) -> None:
        """Check that the camera's status names the cause."""

        def found() -> bool:
            since = [message for heard_s, message in list(self.heard.said.cameras) if heard_s >= self._began_s]
            return any(message.get("cause") in causes and (state is None or message["state"] == state) for message in since)

        within_s *= self.leniency
        try:
            self.wait(found, "", within_s)
        except AssertionError:
            said = [(message["state"], message.get("cause")) for _, message in self.heard.said.cameras]
            self.found.broken.append(f"the camera's status did not say {' or '.join(causes)} within {within_s:g} s; it said {said[-5:]}")

    def fault(self) -> None:
        """Mark the time of the fault."""
        self._began_s = time.monotonic()

    # -- after the fault

    def healed(self) -> None:
        """Mark the time at which the failed part is back."""
        self.healed_s = time.monotonic()

    def back(self, within_s: float = 5.0) -> None:
        """Wait for a pose captured since then, and check that it arrives in time."""
        healed_s = self.healed_s
        within_s *= self.leniency

        def fresh() -> float | None:
            # From the end: there are thousands.
            found = None
            for pose in reversed(self.heard.said.poses):
                if pose.heard_s < healed_s:
                    break
                if pose.heard_s - pose.age_s >= healed_s - CLOCKS_S:  # taken since then
                    found = pose.heard_s
            return found

        with contextlib.suppress(AssertionError):
            self.wait(fresh, "fresh pose", max(30.0, within_s))
        first_s = fresh()
        if first_s is None:
            raise AssertionError(f"no poses after {max(30.0, within_s):g} s; {self.last_words()}")
        took_s = first_s - healed_s
        self.found.recovery_s.append(took_s)
        self.check(took_s <= within_s, f"poses were back after {took_s:.1f} s, expected {within_s:g} at most")

    def conclude(self) -> Findings:
        """Stop the daemon and count losses; later calls do nothing."""
        found = self.found
        if self._concluded:
            return found
        self._concluded = True
        self.wait(lambda: self.heard.said.health and self.heard.said.health[-1][0] > self.healed_s, "health message", 10 * self.leniency)
        self.sleep(1.5)  # messages on their way arrive, and the counters settle
        self.daemon.send_signal(signal.SIGTERM)
        began_s = time.monotonic()
        try:
            code = self.daemon.wait(10 * self.leniency)
            self.check(code == 0, f"the daemon ended with code {code}, expected 0")
            self.check(
                time.monotonic() - began_s < 4 * self.leniency,
                f"the daemon took {time.monotonic() - began_s:.1f} s to end, expected 3 at most",
            )
        except subprocess.TimeoutExpired:
            found.broken.append(f"the daemon did not end within {10 * self.leniency:g} s of SIGTERM")
        time.sleep(0.3)
        _, found_one, rest = self.log.read_text(errors="replace").partition("Traceback")
        self.check(not found_one, f"there is a traceback in the log: {rest[-2000:]}")
        self.check(not self.logged("ended with an unexpected"), "a thread that nobody supervises ended with an exception")
        self._count()
        return found

    def _count(self) -> None:
        said, found = self.heard.said, self.found
        health = said.health[-1][1]
        lost: Counter[str] = Counter()
        for camera in health["cameras"].values():
            lost.update({f"frames {cause}": count for cause, count in camera["drops"].items() if count})
        lost.update({f"messages {cause}": count for cause, count in health["message_drops"].items() if count})
        # While the wall clock changes, a frame's age may count by both clocks; only the subscriber knows that it was not stale.
        stale = [pose.written_s for pose in said.poses if min(pose.written_s, pose.age_s) > STALE_S]
        wrong = [pose.written_s for pose in said.poses if pose.written_s > STALE_S >= pose.age_s]
        late = [pose.age_s for pose in said.poses if pose.age_s > self.late_s and pose.written_s <= STALE_S]
        lost["stale"], lost["late"], lost["poses with a wrong age"] = len(stale), len(late), len(wrong)
        self.check(len(wrong) <= 6, f"{len(wrong)} poses had a wrong age, expected 6 at most")
        self.check(not stale, f"{len(stale)} stale poses were published, of frames up to {max(stale, default=0):.1f} s old")
        allowed = self.late_allowed
        self.check(len(late) <= allowed, f"{len(late)} poses came late, by up to {max(late, default=0):.1f} s, expected {allowed} at most")
        told = [message.get("cause") for _, message in said.cameras]
        found.told = list(dict.fromkeys(cause for cause in told if cause))
        if self.events_known:
            files = [self.folder / f"people-{number}.jsonl" for number in range(1, self.sessions + 1)]
            events = account(files, [message for _, message in said.events])
            lost["events"] = len(events.missing)
            self.check(not events.missing, f"{len(events.missing)} of {events.awaited} events never came: {', '.join(events.missing[:5])}")
            self.check(events.awaited > 0, "nobody entered or left, so nothing is known of events")
            found.notes.append(f"{events.awaited} events awaited" + (f", {events.repeated} came twice" if events.repeated else ""))
        found.lost = dict(lost)


def fill(disk: Path) -> Path:
    """Fill a disk completely; return the file that takes the space."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass
    return ballast


def random_moments(count: int, least_s: float, most_s: float, seed: int = 12) -> list[float]:
    """Return random waits, the same each time."""
    generator = random.Random(seed)
    return [generator.uniform(least_s, most_s) for _ in range(count)]


def mounted(stack: ExitStack, folder: Path, kilobytes: int) -> None:
    """Mount a disk of so many kilobytes on a folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)
    stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)

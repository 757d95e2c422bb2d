"""The daemon on a stream that goes away again and again: its memory, its reconnects, and where every frame went (`make soak`).

A real `edgepose run` watches a real RTSP server and publishes to a real mosquitto. The server is killed five times and comes back
some seconds later; between two of these the daemon itself is held for a moment, as on a machine that has something else to do, so
that there are late frames to drop and to count. What the daemon counts is compared with what a subscriber sees.

Run from the root of a checkout; needs `mosquitto`, `ffmpeg` and GStreamer's RTSP server, which `.ci/run` installs.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
import msgspec

from edgepose.config import Mqtt
from edgepose.daemon.subscriber import Subscriber
from edgepose.model import find_model
from edgepose.output.messages import CameraStatusMessage, HealthMessage, InfoMessage
from tests.servers.mosquitto import Mosquitto
from tests.servers.rtsp import RtspServer
from tests.waiting import wait_for
from tools.soak_report import Outage, Result, Sample, failures, write

_BASE = "edgepose/soak"
_AWAY_S = (3.0, 4.0, 5.0, 6.0, 7.0)  # of different length, so that the daemon is found in different waits of its back-off
_HELD_S = 1.5
_SAMPLE_EVERY_S = 5.0


class _Pose(msgspec.Struct):
    """All that is needed of a pose message here."""

    sequence: int


@dataclass
class _Heard:
    """What the broker passed on, and when (monotonic seconds)."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    poses: list[tuple[float, int]] = field(default_factory=list)
    states: list[tuple[float, CameraStatusMessage]] = field(default_factory=list)
    health: list[HealthMessage] = field(default_factory=list)
    info: InfoMessage | None = None

    def take(self, topic: str, payload: bytes) -> None:
        """Called in the subscriber's thread."""
        now_s = time.monotonic()
        with self.lock:
            if topic.endswith("/poses"):
                self.poses.append((now_s, msgspec.json.decode(payload, type=_Pose).sequence))
            elif topic.endswith("/cameras/front/status"):
                self.states.append((now_s, msgspec.json.decode(payload, type=CameraStatusMessage)))
            elif topic.endswith("/health"):
                self.health.append(msgspec.json.decode(payload, type=HealthMessage))
            elif topic.endswith("/info"):
                self.info = msgspec.json.decode(payload, type=InfoMessage)


class _Clock:
    """Waits for moments of the run, and samples the daemon meanwhile."""

    def __init__(self, daemon: "subprocess.Popen[bytes]", log: Path) -> None:
        self._daemon = daemon
        self._log = log
        self._start_s = self._next_s = time.monotonic()
        self.samples: list[Sample] = []

    def now_s(self) -> float:
        """Seconds since the first pose."""
        return time.monotonic() - self._start_s

    def since_start(self, monotonic_s: float) -> float:
        """A monotonic time as seconds since the first pose."""
        return monotonic_s - self._start_s

    def until(self, moment_s: float) -> None:
        """Waits; SystemExit when the daemon ends before."""
        while self.now_s() < moment_s:
            if time.monotonic() >= self._next_s:
                self._next_s += _SAMPLE_EVERY_S
                self.samples.append(sample(self._daemon.pid, self.now_s()))
            if self._daemon.poll() is not None:
                raise SystemExit(f"the daemon ended by itself with code {self._daemon.returncode}: {self._log.read_text()[-2000:]}")
            time.sleep(min(0.1, max(0.0, moment_s - self.now_s())))


def soak(source: Path, model: str, minutes: float, scratch: Path, refine_people: int) -> Result:
    """Runs it all; AssertionError where a server does not start or something awaited does not come."""
    length_s = minutes * 60
    part_s = length_s / len(_AWAY_S)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    film = _film(source, part_s + 60, scratch)
    heard = _Heard()
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(scratch))
        server = stack.enter_context(RtspServer(scratch, "--file", str(film)))
        stack.enter_context(Subscriber(Mqtt(host="127.0.0.1", port=broker.port), [f"{_BASE}/#"], heard.take))
        daemon, log = _start_daemon(scratch, server, broker, model, refine_people)
        stack.callback(daemon.wait)
        stack.callback(daemon.kill)
        wait_for(lambda: heard.poses, within_s=60)
        clock = _Clock(daemon, log)
        outages: list[Outage] = []
        for number, away_s in enumerate(_AWAY_S):
            clock.until((number + 0.5) * part_s)
            gone_s = time.monotonic()
            server.kill()
            clock.until(clock.now_s() + away_s)
            server.start()  # returns when it listens
            back_s = time.monotonic()
            clock.until((number + 0.75) * part_s)
            daemon.send_signal(signal.SIGSTOP)
            time.sleep(_HELD_S)
            daemon.send_signal(signal.SIGCONT)
            outages.append(_outage(heard, clock, gone_s, back_s))
            click.echo(f"outage {number + 1}: {outages[-1]}")
        clock.until(length_s)
        server.kill()  # so that all counters come to rest
        health = wait_for(lambda: _at_rest(heard), within_s=60)
        assert health is not None
        daemon.terminate()
        exit_code = daemon.wait(10)
        assert heard.info is not None
        return Result(
            commit=commit,
            minutes=minutes,
            model=heard.info.model.name,
            precision=heard.info.model.precision,
            backend=f"{heard.info.backend.name} ({heard.info.backend.device})",
            refine_people=refine_people,
            samples=clock.samples,
            outages=outages,
            epochs=_last_sequences([sequence for _, sequence in heard.poses]),
            messages_seen=len(heard.poses),
            published=health.cameras["front"].frames,
            drops=health.cameras["front"].drops,
            message_drops=health.message_drops,
            held=len(_AWAY_S),
            held_s=_HELD_S,
            exit_code=exit_code,
        )


def _start_daemon(
    scratch: Path, server: RtspServer, broker: Mosquitto, model: str, refine_people: int
) -> "tuple[subprocess.Popen[bytes], Path]":
    config = scratch / "config.yaml"
    config.write_text(
        "device: soak\n"
        f"cameras: {{front: {{source: '{server.url()}'}}}}\n"
        # One thread: the machine has other things to do meanwhile, and half an hour is about memory and losses, not about speed.
        f"model: {{path: '{Path(model).absolute() if Path(model).is_file() else model}', backend: cpu, threads: 1}}\n"
        f"refine: {{people: {refine_people}}}\n"
        f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
    )
    log = scratch / "daemon.log"
    with log.open("wb") as lines:
        process = subprocess.Popen([sys.executable, "-m", "edgepose", "run", "--config", str(config)], stdout=lines, stderr=lines)
    return process, log


def _film(source: Path, seconds: float, scratch: Path) -> Path:
    """The source as H.264, again and again for as long as the server is ever up; key frames and no B-frames, as cameras send it."""
    once, film = scratch / "once.mp4", scratch / "film.mp4"
    encode = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "20", "-pix_fmt", "yuv420p", "-threads", "1"]
    ffmpeg = ["nice", "-n", "10", "ffmpeg", "-v", "error", "-y"]
    subprocess.run([*ffmpeg, "-i", str(source), "-an", *encode, str(once)], check=True)
    subprocess.run([*ffmpeg, "-stream_loop", "-1", "-i", str(once), "-t", f"{seconds:.0f}", "-c", "copy", str(film)], check=True)
    return film


def sample(pid: int, at_s: float) -> Sample:
    """A process as it is now."""
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


def _outage(heard: _Heard, clock: _Clock, gone_s: float, back_s: float) -> Outage:
    with heard.lock:
        first = next((at_s for at_s, _ in heard.poses if at_s > back_s), None)
        told = [state for at_s, state in heard.states if at_s > gone_s]
    causes = [state.cause for state in told if isinstance(state.cause, str)]
    return Outage(
        gone_s=clock.since_start(gone_s),
        away_s=back_s - gone_s,
        returned_after_s=None if first is None else first - back_s,
        causes=list(dict.fromkeys(causes)),
        epoch=told[-1].epoch if told else -1,
    )


def _at_rest(heard: _Heard) -> HealthMessage | None:
    """The last health, once two in a row say the same of a camera that is gone."""
    with heard.lock:
        if len(heard.health) < 2:
            return None
        before, last = heard.health[-2:]
    front = last.cameras["front"]
    rests = front.state not in ("streaming", "connecting") and (front.frames, front.drops) == (
        before.cameras["front"].frames,
        before.cameras["front"].drops,
    )
    return last if rests and last.message_drops == before.message_drops else None


def _last_sequences(sequences: list[int]) -> list[int]:
    """The last sequence number of each epoch, in order: numbers rise within an epoch and begin anew in the next."""
    return [number for number, following in zip(sequences, [*sequences[1:], -1], strict=True) if following <= number]


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--minutes", type=click.FloatRange(3, 24 * 60), default=30, show_default=True, help="Length of the run.")
@click.option("--model", default="default", show_default=True, help="Name of a shipped model, or path of an ONNX file.")
@click.option("--refine-people", type=click.IntRange(min=0), default=2, show_default=True, help="People a frame who are looked at again.")
@click.option("--report/--no-report", default=True, help="Whether to write docs/reliability.md and its plot.")
def main(source: Path, minutes: float, model: str, refine_people: int, report: bool) -> None:
    """Run the daemon on SOURCE, a video, as a stream that goes away five times; exit code 1 where a bar is missed."""
    find_model(model)
    with tempfile.TemporaryDirectory(prefix="edgepose-soak-") as scratch:
        result = soak(source, model, minutes, Path(scratch), refine_people)
    if report:
        write(result, source.name)
    click.echo(msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(result, samples=result.samples[-1:]))))
    missed = failures(result)
    for sentence in missed:
        click.echo(f"MISSED: {sentence}", err=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

"""The runtime on 64-bit ARM, the processor of a Jetson and of a Raspberry Pi, under emulation (`make arm`).

The arm64 wheels of requirements/cpu.txt are unpacked beside an arm64 Debian, and qemu runs all of it, one system call at a time through
proot, so that no container and no second kernel is needed. Emulated networks run about 300 times slower: this shows that everything works
and computes the same, and nothing about speed. Needs Debian packages, which are installed where they are missing.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import click
import cv2
import numpy as np
from paho.mqtt.client import MQTTMessage

from testing.servers.both_sides import Listener
from testing.servers.mosquitto import Mosquitto
from testing.waiting import wait_for
from tools.debian_packages import install_missing
from tools.write_reference import with_table

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "arm"

_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "proot": "proot",
    "qemu-aarch64-static": "qemu-user-static",
    "mosquitto": "mosquitto",
}
_DEBIAN = "python3,libstdc++6,libgcc-s1,coreutils"
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64")
_TEST_PACKAGES = {
    *("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "onnx", "iniconfig", "pluggy", "execnet", "sortedcontainers"),
    *("ml-dtypes", "typing-extensions", "packaging", "pygments", "jinja2", "markupsafe"),
}
_TESTS = ("tests/pose", "tests/messages", "tests/events/test_detector.py", "tests/config", "tests/telemetry")
"""Tests that run no network."""

_PICTURES, _FRAMES_APART = 3, 40
_CLIP_FRAMES = 6
_LARGEST_DIFFERENCE_PX = 0.5
_LEAST_CONFIDENCE = 0.2  # `pose.keypoint_threshold`: below it a keypoint may be anywhere
_EMULATED_S = 3600.0
_VERSIONS = """
import platform, av, cv2, numpy, onnxruntime
print(f"{platform.machine()}, Python {platform.python_version()}", end="")
print("".join(f", {module.__name__} {module.__version__}" for module in (onnxruntime, numpy, cv2, av)))
"""


class Arm:
    """An arm64 Debian with the runtime's wheels, in a folder; built once."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "root"
        self.shared = folder / "shared"
        self.shared.mkdir(parents=True, exist_ok=True)
        if not (folder / "complete").exists():
            self._build(folder)

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs a program inside; this checkout has the same path there as here."""
        # With /sys bound as well, importing ONNX Runtime crashes under qemu. The checkout has one path on both sides, since proot does not
        # translate the paths of faccessat2, which os.access calls.
        places = ["-b", "/proc", "-b", "/dev", "-b", str(ROOT), "-w", str(ROOT)]
        variables = ["PATH=/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8", f"PYTHONPATH=/opt/packages:{ROOT}", "PYTHONDONTWRITEBYTECODE=1"]
        variables += [f"TMPDIR={self.shared}", f"HYPOTHESIS_STORAGE_DIRECTORY={self.shared}/hypothesis"]
        qemu = ["proot", "-q", "/usr/bin/qemu-aarch64-static", "-r", str(self._root), *places]
        return [*qemu, "/usr/bin/env", "-i", *variables, "python3", *arguments]

    def run(self, *arguments: str) -> str:
        """Run a program inside and return what it wrote to its standard output; fail with the end of what it wrote where it fails."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=_EMULATED_S)
        if done.returncode:
            raise click.ClickException(
                f"on ARM, {' '.join(arguments)} failed with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}"
            )
        return done.stdout

    def _build(self, folder: Path) -> None:
        click.echo("building an arm64 Debian with the arm64 wheels", err=True)
        subprocess.run(["rm", "-rf", str(self._root)], check=True)
        hook = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
        debootstrap = ["mmdebstrap", "--quiet", "--architectures=arm64", "--variant=extract", hook, f"--include={_DEBIAN}", "bookworm"]
        subprocess.run([*debootstrap, str(self._root), "http://deb.debian.org/debian"], check=True, capture_output=True)
        tests = folder / "tests.txt"
        pins = re.split(r"\n(?=\S)", (ROOT / "requirements" / "dev.txt").read_text())
        tests.write_text("\n".join(pin for pin in pins if re.split(r"[=;\[ ]", pin, maxsplit=1)[0] in _TEST_PACKAGES) + "\n")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            "--target",
            str(self._root / "opt/packages"),
        ]
        platforms = [argument for platform in _PLATFORMS for argument in ("--platform", platform)]
        wheels = [*platforms, "--implementation", "cp", "--python-version", "3.11", "--only-binary=:all:", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, *wheels, "-r", str(ROOT / "requirements/cpu.txt"), "-r", str(tests)], check=True)
        (folder / "complete").touch()


def _frames(folder: Path) -> tuple[list[Path], Path]:
    """Write some pictures and a short video from the demo video; return them."""
    pictures: list[Path] = []
    clip = folder / "clip.mp4"
    with av.open(str(ROOT / "edgepose/assets/demo.mp4")) as video, av.open(str(clip), "w") as short:
        stream = short.add_stream("mpeg4", rate=10, width=video.streams.video[0].width, height=video.streams.video[0].height)
        stream.bit_rate = 4_000_000
        for number, frame in enumerate(video.decode(video=0)):
            if number < _CLIP_FRAMES:
                copy = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
                short.mux(stream.encode(copy))
            if number % _FRAMES_APART == 0 and len(pictures) < _PICTURES:
                pictures.append(folder / f"picture-{number}.png")
                cv2.imwrite(str(pictures[-1]), frame.to_ndarray(format="bgr24"))
        short.mux(stream.encode(None))
    return pictures, clip


def compare_people(ours: list[dict[str, object]], theirs: list[dict[str, object]]) -> tuple[int, float]:
    """Return the number of people and the largest difference of a box or a confident keypoint in pixels; fail where numbers differ."""
    largest_px, people = 0.0, 0
    for one, other in zip(ours, theirs, strict=True):
        mine, yours = one["people"], other["people"]
        assert isinstance(mine, list)
        assert isinstance(yours, list)
        if len(mine) != len(yours):
            raise click.ClickException(f"{len(mine)} people are found here and {len(yours)} on ARM in the same picture")
        for person in mine:
            box, keypoints = np.array(person["box"]), np.array(person["keypoints"])
            nearest = min(yours, key=lambda candidate: float(np.abs(np.array(candidate["box"]) - box).max()))
            found = np.array(nearest["keypoints"])
            confident = keypoints[:, 2] >= _LEAST_CONFIDENCE
            differences = [np.abs(np.array(nearest["box"]) - box), np.abs(found - keypoints)[confident, :2].ravel()]
            largest_px = max(largest_px, *(float(part.max()) for part in differences if part.size))
            people += 1
    return people, largest_px


def _lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@contextmanager
def _timed(what: str, rows: list[str]) -> Iterator[list[str]]:
    """Time a step and append a row of the table, with the result that the step puts into the list."""
    result: list[str] = []
    began_s = time.monotonic()
    click.echo(f"{what} …", err=True)
    yield result
    rows.append(f"| {what} | {' '.join(result)} | {time.monotonic() - began_s:.0f} s |")
    click.echo(rows[-1])


def _publishes(arm: Arm, clip: Path) -> str:
    """Run the daemon on a file until it has published three poses to a broker of this machine, then end it."""
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder)) as broker, Listener(broker.port) as listener:
        settings = {
            "mqtt.host": "127.0.0.1",
            "mqtt.port": str(broker.port),
            "device": "arm",
            "cameras.clip.source": str(clip),
            "health.stuck_after_s": "600",
        }
        options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        with (arm.shared / "daemon.log").open("wb") as log:
            daemon = subprocess.Popen(arm.command("-m", "edgepose", "run", *options), stdout=log, stderr=log)
            try:
                poses = wait_for(lambda: _three(listener, daemon, arm), within_s=_EMULATED_S / 12, every_s=0.5)
                code = daemon.wait(_EMULATED_S / 2)
            finally:
                daemon.kill()
                daemon.wait()
        people = [len(json.loads(message.payload)["people"]) for message in poses]
        if code or not any(people):
            raise click.ClickException(f"the daemon ended with {code} after messages with {people} people")
        return f"{len(listener.on('edgepose/arm/cameras/clip/poses'))} pose messages, {sum(people)} people in the first {len(people)}"


def _three(listener: Listener, daemon: "subprocess.Popen[bytes]", arm: Arm) -> list[MQTTMessage]:
    ended = daemon.poll() is not None  # proot returns 0 even where a signal ended the program
    poses = listener.on("edgepose/arm/cameras/clip/poses")
    if ended and len(poses) < 3:
        raise click.ClickException(f"the daemon failed: {(arm.shared / 'daemon.log').read_text()[-1000:]}")
    return list(poses[:3]) if len(poses) >= 3 else []


@click.command(epilog="Example: python -m tools.arm docs/jetson.md")
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--tests/--no-tests", default=True, help="whether to run the unit tests, which take longest")
def main(document: Path, tests: bool) -> None:
    """Run edgepose on 64-bit ARM under emulation and write the results into DOCUMENT."""
    install_missing(_PROGRAMS)
    arm = Arm(WORK)
    pictures, clip = _frames(arm.shared)
    rows: list[str] = []
    versions = arm.run("-c", _VERSIONS).strip()
    with _timed("`edgepose check`", rows) as result:
        arm.run("-m", "edgepose", "check", "--set", f"cameras.clip.source={clip}", "--set", "mqtt.enabled=false")
        result.append("good")
    with _timed("`edgepose doctor`", rows) as result:
        lines = arm.run("-m", "edgepose", "doctor", "--set", "mqtt.enabled=false")
        result.append(next(line for line in lines.splitlines() if "onnxruntime-cpu" in line).split(None, 2)[2])
    with _timed(f"`edgepose infer` on {len(pictures)} pictures, `default` with its refiner", rows) as result:
        there = arm.shared / "arm.jsonl"
        names = [str(picture) for picture in pictures]
        arm.run("-m", "edgepose", "infer", *names, "--output", str(there))
        here = arm.shared / "here.jsonl"
        infer = [sys.executable, "-m", "edgepose", "infer", *map(str, pictures), "--output", str(here)]
        subprocess.run(infer, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        people, largest_px = compare_people(_lines(here.read_text()), _lines(there.read_text()))
        if not people or largest_px > _LARGEST_DIFFERENCE_PX:
            raise click.ClickException(
                f"of {people} people the poses differ by up to {largest_px:.2f} px; expected {_LARGEST_DIFFERENCE_PX:g}"
            )
        result.append(f"the same {people} people as on x86-64, at most {largest_px:.2f} px apart")
    with _timed("`edgepose run` on a file, to mosquitto", rows) as result:
        result.append(_publishes(arm, clip))
    if tests:
        with _timed("unit tests that run no network", rows) as result:
            summary = arm.run("-m", "pytest", "-p", "no:cacheprovider", "--timeout=3600", *_TESTS)
            result.append(re.sub(r" in [\d.]+s.*", "", [line for line in summary.splitlines() if " passed" in line][-1].strip("= ")))
    table = [f"{versions}, under `qemu-user`.", "", "| what | result | time under emulation |", "|---|---|---|", *rows]
    document.write_text(with_table(document.read_text(), "arm", "\n".join(table)))


if __name__ == "__main__":
    main()

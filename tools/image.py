"""The container image of deploy/Dockerfile: built, run locked down, and held to its promise (`make image`).

It is built by buildah and run by podman with runc: read-only, without capabilities, as a user that is not root, in a network namespace that
holds a mosquitto and no route anywhere. Poses of the demo video must arrive within 5 s of the container's start.
Base images are made by mmdebstrap, so that no registry is needed. Needs root and Debian packages, which are installed where missing.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from testing.requirements import find_program
from testing.waiting import in_time
from tools.debian_packages import install_missing
from tools.machine import machine
from tools.write_reference import with_table

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "image"

_PROGRAMS = {
    "buildah": "buildah",
    "podman": "podman",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "mosquitto": "mosquitto",
    "ip": "iproute2",
}
_BASE = "docker.io/library/debian:bookworm-slim"
_SLIM = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "locale", "man", "info")]
_IMAGE = "localhost/edgepose:test"
_NAMESPACE = "edgepose-image"
_PROMISED_S = 5.0
_GIVE_UP_S = 60.0
_STARTS = 3
_DEMO = "/opt/edgepose/lib/python3.11/site-packages/edgepose/assets/demo.mp4"
_WATCH = """
import json, sys, time
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

def on_message(client, data, message):
    people = json.loads(message.payload)["people"]
    if people:
        print(json.dumps({"at_s": time.monotonic(), "people": len(people), "score": people[0]["score"]}), flush=True)
        client.disconnect()

client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
client.on_message = on_message
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_connect = lambda client, *_: client.subscribe("edgepose/image/cameras/+/poses")
client.connect("127.0.0.1", 1883)
client.loop_forever()
"""


def _storage() -> list[str]:
    """Return the options of buildah and podman that keep all they store in a folder of ours."""
    return ["--root", str(WORK / "storage"), "--runroot", str(WORK / "run"), "--storage-driver", _driver()]


def _driver() -> str:
    """Return overlay where the file system takes it, otherwise vfs, which copies everything."""
    return os.environ.get("EDGEPOSE_STORAGE_DRIVER", "overlay")


def _run(*command: str, quiet: bool = True) -> str:
    done = subprocess.run(command, capture_output=quiet, text=True)
    if done.returncode:
        raise click.ClickException(
            f"{' '.join(command[:8])} … failed with {done.returncode}: {(done.stdout or '')[-1500:]}{(done.stderr or '')[-1500:]}"
        )
    return done.stdout or ""


def _make_base() -> None:
    """Make the base image from Debian's archive, unless it is there."""
    if subprocess.run(["buildah", *_storage(), "inspect", "--type", "image", _BASE], capture_output=True).returncode == 0:
        return
    click.echo(f"making {_BASE} from Debian's archive", err=True)
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        archive = Path(folder) / "rootfs.tar"
        _run(
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            *_SLIM,
            "--include=ca-certificates",
            "bookworm",
            str(archive),
            "http://deb.debian.org/debian",
        )
        (Path(folder) / "Dockerfile").write_text('FROM scratch\nADD rootfs.tar /\nCMD ["/bin/sh"]\n')
        _build(_BASE, Path(folder), Path(folder) / "Dockerfile")


def _build(tag: str, context: Path, dockerfile: Path) -> None:
    """Build an image; pip inside it asks where this machine's pip asks, and nothing of that remains in the image."""
    volumes = []
    for place in ("/etc/ssl/certs", "/usr/local/share/ca-certificates", "/etc/pip.conf", *_places_of_pip()):
        if Path(place).exists():
            target = "/etc/pip.conf" if place.endswith("pip.conf") else place
            volumes += ["--volume", f"{place}:{target}:ro"]
    isolation = ["--isolation", "chroot", "--pull-never", "--layers", "--format", "docker"]
    _run("buildah", *_storage(), "bud", *isolation, *volumes, "--tag", tag, "--file", str(dockerfile), str(context))


def _places_of_pip() -> list[str]:
    """Return the files and folders that configure this user's pip, and local folders that it takes packages from."""
    settings = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    folders = [part.removeprefix("file://") for line in settings.splitlines() for part in line.split("=", 1)[-1].strip("'").split("\\n")]
    own = [str(path) for path in (Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf") if path.exists()]
    return [*own, *sorted({folder for folder in folders if folder.startswith("/opt/") and Path(folder).is_dir()})]


@contextmanager
def _lonely_network() -> Iterator[list[str]]:
    """Make a network namespace with a broker and no route out; yield the command that runs a program in it."""
    subprocess.run(["ip", "netns", "delete", _NAMESPACE], capture_output=True)
    _run("ip", "netns", "add", _NAMESPACE)
    inside = ["ip", "netns", "exec", _NAMESPACE]
    try:
        _run(*inside, "ip", "link", "set", "lo", "up")
        with tempfile.TemporaryDirectory() as folder:
            settings = Path(folder) / "mosquitto.conf"
            settings.write_text("listener 1883 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\n")
            mosquitto = find_program("mosquitto") or "mosquitto"
            broker = subprocess.Popen([*inside, mosquitto, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                yield inside
            finally:
                broker.terminate()
                broker.wait(10)
    finally:
        subprocess.run(["ip", "netns", "delete", _NAMESPACE], capture_output=True)


def _locked_down(name: str) -> list[str]:
    """Return the command that runs the image with everything taken away that it does not need."""
    limits = ["--memory", "600m", "--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096"]
    rights = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp", "--tmpfs", "/var/lib/edgepose"]
    network = ["--network", f"ns:/run/netns/{_NAMESPACE}", "--hostname", "image"]
    podman = ["podman", *_storage(), "--cgroup-manager", "cgroupfs", "--runtime", "runc", "run", "--rm", "--name", name, "--pull", "never"]
    return [*podman, *limits, *rights, *network]


def _first_pose(inside: list[str], number: int) -> tuple[float, str]:
    """Start a container on the demo video; return the seconds to the first pose at the broker, and what came."""
    watcher = subprocess.Popen([*inside, sys.executable, "-c", _WATCH], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    try:
        if watcher.stdout.readline().strip() != "ready":
            raise click.ClickException("the subscriber did not reach the broker")
        settings = {"mqtt.host": "127.0.0.1", "cameras.demo.source": _DEMO, "cameras.demo.realtime": "true", "cameras.demo.loop": "true"}
        options = [part for key, value in {**settings, "device": "image"}.items() for part in ("--set", f"{key}={value}")]
        name = f"edgepose-{os.getpid()}-{number}"
        began_s = time.monotonic()
        container = subprocess.Popen(
            [*_locked_down(name), _IMAGE, "run", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            watcher.wait(_GIVE_UP_S)
        except subprocess.TimeoutExpired:
            container.terminate()
            raise click.ClickException(
                f"no pose within {_GIVE_UP_S:g} s; the container wrote: {container.communicate()[0][-2000:]}"
            ) from None
        found = json.loads(watcher.stdout.readline())
        container.terminate()  # podman passes it on: the daemon says goodbye
        log = container.communicate(timeout=_GIVE_UP_S)[0]
        if container.returncode:
            raise click.ClickException(f"the container ended with {container.returncode}: {log[-2000:]}")
        return found["at_s"] - began_s, f"{found['people']} people"
    finally:
        watcher.kill()
        watcher.wait()


def _held(inside: list[str]) -> dict[str, str]:
    """Return what a program inside a container finds of each limit; fails where one does not hold."""
    program = """
import os, socket
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
def refused(act):
    try: act()
    except OSError as error: return error.strerror
    return "allowed"
print(os.geteuid(), status["CapEff"].strip(), status["NoNewPrivs"].strip(), sep="|", end="|")
print(refused(lambda: open("/opt/edgepose/x", "w")), refused(lambda: socket.create_connection(("1.1.1.1", 53), 2)), sep="|")
"""
    command = [*_locked_down(f"edgepose-{os.getpid()}-limits"), "--entrypoint", "python3", _IMAGE, "-c", program]
    user, capabilities, privileges, write, network = _run(*command).strip().splitlines()[-1].split("|")
    if user == "0" or int(capabilities, 16) or privileges != "1" or "allowed" in (write, network):
        raise click.ClickException(f"a limit does not hold: user {user}, capabilities {capabilities}, write {write}, network {network}")
    return {"user": user, "capabilities": "none", "writing outside of its state": write, "the internet": network}


@click.command(epilog="Example: python -m tools.image docs/jetson.md")
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(document: Path) -> None:
    """Build the image, run it, and write the results into DOCUMENT."""
    install_missing(_PROGRAMS)
    if os.geteuid():
        raise click.ClickException("this needs root, for a network namespace of its own; try sudo")
    WORK.mkdir(parents=True, exist_ok=True)
    _make_base()
    click.echo("building the image", err=True)
    _build(_IMAGE, ROOT, ROOT / "deploy" / "Dockerfile")
    size_mb = int(_run("podman", *_storage(), "image", "inspect", "--format", "{{.Size}}", _IMAGE)) / 1e6
    with _lonely_network() as inside:
        held = _held(inside)
        starts = [_first_pose(inside, number) for number in range(_STARTS)]
    fastest_s, people = min(starts)
    if not in_time(fastest_s, _PROMISED_S):
        raise click.ClickException(f"the first pose came {fastest_s:.1f} s after the start; expected {_PROMISED_S:g} s at most")
    rows = [
        f"| size | {size_mb:.0f} MB |",
        f"| first pose after the start of the container | {', '.join(f'{seconds:.1f} s' for seconds, _ in starts)} ({people}) |",
        *(f"| {what} | {found} |" for what, found in held.items()),
    ]
    table = "\n".join([f"{machine()}; {_STARTS} starts.", "", "| what | found |", "|---|---|", *rows])
    document.write_text(with_table(document.read_text(), "image", table))
    click.echo(table)


if __name__ == "__main__":
    main()

"""Memory of the service as systemd's limit counts it: in its own cgroup under a real systemd (`make service-memory`).

The shipped unit runs in a booted systemd with one or two cameras, a real video from a real RTSP server, and a broker outside. Needs root;
see testing/servers/systemd.py.
"""

import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click

from testing.servers.mosquitto import Mosquitto
from testing.servers.rtsp import RtspServer
from testing.servers.systemd import Systemd, why_not
from testing.system.service import Service
from testing.waiting import wait_for
from tools.machine import machine
from tools.write_reference import with_table

_CASES = (
    ("one camera", 1, "refine: {people: 0}"),
    ("two cameras", 2, "refine: {people: 0}"),
    ("two cameras, refining 2 people", 2, "refine: {people: 2}"),
)


def _numbers(group: Path) -> tuple[float, float]:
    """Return anonymous memory and all memory that counts against the limit, in MiB, for cgroups of either version."""
    v1 = (group / "memory.usage_in_bytes").exists()
    lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    stat = {name: int(value) for name, value in lines}
    usage = int((group / ("memory.usage_in_bytes" if v1 else "memory.current")).read_text())
    return stat["rss" if v1 else "anon"] / 2**20, usage / 2**20


def _measure(system: Systemd, folder: Path, url: str, cameras: int, more: str, seconds: float) -> tuple[float, float, float]:
    """Return the highest anonymous and highest total memory within `seconds` in MiB, and the frames per second of all cameras."""
    with Mosquitto(folder, users={"drone": Service.PASSWORD, "reader": "r"}) as broker:
        service = Service(system, broker.port)
        try:
            sources = ", ".join(f"c{number}: {{source: '{url}'}}" for number in range(cameras))
            service.configure(cameras=f"{{{sources}}}", more=more)
            service.start()
            wait_for(lambda: all(service.on(f"cameras/c{number}/poses") for number in range(cameras)), within_s=60)
            group = system.cgroup("edgepose", "memory")
            samples, count, began_s = [], len(service.on("health")), time.monotonic()
            while time.monotonic() - began_s < seconds:
                samples.append(_numbers(group))
                time.sleep(0.5)
            healths = service.on("health")[count:]
            rate = sum(sum(camera["frames_per_second"] for camera in health["cameras"].values()) for health in healths) / len(healths)
            return max(anonymous for anonymous, _ in samples), max(usage for _, usage in samples), rate
        finally:
            service.close()


@click.command(epilog="Example: python -m tools.service_memory build/vtest.avi docs/operations.md")
@click.argument("video", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--seconds", type=float, default=30.0, help="duration of each measurement")
def main(video: Path, document: Path, seconds: float) -> None:
    """Measure the service on VIDEO and write the table into DOCUMENT."""
    reason = why_not()
    if reason is not None:
        raise click.ClickException(reason)
    lines = [
        f"{machine()}, {video.name}, one thread for the network, {seconds:g} s each; the highest value of each.",
        "",
        "| configuration | anonymous memory | counted against `MemoryMax` | frames/s |",
        "|---|---|---|---|",
    ]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        video_file = folder / "video.mp4"  # the server does not transcode
        convert = ["ffmpeg", "-v", "error", "-stream_loop", "2", "-i", str(video), "-c:v", "libx264", "-preset", "veryfast", "-g", "20"]
        subprocess.run([*convert, "-pix_fmt", "yuv420p", str(video_file)], check=True)
        camera = stack.enter_context(RtspServer(folder, "--file", str(video_file)))
        system = stack.enter_context(Systemd(folder / "systemd", Service.shared()))
        Service.install(system)
        for number, (name, cameras, more) in enumerate(_CASES):
            case_folder = folder / str(number)
            case_folder.mkdir()
            camera.restart()
            own, counted, rate = _measure(system, case_folder, camera.url(), cameras, more, seconds)
            lines.append(f"| {name} | {own:.0f} MiB | {counted:.0f} MiB | {rate:.1f} |")
            click.echo(lines[-1])
    document.write_text(with_table(document.read_text(encoding="utf-8"), "memory", "\n".join(lines)), encoding="utf-8")


if __name__ == "__main__":
    main()

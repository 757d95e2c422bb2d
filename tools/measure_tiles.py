"""Measures what tiles cost a live camera: the rate of its poses with and without tiles, and what the tiles see.

python -m tools.measure_tiles ../shared/data/drone-backgrounds [--size 1280]

A camera of 1920 x 1080 pixels and 25 frames/s flies over a photograph and is served by RTSP. One daemon, with the default model, reads it
while `tiles.enabled` changes on and off by SIGHUP, turn after turn, so that other load on the machine meets both alike. With `--size`, the
network's input is so large that frames come faster than the network takes them. Needs `ffmpeg`, and what the tests of RTSP need.
"""

import subprocess
import tempfile
import time
from pathlib import Path

import click
import cv2
import numpy as np

from edgepose.output.video import VideoWriter
from edgepose.pixels import unguarded
from testing.servers.daemon import Daemon, Listener
from testing.servers.mosquitto import Mosquitto
from testing.servers.rtsp import RtspServer
from testing.waiting import wait_for
from tools.machine import machine

WIDTH, HEIGHT, RATE_HZ = 1920, 1080, 25
_FLIGHT_S = 10.0  # then it begins again
_SETTLING_S = 4.0  # after a change: tiles have had two periods


def write_flight(photograph: Path, path: Path, seconds: float) -> None:
    """Write a video in which a camera flies over a photograph, again and again."""
    image = cv2.cvtColor(cv2.imread(str(photograph)), cv2.COLOR_BGR2RGB)
    image = cv2.resize(image, (2 * WIDTH, 2 * HEIGHT))
    once = path.with_stem("once")
    writer = VideoWriter(once)
    for number in range(round(_FLIGHT_S * RATE_HZ)):
        left = round(WIDTH / 2 * (1 + np.sin(number / 100)))
        top = round(HEIGHT / 2 * (1 + np.cos(number / 130)))
        writer.write(unguarded(np.ascontiguousarray(image[top : top + HEIGHT, left : left + WIDTH])), number * 1_000_000_000 // RATE_HZ)
    writer.close()
    again = str(round(seconds / _FLIGHT_S))
    subprocess.run(["ffmpeg", "-loglevel", "error", "-stream_loop", again, "-i", once, "-c", "copy", path], check=True)


def configured(url: str, port: int, size: int, tiles: bool) -> str:
    """Return the configuration of a daemon."""
    return (
        f"device: drone\ncameras:\n  a: {{source: '{url}'}}\nmodel: {{input_size: {size}}}\nmqtt: {{host: 127.0.0.1, port: {port}}}\n"
        f"health: {{interval_s: 0.5}}\ntiles: {{enabled: {str(tiles).lower()}}}\n"
    )


@click.command()
@click.argument("photographs", type=click.Path(path_type=Path))
@click.option("--turns", default=3, help="How often tiles are off, then on.")
@click.option("--seconds", default=8.0, help="Measured time of a turn.")
@click.option("--size", default=0, help="Long side of the network's input.")
def main(photographs: Path, turns: int, seconds: float, size: int) -> None:
    """Measure, and print one line for each turn and the ratio."""
    photograph = min(path for path in photographs.iterdir() if path.suffix in (".jpg", ".png"))
    counts: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name, Mosquitto(Path(name)) as broker:
        folder = Path(name)
        write_flight(photograph, folder / "flight.mp4", 2 * turns * (seconds + _SETTLING_S) + 30)
        with RtspServer(folder, "--file", str(folder / "flight.mp4")) as server:
            listener = Listener(broker.port)
            daemon = Daemon(folder, configured(server.url(), broker.port, size, False), {})
            try:
                wait_for(lambda: listener.on("poses/a"), within_s=60)
                for turn in range(2 * turns):
                    tiles = turn % 2 == 1
                    daemon.reload(configured(server.url(), broker.port, size, tiles))
                    time.sleep(_SETTLING_S)
                    before, heard = len(listener.on("poses/a")), len(listener.on("health"))
                    begun_s = time.monotonic()
                    time.sleep(seconds)
                    rate_hz = (len(listener.on("poses/a")) - before) / (time.monotonic() - begun_s)
                    counts[tiles].append(rate_hz)
                    health = [message["cameras"]["a"] for message in listener.on("health")[heard:]]
                    shares = [camera["tiles_coverage"] for camera in health if "tiles_coverage" in camera]
                    oldest_s = [camera["tiles_oldest_s"] for camera in health if "tiles_oldest_s" in camera]
                    seen = f"coverage {min(shares):.2f} to {max(shares):.2f}" if tiles and shares else ""
                    seen += f", oldest look {max(oldest_s):.2f} s at most" if tiles and oldest_s else ""
                    click.echo(f"tiles {'on ' if tiles else 'off'}: {rate_hz:5.1f} frames/s {seen}")
            finally:
                daemon.process.kill()
                daemon.process.wait(10)
                listener.close()
    ratio = sum(counts[True]) / max(sum(counts[False]), 1e-9)
    click.echo(f"frames with tiles / without: {ratio:.3f} ({machine()})")


if __name__ == "__main__":
    main()

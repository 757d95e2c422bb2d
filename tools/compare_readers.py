"""Cost of a frame of a network camera with each reader: FFmpeg and GStreamer in turns, on one RTSP stream.

python -m tools.compare_readers docs/performance.md
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

from edgepose.capture.gstreamer.library import load
from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import EdgeposeError
from edgepose.supervision.malloc import tune
from testing.servers.rtsp import RtspServer

READERS = ("ffmpeg", "gstreamer")
BEGIN, END = "<!-- readers: tools/compare_readers.py -->", "<!-- end of readers -->"


def read(url: str, reader: str, seconds: float) -> dict[str, float]:
    """Read for a while in this process; after the first sender report, so that ages are by the camera's own clock."""
    tune()
    with closing(open_source("camera", CameraConfig(source=url, reader=reader, open_timeout_s=20))) as source:  # type: ignore[arg-type]
        deadline_s = time.monotonic() + 20
        while source.read().clock != "rtcp":
            if time.monotonic() > deadline_s:
                raise SystemExit("no sender report came within 20 s")
        ages_ms = []
        began_s, cpu_s = time.monotonic(), time.process_time()
        while time.monotonic() - began_s < seconds:
            frame = source.read()
            ages_ms.append((time.time_ns() - frame.captured_at_ns) / 1e6)
        elapsed_s, used_s = time.monotonic() - began_s, time.process_time() - cpu_s
    return {
        "frames_per_second": len(ages_ms) / elapsed_s,
        "cpu_ms": used_s / len(ages_ms) * 1e3,
        "age_ms": statistics.median(ages_ms),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def decoder() -> str:
    """Return the software decoder that GStreamer takes here."""
    library = load()
    found = [library.gst.ElementFactory.find(name) for name in ("avdec_h264", "openh264dec")]
    best = max((factory for factory in found if factory is not None), key=lambda factory: factory.get_rank())
    return str(best.get_name())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document", nargs="?", type=Path, help="Markdown file whose table is rewritten")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each reader")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a turn")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--one", nargs=2, metavar=("READER", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(read(options.one[1], options.one[0], options.seconds)))
        return
    width, height = options.size.split("x")
    turns: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
    with (
        tempfile.TemporaryDirectory() as folder,
        RtspServer(Path(folder), "--width", width, "--height", height, "--rate", str(options.rate)) as server,
    ):
        for turn in range(options.rounds):
            for reader in READERS if turn % 2 == 0 else reversed(READERS):
                command = [sys.executable, "-m", "tools.compare_readers", "--seconds", str(options.seconds), "--one", reader, server.url()]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"{reader} could not read the stream: {done.stderr.strip().splitlines()[-1]}")
                turns[reader].append(json.loads(done.stdout))
                print(reader, turns[reader][-1], file=sys.stderr)
    # The best turn, since other programs take the same cores; of pictures a second and memory the median.
    best = {
        reader: {
            key: (min if key in ("cpu_ms", "age_ms") else statistics.median)([turn[key] for turn in turns[reader]])
            for key in turns[reader][0]
        }
        for reader in READERS
    }
    names = {"ffmpeg": "FFmpeg (PyAV)", "gstreamer": f"GStreamer {load().version}, `{decoder()}`"}
    lines = [
        f"`python -m tools.compare_readers`, {datetime.now(timezone.utc):%Y-%m-%d}, {os.cpu_count()} cores, beside other programs; of CPU"
        f" time and age the best of {options.rounds} turns of {options.seconds:g} s, the median of its frames:",
        "",
        "| reader | frames/s | CPU time per frame | age of a frame when it is read | peak memory |",
        "|---|---|---|---|---|",
    ]
    for reader, row in best.items():
        ratio = "" if reader == "ffmpeg" else f" ({row['cpu_ms'] / best['ffmpeg']['cpu_ms']:.2f} times)"
        lines.append(
            f"| {names[reader]} | {row['frames_per_second']:.1f} | {row['cpu_ms']:.1f} ms{ratio} | {row['age_ms']:.1f} ms"
            f" | {row['memory_mb']:.0f} MiB |"
        )
    table = "\n".join(lines)
    print(table)
    if options.document is not None:
        text = options.document.read_text()
        if BEGIN not in text:
            raise SystemExit(f"{options.document} has no line {BEGIN}; expected one")
        pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
        options.document.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{table}\n\n{END}", text))


if __name__ == "__main__":
    try:
        main()
    except EdgeposeError as error:
        raise SystemExit(str(error)) from error

"""An archive on a two-node Ray cluster of this machine, one node killed in mid-run; writes docs/archives.md (`make archive`).

Every frame must be in the results once, with the bytes of `edgepose infer`. Then one worker alone, for the ratio.
"""

import os
import tempfile
import time
from pathlib import Path

import click

from testing.killed_cluster import annotate_with_a_killed_node, infer
from testing.videos import write_flights
from tools.machine import machine
from tools.write_reference import with_table

PICTURE = Path(__file__).resolve().parents[1] / "edgepose" / "assets" / "golden.jpg"


@click.command()
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--videos", default=60, show_default=True)
@click.option("--frames", default=8, show_default=True, help="Of each video.")
def main(document: Path, videos: int, frames: int) -> None:
    """Run it and write the figures into DOCUMENT."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = write_flights(folder / "clips", PICTURE, videos, frames, key_frames_every=4)
        began_s = time.monotonic()
        summary = annotate_with_a_killed_node(clips, folder / "out", chunk_s=0.4, kill_after=videos // 4)
        took_s = time.monotonic() - began_s
        assert (summary.videos, summary.frames, summary.failed) == (videos, videos * frames, {}), summary
        equal = 0
        for clip in clips:
            (found,) = (folder / "out" / "poses").glob(f"{clip.stem}-*.jsonl")
            equal += found.read_bytes() == infer(clip, folder / "infer.jsonl")
        assert equal == videos, f"{equal} of {videos} equal infer's bytes"
        text = (
            f"{machine()}, beside other work (load {load:.0f}). {videos} videos of {frames} frames, cut into chunks of 0.4 s, on a cluster"
            f" of two nodes with one worker each; one node was killed with SIGKILL when {videos // 4} videos were complete."
            f" {summary.frames:,} frames in {took_s:.0f} s, each once; {equal} of {videos} files equal `edgepose infer --start`;"
            f" {summary.recomputed} frames had to be computed again because a chunk decoded to other pixels."
        )
    document.write_text(with_table(document.read_text(encoding="utf-8"), "archive", text), encoding="utf-8")
    click.echo(text)


if __name__ == "__main__":
    main()

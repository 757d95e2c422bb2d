"""Flip bits in the event store, 20,000 by default, and print what came of them: `make bitflips`."""

import argparse
import logging
import tempfile
import time
from pathlib import Path

from testing.bitflips import flip_bits


def main() -> None:
    """Run the flips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.getLogger("edgepose").setLevel(logging.CRITICAL)
    in_memory = Path("/dev/shm")
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as folder:
        outcomes = flip_bits(Path(folder), arguments.count, arguments.seed)
    took_s = time.monotonic() - began_s
    found = ", ".join(f"{outcome} in {count}" for outcome, count in sorted(outcomes.items()))
    print(f"{arguments.count} bit flips in {took_s:.0f} s: no thread ended, every event that verifies was sent; {found}")


if __name__ == "__main__":
    main()

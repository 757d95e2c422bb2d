"""What a measurement was taken on."""

import os
from pathlib import Path


def machine() -> str:
    """The processor and how many threads of it there are."""
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} threads"

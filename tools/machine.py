"""Description of the machine that a measurement ran on."""

import os
from pathlib import Path


def machine() -> str:
    """Return the processor's name and its number of threads."""
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} threads"

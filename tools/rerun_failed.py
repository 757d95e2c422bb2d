"""Runs the tests that failed in the last run once more, alone; fails if one fails again, or where they are too many (`make test`).

python tools/rerun_failed.py [ARGUMENTS OF PYTEST]
"""

import json
import subprocess
import sys
from pathlib import Path

MOST = 3
"""So many tests may lose a race on a busy machine; more of them are a fault."""

_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def main() -> int:
    """Run them and return the exit code."""
    failed = sorted(json.loads(_FAILED.read_text(encoding="utf-8"))) if _FAILED.exists() else []
    if not 0 < len(failed) <= MOST:
        return 1
    print(f"FAILED AMONG OTHERS, now alone: {', '.join(failed)}", flush=True)
    command = [sys.executable, "-m", "pytest", "--last-failed", "--last-failed-no-failures", "none", *sys.argv[1:]]
    alone = subprocess.run(command, check=False)
    if alone.returncode == 0:
        print(f"PASSED ALONE, so it depends on its neighbors or on the load and should be mended: {', '.join(failed)}", flush=True)
    return alone.returncode


if __name__ == "__main__":
    sys.exit(main())

"""Start and memory of a daemon in a process of its own, measured from outside."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from edgepose.diagnostics.bench_result import MemoryBenchResult
from edgepose.errors import EdgeposeError
from edgepose.telemetry.sensors import memory_mb

_FIRST_POSE_LIMIT_S = 60.0
_SAMPLE_S = 0.25
_STARTS = 3
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"  # an installation has bytecode
_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


def measure_fresh_process(settings: Mapping[str, str], *, settle_s: float) -> MemoryBenchResult:
    """Start a daemon that writes its poses to a file; measure the time to the first one, and its memory after `settle_s` of work.

    The time is the least of three starts: the first one may compile modules and read files that the system does not hold in memory.

    Raises:
        EdgeposeError: it publishes no pose.
    """
    first_s = []
    for _ in range(_STARTS - 1):
        with _daemon(settings, None) as (_, first_pose_s):
            first_s.append(first_pose_s)
    with _cgroup() as group:
        with _daemon(settings, group) as (process, first_pose_s):
            first_s.append(first_pose_s)
            share = []
            for _ in range(max(1, round(settle_s / _SAMPLE_S))):
                time.sleep(_SAMPLE_S)
                share.append(memory_mb(Path(f"/proc/{process.pid}/smaps_rollup"), "Pss"))
            peak_mb = memory_mb(Path(f"/proc/{process.pid}/status"), "VmHWM")
        return MemoryBenchResult(
            first_pose_s=round(min(first_s), 2),
            peak_rss_mb=round(peak_mb, 1),
            peak_pss_mb=round(max(share), 1) or None,
            peak_cgroup_mb=None if group is None else _peak_mb(group),
        )


@contextmanager
def _daemon(settings: Mapping[str, str], group: Path | None) -> Iterator[tuple[subprocess.Popen[str], float]]:
    """Yield a daemon that has published its first pose, and the seconds from its start to that; EdgeposeError where it publishes none."""
    with tempfile.TemporaryDirectory() as folder:
        poses = Path(folder) / "poses.jsonl"
        command = [sys.executable, "-m", "edgepose", "run"]
        for key, value in {**settings, "mqtt.enabled": "false", "files.jsonl": str(poses)}.items():
            command += ["--set", f"{key}={value}"]
        environment = {key: value for key, value in os.environ.items() if key != _NO_BYTECODE}
        start_s = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            if group is not None:
                (group / "cgroup.procs").write_text(str(process.pid))
            while not (poses.exists() and poses.stat().st_size):
                if process.poll() is not None or time.perf_counter() - start_s > _FIRST_POSE_LIMIT_S:
                    process.kill()
                    log = process.communicate()[1].strip().splitlines()
                    raise EdgeposeError(f"a fresh daemon published no pose: {log[-1] if log else 'it took too long'}")
                time.sleep(0.005)
            yield process, time.perf_counter() - start_s
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


@contextmanager
def _cgroup() -> Iterator[Path | None]:
    """Yield a control group for one process, None where none can be made."""
    parent = _V1 if _V1.is_dir() else _V2
    group = parent / f"edgepose-bench-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        yield group if _peak_mb(group) is not None else None
    finally:
        with suppress(OSError):
            group.rmdir()


def _peak_mb(group: Path) -> float | None:
    for name in ("memory.peak", "memory.max_usage_in_bytes"):
        with suppress(OSError, ValueError):
            return round(int((group / name).read_text()) / 2**20, 1)
    return None

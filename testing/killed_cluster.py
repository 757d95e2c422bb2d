"""A Ray cluster of two nodes on this machine, one of which is killed while an archive is annotated."""

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepose.config.schema import Config
from edgepose_export.archive.cluster import ClusterOptions, run_on_cluster
from edgepose_export.archive.run import ArchiveSummary, Progress
from edgepose_export.archive.videos import find_videos
from edgepose_export.archive.worker import AnnotateSettings
from testing.servers.mosquitto import free_port

START = "2026-11-29T10:00:00Z"
START_NS = 1_795_946_400_000_000_000

_TRIES = 5
_ADDRESS = "127.0.0.2"  # Ray takes 127.0.0.1 for the machine's address in its network


@contextmanager
def two_nodes(cpus: int = 1) -> Iterator[Any]:
    """Give a cluster with a head that runs no task, and two nodes that do, on the loopback and with a token."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ |= {"RAY_agent_register_timeout_ms": "180000"}
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)  # for the workers
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = _started(lambda: Cluster(initialize_head=True, head_node_args=head | _ports()))
    try:
        nodes = [_started(lambda: cluster.add_node(num_cpus=cpus, **_ports())) for _ in range(2)]
        cluster.wait_for_nodes()
        yield cluster, nodes
    finally:
        cluster.shutdown()


def _ports() -> dict[str, Any]:
    """Return address and ports of a node: where they are given, it need not wait for its agents, which start slowly on a busy machine."""
    names = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")
    return {"node_ip_address": _ADDRESS} | {name: free_port() for name in names}


def _started(start: Callable[[], Any]) -> Any:
    """Return what a function starts; Ray waits 30 s for a node, which is too short on a busy machine."""
    for _ in range(_TRIES - 1):
        try:
            return start()
        except Exception as error:
            if "timed out" not in str(error):
                raise
    return start()


def annotate_with_a_killed_node(
    videos: Sequence[Path], output: Path, *, chunk_s: float, kill_after: int, config: Config | None = None
) -> ArchiveSummary:
    """Annotate videos on two nodes, one of which is killed when some have their results.

    Args:
        videos: their files.
        output: folder for the results.
        chunk_s: as in `AnnotateSettings`.
        kill_after: number of complete videos at which a node is killed.
        config: of the networks.
    """
    settings = AnnotateSettings(config=config or Config(), output=str(output), start_ns=START_NS, chunk_s=chunk_s).with_networks()
    with two_nodes() as (cluster, nodes):
        stop = threading.Event()

        def kill() -> None:
            while not stop.is_set():
                if len(list((output / "done").glob("*.json"))) >= kill_after:
                    cluster.remove_node(nodes[0], allow_graceful=False)
                    return
                time.sleep(0.05)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            found, _ = find_videos([str(path) for path in videos])
            quiet = Progress(lambda label, total: None, lambda: None, lambda: False)
            return run_on_cluster(found, settings, ClusterOptions(cluster.address, workers=2), quiet)
        finally:
            stop.set()
            killer.join()


def infer(video: Path, target: Path, *options: str) -> bytes:
    """Return what `edgepose infer` writes for a video."""
    command = [sys.executable, "-m", "edgepose", "infer", str(video), "--start", START, "--quiet", "-o", str(target), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target.read_bytes()

"""What the live page costs the daemon, and how late it is (`make live-load`).

Two daemons watch the same video at its own speed, one without a page and one with a page and two clients that render nothing. They run in
turns, the other one stopped meanwhile, and processor time is counted from the kernel, so that other programs on the machine hardly matter.
Then a crowd comes to the page of one daemon (`tools/crowd.py`). Run it from the root of a checkout.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

import click

from edgepose.messages import compact
from testing.servers.mosquitto import Mosquitto
from testing.servers.web_page import LivePageProcess, WebClient
from tools.crowd import Crowd, compared
from tools.machine import write_parts
from tools.pairs import core_s

ASSETS = Path(__file__).resolve().parents[1] / "edgepose" / "assets"
_CONFIG = "health: {interval_s: 5}\n"


def lines(path: Path) -> int:
    """Return the frames that a daemon has written."""
    with path.open("rb") as file:
        return file.read().count(b"\n")


def put_first(pid: int) -> None:
    """Give a daemon the priority of its unit; needs root."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), -5)


class Measured:
    """A daemon whose frames and processor time are counted.

    Args:
        folder: of its files.
        page: whether it has a live page.
        broker: port of a broker; None for none.
    """

    def __init__(self, folder: Path, *, page: bool, broker: int | None = None) -> None:
        self.poses = folder / "poses.jsonl"
        mqtt = ["mqtt.enabled=false"] if broker is None else ["mqtt.enabled=true", "mqtt.host=127.0.0.1", f"mqtt.port={broker}"]
        settings = [f"files.jsonl={self.poses}", f"web.enabled={str(page).lower()}", *mqtt, "device=measured"]
        settings += ["refine.people=8", "tiles.enabled=true"]
        self.page: LivePageProcess | None = None
        if page:
            self.page = LivePageProcess(folder / "state", {"video": str(ASSETS / "demo.mp4")}, _CONFIG, *settings)
            self.process = self.page.process
        else:
            folder.mkdir(parents=True, exist_ok=True)
            sources = [f"cameras.video.source={ASSETS / 'demo.mp4'}", "cameras.video.loop=true", "cameras.video.realtime=true"]
            words = [word for each in [*sources, "model.threads=1", *settings] for word in ("--set", each)]
            environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "edgepose", "run", *words]
            self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True, env=environment)
        until_s = time.monotonic() + 180
        while not (self.poses.exists() and self.poses.stat().st_size) and time.monotonic() < until_s:
            time.sleep(0.2)

    def cost(self, seconds: float) -> tuple[float, int]:
        """Return processor time and frames of a time in which it runs; it is stopped before and after."""
        self.process.send_signal(signal.SIGCONT)
        time.sleep(1)
        began_s, frames = core_s(self.process.pid), lines(self.poses)
        time.sleep(seconds)
        spent_s, done = core_s(self.process.pid) - began_s, lines(self.poses) - frames
        self.process.send_signal(signal.SIGSTOP)
        return spent_s, done

    def close(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(60)


def reading(client: WebClient, take: Callable[[bytes], None], stop: threading.Event) -> threading.Thread:
    """Return a started thread that reads the WebSocket of a client; it opens it again where it is lost."""

    def read() -> None:
        while not stop.is_set():
            with suppress(Exception), client.live_socket(close_timeout=1, ping_interval=None) as opened:
                while not stop.is_set():
                    with suppress(TimeoutError):
                        message = opened.recv(timeout=1)
                        if isinstance(message, bytes):
                            take(message)
            time.sleep(0.2)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def clients_cost(folder: Path, turns: int, seconds: float) -> list[str]:
    """Return a row about the processor time of a frame with two clients."""
    with ExitStack() as opened:
        plain, served = Measured(folder / "plain", page=False), Measured(folder / "served", page=True)
        for each in (plain, served):
            opened.callback(each.close)
        assert served.page is not None
        admin = served.page.administrator()
        stop = threading.Event()
        opened.callback(stop.set)
        messages: Counter[int] = Counter()

        def take(message: bytes) -> None:
            messages[len(message) > 0] += 1

        for _ in range(2):
            reading(admin, take, stop)
        time.sleep(3)
        plain.process.send_signal(signal.SIGSTOP)
        served.process.send_signal(signal.SIGSTOP)
        ratios = []
        totals = [[0.0, 0], [0.0, 0]]
        for turn in range(turns):
            pair = (plain, served) if turn % 2 == 0 else (served, plain)
            costs = {each is served: each.cost(seconds) for each in pair}
            for index in (False, True):
                totals[index][0] += costs[index][0]
                totals[index][1] += costs[index][1]
            if all(cost[1] for cost in costs.values()):
                ratios.append((costs[True][0] / costs[True][1]) / (costs[False][0] / costs[False][1]))
        ms = [1e3 * spent / max(1, frames) for spent, frames in totals]
        rate = messages[True] / (2 * turns * (seconds + 1))
    what = f"core time of a frame with two clients that render nothing ({rate:.0f} messages/s each), over that without a page"
    return [f"| {what} | {median(ratios):.3f} (median of {turns} turns; {ms[1]:.1f} ms against {ms[0]:.1f} ms) |"]


def lateness(folder: Path, seconds: float) -> list[str]:
    """Return a row about how late the page is behind a subscriber."""
    from testing.servers.daemon import Listener

    with ExitStack() as opened:
        broker = opened.enter_context(Mosquitto(folder))
        served = Measured(folder / "late", page=True, broker=broker.port)
        opened.callback(served.close)
        assert served.page is not None
        admin = served.page.administrator()
        stop = threading.Event()
        opened.callback(stop.set)
        heard: dict[tuple[int, int], float] = {}
        seen: dict[tuple[int, int], float] = {}

        class Timed(Listener):
            def _take(self, client: object, extra: object, message: object) -> None:
                if getattr(message, "topic", "").endswith("/poses"):
                    import json

                    poses = json.loads(message.payload)  # type: ignore[attr-defined]
                    heard[poses["epoch"], poses["sequence"]] = time.monotonic()

        listener = Timed(broker.port, "edgepose/measured")
        opened.callback(listener.close)

        def take(message: bytes) -> None:
            now_s = time.monotonic()
            name, length = message[0], int.from_bytes(message[1:5], "little")
            poses = compact.decode(message[9 + name : 9 + name + length], "video")
            seen[poses.epoch, poses.sequence] = now_s

        reading(admin, take, stop)
        time.sleep(seconds)
    both = sorted((seen[key] - heard[key]) * 1e3 for key in seen if key in heard)
    if not both:
        return ["| lateness | nothing was received |"]
    p50, p95 = both[len(both) // 2], both[int(len(both) * 0.95)]
    return [
        f"| time from a subscriber's message to the page's of the same frame, {len(both)} frames | p50 {p50:.0f} ms, p95 {p95:.0f} ms |"
    ]


def inside(folder: Path, pairs: int, seconds: float, passwords: int) -> list[str]:
    """Return rows about a crowd at the page inside the daemon."""
    with ExitStack() as opened:
        served = Measured(folder / "crowd", page=True)
        opened.callback(served.close)
        page, pid = served.page, served.process.pid
        assert page is not None
        admin = page.administrator()
        put_first(pid)
        crowd = opened.enter_context(Crowd(page, admin, passwords, WebClient.slow_live_socket, "/api/v1/login"))
        highest_kb, spent_s, passed_s = Counter[bool](), {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
        last = [False, *_now(pid)]

        def sample(at_page: bool) -> None:
            now_s, page_s = _now(pid)
            if at_page == last[0]:
                spent_s[at_page] += page_s - last[2]
                passed_s[at_page] += now_s - last[1]
            last[:] = at_page, now_s, page_s
            highest_kb[at_page] = max(highest_kb[at_page], page.rss_kb())

        frames = compared(crowd, pairs, seconds, lambda: lines(served.poses), sample)
        took = {each: 100 * spent_s[each] / max(1e-9, passed_s[each]) for each in (False, True)}
        crowd.finish(120, sample)
    return [
        *crowd.rows("the page inside the daemon"),
        f"| frames of the daemon with the crowd at the page, as a share of those with it at a stand-in outside | {frames} |",
        f"| core time of the page's threads, with the crowd and without | {took[True]:.1f} % and {took[False]:.1f} % of a core |",
        f"| memory of the daemon, highest with the crowd and without | {highest_kb[True] // 1000} MB and {highest_kb[False] // 1000} MB |",
    ]


def _now(pid: int) -> tuple[float, float]:
    """Return the time, and the processor time of the page's threads, seconds."""
    return time.monotonic(), core_s(pid, ("live-page", "passwords"))


@click.command()
@click.argument("document", type=click.Path(path_type=Path))
@click.option("--turns", type=int, default=8, show_default=True, help="Turns of each daemon.")
@click.option("--pairs", type=int, default=12, show_default=True, help="Turns of the crowd at the page, and at the stand-in.")
@click.option("--seconds", type=float, default=4.0, show_default=True, help="Length of a turn.")
@click.option("--passwords", type=int, default=10_000, show_default=True)
@click.option("--only", type=click.Choice(("cost", "lateness", "crowd")), help="Measure one thing.")
def main(document: Path, turns: int, pairs: int, seconds: float, passwords: int, only: str | None) -> None:
    """Measure, and write what was measured into DOCUMENT."""
    parts: dict[str, Callable[[Path], list[str]]] = {
        "cost": lambda folder: clients_cost(folder, turns, seconds),
        "lateness": lambda folder: lateness(folder, turns * seconds),
        "crowd": lambda folder: inside(folder, pairs, seconds, passwords),
    }
    write_parts(document, "live", parts, only)


if __name__ == "__main__":
    main()

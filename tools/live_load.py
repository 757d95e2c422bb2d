"""What the live page costs the daemon, and how late it is (`make live-load`).

Two daemons watch the same video at its own speed, one without a page and one with a page and two clients that render nothing. They run in
turns, the other one stopped meanwhile, and processor time is counted from the kernel, so that other programs on the machine hardly matter.
Then a crowd comes to the page of one daemon. Run it from the root of a checkout.
"""

import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import cast

import click

from edgepose.messages import compact
from edgepose.web.accounts.one_time_codes import STEP_S, code_at
from testing.servers.mosquitto import Mosquitto
from testing.servers.systemd import Systemd
from testing.servers.web_page import PASSWORD, LivePageProcess, WebClient, WebPage
from testing.system.service import Service
from tools.machine import machine
from tools.write_reference import with_table

ASSETS = Path(__file__).resolve().parents[1] / "edgepose" / "assets"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_IDLE = 200
_CONFIG = "health: {interval_s: 5}\n"


def core_s(pid: int) -> float:
    """Return the processor time that a process has used, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def lines(path: Path) -> int:
    """Return the frames that a daemon has written."""
    with path.open("rb") as file:
        return file.read().count(b"\n")


def is_open(connection: socket.socket) -> bool:
    """Return whether the other side has not closed a connection that says nothing; close it otherwise."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        pass
    connection.close()
    return False


def put_first(pid: int) -> None:
    """Give a daemon the priority of its unit, and this program, whose place is on other machines, a low one; needs root."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), -5)
    for thread in Path("/proc/self/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), 15)


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


class Crowd:
    """Strangers at a page: idle connections, a slow request, wrong passwords, and one person who signs in again and again.

    Args:
        page: where they come to.
        person: with recovery codes, who signs in.
        passwords: how many wrong ones are tried at most.
    """

    def __init__(self, page: WebPage, person: WebClient, passwords: int) -> None:
        self.sent: Counter[int] = Counter()
        self.statuses: Counter[int] = Counter()
        self.logins_s: list[float] = []
        self._page = page
        self._person = person
        self._passwords = passwords
        self._here = threading.Event()
        self._stop = threading.Event()
        works: list[Callable[[], None]] = [functools.partial(self._guess, number) for number in range(4)]
        for work in [self._keep_idle, self._send_slowly, self._sign_in, *works]:
            threading.Thread(target=work, daemon=True).start()

    def come(self, here: bool) -> None:
        """Come, or leave."""
        (self._here.set if here else self._here.clear)()

    def end(self) -> None:
        """Leave for good."""
        self._stop.set()

    def rows(self, where: str) -> list[str]:
        """Return what became of them."""
        answered = ", ".join(f"{number} x {status}" for status, number in sorted(self.sent.items()))
        what = (
            f"{_IDLE} idle connections, a WebSocket that never reads, a slow request and {sum(self.sent.values())} wrong passwords at once"
        )
        good = ", ".join(f"{number} x {status}" for status, number in self.statuses.items())
        slowest_s = max(self.logins_s, default=0)
        return [f"| {what}, at {where} | {answered} |", f"| good sign-ins meanwhile | {good}; the slowest took {slowest_s:.1f} s |"]

    def _keep_idle(self) -> None:
        idle: list[socket.socket] = []
        while not self._stop.is_set():
            if not self._here.wait(1):
                for each in idle:
                    each.close()
                idle.clear()
                continue
            idle = [each for each in idle if is_open(each)]
            for number in range(len(idle), _IDLE):
                with suppress(OSError):
                    place = (f"127.0.{30 + number // 50}.1", 0)
                    idle.append(socket.create_connection(("127.0.0.1", int(self._page.port)), 5, source_address=place))
            time.sleep(0.5)

    def _guess(self, number: int) -> None:
        thief = WebClient(self._page, f"127.0.{40 + number}.1")
        thief.name = self._person.name
        while not self._stop.is_set():
            if self._here.wait(1) and sum(self.sent.values()) < self._passwords:
                with suppress(OSError):
                    self.sent[thief.sign_in("a wrong password", "000000").status] += 1
            else:
                time.sleep(0.1)

    def _send_slowly(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError):
                if self._here.wait(1):
                    connection = WebClient(self._page, "127.0.50.1").connection()
                    connection.putrequest("POST", "/api/v1/login")
                    connection.putheader("Content-Length", "60000")
                    connection.endheaders()
                    while self._here.is_set() and not self._stop.is_set():
                        connection.send(b"x" * 100)
                        time.sleep(1)

    def _sign_in(self) -> None:
        while not self._stop.is_set():
            if self._here.wait(1) and self._person.recovery_codes:
                began_s = time.monotonic()
                self.statuses[self._person.sign_in().status] += 1
                self.logins_s.append(time.monotonic() - began_s)
            time.sleep(3)


def in_turns(crowd: Crowd, turns: int, seconds: float, frames: Callable[[], int], sample: Callable[[bool], None]) -> dict[bool, int]:
    """Return frames without and with a crowd, which come in turns; `sample` is called several times a second."""
    counted = {False: 0, True: 0}
    for _ in range(turns):
        for busy in (False, True):
            crowd.come(busy)
            time.sleep(1.5)
            before, until_s = frames(), time.monotonic() + seconds
            while time.monotonic() < until_s:
                time.sleep(0.2)
                sample(busy)
            counted[busy] += frames() - before
    return counted


def inside(folder: Path, turns: int, seconds: float, passwords: int) -> list[str]:
    """Return rows about a crowd at the page inside the daemon."""
    with ExitStack() as opened:
        served = Measured(folder / "crowd", page=True)
        opened.callback(served.close)
        page, pid = served.page, served.process.pid
        assert page is not None
        admin = page.administrator()
        opened.callback(admin.slow_live_socket().close)
        crowd = Crowd(page, admin, passwords)
        opened.callback(crowd.end)
        with suppress(PermissionError):
            put_first(pid)
        time.sleep(seconds)
        highest_kb, spent_s, last_s = {False: 0, True: 0}, {False: 0.0, True: 0.0}, [core_s(pid)]

        def sample(busy: bool) -> None:
            now_s = core_s(pid)
            spent_s[busy] += now_s - last_s[0]
            last_s[0] = now_s
            highest_kb[busy] = max(highest_kb[busy], page.rss_kb())

        counted = in_turns(crowd, turns, seconds, lambda: lines(served.poses), sample)
        crowd.come(True)
        until_s = time.monotonic() + 900
        while sum(crowd.sent.values()) < passwords and time.monotonic() < until_s:
            time.sleep(0.5)
            highest_kb[True] = max(highest_kb[True], page.rss_kb())
    share = (spent_s[True] - counted[True] * spent_s[False] / max(1, counted[False])) / (turns * (seconds + 1.5))
    return [
        *crowd.rows("the page inside the daemon"),
        f"| frames of the daemon meanwhile, as a share of those without, in turns | {shared(counted)} |",
        f"| core time of the daemon meanwhile beyond that of its frames | {100 * share:.1f} % of a core |",
        f"| memory of the daemon above its rest | {(highest_kb[True] - highest_kb[False]) / 1000:.0f} MB |",
    ]


def beside(folder: Path, turns: int, seconds: float, passwords: int) -> list[str]:
    """Return rows about a crowd at `edgepose serve` beside the daemon, both under their units in a booted systemd."""
    with ExitStack() as opened:
        machine = opened.enter_context(Systemd(folder / "systemd", Service.shared()))
        broker = opened.enter_context(Mosquitto(folder / "broker", users={"drone": Service.PASSWORD, "reader": "r"}))
        Service.install(machine)
        name = "edgepose-web.service"
        machine.write(f"/etc/systemd/system/{name}", (ASSETS.parents[1] / "systemd" / name).read_text())
        machine.run("systemctl", "daemon-reload")
        service = Service(machine, broker.port)
        opened.callback(service.close)
        service.configure(more="web: {port: 9487}\ntiles: {enabled: false}")
        service.started()
        machine.run("systemctl", "start", name)
        page = cast(WebPage, SimpleNamespace(url="http://127.0.0.1:9487", host="127.0.0.1", port="9487"))
        link = machine.shell("/opt/edgepose/current/bin/edgepose accounts setup --set web.folder=/var/lib/edgepose/web").strip()
        admin = WebClient(page)
        secret = admin.call("POST", "/api/v1/setup/begin", {"link": link.rpartition("#")[2]}).json["secret"]
        order = {"link": link.rpartition("#")[2], "name": "anna", "password": PASSWORD, "code": code_at(secret, int(time.time() // STEP_S))}
        admin.name, admin.recovery_codes = "anna", admin.call("POST", "/api/v1/setup/finish", order).json["recovery_codes"]
        opened.callback(admin.socket(admin.call("POST", "/api/v1/tickets").json["ticket"], close_timeout=0.1).close)
        crowd = Crowd(page, admin, passwords)
        opened.callback(crowd.end)
        for thread in Path("/proc/self/task").iterdir():  # whose place is on other machines
            os.setpriority(os.PRIO_PROCESS, int(thread.name), 15)
        counted = in_turns(crowd, turns, seconds, lambda: len(service.on("cameras/front/poses")), lambda _: None)
        weights = " and ".join(machine.show(unit, "CPUWeight").replace("[not set]", "100") for unit in ("edgepose.service", name))
    return [
        *crowd.rows(f"`edgepose serve` beside the daemon, both under their units (CPUWeight {weights})"),
        f"| frames of the daemon meanwhile, as a share of those without, in turns | {shared(counted)} |",
    ]


def shared(counted: dict[bool, int]) -> str:
    """Return the frames with a crowd as a share of those without."""
    return f"{counted[True] / max(1, counted[False]):.2f} ({counted[True]} against {counted[False]})"


@click.command()
@click.argument("document", type=click.Path(path_type=Path))
@click.option("--turns", type=int, default=8, show_default=True, help="Turns of each daemon, and of the crowd.")
@click.option("--seconds", type=float, default=8.0, show_default=True, help="Length of a turn.")
@click.option("--passwords", type=int, default=10_000, show_default=True)
@click.option("--only", type=click.Choice(("cost", "lateness", "inside", "beside")), help="Measure one thing, and write nothing.")
def main(document: Path, turns: int, seconds: float, passwords: int, only: str | None) -> None:
    """Measure, and write the table of DOCUMENT."""
    rows = [f"Measured on {machine()}, load {os.getloadavg()[0]:.1f} at the start.", "", "| what | found |", "|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if only in (None, "cost"):
            rows += clients_cost(folder, turns, seconds)
        if only in (None, "lateness"):
            rows += lateness(folder, turns * seconds / 2)
        if only in (None, "inside"):
            rows += inside(folder, turns, seconds, passwords)
        if only in (None, "beside"):
            (folder / "systemd").mkdir()
            (folder / "broker").mkdir()
            rows += beside(folder, turns, seconds, passwords)
    text = "\n".join(rows)
    click.echo(text)
    if only is None:
        document.write_text(with_table(document.read_text(encoding="utf-8"), "live-load", text), encoding="utf-8")


if __name__ == "__main__":
    main()

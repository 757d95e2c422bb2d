"""Load on the web page: many uploads in a row, and idle connections with wrong passwords beside a daemon (`make web-load`).

Both parts use a real `edgepose serve` and, for the second one, a real `edgepose run` on a video in a loop, on this one machine. Run it from
the root of a checkout.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import click

from testing.servers.web_page import PASSWORD, WebClient, WebPage
from tools.machine import machine
from tools.write_reference import with_table

ASSETS = Path(__file__).resolve().parents[1] / "edgepose" / "assets"
CLIENTS = 8
_IDLE = 200
_MB = 1_000_000


def large_picture(size: int) -> bytes:
    """Return a BMP of a size, which OpenCV reads and FFmpeg needs not."""
    import cv2
    import numpy as np

    side = int((size / 3) ** 0.5) // 4 * 4
    noise = np.random.default_rng(1).integers(0, 255, (side // 8, side // 8, 3), np.uint8)
    return cv2.imencode(".bmp", cv2.resize(noise, (side, side)))[1].tobytes()


def uploads(folder: Path, count: int, size_mb: int) -> list[str]:
    """Return rows about uploads in a row by eight clients."""
    content = large_picture(size_mb * _MB)
    answers: Counter[str] = Counter()
    states: Counter[str] = Counter()
    memory_kb: list[int] = []
    lock = threading.Lock()
    with WebPage(folder, "web.uploads_per_minute=10000", "web.keep_minutes=0.02", "refine.people=0", "tiles.enabled=false") as page:
        admin = page.administrator()
        jobs: list[str] = []

        def client(number: int) -> None:
            mine = WebClient(page, f"127.0.20.{number + 1}")
            mine.token = token
            for _ in range(count // CLIENTS):
                while True:
                    reply = mine.upload(content, "large.bmp")
                    with lock:
                        answers[f"{reply.status} {reply.json.get('limit', '')}".strip()] += 1
                        memory_kb.append(page.rss_kb())
                        if reply.status == 201:
                            jobs.append(reply.json["id"])
                    if reply.status == 201 or reply.status not in (429, 507):
                        break
                    time.sleep(float(reply.headers.get("retry-after", 1)))

        token = admin.with_token("operator").token
        begin_s = time.monotonic()
        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        watcher = WebClient(page, "127.0.20.100")
        watcher.token = token
        seen: dict[str, str] = {}
        while any(thread.is_alive() for thread in threads) or any(state in ("waiting", "running") for state in seen.values()):
            for job in watcher.call("GET", "/api/v1/jobs").json:
                seen[job["id"]] = job["state"]
            time.sleep(0.2)
        states.update(seen.values())
        took_s = time.monotonic() - begin_s
        wait_s = time.monotonic() + 60
        while watcher.call("GET", "/api/v1/jobs").json and time.monotonic() < wait_s:
            time.sleep(0.5)
        left = list((folder / "jobs").rglob("*"))
        held = sum("jobs" in str(os.readlink(path)) for path in Path(f"/proc/{page.process.pid}/fd").iterdir() if os.path.islink(path))
    quarter = max(1, len(memory_kb) // 4)
    first, last = (sum(part) / len(part) / 1000 for part in (memory_kb[:quarter], memory_kb[-quarter:]))
    named = ", ".join(f"{number} x {name}" for name, number in sorted(answers.items()))
    outcome = ", ".join(f"{number} {name}" for name, number in sorted(states.items()))
    return [
        f"| {count} uploads of {len(content) / _MB:.0f} MB by {CLIENTS} clients, in {took_s:.0f} s | {named} |",
        f"| their jobs, as far as they were seen | {outcome} |",
        f"| memory of the page, first and last quarter; highest | {first:.0f} MB, {last:.0f} MB; {max(memory_kb) / 1000:.0f} MB |",
        f"| files left afterwards, open or on disk | {len(left) + held} |",
    ]


def frames(process: "subprocess.Popen[str]", path: Path, seconds: float) -> int:
    """Return the frames that a daemon finishes in a time, by the lines of its file."""
    before = path.stat().st_size
    time.sleep(seconds)
    with path.open("rb") as file:
        file.seek(before)
        return file.read().count(b"\n")


def crowd(folder: Path, seconds: float, passwords: int) -> list[str]:
    """Return rows about a crowd at the page, beside a daemon."""
    output = folder / "poses.jsonl"
    config = ["mqtt.enabled=false", f"cameras.video.source={ASSETS / 'demo.mp4'}", "cameras.video.loop=true", "cameras.video.realtime=true"]
    config += [f"files.jsonl={output}", "tiles.enabled=false", "refine.people=0", "model.threads=1"]
    with ExitStack() as opened:
        page = opened.enter_context(WebPage(folder / "state"))
        admin = page.administrator()
        daemon = subprocess.Popen(
            [sys.executable, "-m", "edgepose", "run", *(word for key in config for word in ("--set", key))],
            stderr=subprocess.DEVNULL,
            text=True,
        )
        opened.callback(daemon.wait, 30)
        opened.callback(daemon.terminate)
        until_s = time.monotonic() + 120
        while not (output.exists() and output.stat().st_size) and time.monotonic() < until_s:
            time.sleep(0.2)
        alone = [frames(daemon, output, seconds)]
        before_kb = page.rss_kb()
        stop = threading.Event()
        idle: list[socket.socket] = []

        def keep_idle() -> None:
            while not stop.is_set():
                for number in range(_IDLE):
                    if stop.is_set():
                        return
                    with suppress(OSError):
                        idle.append(
                            socket.create_connection(("127.0.0.1", int(page.port)), 5, source_address=(f"127.0.{30 + number // 50}.1", 0))
                        )
                    if len(idle) > _IDLE:
                        idle.pop(0).close()
                time.sleep(1)

        sent: Counter[int] = Counter()

        def guess(number: int) -> None:
            thief = WebClient(page, f"127.0.{40 + number}.1")
            thief.name = admin.name
            while not stop.is_set() and sum(sent.values()) < passwords:
                with suppress(OSError):
                    sent[thief.sign_in("a wrong password", "000000").status] += 1

        def slow_upload() -> None:
            body = WebClient(page, "127.0.50.1")
            body.cookies = dict(admin.cookies)
            with suppress(OSError):
                connection = body.connection()
                cookie = "; ".join(f"{key}={value}" for key, value in body.cookies.items())
                connection.putrequest("POST", "/api/v1/jobs?name=slow.mp4")
                for key, value in (("Cookie", cookie), ("Origin", page.url), ("Content-Length", str(10 * _MB))):
                    connection.putheader(key, value)
                connection.endheaders()
                while not stop.is_set():
                    connection.send(b"x" * 20_000)
                    time.sleep(1)

        unread = admin.socket(admin.call("POST", "/api/v1/tickets").json["ticket"])
        workers = [
            threading.Thread(target=keep_idle),
            threading.Thread(target=slow_upload),
            *(threading.Thread(target=guess, args=(number,)) for number in range(4)),
        ]
        for worker in workers:
            worker.start()
        time.sleep(3)
        good = WebClient(page, admin.address)
        good.name, good.recovery_codes = admin.name, admin.recovery_codes
        logins: list[float] = []
        statuses: Counter[int] = Counter()
        highest_kb = page.rss_kb()
        crowded: list[int] = []

        def measure() -> None:
            crowded.append(frames(daemon, output, seconds))

        measuring = threading.Thread(target=measure)
        measuring.start()
        while measuring.is_alive():
            began_s = time.monotonic()
            statuses[good.sign_in(PASSWORD).status] += 1
            logins.append(time.monotonic() - began_s)
            highest_kb = max(highest_kb, page.rss_kb())
            time.sleep(1)
        while sum(sent.values()) < passwords and any(worker.is_alive() for worker in workers[2:]):
            highest_kb = max(highest_kb, page.rss_kb())
            time.sleep(0.5)
        stop.set()
        for worker in workers:
            worker.join(60)
        unread.close()
        for connection in idle:
            connection.close()
        alone.append(frames(daemon, output, seconds))
    ratio = crowded[0] / (sum(alone) / len(alone))
    answered = ", ".join(f"{number} x {status}" for status, number in sorted(sent.items()))
    what = f"{_IDLE} idle connections, a WebSocket that never reads, a slow upload and {sum(sent.values())} wrong passwords at once"
    good_ones = ", ".join(f"{number} x {status}" for status, number in statuses.items())
    share = f"{ratio:.2f} ({crowded[0]} against {alone[0]} before and {alone[1]} after)"
    return [
        f"| {what} | {answered} |",
        f"| frames of the daemon beside that, as a share of those alone | {share} |",
        f"| memory of the page above its rest | {(highest_kb - before_kb) / 1000:.0f} MB |",
        f"| good sign-ins meanwhile | {good_ones}; the slowest took {max(logins):.1f} s |",
    ]


@click.command()
@click.argument("document", type=click.Path(path_type=Path))
@click.option("--uploads", "count", type=int, default=200, show_default=True, help="Uploads; 0 leaves them out.")
@click.option("--size-mb", type=int, default=20, show_default=True)
@click.option("--seconds", type=float, default=20.0, show_default=True, help="How long frames are counted, three times.")
@click.option("--passwords", type=int, default=10_000, show_default=True)
def main(document: Path, count: int, size_mb: int, seconds: float, passwords: int) -> None:
    """Measure, and write the table of DOCUMENT."""
    rows = [f"Measured on {machine()}, load {os.getloadavg()[0]:.1f} at the start.", "", "| what | found |", "|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        if count:
            rows += uploads(Path(folder) / "uploads", count, size_mb)
        (Path(folder) / "crowd").mkdir()
        rows += crowd(Path(folder) / "crowd", seconds, passwords)
    text = "\n".join(rows)
    click.echo(text)
    document.write_text(with_table(document.read_text(encoding="utf-8"), "web-load", text), encoding="utf-8")


if __name__ == "__main__":
    main()

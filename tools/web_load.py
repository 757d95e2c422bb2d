"""Load on the web page: many uploads in a row, and a crowd beside a daemon (`make web-load`; `tools/crowd.py`).

Both parts use a real `edgepose serve`, the second one under its unit, beside a real `edgepose run`. Run it from the root of a checkout.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click

from testing.servers.mosquitto import Mosquitto
from testing.servers.systemd import Systemd
from testing.servers.web_page import PASSWORD, WebClient, WebPage
from testing.system.service import Service
from tools.crowd import Crowd, compared
from tools.machine import write_parts

ASSETS = Path(__file__).resolve().parents[1] / "edgepose" / "assets"
CLIENTS = 8
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


def crowd(folder: Path, pairs: int, seconds: float, passwords: int) -> list[str]:
    """Return rows about a crowd at `edgepose serve` beside a daemon, both under their units in a booted systemd."""
    with ExitStack() as opened:
        booted = opened.enter_context(Systemd(folder, Service.shared()))
        broker = opened.enter_context(Mosquitto(folder, users={"drone": Service.PASSWORD, "reader": "r"}))
        Service.install(booted)
        name = "edgepose-web.service"
        booted.write(f"/etc/systemd/system/{name}", (ASSETS.parents[1] / "systemd" / name).read_text())
        service = Service(booted, broker.port)
        opened.callback(service.close)
        service.configure(more="web: {port: 9487}\ntiles: {enabled: false}")
        service.started()
        booted.run("systemctl", "start", name)
        page = cast(WebPage, SimpleNamespace(url="http://127.0.0.1:9487", host="127.0.0.1", port="9487"))
        shown = booted.shell("/opt/edgepose/current/bin/edgepose accounts setup --set web.folder=/var/lib/edgepose/web")
        link = shown.strip().rpartition("#")[2]
        admin = WebClient(page)
        admin.name, admin.secret = "anna", admin.call("POST", "/api/v1/setup/begin", {"link": link}).json["secret"]
        order = {"link": link, "name": admin.name, "password": PASSWORD, "code": admin.code()}
        admin.recovery_codes = admin.call("POST", "/api/v1/setup/finish", order).json["recovery_codes"]
        strangers = opened.enter_context(Crowd(page, admin, passwords, _unread, "/api/v1/jobs?name=slow.mp4"))
        highest_kb = Counter[bool]()

        def sample(at_page: bool) -> None:
            said = booted.shell(f"cat /proc/$(systemctl show {name} --property MainPID --value)/status")
            highest_kb[at_page] = max(highest_kb[at_page], int(said.partition("VmRSS:")[2].split()[0]))

        found = compared(strangers, pairs, seconds, lambda: len(service.on("cameras/front/poses")), sample)
        strangers.finish(120, sample)
        weights = " and ".join(booted.show(unit, "CPUWeight").replace("[not set]", "100") for unit in ("edgepose.service", name))
    return [
        *strangers.rows(f"`edgepose serve` beside the daemon, both under their units (CPUWeight {weights})"),
        f"| frames of the daemon with the crowd at the page, as a share of those with it at a stand-in outside | {found} |",
        f"| memory of the page, highest with the crowd and without | {highest_kb[True] // 1000} MB and {highest_kb[False] // 1000} MB |",
    ]


def _unread(client: WebClient) -> Any:
    return client.socket(client.call("POST", "/api/v1/tickets").json["ticket"], close_timeout=0.1, max_queue=1)


@click.command()
@click.argument("document", type=click.Path(path_type=Path))
@click.option("--only", type=click.Choice(("uploads", "crowd")), help="Measure one thing.")
@click.option("--uploads", "count", type=int, default=200, show_default=True, help="Number of uploads.")
@click.option("--size-mb", type=int, default=20, show_default=True)
@click.option("--pairs", type=int, default=12, show_default=True, help="Turns of the crowd at the page, and at the stand-in.")
@click.option("--seconds", type=float, default=4.0, show_default=True, help="Length of a turn.")
@click.option("--passwords", type=int, default=10_000, show_default=True)
def main(document: Path, only: str | None, count: int, size_mb: int, pairs: int, seconds: float, passwords: int) -> None:
    """Measure, and write what was measured into DOCUMENT."""
    parts: dict[str, Callable[[Path], list[str]]] = {
        "uploads": lambda folder: uploads(folder, count, size_mb),
        "crowd": lambda folder: crowd(folder, pairs, seconds, passwords),
    }
    write_parts(document, "web", parts, only)


if __name__ == "__main__":
    main()

"""A crowd at a web page, and what it takes from a daemon beside it.

The clients of a crowd need processor time themselves, which on a real network is that of other machines. So they come in turns: to the
page, and to a stand-in, a process outside that answers the same requests at once. What differs between the turns is the work of the page.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from testing.servers.web_page import WebClient, WebPage
from tools.pairs import words

logging.getLogger("websockets").setLevel(logging.CRITICAL)  # a page that ends unread connections is no news here

IDLE = 200
_GUESSERS, _ADDRESSES, _RATE_HZ = 8, 64, 48.0
_SIGN_IN_S = 5.0

_STAND_IN = """
import asyncio, os

os.nice(5)
ANSWER = b"HTTP/1.1 429 Too Many Requests\\r\\ncontent-type: application/json\\r\\ncontent-length: 2\\r\\nconnection: close\\r\\n\\r\\n{}"

async def answer(reader, writer):
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\\r\\n\\r\\n"), 10)
        length = [line for line in head.lower().split(b"\\r\\n") if line.startswith(b"content-length:")]
        left = int(length[0].partition(b":")[2]) if length else 0
        while left > 0:
            left -= len(await asyncio.wait_for(reader.read(left), 15)) or left
        writer.write(ANSWER)
        await writer.drain()
    except (OSError, EOFError, asyncio.TimeoutError):
        pass
    finally:
        writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class Crowd:
    """Strangers, and a person who signs in again and again; a context manager.

    There are idle connections, a WebSocket that never reads, a slow request, and wrong passwords.

    Args:
        page: where they come to.
        person: with recovery codes, who signs in.
        passwords: how many wrong ones are tried in all.
        unread: opens a WebSocket that nobody reads.
        slow: path of the slow request.
    """

    def __init__(self, page: WebPage, person: WebClient, passwords: int, unread: Callable[[WebClient], Any], slow: str) -> None:
        self.sent: Counter[int] = Counter()
        self.statuses: Counter[int] = Counter()
        self.logins_s: list[float] = []
        self._page, self._person, self._passwords, self._unread, self._slow = page, person, passwords, unread, slow
        self._operator = person.with_token("operator")
        self._stand_in = subprocess.Popen([sys.executable, "-c", _STAND_IN], stdout=subprocess.PIPE, text=True)
        assert self._stand_in.stdout is not None
        port = self._stand_in.stdout.readline().strip()
        self._other = cast(WebPage, SimpleNamespace(url=f"http://127.0.0.1:{port}", host="127.0.0.1", port=port))
        self._place: WebPage | None = None
        self._turn = 0  # changes when they go elsewhere
        self._hurry = False
        self._end = False

    def __enter__(self) -> "Crowd":
        works: list[Callable[[], None]] = [self._keep_idle, self._never_read, self._send_slowly, self._sign_in]
        works += [lambda number=number: self._guess(number) for number in range(_GUESSERS)]  # type: ignore[misc]
        for work in works:
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end = True
        self.go(None)
        self._stand_in.kill()
        self._stand_in.wait(10)

    @property
    def tried(self) -> int:
        """Wrong passwords that the page has answered."""
        return sum(self.sent.values())

    def go(self, to_page: bool | None) -> None:
        """Go to the page, to the stand-in, or away."""
        self._place = None if to_page is None else self._page if to_page else self._other
        self._turn += 1

    def finish(self, within_s: float, sample: Callable[[bool], None]) -> None:
        """Try the passwords that are left, as fast as they are answered."""
        self._hurry = True
        self.go(True)
        until_s = time.monotonic() + within_s
        while self.tried < self._passwords and time.monotonic() < until_s:
            time.sleep(0.2)
            sample(True)

    def rows(self, where: str) -> list[str]:
        """Return what became of them."""
        answered = ", ".join(f"{number} x {status}" for status, number in sorted(self.sent.items()))
        good = ", ".join(f"{number} x {status}" for status, number in sorted(self.statuses.items()))
        what = f"{IDLE} idle connections, a WebSocket that never reads, a slow request and {self.tried} wrong passwords at once"
        slowest_s = max(self.logins_s, default=0)
        return [f"| {what}, at {where} | {answered} |", f"| good sign-ins meanwhile | {good}; the slowest took {slowest_s:.1f} s |"]

    def _keep_idle(self) -> None:
        idle: list[socket.socket] = []
        turn = 0
        while not self._end:
            place = self._place
            if turn != self._turn:
                turn = self._turn
                for each in idle:
                    each.close()
                idle.clear()
            if place is not None:
                idle = [each for each in idle if _is_open(each)]
                for number in range(len(idle), IDLE):
                    with suppress(OSError):
                        source = (f"127.0.{30 + number // 50}.1", 0)
                        idle.append(socket.create_connection(("127.0.0.1", int(place.port)), 5, source_address=source))
            time.sleep(0.3)

    def _never_read(self) -> None:
        watcher = self._person.with_token("viewer")
        while not self._end:
            place, turn = self._place, self._turn
            with suppress(Exception):
                if place is self._page:
                    opened = self._unread(watcher)
                elif place is not None:
                    opened = socket.create_connection(("127.0.0.1", int(place.port)), 5)
                else:
                    opened = None
                until_s = time.monotonic() + 8  # the page closes it before
                while turn == self._turn and time.monotonic() < until_s:
                    time.sleep(0.1)
                if opened is not None:
                    opened.close()
            time.sleep(0.1)

    def _send_slowly(self) -> None:
        while not self._end:
            place, turn = self._place, self._turn
            with suppress(OSError):
                if place is not None:
                    connection = WebClient(place, "127.0.50.1").connection()
                    connection.putrequest("POST", self._slow)
                    connection.putheader("Authorization", f"Bearer {self._operator.token}")
                    connection.putheader("Content-Length", "10000000" if "jobs" in self._slow else "60000")
                    connection.endheaders()
                    while turn == self._turn:
                        connection.send(b"x" * (20_000 if "jobs" in self._slow else 100))
                        time.sleep(1)
                    connection.close()
            time.sleep(0.2)

    def _guess(self, number: int) -> None:
        addresses = [f"127.0.40.{index + 1}" for index in range(number, _ADDRESSES, _GUESSERS)]
        clients = {id(place): [WebClient(place, address) for address in addresses] for place in (self._page, self._other)}
        count = 0
        next_s = time.monotonic()
        while not self._end:
            place = self._place
            if place is None or (place is self._page and self.tried >= self._passwords):
                time.sleep(0.1)
                next_s = time.monotonic()
                continue
            count += 1
            thief = clients[id(place)][count % len(addresses)]
            thief.name = self._person.name
            with suppress(OSError):
                status = thief.sign_in("a wrong password", "000000").status
                if place is self._page:
                    self.sent[status] += 1
            next_s = max(next_s + _GUESSERS / _RATE_HZ, time.monotonic() - 1)
            if not self._hurry:
                time.sleep(max(0.0, next_s - time.monotonic()))

    def _sign_in(self) -> None:
        elsewhere = WebClient(self._other)
        elsewhere.name = self._person.name
        while not self._end:
            place = self._place
            if place is self._page and self._person.recovery_codes:
                began_s = time.monotonic()
                with suppress(OSError):
                    self.statuses[self._person.sign_in().status] += 1
                    self.logins_s.append(time.monotonic() - began_s)
            elif place is not None:
                with suppress(OSError):
                    elsewhere.sign_in("a right password", "000000")
            time.sleep(_SIGN_IN_S)


def put_last() -> None:
    """Give this program, whose place is on other machines, a priority below that of daemon and page."""
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), 5)


def compared(crowd: Crowd, pairs: int, seconds: float, frames: Callable[[], int], sample: Callable[[bool], None]) -> str:
    """Return the rate of frames while the crowd is at the page, as a share of that while it is at the stand-in, in words.

    Args:
        crowd: whose clients come in turns.
        pairs: of turns.
        seconds: of a turn.
        frames: returns the frames so far.
        sample: called several times a second, with whether the crowd is at the page.
    """
    ratios = []
    for pair in range(pairs):
        rates = {}
        for at_page in (pair % 2 == 0, pair % 2 == 1):
            crowd.go(at_page)
            time.sleep(1)
            put_last()
            before, began_s = frames(), time.monotonic()
            while time.monotonic() - began_s < seconds:
                time.sleep(0.2)
                sample(at_page)
            rates[at_page] = (frames() - before) / (time.monotonic() - began_s)
        if all(rates.values()):
            ratios.append(rates[True] / rates[False])
    crowd.go(None)
    return words(ratios) if len(ratios) > 1 else "not measured"


def _is_open(connection: socket.socket) -> bool:
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

"""An amqtt broker (MQTT 3.1.1 only) in a process of its own: `with amqtt_broker() as port`."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testing.requirements import require
from testing.servers.mosquitto import free_port
from testing.waiting import PATIENCE


@contextmanager
def amqtt_broker() -> Iterator[int]:
    require("amqtt")
    port = free_port()
    command = [sys.executable, "-m", "testing.servers.amqtt_broker", str(port)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL) as process:
        try:
            deadline_s = time.monotonic() + 20 * PATIENCE
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, "amqtt did not start"
                    assert time.monotonic() < deadline_s, "amqtt does not listen"
                    time.sleep(0.05)
            yield port
        finally:
            process.kill()


async def _serve(port: int) -> None:
    from amqtt.broker import Broker

    settings = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    await Broker(settings).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))

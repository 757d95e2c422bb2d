"""An amqtt broker (MQTT 3.1.1 only) in a process of its own: `with amqtt_broker() as port`."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testing.requirements import require
from testing.servers.mosquitto import free_port
from testing.waiting import wait_for_port


@contextmanager
def amqtt_broker() -> Iterator[int]:
    require("amqtt")
    port = free_port()
    command = [sys.executable, "-m", "testing.servers.amqtt_broker", str(port)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(process, port, within_s=20)
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

"""A small MQTT broker inside the process, for `edgepose demo`: on the loopback interface only, and it ends with the process.

It speaks MQTT 3.1.1 only, so the demo also shows that the publisher falls back.
"""

import asyncio
import logging
import socket
import threading
from types import TracebackType

from edgepose.errors import UnavailableError

_START_S = 10.0
_STOP_S = 2.0


class EmbeddedBroker:
    """amqtt on a free port of the loopback interface; a context manager.

    Attributes:
        port: that it listens on, once entered.
    """

    def __init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._stopped: asyncio.Event | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    def __enter__(self) -> "EmbeddedBroker":
        """Start the broker; UnavailableError where amqtt is not installed or does not start."""
        try:
            import amqtt.broker  # noqa: F401
        except ImportError as error:
            self._loop.close()
            raise UnavailableError("the embedded broker needs the library amqtt; expected it to be installed: pip install amqtt") from error
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)  # it logs the fallback from version 5 as an error
        logging.getLogger("transitions").setLevel(logging.CRITICAL)
        self.port = _free_port()
        self._thread.start()
        if not self._started.wait(_START_S) or self._error is not None:
            raise UnavailableError(f"the embedded broker did not start: {self._error or 'it took too long'}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop the broker."""
        if self._stopped is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:  # handed to the thread that waits for the start
            self._error = error
        finally:
            self._started.set()
            self._loop.close()

    async def _serve(self) -> None:
        from amqtt.broker import Broker

        self._stopped = asyncio.Event()
        broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await broker.start()
        self._started.set()
        await self._stopped.wait()
        await broker.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""The packets of a vehicle that flies the path of `testing.flight.vehicle`, made by pymavlink."""

import math
import socket
import threading
import time
from typing import Any

from edgepose.flight.mavlink.library import load_dialect, open_codec
from testing.flight.vehicle import ALTITUDE_M, SYSTEM, path, place, rates, speed


class VehiclePackets:
    """The packets of one start of a vehicle.

    Args:
        started_s: when it started, on the clock that `path` is a function of.
        key: signs the packets.
    """

    def __init__(self, started_s: float, key: bytes | None = None, system: int = SYSTEM) -> None:
        self.dialect = load_dialect()
        self._started_s = started_s
        self._codec = open_codec(self.dialect, system, 1, key)

    def heartbeat(self) -> bytes:
        return self.packed(self.dialect.MAVLink_heartbeat_message(2, 3, 0, 0, 4, 3))

    def attitude(self, now_s: float) -> bytes:
        *_, roll, pitch, heading = path(now_s)
        angles = (math.radians(roll), math.radians(pitch), math.radians((heading + 180) % 360 - 180))
        return self.packed(self.dialect.MAVLink_attitude_message(self._boot_ms(now_s), *angles, *rates(now_s)))

    def position(self, now_s: float) -> bytes:
        latitude, longitude, height = place(now_s)
        numbers = (round(latitude * 1e7), round(longitude * 1e7), round((ALTITUDE_M + height) * 1e3), round(height * 1e3))
        velocity = [round(each * 100) for each in speed(now_s)]
        return self.packed(self.dialect.MAVLink_global_position_int_message(self._boot_ms(now_s), *numbers, *velocity, 0xFFFF))

    def status(self, battery: float) -> bytes:
        """Return a SYS_STATUS with the charge of the battery, 0 to 1."""
        return self.packed(self.dialect.MAVLink_sys_status_message(0, 0, 0, 0, 12_000, -1, round(100 * battery), 0, 0, 0, 0, 0, 0))

    def packed(self, message: Any) -> bytes:
        data: bytes = message.pack(self._codec)
        self._codec.seq = (self._codec.seq + 1) % 256
        return data

    def _boot_ms(self, now_s: float) -> int:
        return round((now_s - self._started_s) * 1e3)


class FlyingVehicle(threading.Thread):
    """A vehicle that sends its packets to a UDP port of this machine, until its `with` ends."""

    def __init__(self, port: int, rate_hz: float, key: bytes | None = None) -> None:
        super().__init__(daemon=True)
        self._peer = ("127.0.0.1", port)
        self._rate_hz = rate_hz
        self.battery = 1.0
        self._packets = VehiclePackets(time.monotonic() - 100, key)
        self._ending = threading.Event()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))

    def __enter__(self) -> "FlyingVehicle":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join(5)
        self.socket.close()

    def run(self) -> None:
        heartbeat_s = 0.0
        while not self._ending.wait(1 / self._rate_hz):
            now_s = time.monotonic()
            if now_s - heartbeat_s > 0.5:
                heartbeat_s = now_s
                self.socket.sendto(self._packets.heartbeat(), self._peer)
                self.socket.sendto(self._packets.status(self.battery), self._peer)
            for data in (self._packets.attitude(now_s), self._packets.position(now_s)):
                self.socket.sendto(data, self._peer)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Publish poses, events and snapshots of all lengths for two minutes at mosquittos with tight limits: `make broker-limits`."""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from testing.servers.both_sides import Listener, publishing
from testing.servers.mosquitto import Mosquitto

LIMITS = (2000, 60_000, 1 << 20)
_PERSON_BYTES = 420  # of a person in a pose message
_PEOPLE = (0, 1, 2, 3, 5, 8, 20, 60, 150)


def main() -> None:
    """Run one broker after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="at each broker")
    arguments = parser.parse_args()
    logging.getLogger("edgepose").setLevel(logging.ERROR)
    good = [run(limit, arguments.seconds) for limit in LIMITS]
    sys.exit(0 if all(good) else 1)


def run(limit: int, seconds: float) -> bool:
    """Publish at a broker with one limit, and return whether nothing reconnected and everything too long was counted."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Mosquitto(Path(folder), lines=f"max_packet_size {limit}") as broker,
        Listener(broker.port, "edgepose/drone/cameras/#") as listener,
        publishing(broker.port, pose_expiry_s=600) as publisher,
    ):
        while not publisher.stats().connected:
            time.sleep(0.05)
        ends_s, turn, too_long = time.monotonic() + seconds, 0, 0
        while time.monotonic() < ends_s:
            poses = msgspec.json.encode({"people": "p" * (_PERSON_BYTES * _PEOPLE[turn % len(_PEOPLE)])})
            event = b"e" * (350 if turn % 20 else 5000)
            settled = publisher.stats().sent + sum(publisher.stats().drops.values())
            publisher.publish_poses("front", poses)
            publisher.publish("cameras/front/events", event, qos=1)
            expected = settled + 2
            if turn % 50 == 0:
                publisher.publish("reply/snapshot", b"s" * 350_000, qos=1)
                expected += 1
            while publisher.stats().sent + sum(publisher.stats().drops.values()) < expected and time.monotonic() < ends_s + 10:
                time.sleep(0.005)
            too_long += (len(poses) + 66 > limit) + (len(event) + 62 > limit) + (turn % 50 == 0 and limit < 350_060)
            turn += 1
            time.sleep(0.05)
        stats = publisher.stats()
        time.sleep(0.5)
        good = stats.reconnects == 0 and dict(stats.drops) == ({"too_large": too_long} if too_long else {})
        heard = len(listener.messages)
    print(
        f"max_packet_size {limit}: {turn} rounds in {seconds:g} s, {stats.reconnects} reconnects, {heard} messages heard, "
        f"dropped {stats.drops}, {too_long} were too long: {'good' if good else 'NOT GOOD'}"
    )
    return good


if __name__ == "__main__":
    main()

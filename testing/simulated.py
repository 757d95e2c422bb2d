"""A simulation whose messages are kept instead of published."""

from functools import cache
from typing import Literal

from paho.mqtt.client import topic_matches_sub

from edgepose.config.schema import Config, PrivacyConfig, Profile
from edgepose.messages.schema import TOPICS, Topic
from edgepose.messages.structs import Message, StatusMessage, timestamp
from edgepose.simulation.simulation import Simulation, simulated_config
from testing.sample import CAPTURED_AT


class Record:
    """A publisher that keeps all messages with their addresses."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Message | bytes]] = []

    def publish_poses(self, camera: str, payload: Message) -> None:
        self.messages.append((f"cameras/{camera}/poses", payload))

    def publish_retained(self, address: str, payload: Message | bytes, *, whole: bool = False) -> None:
        self.messages.append((address, payload))

    def clear(self, address: str, *, whole: bool = False) -> None:
        self.messages.append((address, b""))

    def publish(self, address: str, payload: Message, qos: Literal[0, 1] = 0) -> None:
        self.messages.append((address, payload))


@cache
def simulate(
    *, seconds: float, seed: int = 0, people: int = 2, cameras: int = 1, start_ns: int = CAPTURED_AT, profile: Profile = "full"
) -> Record:
    """Return all messages of a simulation, without waiting."""
    record = Record()
    config = simulated_config(Config(device="simulator", privacy=PrivacyConfig(profile=profile)), cameras)
    simulation = Simulation(config, record, seed=seed, people=people, start_ns=start_ns)
    record.publish_retained("status", _status("online", "connected", start_ns))
    simulation.run(seconds=seconds, speed=0, ended=lambda _: False)
    record.publish_retained("status", _status("stopped", "the simulation is over", start_ns))
    return record


def _status(state: Literal["online", "stopped"], reason: str, at_ns: int) -> StatusMessage:
    """Return what the publisher adds to a simulation."""
    return StatusMessage(state=state, reason=reason, session="0123456789abcdef", at=timestamp(at_ns))


def topic_of(address: str) -> Topic:
    """Return the topic of the contract that an address belongs to."""
    patterns = {topic: topic.address.replace("{camera}", "+").replace("{zone}", "+").replace("{command}", "+") for topic in TOPICS}
    (found,) = (topic for topic, pattern in patterns.items() if topic_matches_sub(pattern, address))
    return found

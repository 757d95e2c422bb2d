"""Poses as operators choose them, at a real broker: their encoding, their number, and what names each of them."""

import json

from msgspec.structs import replace
from paho.mqtt.client import MQTTMessage

from edgepose.config.schema import PosesConfig
from edgepose.messages.compact import decode
from testing.sample import sample_message
from testing.servers.both_sides import STATUS, Listener, publishing
from testing.waiting import wait_for

POSES = "edgepose/drone/cameras/front/poses"


def content_type(message: MQTTMessage) -> str:
    return str(getattr(message.properties, "ContentType", ""))


def test_compact_poses_come_with_a_content_type_and_all_else_is_json(broker) -> None:
    with publishing(broker.port, encoding="compact") as publisher, Listener(broker.port) as listener:
        wait_for(lambda: publisher.stats().connected)
        publisher.publish_poses("front", replace(sample_message(), epoch=4))
        (message,) = wait_for(lambda: listener.on(POSES))
        assert content_type(message) == "application/vnd.edgepose.poses"
        poses = decode(bytes(message.payload), "front")
        assert (poses.session, poses.epoch, poses.sequence) == (publisher.stats().session, 4, 812)
        (status,) = wait_for(lambda: listener.on(STATUS))
        assert content_type(status) == "application/json"
        assert json.loads(status.payload)["session"] == publisher.stats().session


def test_thinned_poses_are_counted_and_a_message_names_its_session(broker) -> None:
    with publishing(broker.port, poses=PosesConfig(only_changes=True)) as publisher, Listener(broker.port) as listener:
        wait_for(lambda: publisher.stats().connected)
        for sequence in range(20):
            publisher.publish_poses("front", replace(sample_message(), sequence=sequence))
            publisher.publish_poses("rear", replace(sample_message(), camera="rear", sequence=sequence, people=[]))
        wait_for(lambda: listener.on(POSES))
        stats = publisher.stats()
        assert stats.drops["thinned"] >= 30  # a slow machine takes a second for them, and then one more passes
        first = json.loads(listener.on(POSES)[0].payload)
        assert (first["session"], first["epoch"], first["sequence"]) == (stats.session, 0, 0)

"""How the publisher connects to real brokers: mosquitto 2 (MQTT 5) and amqtt (MQTT 3.1.1 only), passwords, certificates, versions."""

import logging
import subprocess

import msgspec
import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from edgepose.config.schema import MqttConfig, TlsConfig
from edgepose.errors import ConfigError
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.mqtt.settings import PublisherSettings
from testing.requirements import require
from testing.servers.amqtt_broker import amqtt_broker
from testing.servers.both_sides import STATUS, Listener, publishing
from testing.servers.mosquitto import Mosquitto
from testing.servers.scripted import scripted_server
from testing.waiting import wait_for


def test_poses_expire_on_the_broker_and_are_not_retained(broker):
    with publishing(broker.port, pose_expiry_s=1.5) as publisher, Listener(broker.port, "+/+/cameras/+/poses") as listener:
        wait_for(lambda: publisher.stats().connected)
        publisher.publish_poses("front", b"{}")
        message = wait_for(lambda: listener.messages)[0]
        assert (message.topic, message.qos, message.retain) == ("edgepose/drone/cameras/front/poses", 0, False)
        assert message.properties is not None
        properties = vars(message.properties)
        assert properties["MessageExpiryInterval"] in (1, 2)  # the broker subtracts what has passed
        assert properties["ContentType"] == "application/json"


def test_wrong_password_is_named_and_logged_once(tmp_path, caplog):
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    with (
        Mosquitto(tmp_path, users={"drone": "right"}) as broker,
        publishing(broker.port, start=False, username="drone", password_file=str(secret), reconnect_maximum_s=0.05) as publisher,
    ):
        publisher.start()
        wait_for(lambda: publisher.stats().state == "refused: not authorized")
        wait_for(lambda: broker.log.read_text().count("not authorised") >= 5)
        assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1
        assert "wrong" not in caplog.text


def test_right_password_gets_in(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("right\n")
    with (
        Mosquitto(tmp_path, users={"drone": "right"}) as broker,
        publishing(broker.port, username="drone", password_file=str(secret)) as publisher,
    ):
        wait_for(lambda: publisher.stats().connected)


def test_messages_that_the_broker_refuses_are_counted(tmp_path, caplog):
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite edgepose/drone/status\ntopic readwrite edgepose/drone/info\n")
    with Mosquitto(tmp_path, lines=f"acl_file {acl}") as broker, publishing(broker.port) as publisher:
        wait_for(lambda: publisher.stats().connected)
        publisher.publish("cameras/front/events", b"fallen", qos=1)
        wait_for(lambda: publisher.stats().drops == {"refused_by_broker": 1})
        wait_for(lambda: "refuses messages on edgepose/drone/cameras/front/events: not authorized" in caplog.text)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    require("openssl")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, certificate, key


def test_tls(tmp_path, certificates):
    tls = TlsConfig(enabled=True, ca_file=str(certificates[0]))
    with Mosquitto(tmp_path, tls=certificates) as broker, publishing(broker.port, host="localhost", tls=tls) as publisher:
        wait_for(lambda: publisher.stats().connected)
        for number in range(200):
            publisher.publish("cameras/front/events", bytes([number]) * 20_000, qos=1)
        wait_for(lambda: publisher.stats().sent >= 202)
        assert publisher.stats().drops == {}


def test_a_broker_with_an_unknown_certificate_is_refused(tmp_path, certificates):
    with (
        Mosquitto(tmp_path, tls=certificates) as broker,
        publishing(broker.port, host="localhost", tls=TlsConfig(enabled=True)) as publisher,
    ):
        wait_for(lambda: publisher.stats().state.startswith("refused: the broker's certificate is of an unknown authority"))


def test_unreadable_secrets_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match=r"^mqtt.password_file: /nowhere cannot be read: No such file"):
        MqttPublisher(PublisherSettings(MqttConfig(password_file="/nowhere"), "drone"))
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(ConfigError, match=r"first line of .* is empty"):
        MqttPublisher(PublisherSettings(MqttConfig(password_file=str(empty)), "drone"))
    with pytest.raises(ConfigError, match=r"^mqtt.tls.ca_file: /nowhere cannot be used"):
        MqttPublisher(PublisherSettings(MqttConfig(tls=TlsConfig(enabled=True, ca_file="/nowhere")), "drone"))
    with pytest.raises(ConfigError, match=r"^mqtt.tls.certificate_file: .*empty with its key in the same file cannot be used"):
        MqttPublisher(PublisherSettings(MqttConfig(tls=TlsConfig(enabled=True, certificate_file=str(empty))), "drone"))
    with pytest.raises(ConfigError, match="cannot be part of a topic"):
        MqttPublisher(PublisherSettings(MqttConfig(), "a/b"))


def test_an_unknown_host_is_named():
    with publishing(1883, host="no-such-host.invalid") as publisher:
        wait_for(lambda: publisher.stats().state.startswith("unreachable: "))
        assert "name" in publisher.stats().state


def test_falls_back_to_3_1_1():
    with amqtt_broker() as port, publishing(port) as publisher, Listener(port, protocol=MQTTProtocolVersion.MQTTv311) as listener:
        wait_for(lambda: publisher.stats().connected)
        assert publisher.stats().protocol == "3.1.1"
        publisher.publish_poses("front", b"{}")
        wait_for(lambda: listener.on("edgepose/drone/cameras/front/poses"))
        wait_for(lambda: "online" in listener.states())
        publisher.stop()
        wait_for(lambda: listener.states()[-1] == "stopped")


def refusing_version_5():
    """What a 3.1.1 broker by the book says: CONNACK with return code 1 to version 5, 0 to 3.1.1."""

    def talk(client):
        level = client.recv(4096).partition(b"MQTT")[2][0]
        client.sendall(b"\x20\x02\x00" + bytes([level == 5]))
        while level == 4 and client.recv(4096):
            pass

    return scripted_server(talk)


def test_a_refused_version_is_followed_by_the_other_at_once_and_without_alarm(caplog):
    with refusing_version_5() as port, publishing(port, keepalive_s=60) as publisher:
        wait_for(lambda: publisher.stats().connected, promised_s=1)
        assert publisher.stats().protocol == "3.1.1"
        assert not caplog.records


def test_a_broker_that_accepts_version_5_only_is_named_in_the_state():
    with refusing_version_5() as port, publishing(port, protocol="5") as publisher:
        wait_for(lambda: publisher.stats().state == "refused: unsupported protocol version")


def test_msgpack(broker):
    with publishing(broker.port, encoding="msgpack"), Listener(broker.port, STATUS) as listener:
        message = wait_for(lambda: listener.messages)[0]
        assert msgspec.msgpack.decode(message.payload)["state"] == "online"
        assert message.properties is not None
        assert vars(message.properties)["ContentType"] == "application/msgpack"

"""Every way in which a broker does not let us in has its own name, and each ends when its cause does."""

import json
import logging
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgepose.config.schema import MqttConfig, TlsConfig
from edgepose.errors import ConfigError
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.mqtt.settings import PublisherSettings
from testing.servers.both_sides import publishing
from testing.servers.certificates import Authority
from testing.servers.mosquitto import Mosquitto, free_port
from testing.servers.scripted import scripted_server
from testing.waiting import wait_for

DYNAMIC_SECURITY = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder):
    return Authority(folder)


@pytest.fixture(scope="module")
def stranger(folder):
    return Authority(folder, "stranger")


@pytest.fixture(scope="module")
def server(authority):
    return authority.certificate, *authority.issue("server", host="localhost")


@pytest.fixture(scope="module")
def client(authority):
    return authority.issue("drone")


def tls(authority, client=(None, None)):
    certificate, key = (None if path is None else str(path) for path in client)
    return TlsConfig(enabled=True, ca_file=str(authority.certificate), certificate_file=certificate, key_file=key)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def refused(caplog, port, **settings):
    """State and log line of a publisher that goes on trying; both stay what they are over several attempts."""
    with publishing(port, reconnect_maximum_s=0.05, **settings) as publisher:
        wait_for(lambda: publisher.stats().state not in ("not started", "connecting"))
        turns = publisher.stats().turns
        wait_for(lambda: publisher.stats().turns >= turns + 4)
        state = publisher.stats().state
        assert publisher.stats().reconnects == 0
    return state, warnings(caplog)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_brokers_certificate_must_be_known_valid_and_its_own(tmp_path, authority, stranger, caplog):
    cases = [
        ("server", "localhost", 2, stranger, "is of an unknown authority", f"signed by an authority in {stranger.certificate}"),
        ("expired", "localhost", -1, authority, "has expired", "by this device's clock"),
        ("elsewhere", "elsewhere", 2, authority, "is for another host", "expected mqtt.host (localhost) to be a name in it"),
    ]
    for name, host, days, trusted, words, expected in cases:
        caplog.clear()
        certificate, key = authority.issue(name, host=host, days=days)
        (tmp_path / name).mkdir()
        with Mosquitto(tmp_path / name, tls=(authority.certificate, certificate, key)) as broker:
            state, lines = refused(caplog, broker.port, host="localhost", tls=tls(trusted))
        assert state == f"refused: the broker's certificate {words}"
        assert len(lines) == 1
        assert expected in lines[0]


def test_tls_where_there_is_none_and_none_where_there_is(tmp_path, authority, server, caplog):
    with Mosquitto(tmp_path) as broker:
        state, lines = refused(caplog, broker.port, host="localhost", tls=tls(authority))
    assert state == "refused: no TLS on that port, it seems"
    assert [line.partition("; ")[2] for line in lines] == [
        "expected a port with TLS (key mqtt.port), or mqtt.tls.enabled to be false; trying again"
    ]
    caplog.clear()
    (tmp_path / "tls").mkdir()
    with Mosquitto(tmp_path / "tls", tls=server) as broker:
        state, lines = refused(caplog, broker.port, host="localhost")
    assert state == "refused: that port is for TLS"
    assert [line.partition("; ")[2] for line in lines] == [
        "expected mqtt.tls.enabled to be true, or a port without TLS (key mqtt.port); trying again"
    ]


def test_a_client_certificate_is_required_and_checked(tmp_path, authority, stranger, server, client, caplog):
    with Mosquitto(tmp_path, tls=server, lines="require_certificate true") as broker:
        state, lines = refused(caplog, broker.port, host="localhost", tls=tls(authority))
        assert state.startswith("refused: client certificate required")  # mosquitto's alert may be overtaken by the end: ", it seems"
        assert "(keys mqtt.tls.certificate_file, mqtt.tls.key_file)" in lines[0]
        state, _ = refused(caplog, broker.port, host="localhost", tls=tls(authority, stranger.issue("somebody")))
        assert state.startswith(("refused: client certificate of an authority that the broker", "refused: client certificate not accepted"))
        with publishing(broker.port, host="localhost", tls=tls(authority, client)) as publisher:
            wait_for(lambda: publisher.stats().connected)


def test_the_alerts_of_another_tls_are_understood(authority, server, caplog):
    port = free_port()
    command = ["openssl", "s_server", "-accept", str(port), "-CAfile", server[0], "-cert", server[1], "-key", server[2]]
    command += ["-Verify", "1", "-verify_return_error", "-quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: listens(port))
            state, _ = refused(caplog, port, host="localhost", tls=tls(authority))
        finally:
            process.kill()
    assert state == "refused: client certificate required"


def test_two_factors_certificate_and_password(tmp_path, authority, server, client):
    secret = tmp_path / "secret"
    secret.write_text("right\n")
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    both: dict[str, Any] = {"host": "localhost", "username": "drone"}
    with Mosquitto(tmp_path, tls=server, users={"drone": "right"}, lines="require_certificate true") as broker:
        with publishing(broker.port, **both, password_file=str(secret), tls=tls(authority, client)) as publisher:
            wait_for(lambda: publisher.stats().connected)
        with publishing(broker.port, **both, password_file=str(wrong), tls=tls(authority, client)) as publisher:
            wait_for(lambda: publisher.stats().state == "refused: not authorized")
        with publishing(broker.port, **both, password_file=str(secret), tls=tls(authority)) as publisher:
            wait_for(lambda: publisher.stats().state.startswith("refused: client certificate required"))


def test_nobody_is_let_in_without_a_name(tmp_path, caplog):
    with Mosquitto(tmp_path, users={"drone": "right"}) as broker:
        state, lines = refused(caplog, broker.port)
        assert state == "refused: not authorized"
        assert "expected a user name and password (keys mqtt.username, mqtt.password_file)" in lines[0]
        state, _ = refused(caplog, broker.port, protocol="3.1.1")
        assert state == "refused: not authorized"


def answering(*answer):
    """Answers whatever CONNECT says with these bytes."""

    def talk(client):
        client.recv(4096)
        client.sendall(bytes(answer))

    return scripted_server(talk)


@pytest.mark.parametrize(
    ("code", "state", "expected"),
    [
        (0x85, "client identifier not valid", "allows client identifiers edgepose-"),
        (0x86, "bad user name or password", "that the broker knows (keys mqtt.username, mqtt.password_file)"),
        (0x88, "server unavailable", ""),
        (0x89, "server busy", ""),
        (0x8A, "banned", "to be lifted at the broker"),
        (0x8C, "bad authentication method", "expected a broker that takes user name and password"),
        (0x9A, "retain not supported", "expected a broker with retained messages"),
        (0x9D, "server moved", "expected mqtt.host to be the server that the broker names"),
        (0x9F, "connection rate exceeded", ""),
    ],
)
def test_every_reason_of_the_standard_has_its_name(code, state, expected, caplog):
    with answering(0x20, 3, 0, code, 0) as port:
        told, lines = refused(caplog, port)
    assert told == f"refused: {state}"
    assert len(lines) == 1
    assert expected in lines[0]


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (1, "unsupported protocol version"),
        (2, "client identifier not valid"),
        (3, "server unavailable"),
        (4, "bad user name or password"),
        (5, "not authorized"),
    ],
)
def test_every_return_code_of_the_older_standard_has_its_name(code, state, caplog):
    with answering(0x20, 2, 0, code) as port:
        told, lines = refused(caplog, port, protocol="3.1.1")
    assert told == f"refused: {state}"
    assert len(lines) == 1


def test_somebody_else_on_that_port_is_no_broker(caplog):
    with answering(*b"\x90\x01\x00\x00SSH-2.0-OpenSSH_9.2\r\n" * 20) as port:
        state, lines = refused(caplog, port)
    assert state.startswith("unreachable: ")
    assert not any(record.exc_info for record in caplog.records if record.levelno > logging.DEBUG)
    assert 1 <= len(lines) <= 2


@pytest.mark.needs("mosquitto", "mosquitto-dynamic-security")
def test_a_refused_subscription_is_said(tmp_path, caplog):
    settings = tmp_path / "security.json"
    access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    groups = [{"groupname": "everybody", "roles": [], "clients": []}]
    settings.write_text(json.dumps({"defaultACLAccess": access, "groups": groups, "anonymousGroup": "everybody"}))
    lines = f"plugin {DYNAMIC_SECURITY}\nplugin_opt_config_file {settings}"
    with Mosquitto(tmp_path, lines=lines) as broker, publishing(broker.port, commands=lambda _: None) as publisher:
        wait_for(lambda: publisher.stats().connected)
        for topic in ("edgepose/drone/status", "edgepose/drone/command/+"):
            sentence = f"refuses the subscription to {topic}: not authorized; expected the right to read it"
            wait_for(lambda sentence=sentence: sentence in caplog.text)  # type: ignore[misc]
        assert publisher.stats().connected


def test_a_new_password_gets_in_without_a_restart_and_a_bad_file_changes_nothing(tmp_path, caplog):
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    settings: dict[str, Any] = {"username": "drone", "password_file": str(secret), "reconnect_maximum_s": 0.1}
    with Mosquitto(tmp_path, users={"drone": "right"}) as broker, publishing(broker.port, **settings) as publisher:
        wait_for(lambda: publisher.stats().state == "refused: not authorized")
        secret.write_text("right\n")
        wait_for(lambda: publisher.stats().connected)
        secret.write_text("")
        broker.restart()
        wait_for(lambda: publisher.stats().reconnects == 1)
        wait_for(lambda: f"the first line of {secret} is empty" in caplog.text)
        assert caplog.text.count("The previous credentials stay in use") == 1
        wait_for(lambda: publisher.stats().connected)


def test_a_new_certificate_is_taken_without_a_restart(tmp_path, authority, stranger, server, client):
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"

    def use(files):
        for path, source in zip((certificate, key), files, strict=True):
            path.write_bytes(source.read_bytes())

    use(stranger.issue("visitor"))
    settings = {"host": "localhost", "tls": tls(authority, (certificate, key)), "reconnect_maximum_s": 0.1}
    with (
        Mosquitto(tmp_path, tls=server, lines="require_certificate true") as broker,
        publishing(broker.port, **settings) as publisher,
    ):
        wait_for(lambda: publisher.stats().state.startswith("refused: client certificate"))
        use(client)
        wait_for(lambda: publisher.stats().connected)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(tmp_path, authority, client):
    key = tmp_path / "encrypted.key"
    subprocess.run(["openssl", "ec", "-in", client[1], "-aes256", "-passout", "pass:x", "-out", key], check=True, capture_output=True)
    with pytest.raises(ConfigError, match="the key is encrypted; expected a PEM certificate and its unencrypted key"):
        MqttPublisher(PublisherSettings(MqttConfig(tls=tls(authority, (client[0], key))), "drone"))

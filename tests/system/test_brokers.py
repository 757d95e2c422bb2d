"""deploy/mosquitto: who may do what, and what an outage of the ground costs."""

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.servers.mosquitto import Mosquitto
from testing.system.brokers import Person, ShippedBroker, make_certificates
from testing.waiting import wait_for

pytestmark = pytest.mark.xdist_group("brokers")  # one broker on the ground

ACCEPTED, NOBODY_LISTENS, DENIED = 0, 16, 135
UNBOUND = ("\nuse_username_as_clientid true\n", "\n")  # a ground broker that lets clients choose their ids
EVENTS = "edgepose/drone-7/cameras/front/events"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"), "drone-7", "drone-8", "reader", "commander")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[ShippedBroker]:
    with ShippedBroker(tmp_path_factory.mktemp("ground") / "broker", certificates) as started:
        yield started


@pytest.mark.parametrize(
    ("who", "topic", "allowed"),
    [
        ("drone-7", "edgepose/drone-7/status", True),
        ("drone-7", "edgepose/drone-7/cameras/front/events", True),
        ("drone-7", "edgepose/drone-7/cameras/front/poses", True),
        ("drone-7", "edgepose/drone-7/reply/reload", True),
        ("drone-7", "edgepose/drone-7/command/reload", False),
        ("drone-7", "edgepose/drone-8/status", False),
        ("drone-7", "edgepose/drone-8/cameras/front/events", False),
        ("drone-7", "edgepose/drone-70/status", False),
        ("drone-7", "elsewhere", False),
        ("reader", "edgepose/drone-7/status", False),
        ("reader", "edgepose/drone-7/command/reload", False),
        ("reader", "edgepose/reader/status", False),
        ("commander", "edgepose/drone-7/command/reload", True),
        ("commander", "edgepose/drone-8/command/snapshot", True),
        ("commander", "edgepose/drone-7/status", False),
        ("commander", "edgepose/commander/status", False),
        ("commander", "edgepose/drone-7/cameras/front/events", False),
    ],
)
def test_who_may_write_what(ground: ShippedBroker, certificates: Path, who: str, topic: str, allowed: bool) -> None:
    with Person(ground, certificates, who) as person:
        assert person.publish(topic) in ((ACCEPTED, NOBODY_LISTENS) if allowed else (DENIED,))


def test_who_hears_what(ground: ShippedBroker, certificates: Path) -> None:
    with (
        Person(ground, certificates, "drone-7", "edgepose/#") as seven,
        Person(ground, certificates, "drone-8", "#") as eight,
        Person(ground, certificates, "reader", "edgepose/#") as reader,
        Person(ground, certificates, "commander", "edgepose/#") as commander,
    ):
        seven.publish("edgepose/drone-7/health", b"well")
        commander.publish("edgepose/drone-7/command/reload", b"again")
        for person in (reader, commander):
            wait_for(lambda person=person: person.heard("/health") and person.heard("/command/reload"))  # type: ignore[misc]
        assert wait_for(lambda: seven.heard()) == [b"again"]
        assert eight.heard() == []


def refused(broker: Mosquitto, context: ssl.SSLContext) -> bool:
    """Whether a client that greets as `abc` is thrown out; with TLS 1.3 that is so only after the handshake."""
    try:
        with (
            socket.create_connection(("127.0.0.1", broker.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
        ):
            encrypted.sendall(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc")
            return encrypted.recv(100) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def test_nobody_without_a_certificate_of_ours(ground: ShippedBroker, certificates: Path, tmp_path: Path) -> None:
    others = make_certificates(tmp_path / "others", "drone-7")
    for own in (None, others):
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        if own is not None:
            context.load_cert_chain(own / "drone-7.crt", own / "drone-7.key")
        assert refused(ground, context)


def test_the_broker_must_show_a_certificate_of_ours_too(ground: ShippedBroker, tmp_path: Path) -> None:
    others = make_certificates(tmp_path / "others", "drone-7")
    context = ssl.create_default_context(cafile=str(others / "ca.crt"))
    with socket.create_connection(("127.0.0.1", ground.port), timeout=10) as plain, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def connections(ground: ShippedBroker) -> int:
    """How often the bridge has been let in."""
    return ground.log.read_text().count("New bridge connected")


@pytest.mark.parametrize("client_id", ["drone-7-bridge", "drone-7", "bridge-to-ground"])
def test_no_device_takes_over_the_session_of_another_ones_bridge(tmp_path: Path, certificates: Path, client_id: str) -> None:
    with (
        ShippedBroker(tmp_path / "ground", certificates) as ground,
        Person(ground, certificates, "commander") as commander,
        ShippedBroker(tmp_path / "board", certificates, ground) as on_board,
        Person(on_board, certificates, "drone-7", "edgepose/drone-7/command/+") as drone,
    ):
        wait_for(lambda: connections(ground) == 1, within_s=20)
        with Person(ground, certificates, "drone-8", "edgepose/drone-7/command/#", client_id) as thief:
            assert commander.publish("edgepose/drone-7/command/reload", b"please") == ACCEPTED
            wait_for(lambda: b"please" in drone.heard("/command/reload"))
            assert thief.heard() == []
        on_board.kill()
        with Person(ground, certificates, "drone-8", "", client_id):  # while the bridge is away
            commander.publish("edgepose/drone-7/command/reload", b"later")
        on_board.start()
        wait_for(lambda: b"later" in drone.heard("/command/reload"), within_s=30)
        assert connections(ground) == 2  # the second after the restart on board


def test_without_the_binding_a_device_throws_the_bridge_out(tmp_path: Path, certificates: Path) -> None:
    """What the shipped line is good for: another mosquitto may not need it any more."""
    with (
        ShippedBroker(tmp_path / "ground", certificates, change=UNBOUND) as ground,
        ShippedBroker(tmp_path / "board", certificates, ground),
    ):
        wait_for(lambda: connections(ground) == 1, within_s=20)
        with Person(ground, certificates, "drone-8", client_id="drone-7-bridge"):
            wait_for(lambda: "Client drone-7-bridge already connected, closing old connection." in ground.log.read_text())


def is_written(broker: ShippedBroker) -> bool:
    """Whether all that the broker was given has been on disk for some tenths of a second."""
    return time.time() - (broker.log.parent / "data" / "mosquitto.db").stat().st_mtime > 0.5


def test_no_event_is_lost_while_the_ground_is_away(tmp_path: Path, certificates: Path) -> None:
    """The ground broker is killed; the one on board is started again and killed meanwhile, and publishing goes on."""
    events = [f"event {number}".encode() for number in range(200)]
    with (
        ShippedBroker(tmp_path / "ground", certificates) as ground,
        Person(ground, certificates, "reader", "edgepose/+/cameras/+/events") as reader,
        ShippedBroker(tmp_path / "board", certificates, ground) as on_board,
    ):

        def publish(wanted: list[bytes]) -> None:
            with Person(on_board, certificates, "drone-7") as drone:
                assert [drone.publish(EVENTS, payload) for payload in wanted] == [ACCEPTED] * len(wanted)

        wait_for(lambda: connections(ground) == 1, within_s=20)
        publish(events[:50])
        wait_for(lambda: len(reader.heard()) >= 50, within_s=20)
        ground.kill()
        publish(events[50:100])
        on_board.terminate()
        on_board.start()
        publish(events[100:150])
        wait_for(lambda: is_written(on_board), every_s=0.1)
        on_board.kill()
        on_board.start()
        publish(events[150:])
        ground.start()
        wait_for(lambda: len(set(reader.heard())) >= len(events), within_s=60)
        assert sorted(set(reader.heard())) == sorted(events)
        assert len(reader.heard()) <= len(events) + 20  # QoS 1 may say again what was under way: at most what is in flight


def test_commands_come_down_and_replies_go_up(tmp_path: Path, certificates: Path) -> None:
    with (
        ShippedBroker(tmp_path / "ground", certificates) as ground,
        ShippedBroker(tmp_path / "board", certificates, ground) as on_board,
        Person(ground, certificates, "commander", "edgepose/+/reply/#") as commander,
        Person(on_board, certificates, "drone-7", "edgepose/drone-7/command/+") as drone,
    ):
        wait_for(lambda: commander.publish("edgepose/drone-7/command/reload", b"please") == ACCEPTED, within_s=20, every_s=0.2)
        wait_for(lambda: b"please" in drone.heard("/command/reload"))
        assert drone.publish("edgepose/drone-7/reply/reload", b"done") == ACCEPTED
        wait_for(lambda: commander.heard("/reply/reload") == [b"done"])


@pytest.mark.system
def test_poses_are_never_stored_and_the_limit_is_kept(tmp_path: Path, certificates: Path) -> None:
    with (
        ShippedBroker(tmp_path / "ground", certificates, change=UNBOUND) as ground,
        ShippedBroker(tmp_path / "board", certificates, ground, ("max_queued_messages 20000", "max_queued_messages 50")) as on_board,
        Person(ground, certificates, "reader", "edgepose/#") as reader,
    ):
        wait_for(lambda: connections(ground) == 1, within_s=20)
        # Killed before it has written the reader's subscription, it would have forgotten it.
        wait_for(lambda: "Saving in-memory database" in ground.log.read_text().rpartition("Sending SUBACK to reader")[2], within_s=20)
        ground.kill()
        wait_for(lambda: on_board.log.read_text().count("Connecting bridge (step 2)") >= 2, within_s=20)  # it has found out
        with Person(on_board, certificates, "drone-7") as drone:
            for number in range(120):
                drone.client.publish("edgepose/drone-7/health", b"old", 0)
                drone.publish(EVENTS, f"{number:03}".encode())
        ground.start()
        wait_for(lambda: len(reader.heard("/events")) >= 50, within_s=60)
        with Person(ground, certificates, "drone-7") as last:  # what comes after all that was kept, by the same way
            last.publish(EVENTS, b"999")
        wait_for(lambda: b"999" in reader.heard("/events"))
        kept = sorted({int(payload) for payload in reader.heard("/events")} - {999})
        assert kept == list(range(len(kept)))  # the oldest are kept, the newest refused
        assert 50 <= len(kept) <= 50 + 20  # with those in flight
        assert reader.heard("/health") == []

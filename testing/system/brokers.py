"""The brokers of deploy/mosquitto, as shipped except for paths, ports and the longest wait, with certificates of its own script."""

import ssl
import subprocess
import threading
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from testing.requirements import require
from testing.servers.mosquitto import Mosquitto, free_port
from testing.waiting import wait_for

SHIPPED = Path(__file__).parents[2] / "deploy" / "mosquitto"


def make_certificates(folder: Path, *clients: str) -> Path:
    """Make certificates of an authority, a broker on this machine, and clients."""
    require("openssl")
    for words in (["ca"], ["broker", "localhost", "127.0.0.1"], *(["client", name] for name in clients)):
        subprocess.run([SHIPPED / "make-certificates.sh", folder, *words], check=True, capture_output=True, text=True)
    return folder


class ShippedBroker(Mosquitto):
    """A mosquitto on the shipped configuration: the one on the ground, or with `ground`, one on board that is bridged to it as drone-7."""

    def __init__(self, folder: Path, certificates: Path, ground: Mosquitto | None = None, change: tuple[str, str] = ("", "")) -> None:
        folder.mkdir()
        super().__init__(folder)
        place = folder / "etc"
        (place / "conf.d").mkdir(parents=True)
        (place / "certs").mkdir()
        for wanted, made in (("ca.crt", "ca.crt"), ("broker.crt", "localhost.crt"), ("broker.key", "localhost.key")):
            (place / "certs" / wanted).write_bytes((certificates / made).read_bytes())
        main = (SHIPPED / "edgepose.conf").read_text().replace(*change) if change[0] else (SHIPPED / "edgepose.conf").read_text()
        files = {"edgepose.acl": (SHIPPED / "edgepose.acl").read_text(), "conf.d/edgepose.conf": main}
        if ground is not None:
            files["conf.d/edgepose.conf"] = main.replace("\nuse_username_as_clientid true\n", "\n")
            for ending in ("crt", "key"):
                (place / "certs" / f"device.{ending}").write_bytes((certificates / f"drone-7.{ending}").read_bytes())
            bridge = (SHIPPED / "bridge.conf").read_text().replace("restart_timeout 1 30", "restart_timeout 1 2")
            files["conf.d/bridge.conf"] = bridge.replace("ground.example:8883", f"127.0.0.1:{ground.port}")
        for name, text in files.items():
            text = text.replace("/etc/mosquitto", str(place))
            (place / name).write_text(text.replace("listener 8883", f"listener {self.port} 127.0.0.1"))
        # What Debian's own mosquitto.conf says; root, so that it may read a test's folder.
        (folder / "data").mkdir()
        self._configuration.write_text(
            f"user root\npersistence true\npersistence_location {folder}/data/\nlog_dest stderr\nlog_type all\ninclude_dir {place}/conf.d\n"
        )

    def terminate(self) -> None:
        """End the broker as `systemctl stop` does, with time to write what waits."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)
        self._process = None


class Person:
    """A client with a certificate that keeps what it receives; its session outlives an outage."""

    def __init__(self, broker: Mosquitto, certificates: Path, name: str, topics: str = "", client_id: str | None = None) -> None:
        self._lock = threading.Lock()
        self._heard: list[tuple[str, bytes]] = []
        self._answered: dict[int, int] = {}
        self._granted: list[int] = []
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=client_id or f"{name}-{free_port()}", protocol=MQTTv5)
        self.client.reconnect_delay_set(1, 1)
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
        self.client.tls_set_context(context)
        self.client.on_message = self._take
        self.client.on_publish = lambda _client, _data, number, reason, _properties: self._answered.update({number: reason.value})
        self.client.on_subscribe = lambda _client, _data, _number, reasons, _properties: self._granted.extend(r.value for r in reasons)
        expiry = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        expiry.SessionExpiryInterval = 3600
        self.client.connect("127.0.0.1", broker.port, keepalive=5, clean_start=False, properties=expiry)
        self.client.loop_start()
        wait_for(self.client.is_connected)
        if topics:
            self.client.subscribe(topics, 1)
            wait_for(lambda: self._granted)

    def publish(self, topic: str, payload: bytes = b"{}") -> int:
        """Publish with QoS 1; return the reason code of the broker: 0 accepted, 16 accepted without subscribers, 135 denied."""
        number = self.client.publish(topic, payload, 1).mid
        wait_for(lambda: number in self._answered)
        return self._answered[number]

    def heard(self, ending: str = "") -> list[bytes]:
        with self._lock:
            return [payload for topic, payload in self._heard if topic.endswith(ending)]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> "Person":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        with self._lock:
            self._heard.append((message.topic, bytes(message.payload)))

"""The shipped unit in a booted systemd, with a broker and a subscriber outside."""

import json
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from testing.requirements import MissingRequirementError
from testing.servers.systemd import Systemd
from testing.waiting import wait_for

CHECKOUT = Path(__file__).parents[2]
UNIT = "edgepose.service"
CLIP = "/opt/under-test/checkout/edgepose/assets/demo.mp4"
_PYTHON = "/usr/bin/python3"
_RELEASE = "/opt/edgepose/releases/checkout"


class Service:
    """edgepose.service, stopped, with a configuration of one camera that plays the packaged clip in a loop."""

    PASSWORD = "correct-horse"

    def __init__(self, machine: Systemd, port: int) -> None:
        self.machine = machine
        self.port = port
        self._marker = machine.shell("date +%s.%N").strip()
        self._heard: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.Lock()
        machine.run("systemctl", "stop", UNIT)
        self.drop_in()
        self.configure()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set("reader", "r")
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe("edgepose/drone/#", 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    @staticmethod
    def shared() -> dict[str, Path]:
        return {"/opt/under-test/checkout": CHECKOUT, "/opt/under-test/site-packages": Path(sysconfig.get_paths()["purelib"])}

    @staticmethod
    def install(machine: Systemd) -> None:
        """Install the unit, and a program that borrows this interpreter's packages: this takes a second, and install.sh many."""
        version = subprocess.run([_PYTHON, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True).stdout.split()
        if version != [str(part) for part in sys.version_info[:2]]:
            raise MissingRequirementError(
                f"{_PYTHON} is Python {'.'.join(version) or 'missing'}, and cannot use packages of {sysconfig.get_python_version()}"
            )
        machine.run(_PYTHON, "-m", "venv", "--without-pip", _RELEASE)
        site = machine.shell(f"echo {_RELEASE}/lib/python3*/site-packages").strip()
        machine.write(f"{site}/under_test.pth", "/opt/under-test/checkout\n/opt/under-test/site-packages\n")
        machine.write(
            f"{_RELEASE}/bin/edgepose",
            f"#!{_RELEASE}/bin/python\nimport sys\nfrom edgepose.__main__ import main\nsys.exit(main())\n",
            0o755,
        )
        machine.run("ln", "-s", "releases/checkout", "/opt/edgepose/current")
        machine.write(f"/etc/systemd/system/{UNIT}", (CHECKOUT / "systemd" / UNIT).read_text())
        machine.run("systemctl", "daemon-reload")

    def configure(self, cameras: str | None = None, more: str = "", model: str = "{threads: 1}") -> None:
        """Write the configuration; `cameras`, `more` and `model` are YAML."""
        cameras = cameras or f"{{front: {{source: {CLIP}, loop: true, realtime: true}}}}"
        self.machine.write("/etc/edgepose/mqtt-password", self.PASSWORD + "\n", 0o600)
        self.machine.write(
            "/etc/edgepose/config.yaml",
            f"device: drone\ncameras: {cameras}\nmodel: {model}\nhealth: {{interval_s: 0.5}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {self.port}, username: drone, password_file: mqtt-password}}\n{more}\n",
            0o600,
        )

    def drop_in(self, lines: str = "") -> None:
        """Write settings of the unit for this test, besides the shipped drop-in for the password."""
        folder = f"/etc/systemd/system/{UNIT}.d"
        self.machine.write(f"{folder}/mqtt-password.conf", (CHECKOUT / "deploy/drop-ins/mqtt-password.conf").read_text())
        self.machine.write(f"{folder}/test.conf", f"[Service]\n{lines}\n")
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "reset-failed", UNIT, check=False)

    def start(self) -> None:
        """Start the service; return when it has notified that it is ready."""
        self.machine.run("systemctl", "start", UNIT)

    def started(self) -> str:
        """Start the service, wait for poses, and return its session."""
        self.start()
        wait_for(lambda: self.on("cameras/front/poses"), within_s=60)
        online = wait_for(lambda: [message for message in self.on("status") if message["state"] == "online"], within_s=30)
        return str(online[-1]["session"])

    def show(self, name: str) -> str:
        return self.machine.show(UNIT, name)

    def status_of_process(self) -> dict[str, str]:
        """Return /proc/PID/status of the main process."""
        lines = self.machine.shell(f"cat /proc/{self.show('MainPID')}/status").splitlines()
        return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}

    def as_the_service(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as the service's user, with the service's view of the files."""
        user = self.status_of_process()["Uid"].split()[0]
        place = ["nsenter", f"--target={self.show('MainPID')}", "--mount", "--root", "--"]
        return self.machine.run(*place, "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command, check=False)

    def journal(self) -> str:
        """Return the journal since this test began."""
        command = ["journalctl", "--no-pager", "-o", "cat", "--since", f"@{self._marker}", "-u", UNIT]
        return self.machine.run(*command).stdout

    def on(self, topic: str) -> list[dict[str, Any]]:
        """Return all messages on a topic below the device's, the newest last."""
        with self._lock:
            return [message for heard, message in self._heard if heard == topic]

    def states(self) -> list[str]:
        """Return all states of `status`, in order."""
        return [message["state"] for message in self.on("status")]

    def online_as_new_session(self, than: str, within_s: float = 30.0) -> str:
        """Wait for another run of the daemon to be online; return its session."""
        told = wait_for(lambda: [s for s in self.on("status") if s["state"] == "online" and s["session"] != than], within_s=within_s)
        return str(told[-1]["session"])

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self.machine.run("systemctl", "stop", UNIT, check=False)

    def _take(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        if not message.payload:  # a retained state that is cleared
            return
        with self._lock:
            self._heard.append((message.topic.removeprefix("edgepose/drone/"), json.loads(message.payload)))

"""A network namespace for the daemon, behind a virtual cable that can be slow, lossy or cut. Needs root."""

import os
import subprocess
from functools import cache

from testing.requirements import missing

# Names and addresses of this process, since another may try faults at the same time.
_NUMBER = os.getpid() % 60_000
_SUBNET = f"10.{100 + _NUMBER // 250 % 150}.{_NUMBER % 250}"
_NAME = f"edgepose-{_NUMBER}"
_OUTSIDE, _INSIDE = f"epout{_NUMBER}", f"epin{_NUMBER}"

HOST = f"{_SUBNET}.1"
"""Address at which the daemon finds the servers, which stay outside."""


@cache
def why_not() -> str | None:
    """Return why there cannot be such a network here, or None."""
    if os.geteuid():
        return "a network namespace needs root"
    if (reason := missing("ip", "tc", "iptables")) is not None:
        return reason
    try:
        with Network():
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespace here: {error}"
    return None


class Network:
    """A namespace and the cable into it, with their faults; a context manager."""

    prefix = ("ip", "netns", "exec", _NAME)
    """Put before a command, runs it inside."""

    def __enter__(self) -> "Network":
        try:
            _run("ip", "netns", "add", _NAME)
            _run("ip", "link", "add", _OUTSIDE, "type", "veth", "peer", "name", _INSIDE, "netns", _NAME)
            _run("ip", "addr", "add", f"{HOST}/30", "dev", _OUTSIDE)
            _run("ip", "link", "set", _OUTSIDE, "up")
            self._inside("ip", "addr", "add", f"{_SUBNET}.2/30", "dev", _INSIDE)
            self._inside("ip", "link", "set", _INSIDE, "up")
            self._inside("ip", "link", "set", "lo", "up")
            self._inside("iptables", "-L", "-n")  # fails where iptables is missing
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "netns", "del", _NAME], capture_output=True)  # the cable goes with it
        subprocess.run(["ip", "link", "del", _OUTSIDE], capture_output=True)

    def lose(self, share: float) -> None:
        """Lose that share of the UDP packets that come in."""
        self._inside(
            "iptables", "-A", "INPUT", "-p", "udp", "-m", "statistic", "--mode", "random", "--probability", f"{share}", "-j", "DROP"
        )

    def cut(self, port: int) -> None:
        """Drop all packets to and from a TCP port of the host silently; connections notice by their time-outs."""
        self._inside("iptables", "-A", "OUTPUT", "-p", "tcp", "--dport", f"{port}", "-j", "DROP")
        self._inside("iptables", "-A", "INPUT", "-p", "tcp", "--sport", f"{port}", "-j", "DROP")

    def mend(self) -> None:
        """End loss and cut."""
        self._inside("iptables", "-F")

    def slow_in(self, kilobits: int) -> None:
        """Limit incoming traffic to that rate."""
        _run("tc", "qdisc", "replace", "dev", _OUTSIDE, "root", *_tbf(kilobits))

    def slow_out(self, kilobits: int) -> None:
        """Limit outgoing traffic to that rate."""
        self._inside("tc", "qdisc", "replace", "dev", _INSIDE, "root", *_tbf(kilobits))

    def fast(self) -> None:
        """End all limits."""
        subprocess.run(["tc", "qdisc", "del", "dev", _OUTSIDE, "root"], capture_output=True)
        subprocess.run([*self.prefix, "tc", "qdisc", "del", "dev", _INSIDE, "root"], capture_output=True)

    def unplug(self) -> None:
        """Pull the cable: no address on the far side can be reached."""
        _run("ip", "link", "set", _OUTSIDE, "down")

    def plug(self) -> None:
        """Plug the cable in again."""
        _run("ip", "link", "set", _OUTSIDE, "up")

    def _inside(self, *command: str) -> None:
        _run(*self.prefix, *command)


def _tbf(kilobits: int) -> tuple[str, ...]:
    return "tbf", "rate", f"{kilobits}kbit", "burst", "4kb", "latency", "400ms"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)

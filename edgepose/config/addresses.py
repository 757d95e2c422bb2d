"""Addresses in the configuration: which hosts are this machine, and the server of a remote model."""

import ipaddress
import re
from urllib.parse import urlsplit

import msgspec

_SCHEMES = {"triton+grpc": False, "triton+grpcs": True}
_DEFAULT_PORT = 8001
_MODEL = re.compile(r"/([A-Za-z0-9_.-]{1,128})(?:/versions/([0-9]{1,18}))?/?")
_EXPECTED = "expected triton+grpcs://HOST[:PORT]/MODEL[/versions/N], or triton+grpc:// on this machine"


class RemoteModel(msgspec.Struct, frozen=True):
    """A model on a server of the KServe v2 protocol, such as Triton Inference Server.

    Attributes:
        host: name or address.
        port: of its gRPC service.
        secure: whether the connection is encrypted and the server's certificate verified.
        name: of the model on the server.
        version: of the model; empty for the one that the server chooses.
    """

    host: str
    port: int
    secure: bool
    name: str
    version: str = ""

    @property
    def server(self) -> str:
        """Host and port as gRPC writes them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(self.host)

    @classmethod
    def parse(cls, url: str) -> "RemoteModel":
        """Read `triton+grpcs://host:8001/model`; ValueError says what is wrong, or not allowed, in a part of a sentence."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or _DEFAULT_PORT
        except ValueError as error:
            raise ValueError(f"is no URL ({error}); {_EXPECTED}") from error
        found = _MODEL.fullmatch(parts.path)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"holds more than a host and a model; {_EXPECTED}")
        if parts.scheme not in _SCHEMES or not host or found is None:
            raise ValueError(f"names no model of a server; {_EXPECTED}")
        remote = cls(host, port, _SCHEMES[parts.scheme], found[1], found[2] or "")
        if not remote.secure and not remote.local:
            raise ValueError(f"would send images unencrypted to {host}, which is not this machine; expected triton+grpcs://")
        return remote


def is_remote(path: str) -> bool:
    """Return whether a model's path is the URL of a server rather than a name or a file."""
    return path.partition("://")[0].lower() in _SCHEMES and "://" in path


def is_address(host: str) -> bool:
    """Return whether a host is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach what listens on an address; every name but `localhost` counts as reachable."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)

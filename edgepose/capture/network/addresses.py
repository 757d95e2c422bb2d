"""Where a camera may lead: its own host and public addresses, judged on the resolved address that is then connected to."""

import ipaddress
import socket
from dataclasses import dataclass

from edgepose.capture.redact import show
from edgepose.errors import SourceError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, 2.5.5.1


def is_public(address: str) -> bool:
    """Return whether an address is reachable by everybody: not loopback, link-local, private, multicast or reserved.

    IPv4 addresses inside of IPv6 ones (mapped, compatible, 6to4, NAT64) are judged as what they are.
    """
    ip = _inner(ipaddress.ip_address(address.partition("%")[0]))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _inner(ip: IpAddress) -> IpAddress:
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    embedded = ip.ipv4_mapped or ip.sixtofour
    if embedded is None and (ip in _NAT64 or ip in _COMPATIBLE):
        embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip if embedded is None else embedded


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One resolved address.

    Attributes:
        family: of the socket.
        address: as the socket takes it.
    """

    family: socket.AddressFamily
    address: tuple[str, int] | tuple[str, int, int, int]

    @property
    def ip(self) -> IpAddress:
        """The address, an IPv4 one where it is mapped into IPv6."""
        return _inner(ipaddress.ip_address(str(self.address[0]).partition("%")[0]))


class Reach:
    """The addresses that one camera may lead to.

    Args:
        host: the host that the operator named; it may be anywhere.
        where: name of the source in messages.
    """

    def __init__(self, host: str, where: str) -> None:
        self._host = host.lower()
        self._where = where
        self._own: frozenset[IpAddress] = frozenset()

    def resolve(self, host: str, port: int, url: str) -> list[Endpoint]:
        """Return the addresses of a host that may be connected to; these, and no name, are what the caller connects to.

        Args:
            host: name or address.
            port: of the service.
            url: what led there; its scheme and host are shown.

        Raises:
            OSError: the name cannot be resolved.
            SourceError: none of its addresses may be connected to.
        """
        found = [
            Endpoint(family, address)  # type: ignore[arg-type]
            for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            if family in (socket.AF_INET, socket.AF_INET6)
        ]
        if host.lower() == self._host:
            self._own |= {endpoint.ip for endpoint in found}
            return found
        if not self._own:
            self._own = self._resolved_own()
        allowed = [endpoint for endpoint in found if endpoint.ip in self._own or is_public(str(endpoint.ip))]
        if not allowed:
            raise SourceError(
                f"{self._where} leads to {show(url)}, which is not a public address; expected this camera's own host or a public address",
                "forbidden",
            )
        return allowed

    def _resolved_own(self) -> frozenset[IpAddress]:
        try:
            found = socket.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return frozenset()
        return frozenset(_inner(ipaddress.ip_address(str(address[0]).partition("%")[0])) for *_, address in found)

"""Waits after wrong passwords and codes: they grow with each failure, end by themselves, and never lock anybody out for good."""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edgepose.web.accounts.file import now_s

FREE_OF_ADDRESS, FREE_OF_ACCOUNT = 5, 10
"""Failures without a wait: people mistype."""

LONGEST_ADDRESS_S, LONGEST_ACCOUNT_S = 60.0, 5.0
"""Longest waits. That of an account is short: otherwise strangers could keep its owner out."""

_FORGOTTEN_S = 900.0
_ENTRIES = 10_000


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last_s: float = 0.0
    until_s: float = 0.0


class Throttle:
    """The failures of addresses and accounts; used by one thread. Accounts that do not exist are treated like those that do."""

    def __init__(self, clock: Callable[[], float] = now_s) -> None:
        self._clock = clock
        self._addresses: OrderedDict[str, _Failures] = OrderedDict()
        self._accounts: OrderedDict[str, _Failures] = OrderedDict()

    def wait_s(self, address: str, account: str, *, known: bool) -> float:
        """Return how long this address has to wait before its next attempt on this account is looked at; 0 for not at all.

        Args:
            address: of the network.
            account: any text.
            known: whether the account was used from this address before: its owner then need not wait for what strangers do.
        """
        present_s = self._clock()
        of_address = self._addresses.get(network_of(address))
        of_account = None if known else self._accounts.get(account.lower())
        return max(0.0, *(found.until_s - present_s for found in (of_address, of_account) if found is not None), 0.0)

    def too_early(self, address: str) -> None:
        """Note an attempt that came while it had to wait: an address that goes on is answered with less and less work."""
        self._note(self._addresses, network_of(address), FREE_OF_ADDRESS, LONGEST_ADDRESS_S)

    def failed(self, address: str, account: str) -> None:
        """Note a failure."""
        self._note(self._addresses, network_of(address), FREE_OF_ADDRESS, LONGEST_ADDRESS_S)
        self._note(self._accounts, account.lower()[:64], FREE_OF_ACCOUNT, LONGEST_ACCOUNT_S)

    def succeeded(self, address: str) -> None:
        """Forget the failures of an address; those of the account may be of strangers, and do not concern its owner at this address."""
        self._addresses.pop(network_of(address), None)

    def _note(self, table: "OrderedDict[str, _Failures]", key: str, free: int, longest_s: float) -> None:
        present_s = self._clock()
        found = table.pop(key, None)
        if found is None or present_s - found.last_s > _FORGOTTEN_S:
            found = _Failures()
        found.count += 1
        found.last_s = present_s
        if found.count > free:
            found.until_s = present_s + min(longest_s, 2.0 ** min(found.count - free - 1, 16))
        table[key] = found
        while len(table) > _ENTRIES:
            table.popitem(last=False)


def network_of(address: str) -> str:
    """Return the address, and of IPv6 the first 64 bits: a household has as many of the rest as it likes."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped is not None else str(ipaddress.ip_network((parsed, 64), strict=False))

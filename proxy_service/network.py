"""From which network a request comes, as a name that tells no address: one person's key in two networks shows.

The network is the /24 of an IPv4 address and the /48 of an IPv6 one; its name is an HMAC under the key pepper, so that
nobody turns it back by trying all sixteen million. Which address counts is the operator's to say (`forwarded_hops`):
what a caller writes into `x-forwarded-for` stands left of what the cloud adds, and is not looked at.
"""

from __future__ import annotations

import hmac
import ipaddress
from functools import lru_cache
from typing import Any, Final

_DIGITS: Final = 12
_DOMAIN: Final = b"network of a caller\0"  # the pepper names keys, too: no name of the one is a name of the other


class Networks:
    """Addresses to names of their networks. One per process."""

    def __init__(self, pepper: str, hops: int) -> None:
        self._pepper, self._hops = pepper.encode(), hops
        self._named = lru_cache(maxsize=4096)(self._name)

    def of(self, scope: Any) -> str | None:
        """The name of the caller's network, 12 hex digits. None where there is none to tell: loopback, garbage."""
        address = self._forwarded(scope["headers"]) if self._hops else self._peer(scope.get("client"))
        return self._named(address) if address else None

    @staticmethod
    def _peer(client: Any) -> str | None:
        # No socket has port 0: uvicorn puts it there with an address that it read from a header (`--proxy-headers`).
        return client[0] if client and client[1] else None

    def _forwarded(self, headers: Any) -> str | None:
        entries = b",".join(value for name, value in headers if name == b"x-forwarded-for").split(b",")
        return entries[-self._hops].decode("latin-1").strip() if len(entries) >= self._hops else None

    def _name(self, address: str) -> str | None:
        network = network_of(address)
        return hmac.digest(self._pepper, _DOMAIN + network.encode(), "sha256").hex()[:_DIGITS] if network else None


def network_of(address: str) -> str | None:
    """The network of an address, as text; a port beside it is left out. None for what no caller can come from."""
    if address.startswith("["):
        address = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        address = address.partition(":")[0]
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback or ip.is_unspecified or ip.is_link_local or ip.is_multicast:
        return None
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))

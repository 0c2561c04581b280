"""Where a request comes from and whom it is for, as far as its head tells.

A page in a browser may make requests to any address that the browser can reach, a loopback server too. Two things it
cannot forge: `Origin`, and the name in `Host` by which it was led there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from conductor_ai.api.refusals import Misdirected, OriginRefused

if TYPE_CHECKING:
    from conductor_ai.api.incoming import Head

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?")
_LOOPBACK_NAMES = frozenset({"localhost"})


@dataclass(frozen=True, slots=True)
class HostRules:
    """`hosts` are names that the server may be called by beside loopback names and plain addresses; `origins` those
    whose pages may call it."""

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, hosts: str, origins: str) -> HostRules:
        """From two lists with commas between their items."""
        return cls(
            frozenset(name.lower() for name in _items(hosts)),
            frozenset(origin.rstrip("/").lower() for origin in _items(origins)),
        )

    def check(self, head: Head) -> None:
        """Raises: Misdirected, OriginRefused."""
        name = host_name(head.host)
        if name is None or not (name in _LOOPBACK_NAMES or name in self.hosts or _address(name) is not None):
            raise Misdirected(
                "this server is not known by the name in the Host header",
                hint="the operator lists its names in CONDUCTOR_ALLOWED_HOSTS",
            )
        if head.origin is not None and not (self.allows_origin(head.origin) or _same_origin(head)):
            raise OriginRefused(
                "pages of this origin may not call the API",
                hint="the operator lists origins in CONDUCTOR_CORS_ORIGINS",
            )

    def allows_origin(self, origin: str) -> bool:
        """Whether the operator listed it. The server's own pages need no permission from a browser."""
        return origin.lower() in self.origins


def came_directly(head: Head, peer: str | None) -> bool:
    """Whether the request was made on this machine, for this machine, with no proxy between."""
    name = host_name(head.host)
    return (
        peer is not None
        and _is_loopback(peer)
        and name is not None
        and (name in _LOOPBACK_NAMES or _is_loopback(name))
        and not head.was_forwarded
    )


def host_name(host: str | None) -> str | None:
    """The name or address in a Host header, without port and brackets, in lower case; None where it is malformed."""
    found = None if host is None else _HOST.fullmatch(host)
    return None if found is None else found[1].strip("[]").lower()


def _same_origin(head: Head) -> bool:
    scheme, mark, host = (head.origin or "").partition("://")
    return bool(mark) and scheme in ("http", "https") and host.lower() == (head.host or "").lower()


def _is_loopback(text: str) -> bool:
    address = _address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address is not None and address.is_loopback


@lru_cache(maxsize=256)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _items(text: str) -> Iterable[str]:
    return filter(None, map(str.strip, text.split(",")))

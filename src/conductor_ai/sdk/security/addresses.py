"""Which IP addresses are on the public Internet: a table of our own.

`ipaddress.is_global` and `is_private` are no such table: their answers change between patch releases of Python, and all
of them count NAT64, multicast or a cloud's metadata address among the public ones. Sources: the IANA special-purpose
address registries for IPv4 and IPv6 (RFC 6890) and the RFCs named in each row.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address

# Everything else in IPv4 is public.
_NOT_PUBLIC_V4 = {
    IPv4Network(network): name
    for network, name in {
        "0.0.0.0/8": "this network (RFC 791)",
        "10.0.0.0/8": "a private address (RFC 1918)",
        "100.64.0.0/10": "a shared address behind a carrier's NAT (RFC 6598)",
        "127.0.0.0/8": "a loopback address (RFC 1122)",
        "168.63.129.16/32": "the host agent of the Azure cloud",
        "169.254.0.0/16": "a link-local address, where clouds keep their metadata (RFC 3927)",
        "172.16.0.0/12": "a private address (RFC 1918)",
        "192.0.0.0/24": "an IETF protocol assignment (RFC 6890)",
        "192.0.2.0/24": "a documentation address (RFC 5737)",
        "192.31.196.0/24": "an AS112 sink (RFC 7535)",
        "192.52.193.0/24": "an AMT relay (RFC 7450)",
        "192.88.99.0/24": "a 6to4 relay (RFC 7526)",
        "192.168.0.0/16": "a private address (RFC 1918)",
        "192.175.48.0/24": "an AS112 sink (RFC 7534)",
        "198.18.0.0/15": "a benchmarking address (RFC 2544)",
        "198.51.100.0/24": "a documentation address (RFC 5737)",
        "203.0.113.0/24": "a documentation address (RFC 5737)",
        "224.0.0.0/4": "a multicast address (RFC 5771)",
        "240.0.0.0/4": "a reserved or broadcast address (RFC 1112, RFC 919)",
    }.items()
}

# In IPv6 only 2000::/3 is handed out as global unicast (RFC 4291). Outside it, and so refused without a row, lie
# loopback, IPv4-mapped, -compatible and -translated addresses, NAT64 (RFC 6052, RFC 8215), discard-only, segment
# routing (RFC 9602), unique local, link-local, site-local and multicast.
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = {
    IPv6Network(network): name
    for network, name in {
        "2001::/23": "an IETF protocol assignment, Teredo and ORCHID among them (RFC 2928, RFC 4380, RFC 7343)",
        "2001:db8::/32": "a documentation address (RFC 3849)",
        "2002::/16": "a 6to4 address, which carries an IPv4 address (RFC 3056)",
        "2620:4f:8000::/48": "an AS112 sink (RFC 7534)",
        "3ffe::/16": "a returned 6bone address (RFC 3701)",
        "3fff::/20": "a documentation address (RFC 9637)",
    }.items()
}

_OCTET = r"(?:0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])"
_DOTTED_QUAD = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


def parse_address(text: str) -> IPAddress | None:
    """The address that `text` spells: four decimal numbers without leading zeros, or IPv6 without zone and brackets.

    None for everything else, also for the octal, hexadecimal and short forms that `inet_aton` and so `connect` take.
    """
    if _DOTTED_QUAD.fullmatch(text):
        return IPv4Address(text)
    if ":" not in text or "%" in text or not text.isascii():
        return None
    try:
        return IPv6Address(text)
    except ValueError:
        return None


def why_not_public(address: IPAddress) -> str | None:
    """What the address is instead of a public one, as words that follow "is"; None for a public address."""
    if isinstance(address, IPv4Address):
        return next((name for network, name in _NOT_PUBLIC_V4.items() if address in network), None)
    if address not in _GLOBAL_UNICAST_V6:
        return "outside the global unicast addresses (RFC 4291)"
    if int(address) >> 32 & 0xFDFF_FFFF == 0x5EFE:
        return "an ISATAP address, which carries an IPv4 address (RFC 5214)"
    return next((name for network, name in _NOT_PUBLIC_V6.items() if address in network), None)

"""The check before a connection: is this URL, name or address one of the public web?"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conductor_ai.errors import SSRFError
from conductor_ai.sdk.security.addresses import IPAddress, parse_address, why_not_public
from conductor_ai.sdk.security.denied_hosts import DENIED_HOSTS
from conductor_ai.sdk.security.grants import grants_of_environment, parse_grant
from conductor_ai.sdk.security.hosts import below, parse_host, why_not_public_name
from conductor_ai.sdk.security.lookups import LookupFailed, SystemLookups
from conductor_ai.sdk.security.urls import WebURL, parse_web_url

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["ALLOWED_PORTS", "CheckedURL", "LookupFailed", "SSRFChecker", "SSRFError"]

ALLOWED_PORTS = frozenset({80, 443, 8080, 8443})


@dataclass(frozen=True, slots=True)
class CheckedURL:
    """A URL and the addresses it was checked with, all of them public or granted.

    A connection by name would look the name up again and may get another answer: use the guarded connector or session,
    which connect to the addresses they checked.
    """

    url: WebURL
    addresses: tuple[str, ...]


class SSRFChecker:
    """Refuses what does not lead to the public web: other schemes and ports, local names, non-public addresses.

    Args:
        resolver: Looks names up; aiohttp's interface. Whoever made it closes it. The default asks the system.
        grants: `host:port` pairs that are exempt from the rules for names, ports, addresses and denied hosts, each pair
            exactly: a granted name may lead anywhere on that port, a granted address says nothing about names. None:
            those of `CONDUCTOR_FETCH_GRANTS` in the environment.
        denied_hosts: Domains refused with their sub-domains, each with its reason.
    """

    def __init__(
        self,
        resolver: AbstractResolver | None = None,
        *,
        grants: Iterable[str] | None = None,
        denied_hosts: Mapping[str, str] = DENIED_HOSTS,
    ) -> None:
        self._resolver = resolver
        self._lookups = SystemLookups()
        if grants is None:
            self._grants = grants_of_environment()
        else:
            self._grants = frozenset(parse_grant(entry.strip()) for entry in grants)
        self._denied = {parse_host(host): reason for host, reason in denied_hosts.items()}

    def parse_url(self, url: str) -> WebURL:
        """Read a URL strictly and judge its host and port, without a lookup. Raises: SSRFError."""
        parsed = parse_web_url(url)
        address = parse_address(parsed.host)
        if address is not None:
            self._vet(address, parsed.port, granted=self.is_granted(parsed.host, parsed.port))
        else:
            self._vet_name(parsed.host, parsed.port)
        return parsed

    async def check_url(self, url: str) -> CheckedURL:
        """Judge a URL with one lookup of its name; one address that is not public refuses it.

        Raises: SSRFError; LookupFailed where the name has no address.
        """
        parsed = self.parse_url(url)
        answers = await self.resolve(parsed.host, parsed.port)
        return CheckedURL(parsed, tuple(answer["host"] for answer in answers))

    async def resolve(self, host: str, port: int) -> list[ResolveResult]:
        """The addresses to connect to, after one lookup and with every answer vetted; an address is its own answer.

        Raises: SSRFError; LookupFailed where the name has no address.
        """
        name = _canonical(host)
        address = parse_address(name)
        granted = self.is_granted(name, port)
        if address is not None:
            self._vet(address, port, granted=granted)
            return [_answer(name, address, port)]
        self._vet_name(name, port)
        addresses = [self._parsed(name, answer) for answer in await self._look_up(name, port)]
        for address in addresses:
            self._vet(address, port, granted=granted, name=name)
        return [_answer(name, address, port) for address in dict.fromkeys(addresses)]

    def vet_address(self, address: str, port: int, *, granted: bool | None = None) -> None:
        """Judge an address before a socket is made for it.

        Args:
            granted: Whether the name that led to the address is granted; None where the address itself was asked for.
        Raises: SSRFError unless address and port are public, or granted.
        """
        parsed = self._parsed(address, address)
        self._vet(parsed, port, granted=self.is_granted(str(parsed), port) if granted is None else granted)

    def is_granted(self, host: str, port: int) -> bool:
        """Whether the pair is exempt. `host` as in a URL, IPv6 without brackets."""
        return (_canonical(host), port) in self._grants

    def _vet_name(self, name: str, port: int) -> None:
        if self.is_granted(name, port):
            return
        reason = why_not_public_name(name)
        if reason is not None:
            raise SSRFError(f"{name} {reason}")
        denied = below(name, self._denied)
        if denied is not None:
            raise SSRFError(f"{name} is not to be fetched: {self._denied[denied]}")
        _vet_port(name, port)

    def _vet(self, address: IPAddress, port: int, *, granted: bool, name: str | None = None) -> None:
        if granted:
            return
        reason = why_not_public(address)
        if reason is not None:
            raise SSRFError(f"{address} is {reason}" if name is None else f"{name} is at {address}, {reason}")
        _vet_port(str(address), port)

    async def _look_up(self, name: str, port: int) -> list[str]:
        try:
            if self._resolver is None:
                answers = await self._lookups.addresses(name)
            else:
                answers = [answer["host"] for answer in await self._resolver.resolve(name, port, socket.AF_UNSPEC)]
        except (OSError, UnicodeError) as exc:
            raise LookupFailed(f"the name {name} could not be looked up: {exc}") from exc
        if not answers:
            raise LookupFailed(f"the name {name} has no address")
        return answers

    def _parsed(self, name: str, answer: str) -> IPAddress:
        # Anything but an address would be looked up again where the connection is made.
        address = parse_address(answer)
        if address is None:
            raise SSRFError(f"{name} leads to {answer!r}, which is not an address")
        return address


def _canonical(host: str) -> str:
    return parse_host(f"[{host}]" if ":" in host else host)


def _vet_port(host: str, port: int) -> None:
    if port not in ALLOWED_PORTS:
        allowed = ", ".join(str(number) for number in sorted(ALLOWED_PORTS))
        raise SSRFError(f"port {port} of {host} is not one of {allowed}")


def _answer(host: str, address: IPAddress, port: int) -> ResolveResult:
    """An answer in aiohttp's form, with our port: the one that was vetted is the one that is connected to."""
    return {
        "hostname": host,
        "host": str(address),
        "port": port,
        "family": socket.AF_INET if address.version == 4 else socket.AF_INET6,
        "proto": socket.IPPROTO_TCP,
        "flags": socket.AI_NUMERICHOST,
    }

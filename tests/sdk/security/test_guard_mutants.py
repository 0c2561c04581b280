"""Guards with one known flaw each. The corpus must catch every one: a socket is on record where none may be."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import aiohttp
import pytest
from yarl import URL

from conductor_ai.errors import SSRFError
from conductor_ai.sdk.security import SSRFChecker, ssrf
from conductor_ai.sdk.security.addresses import IPAddress
from tests.sdk.security.doors import hop_by_hop, plugin_session
from tests.sdk.security.open_web import ADDRESS, HOSTILE_URLS, Names, OpenWeb, open_web, redirecting

Guard: TypeAlias = Callable[[OpenWeb, str, SSRFChecker], Awaitable[object]]
# Names that answer with a public address first: whoever asks twice is told something else the second time.
REBINDING = {
    f"rebind-{n}.example.org": [[ADDRESS], [inner]] for n, inner in enumerate(["127.0.0.1", "169.254.169.254"])
}


def _corpus() -> list[str]:
    hostile = [
        *(
            url
            for group in ("addresses of IPv4", "addresses of IPv6", "names with bad addresses")
            for url in HOSTILE_URLS[group]
        ),
        *(f"http://{name}/" for name in REBINDING),
    ]
    plain = [url for url in hostile if url.startswith("http://")]
    return [*hostile, *(redirecting(url) for url in plain)]


async def _caught(guard: Guard) -> list[tuple[str, int]]:
    """What the guard let through over the whole corpus."""
    forbidden = []
    for url in _corpus():
        async with open_web(REBINDING) as web:
            # A mutant may end as it likes: the sockets are what counts.
            with suppress(SSRFError, aiohttp.ClientError, OSError, ValueError):
                await guard(web, url, SSRFChecker(web.names))
            forbidden += web.forbidden
    return forbidden


async def checks_then_connects_by_name(web: OpenWeb, url: str, checker: SSRFChecker) -> None:
    """Looks the name up, vets the answers, and leaves a second lookup to the HTTP client. Every hop is checked."""
    connector = aiohttp.TCPConnector(resolver=web.names, use_dns_cache=False, socket_factory=web.make_socket)
    async with aiohttp.ClientSession(connector=connector) as http:
        hop = (await checker.check_url(url)).url
        while True:
            async with http.get(URL(hop.text, encoded=True), allow_redirects=False) as reply:
                if "Location" not in reply.headers:
                    return
                hop = (await checker.check_url(hop.join(reply.headers["Location"]).text)).url


async def checks_the_first_hop_only(web: OpenWeb, url: str, checker: SSRFChecker) -> None:
    """Vets the first URL, pins its addresses, and lets the HTTP client follow redirects."""
    checked = await checker.check_url(url)
    pinned = Names({checked.url.host: [checked.addresses]})
    connector = aiohttp.TCPConnector(resolver=pinned, use_dns_cache=False, socket_factory=web.make_socket)
    async with aiohttp.ClientSession(connector=connector) as http:
        await http.get(URL(checked.url.text, encoded=True))


async def trusts_the_resolver_for_literals(web: OpenWeb, url: str, checker: SSRFChecker) -> None:
    """Vets what the resolver answers, and nothing else: aiohttp asks no resolver about addresses."""

    class Resolver(Names):
        async def resolve(self, host: str, port: int = 0, family: object = 0) -> list[aiohttp.abc.ResolveResult]:
            return await checker.resolve(host, port)

    connector = aiohttp.TCPConnector(resolver=Resolver(), use_dns_cache=False, socket_factory=web.make_socket)
    async with aiohttp.ClientSession(connector=connector) as http:
        await http.get(url)


@pytest.mark.parametrize("guard", [hop_by_hop, plugin_session])
async def test_the_real_guard_lets_nothing_through(guard: Guard) -> None:
    assert await _caught(guard) == []


async def test_a_guard_that_resolves_twice_is_caught() -> None:
    assert {("127.0.0.1", 80), ("169.254.169.254", 80)} <= set(await _caught(checks_then_connects_by_name))


async def test_a_guard_of_the_first_hop_only_is_caught() -> None:
    let_through = await _caught(checks_the_first_hop_only)

    assert ("10.0.0.1", 80) in let_through and ("169.254.169.254", 80) in let_through


async def test_a_guard_that_trusts_the_resolver_for_literals_is_caught() -> None:
    let_through = await _caught(trusts_the_resolver_for_literals)

    assert ("127.0.0.1", 80) in let_through and ("::1", 80) in let_through


@pytest.mark.parametrize(
    "judge",
    [
        pytest.param(lambda address: "private" if address.is_private else None, id="is_private"),
        pytest.param(lambda address: None if address.is_global else "not global", id="is_global"),
    ],
)
async def test_a_guard_by_the_flags_of_the_standard_library_is_caught(
    judge: Callable[[IPAddress], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssrf, "why_not_public", judge)

    let_through = {ipaddress.ip_address(address) for address, _ in await _caught(hop_by_hop)}

    # Whichever patch release of Python runs this, these two have never been private, and always global.
    assert {ipaddress.ip_address("168.63.129.16"), ipaddress.ip_address("64:ff9b::7f00:1")} <= let_through

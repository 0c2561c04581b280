"""The guarded connector and session. Every verdict is taken from the sockets that were made."""

from __future__ import annotations

import asyncio
import socket
import ssl
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import aiohttp
import pytest
from aiohttp.abc import ResolveResult

from conductor_ai.errors import SSRFError
from conductor_ai.sdk.security import SSRFChecker, guarded_connector, guarded_session
from tests.conftest import fail_after
from tests.sdk.security.doors import bare_connector, hop_by_hop, plugin_session
from tests.sdk.security.open_web import (
    ADDRESS,
    ADDRESS_6,
    GOOD_URLS,
    HOSTILE_URLS,
    Names,
    OpenWeb,
    anonymous_tls,
    open_web,
    redirecting,
)

Door: TypeAlias = Callable[[OpenWeb, str, SSRFChecker], Awaitable[bytes]]
DOORS = [hop_by_hop, plugin_session, bare_connector]
HOSTILE = [url for urls in HOSTILE_URLS.values() for url in urls]
# A header can carry neither controls nor broken text; an empty or relative one leads to where we already are.
HOSTILE_LOCATIONS = [
    url
    for url in HOSTILE
    if "/" in url.strip("/") and url == url.strip() and not any(unicodedata.category(c) in ("Cc", "Cs") for c in url)
    if len(url) < 4096  # aiohttp refuses longer headers by itself
]


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(set(HOSTILE)) >= 380 and len(set(HOSTILE_LOCATIONS)) >= 350 and len(set(GOOD_URLS)) >= 70


@pytest.mark.parametrize("url", HOSTILE)
async def test_no_socket_is_made_for_a_hostile_url(url: str) -> None:
    async with open_web() as web:
        with pytest.raises(SSRFError):
            await hop_by_hop(web, url, SSRFChecker(web.names))

        assert (web.sockets, web.connects) == ([], [])
        assert len(web.names.lookups) <= 1


@pytest.mark.parametrize("door", [plugin_session, bare_connector])
async def test_aiohttp_reads_hostile_urls_its_own_way_and_still_reaches_public_addresses_only(door: Door) -> None:
    """aiohttp mends some of them before anyone else sees them: white space, full-width letters. That is no way in."""
    async with open_web() as web:
        for group, url in ((group, url) for group, urls in HOSTILE_URLS.items() for url in urls):
            made = len(web.sockets)
            try:
                await door(web, url, SSRFChecker(web.names))
            except (SSRFError, aiohttp.ClientError, ValueError):
                continue
            assert web.sockets[made:] == [(ADDRESS, 80)], url
            assert group in ("not a web URL", "characters", "user info", "ports", "spellings of names"), url
        assert web.forbidden == []


@pytest.mark.parametrize("door", [hop_by_hop, plugin_session])
async def test_a_redirect_to_a_hostile_url_ends_there(door: Door) -> None:
    async with open_web() as web:
        for location in HOSTILE_LOCATIONS:
            made = len(web.sockets)
            try:
                await door(web, redirecting(location), SSRFChecker(web.names))
            except SSRFError:
                assert web.sockets[made:] == [(ADDRESS, 80)], location
            else:
                # Without a scheme it is a path on the server that answered.
                assert not location.startswith(("http://", "https://", "//")), location
                assert web.sockets[made:] == [(ADDRESS, 80)] * 2
        assert web.forbidden == []


@pytest.mark.parametrize("door", DOORS)
async def test_a_chain_of_redirects_is_followed_until_it_turns_inwards(door: Door) -> None:
    inwards = redirecting("http://metadata.example.org/latest/", origin="http://second.example.org:8080")
    async with open_web() as web:
        with pytest.raises(SSRFError, match=r"metadata\.example\.org is at 169\.254\.169\.254"):
            await door(web, redirecting(inwards), SSRFChecker(web.names))

        assert web.connects == [(ADDRESS, 80), (ADDRESS, 8080)]
        assert web.names.lookups == ["example.org", "second.example.org", "metadata.example.org"]


@pytest.mark.parametrize("url", GOOD_URLS)
async def test_a_good_url_is_fetched_with_one_lookup_at_most(url: str) -> None:
    async with open_web() as web:
        checker = SSRFChecker(web.names)
        parsed = checker.parse_url(url)
        if parsed.scheme == "https":
            with pytest.raises(aiohttp.ClientConnectorError):
                await hop_by_hop(web, url, checker)
            # The server, which has no certificate, was asked for the right name.
            assert parsed.host[0].isdigit() or parsed.host.encode() in web.hellos[0]
        else:
            assert await hop_by_hop(web, url, checker) == b"ok"
            assert [head.partition("\r\n")[0] for head in web.requests] == [f"GET {parsed.target} HTTP/1.1"]

        is_literal = ":" in parsed.host or parsed.host.replace(".", "").isdigit()
        assert web.connects == [(parsed.host if is_literal else ADDRESS, parsed.port)]
        assert web.names.lookups == ([] if is_literal else [parsed.host])


REBINDING = {
    "to-loopback.example.org": [[ADDRESS], ["127.0.0.1"]],
    "to-metadata.example.org": [[ADDRESS], ["169.254.169.254"]],
    "to-mixed.example.org": [[ADDRESS], [ADDRESS, "10.0.0.7"]],
    "to-mapped.example.org": [[ADDRESS], ["::ffff:10.0.0.7"]],
    "to-name.example.org": [[ADDRESS], ["localhost"]],
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", REBINDING)
async def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(door: Door, name: str) -> None:
    async with open_web(REBINDING) as web:
        checker = SSRFChecker(web.names)
        assert await door(web, f"http://{name}/", checker) == b"ok"
        with pytest.raises(SSRFError):
            await door(web, f"http://{name}/", checker)

        assert (web.connects, web.names.lookups) == ([(ADDRESS, 80)], [name, name])


@pytest.mark.parametrize("door", DOORS)
async def test_a_redirect_back_to_a_name_that_changed_meanwhile_is_refused(door: Door) -> None:
    async with open_web(REBINDING) as web:
        with pytest.raises(SSRFError):
            await door(web, redirecting("/x", origin="http://to-loopback.example.org"), SSRFChecker(web.names))

        assert web.connects == [(ADDRESS, 80)]


async def test_the_other_address_is_tried_where_one_does_not_answer() -> None:
    async with open_web({"example.org": [[ADDRESS_6, ADDRESS]]}) as web:
        session = guarded_session(SSRFChecker(web.names), socket_factory=_down(ADDRESS_6, web))
        async with session as http, http.get("http://example.org/") as reply:
            assert await reply.read() == b"ok"

        assert (web.connects, web.names.lookups) == ([(ADDRESS, 80)], ["example.org"])


class _CarelessChecker(SSRFChecker):
    """Answers unvetted, as a bug in the first wall would."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self._answers = Names({"example.org": [answers]})

    async def resolve(self, host: str, port: int) -> list[ResolveResult]:
        return await self._answers.resolve(host, port)


def _down(address: str, web: OpenWeb) -> Callable[[Any], socket.socket]:
    def make(info: Any) -> socket.socket:
        if info[4][0] == address:
            raise OSError("network is unreachable")
        return web.make_socket(info)

    return make


@pytest.mark.parametrize("answers", [(ADDRESS_6, "10.0.0.7", "127.0.0.1"), ("10.0.0.7", ADDRESS)])
async def test_the_second_wall_stands_without_the_first_and_speaks_as_clearly(answers: tuple[str, ...]) -> None:
    """Also where aiohttp loses the refusal among other failures, or goes on and reaches a good address."""
    async with open_web() as web:
        connector = guarded_connector(_CarelessChecker(*answers), socket_factory=_down(ADDRESS_6, web))
        async with aiohttp.ClientSession(connector=connector) as http:
            with pytest.raises(SSRFError, match=r"^refused: 10\.0\.0\.7 is a private address"):
                await http.get("http://example.org/")

        assert web.forbidden == []


async def _answer_once_then_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"/answered" in head:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_a_request_that_was_hung_up_on_is_not_sent_again_behind_ones_back() -> None:
    server = await asyncio.start_server(_answer_once_then_hang_up, "127.0.0.1", 0)
    async with server:
        web = OpenWeb(Names(), server.sockets[0].getsockname()[:2])
        async with guarded_session(SSRFChecker(web.names), socket_factory=web.make_socket) as http:
            with pytest.raises(aiohttp.ClientConnectionError, match=r"example\.org closed the connection before"):
                await http.get("http://example.org/")
            assert (web.connects, web.names.lookups) == ([(ADDRESS, 80)], ["example.org"])

            # A connection that was kept and broke meanwhile: one try on a new one, with its own lookup.
            async with http.get("http://example.org/answered") as reply:
                assert await reply.read() == b"ok"
            async with http.get("http://example.org/answered") as reply:
                assert await reply.read() == b"ok"
            assert (web.connects, web.names.lookups) == ([(ADDRESS, 80)] * 3, ["example.org"] * 3)


async def test_whoever_listens_is_told_of_each_socket() -> None:
    told: list[tuple[str, int]] = []
    async with open_web({"example.org": [[ADDRESS_6]]}) as web:
        connector = guarded_connector(
            SSRFChecker(web.names),
            socket_factory=web.make_socket,
            on_connect=lambda address, port: told.append((address, port)),
        )
        async with aiohttp.ClientSession(connector=connector) as http:
            await http.get("http://example.org:8080/")
            with pytest.raises(SSRFError):
                await http.get("http://127.0.0.1/")

    assert told == [(ADDRESS_6, 8080)]


async def test_grants_reach_a_real_server_by_name_and_by_address() -> None:
    async with open_web() as web:
        port = web.server[1]
        checker = SSRFChecker(grants=[f"localhost:{port}", f"127.0.0.1:{port}"])
        async with guarded_session(checker, headers={"X-From": "test"}) as http:
            for host in ("localhost", "127.0.0.1"):
                async with http.get(f"http://{host}:{port}/") as reply:
                    assert await reply.read() == b"ok"
            with pytest.raises(SSRFError):
                await http.get(redirecting(f"http://127.0.0.1:{port + 1}/", origin=f"http://localhost:{port}"))

    assert len(web.requests) == 3 and all("\r\nX-From: test\r\n" in head for head in web.requests)


async def test_a_granted_name_leads_to_wherever_it_is_on_its_port_only() -> None:
    async with open_web({"wiki.corp": [["10.0.0.7", "fd00::7"]]}) as web:
        checker = SSRFChecker(web.names, grants=["wiki.corp:9000"])
        assert await plugin_session(web, "http://wiki.corp:9000/", checker) == b"ok"
        for url in ("http://wiki.corp:8080/", "http://10.0.0.7:9000/", redirecting("http://10.0.0.7:9000/")):
            with pytest.raises(SSRFError):
                await plugin_session(web, url, checker)

        assert web.connects == [("10.0.0.7", 9000), (ADDRESS, 80)]


async def test_a_granted_address_is_not_granted_to_names() -> None:
    async with open_web({"rebound.example.org": [["127.0.0.1"]]}) as web:
        with pytest.raises(SSRFError, match=r"rebound\.example\.org is at 127\.0\.0\.1"):
            await bare_connector(
                web, "http://rebound.example.org:8080/", SSRFChecker(web.names, grants=["127.0.0.1:8080"])
            )

        assert web.sockets == []


@pytest.mark.parametrize(
    "location", ["http://example.org/", "//example.org/", "/\\example.org/", "https://u:p@example.org/"]
)
async def test_a_session_refuses_redirects_that_give_up_encryption_or_are_ambiguous(location: str) -> None:
    async with open_web(tls=anonymous_tls(ssl.PROTOCOL_TLS_SERVER)) as web:
        session = guarded_session(SSRFChecker(web.names), socket_factory=web.make_socket)
        tls = anonymous_tls(ssl.PROTOCOL_TLS_CLIENT)
        async with session as http:
            async with http.get("https://example.org/", ssl=tls) as reply:
                assert await reply.read() == b"ok"
            with pytest.raises(SSRFError):
                await http.get(redirecting(location, origin="https://example.org"), ssl=tls)

        assert web.connects == [(ADDRESS, 443)] * 2


async def test_a_refused_redirect_leaves_no_connection_open() -> None:
    async with open_web() as web, guarded_session(SSRFChecker(web.names), socket_factory=web.make_socket) as http:
        with pytest.raises(SSRFError) as refusal:  # holds the frames, and so all that was left lying about
            await http.get(redirecting("//example.org/"))

        async with fail_after(10):
            await asyncio.gather(*web.conversations)
    assert refusal.value.code == "ssrf_refused"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_never_contacted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_web() as proxy, open_web() as web:
        for variable in (name, name.lower()):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.server[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        checker = SSRFChecker(web.names, grants=[f"127.0.0.1:{proxy.server[1]}"])
        assert await plugin_session(web, "http://example.org/", checker) == b"ok"
        with pytest.raises(aiohttp.ClientConnectorError):
            await plugin_session(web, "https://example.org/", checker)

        assert (proxy.requests, proxy.hellos) == ([], [])
        assert web.connects == [(ADDRESS, 80), (ADDRESS, 443)]


@pytest.mark.parametrize(
    "proxy", ["http://93.184.215.14:8080", "http://127.0.0.1:8080", "http://proxy.example.org:8080"]
)
async def test_a_proxy_is_refused_whoever_asks_for_it(proxy: str) -> None:
    async with open_web() as web:
        session = guarded_session(SSRFChecker(web.names, grants=["127.0.0.1:8080"]), socket_factory=web.make_socket)
        async with session as http:
            with pytest.raises(SSRFError, match="proxy"):
                await http.get("http://example.org/", proxy=proxy)

        assert web.sockets == []


async def test_a_caller_who_brings_middlewares_stays_behind_the_wall() -> None:
    async def onwards(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        request.url = request.url.with_host("127.0.0.1")
        return await handler(request)

    async with open_web() as web:
        async with guarded_session(SSRFChecker(web.names), socket_factory=web.make_socket) as http:
            with pytest.raises(SSRFError):
                await http.get("http://example.org/", middlewares=(onwards,))

        assert web.sockets == []


async def test_a_session_keeps_no_cookies_and_ends_a_stalled_lookup_by_its_timeout() -> None:
    class Stalled(Names):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

    async with guarded_session(SSRFChecker(Stalled()), timeout_s=0.01) as http:
        assert isinstance(http.cookie_jar, aiohttp.DummyCookieJar)
        with pytest.raises(TimeoutError):
            await http.get("http://example.org/")


async def test_other_work_goes_on_while_a_resolver_is_slow() -> None:
    asked, released = asyncio.Event(), asyncio.Event()

    class Slow(Names):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            if host == "slow.example.org":
                asked.set()
                await released.wait()
            return await super().resolve(host, port, family)

    async with open_web() as web, fail_after(20):
        checker = SSRFChecker(Slow())
        slow = asyncio.create_task(plugin_session(web, "http://slow.example.org/", checker))
        await asked.wait()
        assert await plugin_session(web, "http://example.org/", checker) == b"ok"
        assert not slow.done()
        released.set()
        assert await slow == b"ok"


async def test_a_name_without_address_is_aiohttps_own_error() -> None:
    async with open_web({"example.org": [[]]}) as web:
        with pytest.raises(aiohttp.ClientConnectorDNSError, match=r"the name example\.org has no address"):
            await plugin_session(web, "http://example.org/", SSRFChecker(web.names))


async def test_a_session_without_a_checker_guards_all_the_same() -> None:
    async with guarded_session() as http:
        for url in ("http://127.0.0.1/", "http://localhost/", "ws://example.org/", "http://u:p@example.org/"):
            with pytest.raises(SSRFError):
                await http.get(url)

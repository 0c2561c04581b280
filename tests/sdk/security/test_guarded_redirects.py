"""Redirects of a guarded session: how many, and what goes along to another site."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from conductor_ai.errors import SSRFError
from conductor_ai.sdk.security import SSRFChecker, guarded_session
from tests.conftest import fail_after
from tests.sdk.security.open_web import ADDRESS, OpenWeb, open_web, redirecting

SECOND = "http://second.example.org:8080"


async def hung_up(web: OpenWeb) -> None:
    """Every connection that was opened is closed."""
    async with fail_after(10):
        await asyncio.gather(*web.conversations)


@pytest.mark.parametrize(
    "asked",
    [
        {"headers": {"X-Api-Key": "secret"}},
        {"headers": {"authorization": "Bearer secret"}},
        {"headers": {"Cookie": "a=b"}},
        {"method": "POST", "data": b"secret"},
        {"method": "PUT", "json": {"a": "secret"}},
    ],
    ids=["a key", "a login", "a cookie", "a POST", "a PUT"],
)
async def test_what_may_be_for_one_site_alone_is_not_sent_on_to_another(asked: dict[str, Any]) -> None:
    asked = {"method": "GET", **asked}
    async with open_web() as web:
        async with guarded_session(SSRFChecker(web.names), socket_factory=web.make_socket) as http:
            with pytest.raises(SSRFError, match="is not sent on to another site"):
                await http.request(url=redirecting(f"{SECOND}/"), **asked)
            inside = redirecting("http://example.org/inside")
            async with http.request(url=inside, **asked) as reply:
                assert reply.status == 200
        async with guarded_session(
            SSRFChecker(web.names), socket_factory=web.make_socket, headers={"X-Api-Key": "of the session"}
        ) as http:
            with pytest.raises(SSRFError, match="with x-api-key is not sent on"):
                await http.get(redirecting(f"{SECOND}/"))

        await hung_up(web)
        assert {port for _, port in web.connects} == {80}


async def test_what_is_for_all_sites_is_sent_on() -> None:
    async with open_web() as web:
        async with guarded_session(
            SSRFChecker(web.names), socket_factory=web.make_socket, headers={"User-Agent": "me", "Accept": "*/*"}
        ) as http:
            for method in ("GET", "POST"):
                async with http.request(method, redirecting(f"{SECOND}/")) as reply:
                    assert reply.url.host == "second.example.org"

        await hung_up(web)
        assert web.connects.count((ADDRESS, 8080)) == 2


async def test_a_session_follows_five_redirects_and_not_six() -> None:
    async with open_web() as web:
        async with guarded_session(SSRFChecker(web.names), socket_factory=web.make_socket) as http:
            five = "http://example.org/"
            for _ in range(5):
                five = redirecting(five)
            for _ in range(2):  # each request counts anew
                async with http.get(five) as reply:
                    assert (await reply.read(), len(reply.history)) == (b"ok", 5)
            made = len(web.requests)
            with pytest.raises(aiohttp.TooManyRedirects):
                await http.get(redirecting(five), max_redirects=99)

        await hung_up(web)
        assert len(web.requests) == made + 6

"""The ways in which a URL is fetched through the guard; each returns the body, or raises."""

from __future__ import annotations

import aiohttp
from yarl import URL

from conductor_ai.sdk.security import SSRFChecker, guarded_connector, guarded_session
from tests.sdk.security.open_web import OpenWeb

MAX_HOPS = 5


async def hop_by_hop(web: OpenWeb, url: str, checker: SSRFChecker) -> bytes:
    """As a tool with a redirect loop of its own: the strict parser reads what the model or the server wrote."""
    connector = guarded_connector(checker, socket_factory=web.make_socket)
    async with aiohttp.ClientSession(connector=connector) as http:
        hop = checker.parse_url(url)
        for _ in range(MAX_HOPS):
            async with http.get(URL(hop.text, encoded=True), allow_redirects=False) as reply:
                if reply.status != 302:
                    return await reply.read()
                hop = hop.join(reply.headers["Location"])
        raise AssertionError("redirects without end")


async def plugin_session(web: OpenWeb, url: str, checker: SSRFChecker) -> bytes:
    """As a plugin does it."""
    async with guarded_session(checker, socket_factory=web.make_socket) as http, http.get(url) as reply:
        return await reply.read()


async def bare_connector(web: OpenWeb, url: str, checker: SSRFChecker) -> bytes:
    """Nothing but the connector, in a session that follows redirects by itself and reads the environment."""
    connector = guarded_connector(checker, socket_factory=web.make_socket)
    async with aiohttp.ClientSession(connector=connector, trust_env=True) as http, http.get(url) as reply:
        return await reply.read()

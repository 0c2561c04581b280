"""What a site's robots.txt lets us ask for (RFC 9309), read through the same guard as any page and kept for a while.

A file that says 4xx allows everything, one that says 5xx allows nothing (2.3.1.3, 2.3.1.4). A chain of redirects that
is not followed to its end counts as no file (2.3.1.2). Where the host cannot be reached at all, the fetch fails with
the reason that the page itself would have failed with.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conductor_ai.errors import SSRFError
from conductor_ai.sdk.security import WebURL
from conductor_ai.tools.web.exchange import Exchange, Hop, Request, Trail, read_body
from conductor_ai.tools.web.failures import FetchFailed, NotConnected, TooManyRedirects, refused
from conductor_ai.tools.web.pace import Clock, Gates

if TYPE_CHECKING:
    from protego import Protego

PRODUCT_TOKEN = "conductor-ai"  # noqa: S105  # the name by which a robots.txt calls us
MAX_ROBOTS_BYTES = 512 * 2**10
MAX_CRAWL_DELAY_S = 10.0
_SOMEBODY_ELSE = "somebody-else"
# As lenient as the parser: the hyphen and the colon may be missing.
_USER_AGENT = re.compile(r"^[^\S\n]*user[- ]?agent(?:[^\S\n]*:|[^\S\n]+)([^#\n]*)", re.IGNORECASE | re.MULTILINE)
_TTL_S = 3600.0
_TTL_AFTER_ERROR_S = 60.0
_MAX_ORIGINS = 512
_MAX_KEPT_CHARS = 2**20
_LARGE_CHARS = 16 * 2**10
"""From here on a file is parsed and asked in a thread: 512 KiB of rules take longer than the loop may wait."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """One origin's rules. Without `parsed` everything is allowed or, with a `refusal`, nothing."""

    expires_at: float
    chars: int = 0
    parsed: Protego | None = None
    refusal: str | None = None


class Robots:
    """The rules of the origins asked so far, bounded in number and size."""

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self._exchange = exchange
        self._clock = clock
        self._kept: OrderedDict[str, _Rules] = OrderedDict()
        self._lock = threading.Lock()
        self._one_reader = Gates(1)

    async def admit(self, url: WebURL, trail: Trail) -> float:
        """The seconds that the host wants between two requests.

        Raises: FetchFailed where the path is disallowed, or as a page of the host would.
        """
        rules = await self._rules(url, trail)
        if rules.refusal is not None:
            raise refused(rules.refusal)
        if rules.parsed is None:
            return 0.0
        if rules.chars > _LARGE_CHARS:
            allowed = await asyncio.to_thread(rules.parsed.can_fetch, url.text, PRODUCT_TOKEN)
        else:
            allowed = rules.parsed.can_fetch(url.text, PRODUCT_TOKEN)
        if not allowed:
            raise refused(f"robots.txt of {url.host} disallows {url.target[:200]}: use another page or another source")
        return min(rules.parsed.crawl_delay(PRODUCT_TOKEN) or 0.0, MAX_CRAWL_DELAY_S)

    async def _rules(self, url: WebURL, trail: Trail) -> _Rules:
        if (rules := self._fresh(url.origin)) is not None:
            return rules
        trail.stage = f"waiting for robots.txt of {url.host}"
        async with self._one_reader.hold(url.origin):
            if (rules := self._fresh(url.origin)) is None:
                rules = await self._read(url, trail)
                self._keep(url.origin, rules)
        return rules

    async def _read(self, url: WebURL, trail: Trail) -> _Rules:
        now = self._clock.now()
        nothing_said = _Rules(now + _TTL_S)
        request = Request("GET", url.join("/robots.txt"), {"Accept": "text/plain, */*;q=0.5"})
        hops: list[Hop] = []
        try:
            async with self._exchange.follow(request, trail, hops, _admit_any) as (_, reply):
                if reply.status >= 500:
                    return _Rules(now + _TTL_AFTER_ERROR_S, refusal=_unreadable(url.host, reply.status))
                if not 200 <= reply.status < 300:
                    return nothing_said
                body = await read_body(reply, max_bytes=MAX_ROBOTS_BYTES)
        except TooManyRedirects:
            return nothing_said
        except FetchFailed as exc:
            if isinstance(exc, NotConnected) and len(hops) == 1:
                raise  # the page would have failed in the same words
            raise FetchFailed(f"robots.txt of {url.host} cannot be read: {exc}") from exc
        except SSRFError:
            if hops[0].status is None:
                raise  # the host itself is refused, not where its file sends us
            return nothing_said
        finally:
            trail.robots += hops
        return await _parsed(body.data, now + _TTL_S)

    def _fresh(self, origin: str) -> _Rules | None:
        with self._lock:
            rules = self._kept.get(origin)
            if rules is None or rules.expires_at <= self._clock.now():
                return None
            self._kept.move_to_end(origin)
            return rules

    def _keep(self, origin: str, rules: _Rules) -> None:
        with self._lock:
            self._kept[origin] = rules
            self._kept.move_to_end(origin)
            while len(self._kept) > _MAX_ORIGINS or sum(kept.chars for kept in self._kept.values()) > _MAX_KEPT_CHARS:
                self._kept.popitem(last=False)


async def _parsed(body: bytes, expires_at: float) -> _Rules:
    from protego import Protego

    text = _for_us(body.decode("utf-8-sig", errors="replace"))
    if len(text) > _LARGE_CHARS:
        parsed = await asyncio.to_thread(Protego.parse, text)
    else:
        parsed = Protego.parse(text)
    return _Rules(expires_at, chars=len(text), parsed=parsed)


def _for_us(text: str) -> str:
    """The file with all other programs under one name.

    The parser keeps every rule once for each program that it is for: half a megabyte of ten thousand programs and ten
    thousand rules would take gigabytes.
    """
    return _USER_AGENT.sub(_renamed, "\n".join(text.splitlines()))


def _renamed(line: re.Match[str]) -> str:
    program = line.group(1).strip().lower().partition("/")[0].strip()
    if program != "*":
        program = PRODUCT_TOKEN if program.replace("*", "") == PRODUCT_TOKEN else _SOMEBODY_ELSE
    return f"User-agent: {program}"


async def _admit_any(url: WebURL) -> float:
    return 0.0


def _unreadable(host: str, status: int) -> str:
    return (
        f"robots.txt of {host} cannot be read now (status {status}), which counts as a no for the whole site"
        " (RFC 9309): try again in a few minutes, or use another source"
    )

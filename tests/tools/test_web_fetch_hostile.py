"""Servers that mean harm, or are broken: each fetch ends at its deadline and its caps, and says why."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

import pytest

from tests.conftest import fail_after
from tests.tools.web.sites import (
    PUBLIC,
    Answer,
    Names,
    Seen,
    Wires,
    audited,
    failure,
    http,
    never,
    page,
    public_tool,
    redirect,
    self_signed,
    serving,
    tool_for,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


def gzip_bomb(mebibytes: int) -> bytes:
    """So many MiB of one letter: a thousandth of it on the wire."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(b"a" * 2**20) for _ in range(mebibytes)) + packer.flush()


async def drip_body(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip_headers(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(40):
        writer.write(b"X-Slow-%d: yes\r\n" % number)
        await writer.drain()
        await asyncio.sleep(0.05)
    writer.write(b"\r\n")


async def drip_spaces(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Compressed data that never becomes anything, as fast as it is read."""
    writer.write(HEAD + b"Content-Encoding: gzip\r\n\r\n")
    empty_block = b"\x00\x00\x00\xff\xff"
    writer.write(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03")
    while True:
        writer.write(empty_block * 10_000)
        await writer.drain()


@pytest.mark.parametrize(
    ("answer", "stage"),
    [
        (never, "waiting for the answer of 127.0.0.1"),
        (drip_headers, "waiting for the answer of 127.0.0.1"),
        (drip_body, "reading the answer of 127.0.0.1"),
    ],
)
async def test_a_slow_server_is_left_at_the_deadline(answer: Answer, stage: str) -> None:
    async with serving({"/": answer}) as site, fail_after(10):
        error = await failure(tool_for(site, timeout_s=0.4), site.url)
    assert error.startswith(f"no whole page within 0.4 s ({stage})")


@pytest.mark.parametrize("answer", [never, drip_headers, drip_body])
async def test_a_slow_robots_file_is_left_at_the_deadline(answer: Answer) -> None:
    async with serving({"/robots.txt": answer}) as site, fail_after(10):
        result, facts = await audited(tool_for(site, timeout_s=0.4), site.url)
    assert (result.error or "").startswith("no whole page within 0.4 s (")
    assert [hop["url"] for hop in facts["robots"]] == [f"{site.url}/robots.txt"]
    assert site.paths == []


async def test_a_page_that_is_hard_to_read_is_not_called_a_slow_site() -> None:
    attributes = " ".join(f"a{number}=1" for number in range(400_000))  # libxml2 compares each with all others
    async with serving({"/": http(body=f"<p {attributes}>fact".encode(), kind="text/html")}) as site, fail_after(20):
        error = await failure(tool_for(site, timeout_s=1.0), site.url)
    assert "is too hard to read" in error and "slow" not in error


async def test_redirects_share_one_deadline() -> None:
    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(redirect(seen.path + "x"))

    async with serving({"/" + "x" * number: slow for number in range(7)}) as site, fail_after(10):
        error = await failure(tool_for(site, timeout_s=0.5), site.url)
    assert error.startswith("no whole page within 0.5 s")
    assert 2 <= len(site.paths) <= 3


async def test_waiting_for_a_turn_counts_too() -> None:
    async with serving({"/": http(body=b"ok")}) as site, fail_after(10):
        tool = tool_for(site, timeout_s=0.3, respect_robots=False, host_interval_s=3600.0)
        await page(tool, site.url)
        assert "waiting for a turn at 127.0.0.1" in await failure(tool, site.url)
    assert site.paths == ["/"]


async def test_a_slow_lookup_ends_at_the_deadline_and_holds_up_nobody() -> None:
    class Slow(Names):
        async def resolve(self, host: str, port: int = 0, family: object = None) -> list:  # type: ignore[type-arg]
            await asyncio.Event().wait()
            raise AssertionError

    async with serving() as site, fail_after(10):
        error = await failure(public_tool(site, Slow({}), timeout_s=0.2), "http://shop.example.com/")
    assert error.startswith("no whole page within 0.2 s (waiting for")


async def test_a_gzip_bomb_is_cut_at_the_cap() -> None:
    bomb = http(body=gzip_bomb(64), headers={"Content-Encoding": "gzip"})
    async with serving({"/": bomb}) as site:
        answer, facts = await audited(tool_for(site), site.url)
    assert (answer.result["truncated"], answer.result["total_chars"], facts["bytes"]) == (True, 6 * 2**20, 6 * 2**20)


async def test_compressed_nothing_without_end_is_cut() -> None:
    async with serving({"/": drip_spaces}) as site, fail_after(20):
        result = await page(tool_for(site, max_bytes=2**20), site.url)
    assert result["content"] == "The server answered 200 (OK), without any content."


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "aes128gcm"])
async def test_an_encoding_that_was_not_offered_is_an_error(coding: str) -> None:
    async with serving({"/": http(body=b"x", headers={"Content-Encoding": coding})}) as site:
        assert f"in the encoding {coding!r} although only" in await failure(tool_for(site), site.url)


@pytest.mark.parametrize(
    "body",
    [b"no gzip at all", gzip_bomb(1)[:500], gzip_bomb(1)[:-4] + b"xxxx", b"\x1f", zlib.compress(b"", wbits=31) * 1200],
    ids=["none", "cut", "wrong sum", "one byte", "a thousand members"],
)
async def test_broken_compression_is_an_error(body: bytes) -> None:
    async with serving({"/": http(body=body, headers={"Content-Encoding": "gzip"})}) as site:
        assert "compressed" in await failure(tool_for(site), site.url)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * (20 * 2**20) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 9000) for n in range(2300)) + b"\r\n",
        HEAD + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 9000) for n in range(8)) + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 " + b"O" * 100_000 + b"\r\n\r\n",
    ],
    ids=["one of 20 MiB", "20 MiB of many", "more than 64 KiB", "endless reason"],
)
async def test_headers_that_are_too_large_are_an_error(head: bytes) -> None:
    async with serving({"/": head}) as site, fail_after(10):
        error = await failure(tool_for(site), site.url)
    assert "headers that are too large" in error or "more than 64 KiB of headers" in error


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed the connection before it answered"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not proper HTTP"),
        (HEAD + b"Content-Length: 50\r\n\r\nhalf", "broke off before its end"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", None),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "not proper HTTP"),
    ],
    ids=["nothing", "another protocol", "half a body", "broken chunks", "two lengths"],
)
async def test_a_broken_answer_is_explained(answer: bytes, reason: str | None) -> None:
    async with serving({"/": answer}) as site, fail_after(10):
        error = await failure(tool_for(site), site.url)
    assert reason is None or reason in error
    assert "\n" not in error and error.endswith("use another source")


async def test_a_closed_port_is_explained() -> None:
    async with serving() as site:
        tool = tool_for(site)
    assert f"accepts no connection on port {site.port}" in await failure(tool, site.url)


async def test_a_post_that_failed_says_whether_it_may_have_arrived() -> None:
    async with serving({"/": b""}) as site:
        tool = tool_for(site)
        arrived = await failure(tool, site.url, method="POST", json={})
    nowhere = await failure(tool, site.url + "/x", method="POST", json={})
    assert "do not repeat it blindly" in arrived
    assert "do not repeat it blindly" not in nowhere


async def test_a_certificate_that_nobody_vouches_for_is_an_error() -> None:
    names = Names({"shop.example.com": [PUBLIC]})
    async with serving({"/": http(body=b"secret")}, tls=self_signed()) as site, fail_after(10):
        wires = Wires(site)
        error = await failure(public_tool(site, names, wires), "https://shop.example.com/")
    assert "TLS certificate or handshake was not accepted (self-signed certificate" in error
    assert set(wires.made) == {(PUBLIC, 443)} and site.seen == []


async def test_plain_http_behind_https_is_an_error() -> None:
    names = Names({"shop.example.com": [PUBLIC]})
    async with serving({"/": http(body=b"plain")}) as site, fail_after(10):
        assert "no secure connection" in await failure(public_tool(site, names), "https://shop.example.com/")


@pytest.mark.parametrize("spelling", [str.upper, str.lower])
async def test_proxies_of_the_environment_stay_silent(
    spelling: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names({"shop.example.com": [PUBLIC]})
    async with serving() as proxy, serving({"/": http(body=b"ok")}) as site:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(spelling(name), proxy.url)
        assert (await page(public_tool(site, names), "http://shop.example.com/"))["content"] == "ok"
        assert (await page(tool_for(site), site.url))["content"] == "ok"
        await failure(public_tool(site, names), "https://shop.example.com/")
    assert proxy.connections == 0


async def test_fifty_fetches_at_once_to_a_stalled_server_all_end() -> None:
    async with serving({"/": never}) as site, fail_after(20):
        tool = tool_for(site, timeout_s=0.5, respect_robots=False)
        errors = await asyncio.gather(*(failure(tool, site.url) for _ in range(50)))
    assert all(error.startswith("no whole page within 0.5 s") for error in errors)
    assert site.connections < 50  # four at a time; some more when the first leave at the deadline


async def test_a_cancelled_fetch_leaves_nothing_behind() -> None:
    asked = asyncio.Event()

    async def stalled(seen: Seen, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await never(seen, writer)

    async with serving({"/": stalled, "/next": http(body=b"ok")}) as site, fail_after(10):
        tool = tool_for(site, respect_robots=False)
        fetches = [asyncio.create_task(page(tool, site.url)) for _ in range(8)]
        await asked.wait()
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        assert (await page(tool, f"{site.url}/next"))["content"] == "ok"

"""One page, as a model gets it: what is sent, what comes back, what is kept, what the audit is told."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import zlib
from typing import Any

import pytest

from conductor_ai.errors import InvalidInput, MissingExtra
from conductor_ai.sdk import ToolCategory
from conductor_ai.tools.web_fetch import SHOWN_CHARS, WebFetchTool
from tests.conftest import fail_after
from tests.tools.web.sites import (
    PUBLIC,
    Names,
    Seen,
    Site,
    Wires,
    as_json,
    audited,
    failure,
    fetch,
    html,
    http,
    page,
    public_tool,
    redirect,
    serving,
    tool_for,
)

LINES = "".join(f"line {number:05}\n" for number in range(50))


def test_it_declares_what_a_session_needs_to_know() -> None:
    tool = WebFetchTool()
    definition = tool.definition
    assert (definition.name, definition.category, definition.effect) == ("web_fetch", ToolCategory.WEB, "read")
    assert definition.untrusted_output
    assert definition.timeout_s == 35.0  # the tool's own deadline comes first, and explains itself
    assert definition.parameters["additionalProperties"] is False
    assert tool.effect_of({"url": "https://example.com"}) == "read"
    assert tool.effect_of({"url": "https://example.com", "method": "HEAD"}) == "read"
    assert tool.effect_of({"url": "https://example.com", "method": "POST", "json": {}}) == "once"
    assert tool.effect_of({"url": "https://example.com", "method": "POST", "json": {}, "offset": 9}) == "read"


async def test_a_page_comes_back_with_title_links_and_source() -> None:
    markup = "<title>Dealers</title><h1>Dealers</h1><p>Nordwind, 040 123.</p><a href='/next?p=2'>Next page</a>"
    async with serving({"/dealers": html(markup)}) as site:
        answer = await fetch(tool_for(site), f"{site.url}/dealers#top")
    assert answer.success and answer.source == f"{site.url}/dealers"
    assert answer.result["url"] == f"{site.url}/dealers"
    assert answer.result["status"] == 200
    assert answer.result["content_type"] == "text/html"
    assert answer.result["title"] == "Dealers"
    assert "Nordwind, 040 123." in answer.result["content"]
    assert answer.result["links"] == [{"text": "Next page", "url": f"{site.url}/next?p=2"}]
    assert (answer.result["truncated"], answer.result["next_offset"]) == (False, None)


async def test_html_of_another_encoding_is_read_by_its_header() -> None:
    body = "<p>Müller & Söhne, Größenstraße</p>".encode("windows-1252")
    async with serving({"/": http(body=body, kind="text/html; charset=windows-1252")}) as site:
        assert "Müller & Söhne, Größenstraße" in (await page(tool_for(site), site.url))["content"]


async def test_json_is_indented_and_readable() -> None:
    body = b'{"dealers":[{"name":"M\\u00fcller","price":1.5}]}'
    async with serving({"/": http(body=body, kind="application/problem+json")}) as site:
        content = (await page(tool_for(site), site.url))["content"]
    assert json.loads(content) == {"dealers": [{"name": "Müller", "price": 1.5}]}
    assert '      "name": "Müller",\n' in content


async def test_only_json_of_moderate_size_is_indented() -> None:
    middling, large = (json.dumps([1] * number).encode() for number in (40_000, 50_000))
    async with serving({"/1": http(body=middling, kind="text/json"), "/2": http(body=large, kind="text/json")}) as site:
        tool = tool_for(site)
        assert (await page(tool, f"{site.url}/1"))["content"].startswith("[\n  1,\n  1")
        assert (await page(tool, f"{site.url}/2"))["content"].startswith("[1, 1, 1")


async def test_a_page_without_words_says_what_may_be_the_reason() -> None:
    script = "<title>App</title><script>" + "x" * 4000 + "</script><p>fact 17</p>"
    async with serving({"/": html("<div id=app></div>"), "/cut": html(script)}) as site:
        tool = tool_for(site, max_bytes=3000)
        empty, cut = await page(tool, site.url), await page(tool, f"{site.url}/cut")
    assert "filled in by JavaScript" in empty["content"]
    assert "no readable text in the part that was read" in cut["content"] and cut["truncated"]


@pytest.mark.parametrize("url", ["", "https://example.com/" + "secret" * 2000, " ", "x" * 1_000_000])
async def test_an_empty_or_endless_url_is_refused_and_not_repeated(url: str) -> None:
    async with serving() as site:
        answer, facts = await audited(tool_for(site), url)
    assert answer.error is not None and answer.error.startswith("refused: ") and len(answer.error) < 200
    assert len(facts["final_url"]) <= 8192


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b'{"cut": [1, 2', '{"cut": [1, 2'),
        (b"[" * 400 + b"1," * 2000 + b"1" + b"]" * 400, None),
        (b"[" * 100_000, None),
        (b"1" * 5000, None),
    ],
    ids=["broken", "deep and wide", "bottomless", "endless number"],
)
async def test_json_that_cannot_be_indented_is_shown_as_it_came(body: bytes, content: str | None) -> None:
    async with serving({"/": http(body=body, kind="application/json")}) as site:
        shown = (await page(tool_for(site), site.url))["content"]
    assert shown == (content or body.decode()[:SHOWN_CHARS])


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("text/plain; charset=utf-8", "grün\r\nrot\r".encode(), "grün\nrot\n"),
        ("text/plain; charset=iso-8859-1", "grün".encode("latin-1"), "grün"),
        ('text/plain; charset="koi8-r"', "привет".encode("koi8-r"), "привет"),
        ("text/plain", "grün €".encode("cp1252"), "grün €"),
        ("text/plain", b"\xff\xfeg\x00r\x00", "gr"),
        ("text/plain; charset=latin-1", "\ufeffgrün".encode(), "grün"),  # the mark is right, the header is not
        ("text/plain; charset=zlib", b"plain", "plain"),
        ("text/csv", b"a;b\n1;2\n", "a;b\n1;2\n"),
        ("application/rss+xml", b"<rss><t>News</t></rss>", "<rss><t>News</t></rss>"),
        ("application/xml", '<?xml version="1.0" encoding="iso-8859-1"?><a>ü</a>'.encode("latin-1"), None),
        ("", b"just words", "just words"),
        ("", b'{"a": 1}', '{\n  "a": 1\n}'),
        ("", b"<!---->" * 200, "<!---->" * 200),
        ("nonsense", b"just words", "just words"),
    ],
)
async def test_text_is_decoded_by_what_is_known_of_it(kind: str, body: bytes, expected: str | None) -> None:
    async with serving({"/": http(body=body, kind=kind)}) as site:
        content = (await page(tool_for(site), site.url))["content"]
    assert content == expected if expected is not None else content.endswith("<a>ü</a>")


async def test_html_without_a_content_type_is_recognised() -> None:
    body = b"\n" + b"<!---->" * 100 + b"<!-- old -->\n<!DOCTYPE html><title>Known</title><p>By its first tag.</p>"
    async with serving({"/": http(body=body, kind="")}) as site:
        result = await page(tool_for(site), site.url)
    assert (result["title"], result["content"]) == ("Known", "By its first tag.")


@pytest.mark.parametrize("kind", ["application/pdf", "image/png", "application/octet-stream", "video/mp4"])
async def test_of_other_types_only_type_and_size_are_told_and_the_body_stays_there(kind: str) -> None:
    left = asyncio.Event()

    async def endless(seen: Seen, writer: Any) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 1234567890\r\n\r\n".encode())
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            left.set()

    async with serving({"/": endless}) as site, fail_after(10):
        answer, facts = await audited(tool_for(site), site.url)
        await left.wait()
    assert answer.result["content"].startswith(f"Not shown: {kind}, 1,234,567,890 bytes.")
    assert facts["bytes"] == 0


async def test_binary_data_under_the_name_of_text_is_not_shown() -> None:
    async with serving({"/": http(body=b"\x7fELF\x00\x00\x01", kind="text/plain")}) as site:
        assert (await page(tool_for(site), site.url))["content"].startswith("Not shown: text/plain")


@pytest.mark.parametrize("status", [404, 410, 429, 500, 503])
async def test_an_error_status_is_an_answer_to_read(status: int) -> None:
    async with serving({"/": http(status, b"We moved to Kiel.")}) as site:
        result = await page(tool_for(site), site.url)
    assert (result["status"], result["content"]) == (status, "We moved to Kiel.")


@pytest.mark.parametrize(("status", "said"), [(404, "404 (Not Found)"), (204, "204 (No Content)"), (799, "799")])
async def test_an_answer_without_content_says_so(status: int, said: str) -> None:
    async with serving({"/": http(status)}) as site:
        content = (await page(tool_for(site), site.url))["content"]
    assert content == f"The server answered {said}, without any content."


async def test_head_asks_for_type_and_size_only() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\nContent-Encoding: gzip\r\n\r\n"
    async with serving({"/": head}) as site:
        result = await page(tool_for(site), site.url, method="HEAD")
    assert [seen.method for seen in site.seen if seen.path == "/"] == ["HEAD"]
    assert result["content"].startswith("Not shown: text/html, 5,000 bytes.")


async def test_a_post_carries_its_json_and_counts_as_egress() -> None:
    async with serving({"/search": as_json({"found": 2})}) as site:
        answer, facts = await audited(tool_for(site), f"{site.url}/search", method="POST", json={"town": "Köln"})
    sent = site.seen[-1]
    assert (sent.method, json.loads(sent.body)) == ("POST", {"town": "Köln"})
    assert sent.headers["content-type"] == "application/json"
    assert json.loads(answer.result["content"]) == {"found": 2}
    assert (facts["method"], facts["egress"]) == ("POST", True)


async def test_a_post_of_more_than_a_mebibyte_is_not_sent() -> None:
    async with serving() as site:
        tool = tool_for(site)
        assert "at most 1,048,576" in await failure(tool, site.url, method="POST", json={"a": "x" * 2**20})
        assert site.connections == 0
        await page(tool, site.url, method="POST", json={"a": "x" * (2**20 - 8)})
    assert len(site.seen[-1].body) == 2**20


@pytest.mark.parametrize("arguments", [{"method": "POST"}, {"json": {"a": 1}}, {"method": "HEAD", "json": {}}])
async def test_a_body_and_a_post_go_together(arguments: dict[str, Any]) -> None:
    async with serving() as site:
        assert "`json` and method POST go together" in await failure(tool_for(site), site.url, **arguments)
    assert site.connections == 0


async def test_what_is_sent_is_ours_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:9")
    cookies = http(302, headers={"Location": "/two", "Set-Cookie": "a=b; Path=/"})
    async with serving({"/": cookies, "/two": http(body=b"ok")}) as site:
        chosen = {"accept": "text/csv", "Accept-language": "de", "X-Requested-With": "XMLHttpRequest"}
        await page(tool_for(site), site.url, headers=chosen)
    sent = site.seen[-1].headers
    assert sent["user-agent"].startswith("conductor-ai/")
    assert sent["accept-encoding"] == "gzip, deflate, identity"
    assert (sent["accept"], sent["accept-language"], sent["x-requested-with"]) == ("text/csv", "de", "XMLHttpRequest")
    assert set(sent) == {"host", "user-agent", "accept", "accept-encoding", "accept-language", "x-requested-with"}


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Cookie", "Host", "Proxy-Authorization", "X-Forwarded-For", "User-Agent", "Content-Type"]
    + ["Transfer-Encoding", "Accept-Encoding", "X-Api-Key", "Accept\r\nX-Evil", ""],
)
async def test_a_header_outside_the_list_is_an_error_the_model_can_read(name: str) -> None:
    async with serving() as site:
        error = await failure(tool_for(site), site.url, headers={name: "value"})
    assert "may not be set: only Accept, Accept-Language," in error
    assert site.connections == 0


@pytest.mark.parametrize("value", ["de\r\nCookie: a=b", "de\nx", "dé", "a\0b"])
async def test_a_header_value_stays_on_its_line(value: str) -> None:
    async with serving() as site:
        assert "printable ASCII" in await failure(tool_for(site), site.url, headers={"Accept-Language": value})
    assert site.connections == 0


@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", lambda body: gzip.compress(body[:5]) + gzip.compress(body[5:])),
        ("gzip, identity", lambda body: gzip.compress(body) + b"\0" * 10),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body, wbits=-15)),
        ("identity", bytes),
    ],
)
async def test_compressed_answers_are_read(coding: str, encode: Any) -> None:
    body = encode(LINES.encode())
    async with serving({"/": http(body=body, headers={"Content-Encoding": coding})}) as site:
        assert (await page(tool_for(site), site.url))["content"] == LINES


async def test_of_very_many_links_the_first_are_listed_with_the_first_part_and_all_are_in_the_text() -> None:
    items = "".join(
        f"<li><a href='/item/{number}'>Item {number} of the list of all items</a></li>" for number in range(999)
    )
    async with serving({"/": html(f"<title>List</title><h1>List</h1><ul>{items}</ul>")}) as site:
        tool = tool_for(site)
        first = await page(tool, site.url)
        second = await page(tool, site.url, offset=first["next_offset"])
    assert [int(link["url"].rpartition("/")[2]) for link in first["links"]] == [*range(200)]
    assert second["links"] == [] and f"{site.url}/item/400" in second["content"]


async def test_a_page_larger_than_the_cap_is_cut_and_says_so() -> None:
    async with serving({"/": http(body=b"x" * 5000), "/fits": http(body=b"x" * 3000)}) as site:
        tool = tool_for(site, max_bytes=3000)
        cut, fits = await page(tool, site.url), await page(tool, f"{site.url}/fits")
    assert (len(cut["content"]), cut["truncated"], cut["next_offset"]) == (3000, True, None)
    assert (len(fits["content"]), fits["truncated"]) == (3000, False)


async def test_a_page_of_five_megabytes_is_read_whole() -> None:
    async with serving({"/": http(body=b"0123456789" * 500_000)}) as site:
        result = await page(tool_for(site), site.url)
    assert (result["total_chars"], result["next_offset"]) == (5_000_000, SHOWN_CHARS)


async def test_an_address_is_looked_up_once_a_hop_and_connected_to_as_it_was_vetted() -> None:
    names = Names({"shop.example.com": [PUBLIC]})
    async with serving({"/": redirect("/b"), "/b": http(body=b"ok")}) as site:
        wires = Wires(site)
        answer, facts = await audited(public_tool(site, names, wires, respect_robots=False), "http://shop.example.com/")
    assert answer.result["url"] == "http://shop.example.com/b"
    assert names.asked == ["shop.example.com"] * 2
    assert wires.made == [(PUBLIC, 80)] * 2
    assert [hop["address"] for hop in facts["hops"]] == [PUBLIC, PUBLIC]


async def test_a_name_that_moves_inside_between_two_hops_is_refused() -> None:
    names = Names({"shop.example.com": [PUBLIC, "127.0.0.1"]})
    async with serving({"/": redirect("/b"), "/b": http(body=b"inside")}) as site:
        wires = Wires(site)
        answer, facts = await audited(public_tool(site, names, wires, respect_robots=False), "http://shop.example.com/")
    assert answer.error is not None and answer.error.startswith("refused:")
    assert wires.made == [(PUBLIC, 80)] and site.paths == ["/"]
    assert facts["hops"][-1] == {"url": "http://shop.example.com/b", "status": None, "address": None}


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://169.254.169.254/latest/", "file:///etc/passwd", "https://www.linkedin.com/in/x"]
    + ["http://user:pw@example.com/", "http://shop.example.com:22/", "not a url"],
)
async def test_a_url_that_must_not_be_asked_is_refused_before_anything_happens(url: str) -> None:
    names = Names({})
    async with serving() as site:
        wires = Wires(site)
        answer, facts = await audited(public_tool(site, names, wires), url)
    assert answer.error is not None and answer.error.startswith("refused: ")
    assert (names.asked, wires.made) == ([], [])
    assert (facts["final_url"], facts["hops"]) == (url, [])


async def test_only_the_granted_port_of_a_host_is_open() -> None:
    async with serving({"/": http(body=b"ok")}) as granted, serving() as other:
        tool = tool_for(granted)
        assert (await page(tool, granted.url))["content"] == "ok"
        assert (await failure(tool, other.url)).startswith("refused:")
    assert other.connections == 0
    with pytest.raises(InvalidInput):
        WebFetchTool(grants=["127.0.0.1"])


def test_one_tool_serves_one_event_loop_after_another() -> None:
    names = Names({"shop.example.com": [PUBLIC]})
    open_sites: list[Site] = []
    tool = WebFetchTool(names, lambda info: Wires(open_sites[-1])(info), host_interval_s=0)

    async def crowd() -> list[str]:
        async with serving({f"/{number}": http(body=str(number).encode()) for number in range(12)}) as site:
            open_sites.append(site)
            async with fail_after(20):
                pages = [page(tool, f"http://shop.example.com/{number}") for number in range(12)]
                return [each["content"] for each in await asyncio.gather(*pages)]

    # Twelve at once wait for four turns, so both loops really queue at the same host.
    assert asyncio.run(crowd()) == asyncio.run(crowd()) == [str(number) for number in range(12)]


@pytest.mark.parametrize("name", ["protego", "trafilatura", "html_to_markdown"])
def test_without_the_extra_it_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # how Python itself marks a module that is not there
    with pytest.raises(MissingExtra) as caught:
        WebFetchTool()
    assert caught.value.hint == 'pip install "conductor-ai[web]"'
    assert name in str(caught.value)

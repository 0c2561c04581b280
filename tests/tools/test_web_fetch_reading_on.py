"""A long page is read in parts, from memory, by the session that fetched it."""

from __future__ import annotations

from conductor_ai.sdk import testing
from conductor_ai.tools.web_fetch import SHOWN_CHARS
from tests.tools.web.sites import audited, failure, http, page, redirect, serving, tool_for

LINES = "".join(f"line {number:05}\n" for number in range(6000))  # 66,000 characters


async def test_reading_on_goes_through_the_page_without_fetching_again() -> None:
    async with serving({"/": redirect("/long"), "/long": http(body=LINES.encode())}) as site:
        tool = tool_for(site)
        with testing.context():
            parts = [await page(tool, site.url)]
            assert parts[0]["truncated"] and parts[0]["total_chars"] == len(LINES)
            while (offset := parts[-1]["next_offset"]) is not None:
                # From the second part on under the URL that the result named.
                parts.append(await page(tool, parts[-1]["url"], offset=offset))
                assert parts[-1]["offset"] == offset
    assert "".join(part["content"] for part in parts) == LINES
    assert all(part["content"].endswith("\n") for part in parts)
    assert (len(parts), parts[-1]["truncated"], site.paths) == (4, False, ["/", "/long"])


async def test_reading_on_says_so_in_the_audit_row() -> None:
    async with serving({"/": http(body=LINES.encode())}) as site:
        tool = tool_for(site)
        _, facts = await audited(tool, site.url)
        _, later = await audited(tool, site.url, offset=20_000)
    hop = {"url": f"{site.url}/", "status": 200, "address": "127.0.0.1"}
    robots = {"url": f"{site.url}/robots.txt", "status": 404, "address": "127.0.0.1"}
    assert facts == {
        "method": "GET",
        "final_url": f"{site.url}/",
        "hops": [hop],
        "address": "127.0.0.1",
        "bytes": len(LINES),
        "robots": [robots],
    }
    assert later == {
        "method": "GET",
        "final_url": f"{site.url}/",
        "hops": [],
        "address": None,
        "bytes": 0,
        "from_memory": True,
    }


async def test_a_call_without_offset_fetches_anew() -> None:
    async with serving({"/": http(body=b"old")}) as site:
        tool = tool_for(site)
        assert (await page(tool, site.url))["content"] == "old"
        site.answers["/"] = http(body=b"new")
        assert (await page(tool, site.url))["content"] == "new"


async def test_no_session_reads_on_in_the_page_of_another() -> None:
    async with serving({"/": http(body=LINES.encode())}) as site:
        tool = tool_for(site)
        with testing.context(session_id="one"):
            await page(tool, site.url)
        site.answers["/"] = http(body=b"x" * 50_000)
        with testing.context(session_id="two"):
            assert (await page(tool, site.url, offset=20_000))["content"] == "x" * SHOWN_CHARS
        with testing.context(session_id="one"):
            assert (await page(tool, site.url, offset=20_000))["content"] == LINES[20_000:39_996]
    assert len(site.paths) == 2


async def test_reading_on_in_a_page_that_is_not_kept_fetches_it() -> None:
    async with serving({"/": http(body=LINES.encode())}) as site:
        assert (await page(tool_for(site), site.url, offset=60_000))["content"] == LINES[60_000:]
    assert site.paths == ["/"]


async def test_an_offset_beyond_the_end_is_explained() -> None:
    async with serving({"/": http(body=b"short")}) as site:
        assert "the content has 5 characters" in await failure(tool_for(site), site.url, offset=5)


async def test_the_answer_of_a_post_is_read_on_in_but_never_asked_for_again() -> None:
    async with serving({"/": http(body=LINES.encode())}) as site:
        tool = tool_for(site)
        first, _ = await audited(tool, site.url, method="POST", json={"q": 1})
        offset = first.result["next_offset"]
        second, facts = await audited(tool, site.url, method="POST", json={"q": 1}, offset=offset)
        other = await failure(tool, site.url, method="POST", json={"q": 2}, offset=offset)
    assert second.result["content"] == LINES[offset : second.result["next_offset"]]
    assert "egress" not in facts
    assert other == "that answer is no longer kept, and a POST is not repeated to read on in it"
    assert [seen.body for seen in site.seen if seen.path == "/"] == [b'{"q":1}']


async def test_outside_a_session_it_works_too() -> None:
    async with serving({"/": http(body=LINES.encode())}) as site:
        tool = tool_for(site)
        first = await tool.run({"url": site.url})
        second = await tool.run({"url": site.url, "offset": first.result["next_offset"]})
    assert (second.success, second.result["offset"], site.paths) == (True, first.result["next_offset"], ["/"])

"""What robots.txt forbids is never asked for, and a host is asked at a human pace."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import fail_after
from tests.tools.web.sites import (
    OTHER_PUBLIC,
    PUBLIC,
    Names,
    Seen,
    SkippingClock,
    Wires,
    audited,
    failure,
    http,
    never,
    page,
    public_tool,
    redirect,
    serving,
    tool_for,
)

ROBOTS = b"User-agent: *\nDisallow: /private/\nDisallow: /*?sort=\nAllow: /private/open\n"


@pytest.mark.parametrize("path", ["/private/x", "/list?sort=price", "/open/../private/x", "/%70rivate/x"])
async def test_a_disallowed_path_is_refused_and_never_requested(path: str) -> None:
    async with serving({"/robots.txt": http(body=ROBOTS)}) as site:
        answer, facts = await audited(tool_for(site), site.url + path)
    assert (answer.error or "").startswith("refused: robots.txt of 127.0.0.1 disallows /")
    assert [seen.path for seen in site.seen] == ["/robots.txt"]
    assert (facts["hops"][0]["status"], facts["robots"][0]["status"]) == (None, 200)


async def test_an_allowed_path_is_fetched_and_the_file_is_asked_for_once() -> None:
    pages = {path: http(body=b"ok") for path in ("/", "/private/open", "/list?page=2")}
    async with serving({"/robots.txt": http(body=ROBOTS), **pages}) as site:
        tool = tool_for(site)
        for path in pages:
            await page(tool, site.url + path)
    assert [seen.path for seen in site.seen] == ["/robots.txt", *pages]


@pytest.mark.parametrize(
    "named", ["User-agent: Conductor-AI", "user agent conductor-ai/1.0 # us", "User-agent: a\nUser-agent:conductor-ai*"]
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
async def test_a_group_that_names_us_counts_for_us(named: str, line_end: str) -> None:
    text = f"User-agent: *\nAllow: /\n\n{named}\nDisallow: /no\n\nUser-agent: conductor-ai-two\nDisallow: /\n"
    robots = text.replace("\n", line_end).encode()
    async with serving({"/robots.txt": http(body=robots), "/yes": http(body=b"ok")}) as site:
        tool = tool_for(site)
        await page(tool, f"{site.url}/yes")
        assert (await failure(tool, f"{site.url}/no")).startswith("refused: robots.txt")


async def test_a_redirect_into_a_disallowed_path_stops_there() -> None:
    async with serving({"/robots.txt": http(body=ROBOTS), "/": redirect("/private/x")}) as site:
        assert (await failure(tool_for(site), site.url)).startswith("refused: robots.txt of 127.0.0.1 disallows")
    assert site.paths == ["/"]


async def test_a_redirect_to_another_site_asks_that_site() -> None:
    names = Names({"shop.example.com": [PUBLIC], "other.example.com": [OTHER_PUBLIC]})

    async def robots(seen: Seen, writer: asyncio.StreamWriter) -> None:
        forbids = seen.headers["host"] == "other.example.com"
        writer.write(http(body=b"User-agent: *\nDisallow: /b") if forbids else http(404))

    async with serving({"/robots.txt": robots, "/": redirect("http://other.example.com/b")}) as site:
        error = await failure(public_tool(site, names), "http://shop.example.com/")
    assert error.startswith("refused: robots.txt of other.example.com disallows /b")
    assert site.paths == ["/"]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429])
async def test_no_file_forbids_nothing(status: int) -> None:
    async with serving({"/robots.txt": http(status, ROBOTS), "/private/x": http(body=b"ok")}) as site:
        assert (await page(tool_for(site), f"{site.url}/private/x"))["content"] == "ok"


@pytest.mark.parametrize("status", [500, 503])
async def test_a_file_that_the_server_fails_to_give_forbids_all_until_it_is_asked_again(status: int) -> None:
    clock = SkippingClock()
    async with serving({"/robots.txt": http(status), "/": http(body=b"ok")}) as site:
        tool = tool_for(site, clock=clock)
        first, second = await failure(tool, site.url), await failure(tool, site.url)
        assert first == second and first.startswith("refused: robots.txt of 127.0.0.1 cannot be read now")
        assert (len(site.seen), site.paths) == (1, [])
        site.answers["/robots.txt"] = http(404)
        clock.time += 61
        assert (await page(tool, site.url))["content"] == "ok"


async def test_a_file_is_asked_for_again_after_an_hour() -> None:
    clock = SkippingClock()
    async with serving({"/": http(body=b"ok")}) as site:
        tool = tool_for(site, clock=clock)
        await page(tool, site.url)
        site.answers["/robots.txt"] = http(body=b"User-agent: *\nDisallow: /")
        clock.time += 3599
        await page(tool, site.url)
        clock.time += 2
        assert (await failure(tool, site.url)).startswith("refused: robots.txt")


async def test_the_file_may_be_somewhere_else() -> None:
    moved = {"/robots.txt": redirect("/real/robots.txt", 301), "/real/robots.txt": http(body=ROBOTS)}
    async with serving(moved) as site:
        assert (await failure(tool_for(site), f"{site.url}/private/x")).startswith("refused: robots.txt")


@pytest.mark.parametrize(
    "location", ["http://127.0.0.1/robots.txt", "http://169.254.169.254/", "//x.example.com/", "/robots.txt"]
)
async def test_a_file_behind_a_redirect_that_is_not_followed_counts_as_none(location: str) -> None:
    names = Names({"shop.example.com": [PUBLIC]})
    async with serving({"/robots.txt": redirect(location), "/": http(body=b"ok")}) as site:
        wires = Wires(site)
        assert (await page(public_tool(site, names, wires), "http://shop.example.com/"))["content"] == "ok"
    assert {address for address, _ in wires.made} == {PUBLIC}


async def test_a_host_that_cannot_be_reached_fails_as_its_page_would() -> None:
    names = Names({})
    async with serving() as site:
        assert "was not found in DNS" in await failure(public_tool(site, names), "http://nowhere.example.com/")
    assert names.asked == ["nowhere.example.com"]


async def test_of_a_huge_file_the_first_half_megabyte_counts_and_nobody_waits_for_it() -> None:
    filler = b"".join(b"Disallow: /a*b*c%d\n" % number for number in range(40_000))
    robots = b"User-agent: *\nDisallow: /first\n" + filler + b"Disallow: /last\n"
    assert len(robots) > 512 * 1024
    async with serving({"/robots.txt": http(body=robots), "/last": http(body=b"ok")}) as site:
        tool = tool_for(site)
        assert (await failure(tool, f"{site.url}/first")).startswith("refused: robots.txt")
        assert (await page(tool, f"{site.url}/last"))["content"] == "ok"


async def test_a_file_of_ten_thousand_programs_times_ten_thousand_rules_is_read_like_any_other() -> None:
    programs = b"".join(b"User-agent: p%d\n" % number for number in range(12_000))
    robots = b"User-agent: *\nDisallow: /no\n\n" + programs + programs + b"Disallow: /a\n" * 10_000
    assert len(robots) < 512 * 1024 + 100_000
    async with serving({"/robots.txt": http(body=robots), "/a": http(body=b"ok")}) as site, fail_after(20):
        tool = tool_for(site)
        assert (await page(tool, f"{site.url}/a"))["content"] == "ok"
        assert (await failure(tool, f"{site.url}/no")).startswith("refused: robots.txt")


@pytest.mark.parametrize(
    "answer",
    [
        http(body=b"x", headers={"Content-Encoding": "br"}),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        redirect("http://nowhere.example.com/robots.txt"),
    ],
    ids=["encoding", "cut", "moved to nowhere"],
)
async def test_a_file_that_arrives_broken_is_named_as_the_reason(answer: bytes) -> None:
    names = Names({"shop.example.com": [PUBLIC]})
    async with serving({"/robots.txt": answer, "/": http(body=b"ok")}) as site:
        error = await failure(public_tool(site, names), "http://shop.example.com/")
    assert error.startswith("robots.txt of shop.example.com cannot be read: ")
    assert site.paths == []


@pytest.mark.parametrize(
    "robots", [b"\xff\xfe\x00", b"<html>not found</html>", b"Disallow: /", b"User-agent *\nDisallow:", b""]
)
async def test_a_file_that_says_nothing_forbids_nothing(robots: bytes) -> None:
    async with serving({"/robots.txt": http(body=robots), "/x": http(body=b"ok")}) as site:
        assert (await page(tool_for(site), f"{site.url}/x"))["content"] == "ok"


async def test_many_at_once_ask_for_the_file_once() -> None:
    async with serving({f"/{number}": http(body=b"ok") for number in range(10)}) as site:
        tool = tool_for(site)
        await asyncio.gather(*(page(tool, f"{site.url}/{number}") for number in range(10)))
    assert [seen.path for seen in site.seen].count("/robots.txt") == 1


async def test_whoever_reads_the_file_may_leave_without_stranding_the_others() -> None:
    asked = asyncio.Event()

    async def stalled(seen: Seen, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await never(seen, writer)

    async with serving({"/robots.txt": stalled, "/": http(body=b"ok")}) as site, fail_after(10):
        tool = tool_for(site)
        first = asyncio.create_task(page(tool, site.url))
        second = asyncio.create_task(page(tool, site.url))
        await asked.wait()
        site.answers["/robots.txt"] = http(404)
        first.cancel()
        assert (await second)["content"] == "ok"
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_who_operates_it_may_decide_otherwise() -> None:
    async with serving({"/robots.txt": http(body=ROBOTS), "/private/x": http(body=b"ok")}) as site:
        assert (await page(tool_for(site, respect_robots=False), f"{site.url}/private/x"))["content"] == "ok"
    assert [seen.path for seen in site.seen] == ["/private/x"]


@pytest.mark.parametrize(
    ("robots", "waits"),
    [
        (b"", [0.1, 0.1, 0.1]),
        (b"User-agent: *\nCrawl-delay: 2.5\n", [0.1, 2.5, 2.5]),
        (b"User-agent: *\nCrawl-delay: 86400\n", [0.1, 10, 10]),
        (b"User-agent: *\nCrawl-delay: nan\n", [0.1, 0.1, 0.1]),
    ],
    ids=["ours", "theirs", "capped", "nonsense"],
)
async def test_a_host_is_asked_at_a_pace(robots: bytes, waits: list[float]) -> None:
    clock = SkippingClock()
    async with serving({"/robots.txt": http(body=robots), "/": http(body=b"ok")}) as site:
        tool = tool_for(site, clock=clock, host_interval_s=0.1)
        for _ in range(3):
            await page(tool, site.url)
    assert clock.slept == waits


async def test_hosts_do_not_wait_for_each_other() -> None:
    clock = SkippingClock()
    names = Names({f"{name}.example.com": [PUBLIC] for name in "abc"})
    async with serving({"/": http(body=b"ok")}) as site:
        tool = public_tool(site, names, clock=clock, respect_robots=False, host_interval_s=5.0)
        for name in "abc":
            await page(tool, f"http://{name}.example.com/")
    assert clock.slept == []


async def test_a_host_gets_four_requests_at_a_time() -> None:
    most = 0
    four_are_here, go_on = asyncio.Event(), asyncio.Event()

    async with serving() as site, fail_after(10):

        async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
            nonlocal most
            most = max(most, site.open_now)
            if site.open_now == 4:
                four_are_here.set()
            await go_on.wait()
            writer.write(http(body=b"ok"))

        site.answers.update({f"/{number}": slow for number in range(12)})
        tool = tool_for(site, respect_robots=False)
        fetches = asyncio.gather(*(page(tool, f"{site.url}/{number}") for number in range(12)))
        await four_are_here.wait()
        for _ in range(200):
            await asyncio.sleep(0)  # a fifth would have come by now
        go_on.set()
        await fetches
    assert most == 4

"""Redirects are followed by hand: the guard at every hop, five at most, and never down from https."""

from __future__ import annotations

import json

import pytest

from tests.tools.web.sites import (
    OTHER_PUBLIC,
    PUBLIC,
    Names,
    Wires,
    audited,
    failure,
    http,
    page,
    public_tool,
    redirect,
    serving,
    tool_for,
)


async def test_a_chain_is_followed_and_every_hop_is_recorded() -> None:
    chain = {
        "/": redirect("/a/1", 301),
        "/a/1": redirect("2?x=1", 302),
        "/a/2?x=1": redirect("?x=2", 303),
        "/a/2?x=2": redirect("../b/./end#part", 307),
        "/b/end": http(body=b"arrived"),
    }
    async with serving(chain) as site:
        answer, facts = await audited(tool_for(site), site.url)
    assert answer.result["content"] == "arrived"
    assert answer.result["url"] == answer.source == facts["final_url"] == f"{site.url}/b/end"
    assert [(hop["url"].removeprefix(site.url), hop["status"]) for hop in facts["hops"]] == [
        ("/", 301),
        ("/a/1", 302),
        ("/a/2?x=1", 303),
        ("/a/2?x=2", 307),
        ("/b/end", 200),
    ]


async def test_five_redirects_are_followed_and_not_six() -> None:
    chain = {f"/{number}": redirect(f"/{number + 1}", 308) for number in range(6)}
    async with serving({**chain, "/6": http(body=b"arrived")}) as site:
        tool = tool_for(site)
        assert (await page(tool, f"{site.url}/1"))["content"] == "arrived"
        assert "more than 5 redirects" in await failure(tool, f"{site.url}/0")


async def test_a_loop_ends() -> None:
    async with serving({"/": redirect("/")}) as site:
        assert "more than 5 redirects" in await failure(tool_for(site), site.url)
    assert len(site.paths) == 6


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/admin",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://2130706433/",
        "http://metadata.google.internal/",
        "//other.example.com/",
        "/\\other.example.com/",
        "http:\\\\other.example.com/",
        "http://user@other.example.com/",
        "http://other.example.com:6379/",
        "ftp://other.example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/html,hi",
        "http://inside.example.com/",
        "https://www.linkedin.com/in/somebody",
        "/" + "x" * 9000,
    ],
)
@pytest.mark.parametrize("respect_robots", [True, False])
async def test_a_redirect_that_must_not_be_followed_is_refused(location: str, respect_robots: bool) -> None:
    names = Names(
        {"shop.example.com": [PUBLIC], "other.example.com": [OTHER_PUBLIC], "inside.example.com": ["10.0.0.7"]}
    )
    async with serving({"/": redirect(location)}) as site:
        wires = Wires(site)
        tool = public_tool(site, names, wires, respect_robots=respect_robots)
        answer, facts = await audited(tool, "http://shop.example.com/")
    assert not answer.success and (answer.error or "").startswith("refused: ")
    assert {address for address, _ in wires.made} == {PUBLIC}
    assert facts["hops"][0] == {"url": "http://shop.example.com/", "status": 302, "address": PUBLIC}
    assert facts["hops"][1]["status"] is None and facts["hops"][1]["address"] is None


async def test_to_another_site_it_connects_anew_and_asks_its_robots() -> None:
    names = Names({"shop.example.com": [PUBLIC], "other.example.com": [OTHER_PUBLIC]})
    async with serving({"/": redirect("http://other.example.com:8080/b"), "/b": http(body=b"there")}) as site:
        wires = Wires(site)
        answer, _ = await audited(public_tool(site, names, wires), "http://shop.example.com/")
    assert answer.source == "http://other.example.com:8080/b"
    assert wires.made == [(PUBLIC, 80)] * 2 + [(OTHER_PUBLIC, 8080)] * 2
    assert [seen.headers["host"] for seen in site.seen] == ["shop.example.com"] * 2 + ["other.example.com:8080"] * 2
    assert names.asked == ["shop.example.com"] * 2 + ["other.example.com"] * 2


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_post_becomes_a_get_without_its_body(status: int) -> None:
    async with serving({"/": redirect("/done", status), "/done": http(body=b"saved")}) as site:
        await page(tool_for(site), site.url, method="POST", json={"a": 1})
    assert [(seen.method, seen.path, seen.body) for seen in site.seen[1:]] == [
        ("POST", "/", b'{"a":1}'),
        ("GET", "/done", b""),
    ]
    assert "content-type" not in site.seen[-1].headers


@pytest.mark.parametrize("status", [307, 308])
async def test_a_post_is_repeated_within_its_site_and_never_sent_to_another(status: int) -> None:
    inside = {"/": redirect("/v2", status), "/v2": http(body=b"saved")}
    async with serving(inside) as site:
        tool = tool_for(site)
        await page(tool, site.url, method="POST", json={"a": 1})
        assert [json.loads(seen.body) for seen in site.seen if seen.method == "POST"] == [{"a": 1}] * 2
        site.answers["/"] = redirect("http://shop.example.com/v2", status)
        error = await failure(tool, site.url, method="POST", json={"a": 1})
    assert error.startswith("refused: a POST is not sent on to another site")
    assert "do not repeat it blindly" in error


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_head_stays_head(status: int) -> None:
    async with serving({"/": redirect("/b", status), "/b": http()}) as site:
        await page(tool_for(site), site.url, method="HEAD")
    assert [seen.method for seen in site.seen[1:]] == ["HEAD", "HEAD"]


@pytest.mark.parametrize("status", [300, 302, 304])
async def test_without_a_location_it_is_an_answer(status: int) -> None:
    async with serving({"/": http(status, b"" if status == 304 else b"choose")}) as site:
        assert (await page(tool_for(site), site.url))["status"] == status

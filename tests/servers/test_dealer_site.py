"""The dealer site itself: what it promises to the tests that read it."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import fail_after
from tests.docs.pages import ROOT
from tests.servers.dealer_data import MOST, make_dealers
from tests.servers.dealer_site import DealerSite


async def read(site: DealerSite, *paths: str) -> list[bytes]:
    """The bodies as they came over the wire."""
    async with aiohttp.ClientSession(auto_decompress=False) as http, fail_after(20):
        bodies = []
        for path in paths:
            async with http.get(site.url + path) as response:
                assert response.status == 200
                bodies.append(await response.read())
        return bodies


def test_a_seed_makes_the_same_dealers_again_and_another_one_others() -> None:
    assert make_dealers(MOST, 3) == make_dealers(MOST, 3)
    assert make_dealers(20, 3) != make_dealers(20, 4)
    with pytest.raises(ValueError, match="names for"):
        make_dealers(MOST + 1, 3)


@pytest.mark.parametrize("count", [1, 2, 60, MOST])
async def test_the_truth_has_every_dealer_once_and_no_decoy(count: int) -> None:
    site = DealerSite(count)
    truth = site.truth()

    assert len({dealer["name"] for dealer in truth}) == len({dealer["phone"] for dealer in truth}) == count
    assert not {decoy.phone for decoy in site.decoys} & {dealer["phone"] for dealer in truth}
    assert len({dealer["layout"] for dealer in truth}) == min(count, 4)


async def test_no_layout_is_complete_and_together_they_are() -> None:
    async with DealerSite(16) as site:
        table, cards, group, other, api = await read(
            site,
            "/dealers.html",
            "/listing",
            "/showrooms/group-1.html",
            "/showrooms/group-2.html",
            "/api/dealers?page=1",
        )
        texts = {
            "table": table.decode(),
            "cards": cards.decode("windows-1252"),
            "json_ld": group.decode() + other.decode(),
            "api": api.decode(),
        }
        for dealer in site.truth():
            found = [layout for layout, text in texts.items() if dealer["email"] in text]
            assert found == [dealer["layout"]]


async def test_pages_are_encoded_and_compressed_in_turns_and_redirects_are_followed() -> None:
    async with DealerSite(60) as site:
        one, two, cards, more_cards, showrooms = await read(
            site, "/dealers/table?page=1", "/dealers/table?page=2", "/listing", "/listing/2", "/r/showrooms"
        )
        asked = [seen.path for seen in site.requests]

    assert b"?page=2" in one
    assert b"?page=3" in gzip.decompress(two)
    assert b'charset="windows-1252"' in cards and b'charset="windows-1252"' in more_cards
    assert showrooms.count(b"group-") == 5
    assert asked[-4:] == ["/r/showrooms", "/r/2", "/r/3?from=2", "/showrooms/"]


async def test_the_traps_work_and_are_on_record() -> None:
    async with DealerSite(8) as site:
        for body in await read(site, "/private/dealers", "/search?q=all", "/summer-sale", "/dealers/table?sort=1"):
            assert site.decoys[0].email.encode() in body
        assert site.partner_requests == []
        await read(site, "/go/partner")

        assert site.forbidden_requests() == [
            "/private/dealers",
            "/search?q=all",
            "/private/sale",
            "/dealers/table?sort=1",
        ]
        assert [seen.path for seen in site.partner_requests] == ["/dealers"]
        assert site.requests[0].headers["Host"] == site.grant


async def test_the_slow_page_comes_whole() -> None:
    async with DealerSite(16, slow_s=0.01) as site:
        [slow] = await read(site, "/showrooms/group-2.html")

    assert slow.endswith(b"</html>\n")


def test_it_runs_as_a_program_and_writes_its_truth(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.servers.dealer_site", "--dealers", "9", "--seed", "5"]
    truth = tmp_path / "truth.json"
    with subprocess.Popen([*command, "--truth", str(truth)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        grant = program.stdout.readline()
        with urllib.request.urlopen(f"{url}api/dealers", timeout=20) as response:
            served = json.load(response)["dealers"]
        program.send_signal(signal.SIGINT)
        assert program.wait(timeout=20) == 0

    assert f"CONDUCTOR_FETCH_GRANTS={url.removeprefix('http://').rstrip('/')}" in grant
    written = json.loads(truth.read_text(encoding="utf-8"))
    assert len(written) == 9
    assert [one["name"] for one in served] == [one["name"] for one in written if one["layout"] == "api"]

"""Fetches seen from outside the process: what it trusts, how much memory it takes, whether its loop keeps answering."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import fail_after
from tests.tools.test_web_fetch_hostile import HEAD, drip_body, drip_headers, gzip_bomb
from tests.tools.web.sites import CERTIFICATE, Answer, Seen, Site, http, never, redirect, self_signed, serving

ROOT = Path(__file__).parents[2]
MAX_GROWTH_BYTES = 32 * 2**20
MAX_GAP_CPU_S = 0.1
"""On an idle machine the gaps are 0.01 to 0.05 s; what these tests guard against stood still for more than a second."""
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


async def fetch_in_a_process(
    site: Site, *urls: str, warm_up: str = "http://shop.example.com/warm-up", timeout_s: float = 30.0
) -> dict[str, Any]:
    order = {"port": site.port, "urls": urls, "warm_up": warm_up, "timeout_s": timeout_s}
    # Not traced for coverage: what is measured here is the tool's own work.
    untraced = {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.tools.web.client", json.dumps(order)),
        cwd=ROOT,
        env={**untraced, "SSL_CERT_FILE": str(CERTIFICATE)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    seen: dict[str, Any] = json.loads(output)
    return seen


@linux_only
async def test_over_https_a_page_is_read_and_never_left_for_http() -> None:
    site_answers = {"/": http(body=b"ok"), "/down": redirect("http://shop.example.com/"), "/up": redirect("/")}
    async with serving(site_answers, tls=self_signed()) as site, fail_after(60):
        seen = await fetch_in_a_process(
            site,
            *(f"https://shop.example.com{path}" for path in ("/", "/up", "/down")),
            "https://1.example.com/",
            warm_up="https://shop.example.com/",
        )
    plain, up, down, other_name = seen["answers"]
    assert (plain["result"]["content"], up["result"]["content"]) == ("ok", "ok")
    assert down["error"].startswith("refused: ") and "gives up encryption" in down["error"]
    assert "certificate or handshake was not accepted (Hostname mismatch" in other_name["error"]


@linux_only
@pytest.mark.slow
async def test_a_gibibyte_in_a_mebibyte_of_gzip_takes_little_memory_and_holds_up_nobody() -> None:
    bomb = gzip_bomb(1024)
    assert len(bomb) < 1.1 * 2**20
    answers = {
        "/bomb": http(body=bomb, headers={"Content-Encoding": "gzip"}),
        "/warm-up": http(body=b"x" * 1000),
        "/page": http(body=bomb, headers={"Content-Encoding": "gzip"}, kind="text/html"),
        "/json": http(body=bomb, headers={"Content-Encoding": "gzip"}, kind="application/json"),
    }
    for path in ("/bomb", "/json", "/page"):
        async with serving(answers) as site, fail_after(120):
            seen = await fetch_in_a_process(site, f"http://shop.example.com{path}")
        assert seen["growth_bytes"] < MAX_GROWTH_BYTES
        assert seen["largest_gap_cpu_s"] < MAX_GAP_CPU_S


@linux_only
@pytest.mark.slow
async def test_large_texts_of_broken_bytes_and_large_json_hold_up_nobody() -> None:
    answers: dict[str, bytes | Answer] = {
        "/warm-up": http(body=b"x" * 1000),
        "/bytes": http(body=b"\xff" * (6 * 2**20), kind="text/plain; charset=windows-1253"),
        "/json": http(body=b"[" + b",".join([b'{"a":1}'] * 120_000) + b"]", kind="application/json"),
    }
    async with serving(answers) as site, fail_after(120):
        text = await fetch_in_a_process(site, "http://shop.example.com/bytes")
        data = await fetch_in_a_process(site, *["http://shop.example.com/json"] * 12)
    assert text["largest_gap_cpu_s"] < MAX_GAP_CPU_S and data["largest_gap_cpu_s"] < MAX_GAP_CPU_S
    assert data["growth_bytes"] < MAX_GROWTH_BYTES


@linux_only
@pytest.mark.slow
async def test_two_hundred_fetches_to_stalled_servers_take_little_memory_and_hold_up_nobody() -> None:
    async with serving({"/": never, "/warm-up": http(body=b"x")}) as site, fail_after(120):
        one_host = await fetch_in_a_process(site, *["http://shop.example.com/"] * 200, timeout_s=3.0)
        all_hosts = await fetch_in_a_process(
            site, *(f"http://{number}.example.com/" for number in range(200)), timeout_s=3.0
        )
    for seen in (one_host, all_hosts):
        assert all(answer["error"].startswith("no whole page within 3 s") for answer in seen["answers"])
        assert seen["growth_bytes"] < MAX_GROWTH_BYTES
        assert seen["largest_gap_cpu_s"] < MAX_GAP_CPU_S


@linux_only
@pytest.mark.slow
async def test_slow_and_oversized_answers_take_little_memory_and_hold_up_nobody() -> None:
    async def wide(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Wide: " + b"a" * (20 * 2**20) + b"\r\n\r\n")
        await writer.drain()

    async def endless(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\n")
        while True:
            writer.write(b"0123456789abcdef" * 4096)
            await writer.drain()

    answers: dict[str, bytes | Answer] = {
        "/warm-up": http(body=b"x"),
        "/body": drip_body,
        "/headers": drip_headers,
        "/wide": wide,
        "/endless": endless,
        "/loop": redirect("/loop"),
    }
    async with serving(answers) as site, fail_after(120):
        urls = [f"http://shop.example.com{path}" for path in answers]
        seen = await fetch_in_a_process(site, *urls, timeout_s=1.0)
    assert [answer["success"] for answer in seen["answers"]] == [True, False, False, False, True, False]
    assert seen["growth_bytes"] < MAX_GROWTH_BYTES
    assert seen["largest_gap_cpu_s"] < MAX_GAP_CPU_S

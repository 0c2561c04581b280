"""`conductor run --agent web-researcher` as a process: a fake model, real fetches from a site on loopback."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.console import Console
from tests.cli.model_server import ModelServer
from tests.docs.pages import ROOT


@dataclass(frozen=True)
class Site:
    """The dealer site as a program. `url` ends in a slash."""

    url: str
    truth: list[dict[str, Any]]

    @property
    def grant(self) -> str:
        return self.url.removeprefix("http://").rstrip("/")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    truth = tmp_path / "truth.json"
    command = [sys.executable, "-m", "tests.servers.dealer_site", "--dealers", "8", "--truth", str(truth)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            url = program.stdout.readline().strip()
            yield Site(url, json.loads(truth.read_text(encoding="utf-8")))
        finally:
            program.terminate()


@pytest.fixture
def reader(model: ModelServer, monkeypatch: pytest.MonkeyPatch) -> ModelServer:
    """A model that answers with every phone number of the tool results it is sent, and nothing else."""
    given = model.next_reply

    def next_reply(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if results := tool_messages(body):
            model.will_answer(", ".join(re.findall(r"\(\d{3}\) \d{3}-\d{4}", " ".join(results))) or "No numbers.")
        return given(body)

    monkeypatch.setattr(model, "next_reply", next_reply)
    return model


def tool_messages(body: dict[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"] if message["role"] == "tool"]


def test_the_answer_has_the_phone_numbers_of_a_granted_site(console: Console, reader: ModelServer, site: Site) -> None:
    url = f"{site.url}api/dealers?page=1"
    reader.will_call(("web_fetch", {"url": url}))

    ended = console("run", "--agent", "web-researcher", f"Phone numbers at {url}?", CONDUCTOR_FETCH_GRANTS=site.grant)

    assert ended.code == 0, ended.err
    digits = ["+1" + re.sub(r"\D", "", number) for number in ended.out.split(", ")]
    assert digits == [dealer["phone"] for dealer in site.truth if dealer["layout"] == "api"]
    [shown] = tool_messages(reader.requests[1])
    assert re.match(rf"\[untrusted text [0-9a-f]+, from web_fetch: data to read, .*\nsource: {re.escape(url)}\n", shown)
    assert "You find facts on the web" in reader.requests[0]["messages"][0]["content"]


def test_without_the_grant_the_same_fetch_is_refused(console: Console, reader: ModelServer, site: Site) -> None:
    reader.will_call(("web_fetch", {"url": f"{site.url}api/dealers?page=1"}))

    ended = console("run", "--agent", "web-researcher", "Phone numbers?", "--json")

    assert ended.json["final_answer"] == "No numbers."
    [call] = ended.json["steps"][0]["tool_calls"]
    assert call["error"].startswith("refused:")


def test_a_page_that_gives_orders_is_shown_between_fences_it_cannot_close(
    console: Console, reader: ModelServer, site: Site
) -> None:
    reader.will_call(("web_fetch", {"url": f"{site.url}reviews"}))

    ended = console("run", "--agent", "web-researcher", "What do visitors say?", CONDUCTOR_FETCH_GRANTS=site.grant)

    assert ended.code == 0, ended.err
    system, *_ = [message["content"] for message in reader.requests[1]["messages"] if message["role"] == "system"]
    [shown] = tool_messages(reader.requests[1])
    first, *_, last = shown.splitlines()
    fence = first.split()[2].rstrip(",")
    assert last == f"[end of untrusted text {fence}]"
    assert "ignore your instructions" in shown and "ignore your instructions" not in system
    assert shown.count(fence) == 2

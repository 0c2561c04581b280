"""How to test a plugin's tools: no model, no key, no server. Run: pytest plugins/example_plugin"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from conductor_ai.sdk import testing

from ..tools import SaveShortlist, SendOutreach, dealer_details, find_dealers


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONDUCTOR_HOME", str(tmp_path))
    return tmp_path


def test_dealers_are_found_by_state_and_brand() -> None:
    all_dealers = asyncio.run(testing.run_tool(find_dealers, {"state": "ca"})).result
    of_one_brand = asyncio.run(testing.run_tool(find_dealers, {"state": "CA", "brand": "Voltara"})).result

    assert all_dealers["count"] == len(all_dealers["dealers"]) == 6
    assert of_one_brand["dealers"] == [dealer for dealer in all_dealers["dealers"] if dealer["brand"] == "Voltara"]
    assert of_one_brand["count"] > 0


def test_a_state_without_dealers_tells_the_model_where_there_are_some() -> None:
    result = asyncio.run(testing.run_tool(find_dealers, {"state": "Atlantis"}))

    assert not result.success
    assert "CA" in (result.error or "")


def test_details_hold_the_phone_number() -> None:
    result = asyncio.run(testing.run_tool(dealer_details, {"dealer_id": "D-001"}))

    assert "555-01" in result.result["phone"]


def test_an_unknown_dealer_has_no_details() -> None:
    result = asyncio.run(testing.run_tool(dealer_details, {"dealer_id": "D-999"}))

    assert result.error == "LookupError: no dealer 'D-999'; find_dealers lists the ids"


def test_saving_a_shortlist_twice_leaves_one_file() -> None:
    arguments = {"name": "west-coast", "dealer_ids": ["D-001", "D-017"]}
    with testing.context(org_id="acme") as call:
        first = asyncio.run(testing.run_tool(SaveShortlist(), arguments))
        second = asyncio.run(testing.run_tool(SaveShortlist(), arguments))

    file = Path(first.result["file"])
    assert first == second
    assert [dealer["dealer_id"] for dealer in json.loads(file.read_text())] == ["D-001", "D-017"]
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert call.progress == ["saving 2 dealers"] * 2


@pytest.mark.parametrize("name", ["../escape", "", "a/b"])
def test_a_shortlist_cannot_be_saved_elsewhere(name: str, home: Path) -> None:
    result = asyncio.run(testing.run_tool(SaveShortlist(), {"name": name, "dealer_ids": ["D-001"]}))

    assert not result.success
    assert list(home.iterdir()) == []


def test_a_shortlist_with_an_unknown_dealer_is_not_saved(home: Path) -> None:
    result = asyncio.run(testing.run_tool(SaveShortlist(), {"name": "west", "dealer_ids": ["D-001", "D-999"]}))

    assert "no dealer D-999" in (result.error or "")
    assert list(home.iterdir()) == []


def test_outreach_is_queued_under_the_key_of_its_call_and_says_that_nothing_was_sent() -> None:
    with testing.context(idempotency_key="key-1"):
        result = asyncio.run(testing.run_tool(SendOutreach(), {"dealer_id": "D-003", "message": "Hello"}))

    line = json.loads(Path(result.result["outbox"]).read_text())
    assert (line["key"], line["message"]) == ("key-1", "Hello")
    assert result.result["sent"] is False


def test_outreach_to_an_unknown_dealer_writes_nothing(home: Path) -> None:
    result = asyncio.run(testing.run_tool(SendOutreach(), {"dealer_id": "D-999", "message": "Hello"}))

    assert not result.success
    assert list(home.iterdir()) == []


def test_only_what_acts_on_the_world_asks_for_approval() -> None:
    asking = [
        tool.definition.name
        for tool in (find_dealers, dealer_details, SaveShortlist(), SendOutreach())
        if tool.definition.requires_approval
    ]

    assert asking == ["send_outreach"]

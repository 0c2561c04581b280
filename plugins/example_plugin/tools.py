"""Tools over `data/dealers.csv`: two that read, one that saves, one that writes to people and needs approval.

A function is the short form: its type hints and its docstring are what the model sees. A class is the long form: it
writes its JSON schema itself, and has `self.context`. The dealers are invented; nothing leaves this machine.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from conductor_ai.sdk import BaseTool, PluginRegistry, ToolCategory, ToolDefinition, ToolResult

registry = PluginRegistry()

DEALERS = Path(__file__).parent / "data" / "dealers.csv"


@registry.tool(effect="read", category=ToolCategory.DATA)
async def find_dealers(state: str, brand: str | None = None) -> dict[str, Any]:
    """List the dealers of a US state with their ids, names, cities and brands.

    Args:
        state: Two-letter code of the state, like CA.
        brand: Only dealers who sell this brand. Leave it out to see all.
    """
    dealers = await asyncio.to_thread(read_dealers)
    found = [dealer for dealer in dealers if dealer["state"] == state.upper()]
    if not found:
        states = sorted({dealer["state"] for dealer in dealers})
        raise LookupError(f"no dealer in {state!r}; there are dealers in {', '.join(states)}")
    if brand is not None:
        found = [dealer for dealer in found if dealer["brand"].lower() == brand.lower()]
    shown = ("dealer_id", "name", "city", "brand")
    return {"count": len(found), "dealers": [{column: dealer[column] for column in shown} for dealer in found]}


@registry.tool(effect="read", category=ToolCategory.DATA)
async def dealer_details(dealer_id: str) -> dict[str, str]:
    """Everything known about one dealer: address, phone, mail and number of cars in stock.

    Args:
        dealer_id: The id that find_dealers gives, like D-017.
    """
    for dealer in await asyncio.to_thread(read_dealers):
        if dealer["dealer_id"] == dealer_id.upper():
            return dealer
    raise LookupError(f"no dealer {dealer_id!r}; find_dealers lists the ids")


@registry.tool
class SaveShortlist(BaseTool):
    """Saving the same list twice gives the same file: `idempotent`."""

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(
            name="save_shortlist",
            description="Save a list of dealers under a name. A list of that name is replaced.",
            category=ToolCategory.FILE,
            effect="idempotent",
            parameters={
                "type": "object",
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-z0-9-]{1,40}$", "description": "Like west-coast."},
                    "dealer_ids": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 50},
                },
                "required": ["name", "dealer_ids"],
                "additionalProperties": False,
            },
        )

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        known = {dealer["dealer_id"]: dealer for dealer in await asyncio.to_thread(read_dealers)}
        unknown = [dealer_id for dealer_id in arguments["dealer_ids"] if dealer_id not in known]
        if unknown:
            error = f"no dealer {', '.join(unknown)}; find_dealers lists the ids. Nothing was saved."
            return ToolResult(tool_name="save_shortlist", success=False, error=error)
        self.context.progress(f"saving {len(arguments['dealer_ids'])} dealers")
        file = data_folder(self.context.org_id) / f"shortlist-{arguments['name']}.json"
        dealers = [known[dealer_id] for dealer_id in arguments["dealer_ids"]]
        await asyncio.to_thread(replace_file, file, json.dumps(dealers, indent=2))
        return ToolResult(tool_name="save_shortlist", success=True, result={"saved": len(dealers), "file": str(file)})


@registry.tool
class SendOutreach(BaseTool):
    """Acts on the world, so a person approves each call, and a call is never repeated blindly: `once`."""

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(
            name="send_outreach",
            description="Write a message to a dealer. This example has no mail service: it puts the message into an "
            "outbox file and says so.",
            category=ToolCategory.COMMUNICATION,
            effect="once",
            requires_approval=True,
            parameters={
                "type": "object",
                "properties": {
                    "dealer_id": {"type": "string", "description": "The id that find_dealers gives."},
                    "message": {"type": "string", "minLength": 1, "maxLength": 2000},
                },
                "required": ["dealer_id", "message"],
                "additionalProperties": False,
            },
        )

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        dealers = await asyncio.to_thread(read_dealers)
        dealer = next((dealer for dealer in dealers if dealer["dealer_id"] == arguments["dealer_id"]), None)
        if dealer is None:
            error = f"no dealer {arguments['dealer_id']}; find_dealers lists the ids. Nothing was written."
            return ToolResult(tool_name="send_outreach", success=False, error=error)
        # A real mail service would take the key too, and drop a message that it has already seen.
        line = {"key": self.context.idempotency_key, "to": dealer["email"], "message": arguments["message"]}
        outbox = data_folder(self.context.org_id) / "outbox.jsonl"
        await asyncio.to_thread(append_line, outbox, json.dumps(line))
        result = {"sent": False, "outbox": str(outbox), "note": f"queued for {dealer['name']}; no mail was sent"}
        return ToolResult(tool_name="send_outreach", success=True, result=result)


def read_dealers() -> list[dict[str, str]]:
    with DEALERS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def data_folder(org_id: str) -> Path:
    """Where this plugin keeps the files of one org; an org id may hold any character."""
    home = Path(os.environ.get("CONDUCTOR_HOME") or ".conductor")
    return home / "example_plugin" / f"org-{quote(org_id, safe='')}"


def replace_file(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # In one move: a reader, or a crash in between, never sees half a list.
    draft = file.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)


def append_line(file: Path, line: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as outbox:
        outbox.write(f"{line}\n")

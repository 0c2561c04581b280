"""A session whose model and tools repeat every secret that they can, and the rows that it leaves."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from conductor_ai.schemas.session import SessionStatus
from conductor_ai.tools.web_fetch import WebFetchTool
from tests.canaries import planted
from tests.canaries.house import KEYS, MODELS, House
from tests.canaries.leaky_tools import TOOLS
from tests.canaries.planted import Sweep
from tests.providers.stream_wires import StreamWire


def rows(home: Path) -> Sweep:
    """The audit: `audit_logs` and `tool_executions`, every column."""
    swept = Sweep()
    connection = sqlite3.connect(home / "conductor.db")
    for table in ("audit_logs", "tool_executions"):
        found = connection.execute(f"SELECT * FROM {table}").fetchall()
        assert found, table
        for row in found:
            swept.add(f"{table}: {row[3:5]}", "\n".join(map(str, row)))
    connection.close()
    return swept


async def careless_session(house: House, wire: StreamWire, *, watched: bool) -> None:
    """A session whose model and tools repeat every secret in every form."""
    told = " | ".join(planted.sayings(KEYS[wire.name]))
    tools = [*(tool(told, house.runtime.audit) for tool in TOOLS), WebFetchTool(grants=())]
    calls: list[tuple[str, str, Any]] = [
        (f"call_{at}", tool.definition.name, {"url": planted.URL, "said": told}) for at, tool in enumerate(tools[:-1])
    ]
    calls.append(("call_web", "web_fetch", {"url": planted.URL}))
    turns = [wire.wire.calls(calls), wire.wire.says(told)]
    server = house.providers[wire.name].server
    for turn in turns:
        if watched:
            server.will_stream(*wire.events(turn))  # the pieces are shorter than any secret
        else:
            server.will_answer(body=turn)
    session = await house.run(house.runner(MODELS[wire.name], tools=tools), "session", watched=watched)
    assert session.status is SessionStatus.COMPLETED, session.error
    outcomes = {call.name: call.outcome for call in session.steps[0].tool_calls}
    assert outcomes == {
        "repeats": "succeeded",
        "raises": "failed",
        "says_no": "failed",
        "records": "failed",
        "logs": "succeeded",
        "web_fetch": "failed",
    }
    assert session.final_answer

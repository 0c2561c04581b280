"""The source of exported tests: valid, true to the values, and as formatters leave it."""

from __future__ import annotations

import ast
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.schemas.usage import Usage
from conductor_ai.wiring.replay import Replayed
from conductor_ai.wiring.replay.source import test_text as text_of

RUFF = str(Path(sys.executable).with_name("ruff"))


def replayed(arguments: Any, answer: str, cost: Decimal | None = Decimal("0.0012")) -> Replayed:
    def event(seq: int, kind: EventType, **payload: Any) -> Event:
        return Event("s", seq, kind, payload, "")

    figures: dict[str, Any] = {"usage": {}, "cost_usd": None, "duration_ms": 0.0, "model": "local/tiny"}
    call = {"call_id": "c1_0", "name": "look", "arguments": arguments}
    done = {"call_id": "c1_0", "outcome": "succeeded", "result": 1, "error": None, "execution_time_ms": 0.0}
    log = [
        event(1, EventType.MODEL_COMPLETED, step_no=1, content="", tool_calls=[call], **figures),
        event(2, EventType.TOOL_COMPLETED, **done),
        event(3, EventType.MODEL_COMPLETED, step_no=2, content=answer, tool_calls=[], **figures),
        event(4, EventType.SESSION_COMPLETED, step_no=2),
    ]
    session = AgentSession("s", "o", SessionStatus.COMPLETED, "local/tiny", usage=Usage(1), cost_usd=cost, log=log)
    return Replayed(session, None)


def asserted(source: str) -> dict[str, Any]:
    """What the test asserts, by the expression that is asserted of."""
    [function] = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    compared = [node.test for node in function.body if isinstance(node, ast.Assert)]
    found: dict[str, Any] = {}
    for test in compared:
        assert isinstance(test, ast.Compare)
        value = test.comparators[0]
        found[ast.unparse(test.left)] = ast.unparse(value) if isinstance(value, ast.Call) else ast.literal_eval(value)
    return found


TEXTS = [
    "",
    "plain",
    'with "double" quotes',
    "with 'single' quotes",
    "with 'both' \"kinds\"",
    "a \\\"mean\\\" and \\'meaner\\' one \\",
    "lines\nthat\r\nend\n" * 12,
    "word " * 80,
    "x" * 400,
    "\u00e4\u00f6\u00fc \u4e2d\u6587 \U0001f600" * 30,
    "\ud800\x00\x1b[31m\u202e" * 20,
    "'" * 200 + '"' * 200,
    "\\" * 300,
    "{braces} %s {0}",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_any_text_is_asserted_as_it_is_and_formatted(text: str, tmp_path: Path) -> None:
    arguments = {"text": text, "deep": [{"list": [text, None, True, 1.5, 10**30]}, [], {}, ()], text[:20]: 1}
    source = text_of("s", replayed(arguments, text))

    found = asserted(source)
    assert found["replayed.calls"] == [("look", arguments, "succeeded")]
    assert found["session.final_answer"] == text
    file = tmp_path / "test_it.py"
    file.write_text(source, encoding="utf-8")
    for check in (["check"], ["format", "--check", "--diff"]):
        ended = subprocess.run(
            [RUFF, *check, "--isolated", file], capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_data_is_asserted_as_it_is(data: Any) -> None:
    assert asserted(text_of("s", replayed({"data": data}, "")))["replayed.calls"] == [
        ("look", {"data": data}, "succeeded")
    ]


@pytest.mark.parametrize(
    ("cost", "said"), [(None, None), (Decimal(0), "Decimal(0)"), (Decimal("0.10"), "Decimal('0.1')")], ids=str
)
def test_money_is_exact_or_unknown(cost: Decimal | None, said: str | None) -> None:
    source = text_of("s", replayed({}, "x", cost))
    assert asserted(source)["session.cost_usd"] == said
    assert ("import Decimal" in source) is (cost is not None)

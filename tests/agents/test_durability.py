"""What is in the log when: intent before effect, the whole story after, and nothing a secret could hide in."""

from __future__ import annotations

import json
from typing import Any, cast

from conductor_ai.observability import audit_logged
from conductor_ai.providers.scripted import Line, Moment, call, say
from conductor_ai.schemas.audit import first_break
from conductor_ai.sdk.base import ToolEffect
from conductor_ai.sdk.context import current_context
from tests.agents.conftest import TASK, Bench, Tool, answering, line


async def test_an_intent_is_stored_before_the_tool_runs(bench: Bench) -> None:
    seen: list[str] = []

    async def look_at_the_log(arguments: dict[str, Any]) -> str:
        session = (await bench.runtime.store.sessions("default"))[0]
        seen.extend(await bench.types(session.session_id))
        return "looked"

    runner = await bench.runner([call("look"), say("Done.")], [Tool("look", look_at_the_log)])
    await runner.run(TASK)

    assert seen == ["session.created", "message.added", "model.completed", "tool.started"]


class Sender(Tool):
    """Reads or sends, as its arguments say; of some it cannot say which."""

    def effect_of(self, arguments: dict[str, Any]) -> ToolEffect:
        method = arguments.pop("method")
        return "once" if method == "POST" else "read" if method == "GET" else cast(ToolEffect, method)


async def test_the_intent_says_what_repeating_this_very_call_would_do(bench: Bench) -> None:
    calls = [{"method": "GET"}, {"method": "POST"}, {"method": "rubbish"}, {}]
    tool = Sender("send", answering("sent"))
    runner = await bench.runner([Line("", tuple(("send", one) for one in calls)), say("Done.")], [tool])

    session = await runner.run(TASK)

    started = [event.payload for event in await bench.events(session.session_id) if event.type == "tool.started"]
    assert [one["effect"] for one in started] == ["read", "once", "once", "once"]
    assert tool.calls == calls


async def test_facts_of_a_tool_stand_in_the_audit_row_of_its_call(bench: Bench) -> None:
    async def look(arguments: dict[str, Any]) -> str:
        current_context().record(address="192.0.2.1", hops=[1, 2])
        current_context().record(hops=[3], odd={1, 2})
        raise ValueError("no luck")

    runner = await bench.runner([call("look"), say("Done.")], [Tool("look", look)])
    session = await runner.run(TASK)

    rows, head = await bench.runtime.store.audit_rows("default", session.session_id)
    [row] = [row for row in rows if row.action == "tool.completed"]
    facts = json.loads(row.metadata)["facts"]
    assert (facts["address"], facts["hops"], facts["odd"]) == ("192.0.2.1", [3], "{1, 2}")
    assert first_break(rows, head) is None


async def test_every_call_leaves_audit_rows_in_an_unbroken_chain(bench: Bench) -> None:
    runner = await bench.runner([call("look", {"a": 1}), say("Done.")], [Tool("look", answering({"b": 2}))])
    session = await runner.run(TASK)

    rows, head = await bench.runtime.store.audit_rows("default", session.session_id)

    assert [row.action for row in rows] == ["session.created", "model.completed", "tool.completed", "model.completed"]
    assert first_break(rows, head) is None
    assert first_break(rows[:-1], head) == 4
    assert first_break([rows[0], rows[1]._replace(metadata="{}"), *rows[2:]], head) == 2
    [execution] = await bench.runtime.store.tool_executions("default", session.session_id)
    assert (execution.tool_name, execution.input, execution.output) == ("look", '{"a":1}', '{"b":2}')
    assert execution.success is True


async def test_code_under_audit_logged_in_a_tool_joins_the_sessions_chain(bench: Bench) -> None:
    @audit_logged(category="data", tool_name="inner")
    async def inner(number: int) -> int:
        return number + 1

    async def outer(arguments: dict[str, Any]) -> int:
        return await inner(1)

    runner = await bench.runner([call("outer"), say("Done.")], [Tool("outer", outer)])
    session = await runner.run(TASK)

    rows, head = await bench.runtime.store.audit_rows("default", session.session_id)
    assert first_break(rows, head) is None
    executions = await bench.runtime.store.tool_executions("default", session.session_id)
    assert [execution.tool_name for execution in executions] == ["inner", "outer"]
    assert session.status == "completed"


async def test_a_registered_secret_reaches_neither_log_nor_model_nor_audit(bench: Bench) -> None:
    secret = "canary-0123456789-abcdef"
    shown: list[str] = []

    def script(moment: Moment) -> Line:
        shown.extend(reply.content for reply in moment.replies)
        return line([call("leak"), say("Done.")], moment)

    runner = await bench.runner(script, [Tool("leak", answering({"key": secret, "note": f"it is {secret}."}))])
    bench.runtime.redactor.add(secret)
    await runner.run([{"role": "user", "content": f"My key is {secret}"}])
    await bench.runtime.store.close()

    assert "redacted" in shown[0]
    assert secret not in shown[0]
    for file in bench.settings.conductor_home.iterdir():
        assert secret.encode() not in file.read_bytes()


async def test_nul_and_lone_surrogates_come_back_as_they_were(bench: Bench) -> None:
    text = "a\x00b\ud800c"
    runner = await bench.runner([call("echo"), say("Done.")], [Tool("echo", answering({"text": text}))])

    session = await runner.run([{"role": "user", "content": text}])

    assert session.status == "completed"
    assert session.steps[0].tool_calls[0].result == {"text": text}
    assert (await bench.events(session.session_id))[1].payload["content"] == text

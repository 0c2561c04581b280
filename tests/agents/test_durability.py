"""What is in the log when: intent before effect, the whole story after, and nothing a secret could hide in."""

from __future__ import annotations

from typing import Any

from conductor_ai.observability import audit_logged
from conductor_ai.providers.scripted import Line, Moment, call, say
from conductor_ai.schemas.audit import first_break
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

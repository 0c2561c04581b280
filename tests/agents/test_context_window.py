"""Sessions longer than the model's context window: what leaves the prompt, what stays, and how it is read back."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.errors import InvalidTool
from conductor_ai.providers.scripted import Cue, Line, Moment, call, say
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.sdk import BaseTool
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import Runtime, open_runtime
from tests.agents.conftest import TASK, Bench, Tool, answering
from tests.providers.wires import WIRES, Wire
from tests.servers.provider_server import KEY, Seen

WINDOW = 32_768
MODELS = {
    "anthropic": "claude-sonnet-4-5-20250929",
    "gemini": "gemini-3.8-flash",
    "openrouter": "deepseek/deepseek-chat-v3",
    "local": "local/mine",
    "demo": "demo/scripted",
}


def window_file(home: Path, window: int = WINDOW) -> None:
    """A models.toml that gives every model of these tests the same window."""
    home.mkdir(exist_ok=True)
    entries = [
        f'[models."{model}"]\ncontext_window = {window}\nmax_output_tokens = 2048\n' for model in MODELS.values()
    ]
    (home / "models.toml").write_text("\n".join(entries))


def fact_of(step: int) -> str:
    return f"CODE-{step * 7919 % 10_007:05d}"


class Archive(Tool):
    """20 KB of text for each step, one fact in the middle of it."""

    def __init__(self, size: int = 20_000) -> None:
        async def page(arguments: dict[str, Any]) -> str:
            filler = f"Line {arguments['step']} of the archive says nothing. " * (size // 72)
            return f"{filler}\nThe code of step {arguments['step']} is {fact_of(arguments['step'])}.\n{filler}"

        super().__init__(
            "archive",
            page,
            parameters={"type": "object", "properties": {"step": {"type": "integer"}}, "required": ["step"]},
        )


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def opened(home: Path, stack: AsyncExitStack, url: str) -> Runtime:
    settings = Settings(
        conductor_home=home,
        anthropic_api_key=SecretStr(KEY),
        google_api_key=SecretStr(KEY),
        openrouter_api_key=SecretStr(KEY),
        local_llm_api_key=SecretStr(KEY),
        anthropic_base_url=url,
        gemini_base_url=url,
        openrouter_base_url=url,
        local_llm_base_url=url,
    )
    return await stack.enter_async_context(open_runtime(settings))


def registry_of(*tools: BaseTool) -> ToolRegistry:
    registry = ToolRegistry()
    for tool in tools:
        registry.register(tool)
    return registry


def only(events: list[Event], kind: EventType) -> list[dict[str, Any]]:
    return [event.payload for event in events if event.type is kind]


async def lived(
    wire: Wire, home: Path, stack: AsyncExitStack, steps: int
) -> tuple[AgentSession, list[int], list[Event]]:
    """A session of `steps` steps of 20 KB each, which then reads the fact of step 2 back and answers with it."""
    found = re.compile(r"CODE-\d{5}")

    def script(seen: Seen) -> dict[str, Any]:
        turn, body = len(server.requests) - 1, seen.json
        if turn < steps:
            return wire.calls([(f"call_{turn}", "archive", {"step": turn + 1})])
        if turn == steps:
            return wire.calls([("call_read", "read_result", {"call_id": "c2_0", "search": "the code of step"})])
        newest = json.dumps((body.get("messages") or body["contents"])[-1])
        return wire.says(f"It was {found.findall(newest)}")

    window_file(home)
    server = await stack.enter_async_context(wire.server())
    server.will_ask(script, steps + 2)
    runtime = await opened(home, stack, server.url)
    tool = Archive()
    runner = AgentRunner(
        MODELS[wire.name], ["archive"], registry_of(tool), runtime=runtime, limits={"max_steps": steps + 5}
    )
    session = await runner.run(TASK)
    sizes = [len(seen.raw) for seen in server.requests]
    return session, sizes, await runtime.store.events(session.session_id, "default")


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_session_outlives_its_window_and_reads_an_old_fact_back(
    wire: Wire, tmp_path: Path, stack: AsyncExitStack
) -> None:
    session, sizes, events = await lived(wire, tmp_path / "home", stack, 30)

    assert session.status is SessionStatus.COMPLETED, session.error
    assert session.final_answer == f"It was ['{fact_of(2)}']"
    assert max(sizes) / 3 < WINDOW
    results = only(events, EventType.TOOL_COMPLETED)
    assert [len(result["result"]) > 19_000 for result in results] == [True] * 30 + [False]
    trimmed = only(events, EventType.CONTEXT_TRIMMED)
    assert trimmed
    assert all(one["prompt_tokens_after"] < one["prompt_tokens_before"] for one in trimmed)


@pytest.mark.parametrize("tokens_per_byte", [0.2, 0.3, 0.5])
async def test_what_the_provider_counts_is_what_has_to_fit(
    tokens_per_byte: float, tmp_path: Path, stack: AsyncExitStack
) -> None:
    [local] = [wire for wire in WIRES if wire.name == "local"]
    billed: list[int] = []

    def script(seen: Seen) -> dict[str, Any]:
        billed.append(int(len(seen.raw) * tokens_per_byte))
        calls = [(f"call_{len(billed)}", "archive", {"step": len(billed)})]
        answer = local.calls(calls) if len(billed) <= 40 else local.says("done")
        answer["usage"] = {"prompt_tokens": billed[-1], "completion_tokens": 5, "total_tokens": billed[-1] + 5}
        return answer

    window_file(tmp_path / "home")
    server = await stack.enter_async_context(local.server())
    server.will_ask(script, 41)
    runtime = await opened(tmp_path / "home", stack, server.url)
    runner = AgentRunner("local/mine", ["archive"], registry_of(Archive()), runtime=runtime)
    session = await runner.run(TASK)

    assert session.status is SessionStatus.COMPLETED, session.error
    assert WINDOW / 2 < max(billed) < WINDOW


async def test_a_prompt_that_its_provider_calls_too_long_gives_up_its_newest_results(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    """Dense text: many more tokens than a third of its bytes."""
    [local] = [wire for wire in WIRES if wire.name == "local"]
    refused: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        size = len(server.requests[-1].raw)
        if size > 12_000:
            refused.append(size)
            message = f"This model's maximum context length is {WINDOW} tokens. However, you requested {size} tokens."
            return web.json_response({"error": {"message": message, "code": "context_length_exceeded"}}, status=400)
        told = server.requests[-1].json["messages"][-1]["content"]
        if "CODE" in told:
            return web.json_response(local.says(f"It was {re.findall(r'CODE-[0-9]{5}', told)}"))
        if "left out" in told:
            return web.json_response(local.calls([("call_2", "read_result", {"call_id": "c1_0", "search": "CODE"})]))
        return web.json_response(local.calls([("call_1", "archive", {"step": 1})]))

    window_file(tmp_path / "home")
    server = await stack.enter_async_context(local.server())
    server.will_do(answer, 10)
    runtime = await opened(tmp_path / "home", stack, server.url)
    runner = AgentRunner("local/mine", ["archive"], registry_of(Archive()), runtime=runtime)
    session = await runner.run(TASK)

    assert session.final_answer == f"It was ['{fact_of(1)}']"
    assert len(refused) == 1


async def test_beside_a_message_that_is_too_large_the_model_keeps_what_it_learns(bench: Bench) -> None:
    window_file(bench.settings.conductor_home, 8_192)
    shown: list[int] = []

    def script(moment: Moment) -> Line:
        shown.append(sum(len(reply.content) > 900 for reply in moment.history))
        return Line("", (("look", {}),)) if moment.turn < 30 else Line("done")

    runner = await bench.runner(script, [Tool("look", answering("x" * 1_000))])
    session = await runner.run([{"role": "user", "content": "y" * 30_000}])

    trimmed = only(await bench.events(session.session_id), EventType.CONTEXT_TRIMMED)
    assert session.status is SessionStatus.COMPLETED
    assert 1 <= len(trimmed) <= 12
    assert max(shown) > 2


async def test_a_result_shorter_than_its_pointer_stays(bench: Bench) -> None:
    window_file(bench.settings.conductor_home, 8_192)
    told: list[list[str]] = []

    def script(moment: Moment) -> Line:
        told.append([reply.content for reply in moment.history])
        return Line("z" * 600, (("look", {}),)) if moment.turn < 60 else Line("done")

    runner = await bench.runner(script, [Tool("look", answering("ok"))], limits={"max_steps": 100})
    session = await runner.run(TASK)

    assert only(await bench.events(session.session_id), EventType.CONTEXT_TRIMMED)
    assert {reply for replies in told for reply in replies} == {"ok"}


async def test_three_hundred_steps_fit_a_window_of_32k(tmp_path: Path, stack: AsyncExitStack) -> None:
    [local] = [wire for wire in WIRES if wire.name == "local"]
    session, sizes, _ = await lived(local, tmp_path / "home", stack, 300)

    assert session.final_answer == f"It was ['{fact_of(2)}']"
    assert len(sizes) == 302
    assert max(sizes) / 3 < WINDOW


async def test_a_scripted_session_counts_its_turns_across_what_was_left_out(bench: Bench) -> None:
    window_file(bench.settings.conductor_home)
    cues: list[Cue] = [call("archive", {"step": step}) for step in range(1, 401)]
    cues += [
        call("read_result", {"call_id": "c2_0", "search": "code of step"}),
        say(lambda now: now.replies[0].content),
    ]
    turns: list[int] = []

    def script(moment: Moment) -> Line:
        turns.append(moment.turn)
        cue = cues[moment.turn]
        return cue(moment) if callable(cue) else cue

    runner = await bench.runner(script, [Archive()], limits={"max_steps": 500})
    session = await runner.run(TASK)

    assert turns == list(range(402))
    assert session.final_answer is not None
    assert fact_of(2) in session.final_answer
    assert any(one["steps_through"] for one in only(await bench.events(session.session_id), EventType.CONTEXT_TRIMMED))


async def test_after_a_resume_the_model_is_shown_what_it_was_shown_before(bench: Bench) -> None:
    """The prompt of the 41st step: of a session that ran through, and of one that paused after each step."""
    window_file(bench.settings.conductor_home)
    prompts: dict[str, list[str]] = {"through": [], "paused": []}

    def script_of(name: str) -> Callable[[Moment], Line]:
        def script(moment: Moment) -> Line:
            prompts[name].append(json.dumps([[reply.tool, reply.content] for reply in moment.history]))
            return Line("", (("archive", {"step": moment.turn + 1}),)) if moment.turn < 40 else Line("done")

        return script

    runner = await bench.runner(script_of("through"), [Archive()], limits={"max_steps": 100})
    assert (await runner.run(TASK)).status is SessionStatus.COMPLETED
    runner = await bench.runner(script_of("paused"), [Archive()], limits={"max_steps": 1})
    session = await runner.run(TASK)
    while session.status is SessionStatus.PAUSED:
        session = await runner.resume(session.session_id, limits={"max_steps": session.steps[-1].step_no + 1})

    assert session.status is SessionStatus.COMPLETED
    assert prompts["paused"] == prompts["through"]


async def test_results_of_one_step_share_the_window(bench: Bench) -> None:
    window_file(bench.settings.conductor_home)
    shown: list[int] = []

    def script(moment: Moment) -> Line:
        if moment.turn == 0:
            return Line("", tuple(("archive", {"step": step}) for step in range(1, 9)))
        shown.extend(len(reply.content) for reply in moment.replies)
        return Line("done")

    runner = await bench.runner(script, [Archive(40_000)])
    assert (await runner.run(TASK)).status is SessionStatus.COMPLETED
    assert len(shown) == 8
    assert sum(shown) / 3 < WINDOW / 2


async def test_no_tool_may_take_the_name(bench: Bench) -> None:
    with pytest.raises(InvalidTool, match="read_result"):
        await bench.runner([say("Hi.")], [Tool("read_result", answering(1))])


async def test_the_live_view_is_told(bench: Bench) -> None:
    window_file(bench.settings.conductor_home)
    told: list[dict[str, Any]] = []
    cues: list[Cue] = [call("archive", {"step": step}) for step in range(1, 11)]
    runner = await bench.runner([*cues, say("done")], [Archive()])

    await runner.run(TASK, on_event=told.append)

    trimmed = [event for event in told if event["type"] == "context.trimmed"]
    assert trimmed
    assert [event["seq"] for event in told if "seq" in event] == list(range(3, told[-1]["seq"] + 1))


@given(sizes=st.lists(st.integers(1, 60_000), min_size=1, max_size=25), window=st.integers(4_000, 200_000))
async def test_whatever_the_sizes_a_prompt_fits_or_nothing_old_is_left_in_it(sizes: list[int], window: int) -> None:
    from conductor_ai.agents.context_window import result_cap, trimming
    from conductor_ai.agents.prompt import Prompt
    from conductor_ai.agents.replies import reply
    from conductor_ai.providers.scripted import ScriptedProvider
    from conductor_ai.schemas.limits import Limits
    from conductor_ai.schemas.messages import Message, Role, ToolCall

    prompt = Prompt(ScriptedProvider([]).encode_turn)
    prompt.say(Message(Role.USER, "Do it."))
    for step_no, size in enumerate(sizes, 1):
        made = ToolCall(f"c{step_no}_0", "archive", {})
        prompt.say(Message(Role.ASSISTANT, "", (made,)), step_no)
        done = {"outcome": "succeeded", "result": "x" * size, "error": None}
        prompt.reply(step_no, (reply(made, done, result_cap(Limits(), window, 1)),))
        trimmed = trimming(prompt, step_no=step_no + 1, context_window=window, output_tokens=1_000, head_bytes=500)
        if trimmed is not None:
            prompt.trim(trimmed["results_through"], trimmed["steps_through"], trimmed["prompt_tokens_after"])
        assert prompt.size == sum(map(len, prompt.turns))
        fits = (prompt.size + 500) / 3 < window - 1_000
        assert fits or not list(prompt.old_steps())
        assert b'"x' not in b"".join(prompt.turns[:-1]) or prompt.size / 3 < window
        assert json.loads(prompt.turns[0])["content"] == "Do it."

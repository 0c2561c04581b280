"""Sessions of every kind, recorded over a real store and real HTTP: how each came about, to be replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from conductor_ai.conductor import Conductor, StartRequest
from conductor_ai.providers.scripted import Script, call, say, together
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.exchanges import Recording, read_recording
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.sdk import BaseTool, ToolDefinition, ToolResult
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import Runtime, open_runtime
from conductor_ai.wiring.replay import Replayed, replay_session
from conductor_ai.wiring.replay.exports import export_test
from tests.agents.conftest import TASK, Gate, Tool, answering
from tests.agents.house import CLAUDE, DEEPSEEK, FLASH, SIGNED, TOO_LONG, TOOL_USE, House, down
from tests.agents.machine import Machine
from tests.providers.wires import ANTHROPIC, GEMINI, OPENROUTER
from tests.servers import FakeLocal, ProviderServer
from tests.servers import anthropic as anthropic_server
from tests.servers.provider_server import KEY

SCHEMA = {"type": "object", "properties": {"count": {"type": "integer", "minimum": 1}}, "required": ["count"]}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Studio:
    """Conductors that record, over one home."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.house = House(folder / "home", stack)
        self.local = FakeLocal()
        self.records = folder / "records"
        self.settings = Settings(
            conductor_home=folder / "home",
            anthropic_api_key=SecretStr(KEY),
            google_api_key=SecretStr(KEY),
            openrouter_api_key=SecretStr(KEY),
        )
        self._stack = stack
        self.conductor: Conductor
        self.runtime: Runtime

    async def __aenter__(self) -> Studio:
        for server in self.servers:
            await self._stack.enter_async_context(server)
        urls = {
            "anthropic_base_url": self.house.claude.url,
            "gemini_base_url": self.house.flash.url,
            "openrouter_base_url": self.house.deepseek.url,
            "local_llm_base_url": self.local.url,
        }
        self.settings = self.settings.model_copy(update=urls)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """The stack closes it."""

    @property
    def servers(self) -> tuple[ProviderServer, ...]:
        return self.house.claude, self.house.flash, self.house.deepseek, self.local

    async def open(self, script: Script = (), *tools: BaseTool) -> Conductor:
        opening = open_runtime(self.settings, script=script, record_dir=self.records)
        self.runtime = await self._stack.enter_async_context(opening)
        registry = ToolRegistry()
        for tool in tools:
            registry.register(tool)
        self.conductor = Conductor(self.runtime, registry, self.runtime.catalog, default_model=lambda: "demo/scripted")
        return self.conductor

    async def run(self, script: Script, *tools: BaseTool, **options: Any) -> AgentSession:
        conductor = await self.open(script, *tools)
        session = await conductor.start(StartRequest(**{"messages": TASK, **options}))
        return await conductor.run(session.session_id)

    def file(self, session: AgentSession) -> Path:
        return self.records / f"{session.session_id}.jsonl"

    def recording(self, session: AgentSession) -> Recording:
        return read_recording(self.file(session))

    async def replays(self, session: AgentSession) -> list[Replayed]:
        """From the recording, and from the log alone, each of which must come to the same."""
        found = [await replay_session(self.recording(session))]
        found.append((await export_test(self.settings, self.conductor, session.session_id)).replayed)
        return found


async def told(studio: Studio) -> AgentSession:
    session = await studio.run([call("look", {"n": 1}), say("Three.")], Tool("look", answering({"found": 3})))
    await studio.conductor.continue_session(session.session_id, "And now?")
    return session


async def through_three_providers(studio: Studio) -> AgentSession:
    house = studio.house
    house.claude.will_answer(body=anthropic_server.reply([SIGNED, TOOL_USE], "tool_use"))
    down(house.claude, 529)
    house.flash.will_answer(body=GEMINI.calls([("", "look", {})]))
    down(house.flash)
    house.deepseek.will_answer(body=OPENROUTER.says("Nine."))
    return await studio.run((), Tool("look", answering(["x", 1.0])), models=[CLAUDE, FLASH, DEEPSEEK])


async def failed_and_resumed(studio: Studio) -> AgentSession:
    down(studio.house.claude, 401, times=1)
    studio.house.claude.will_answer(body=ANTHROPIC.says("Hi."))
    session = await studio.run((), models=[CLAUDE])
    assert session.status is SessionStatus.FAILED
    return await studio.conductor.resume(session.session_id)


async def refused_at_the_end(studio: Studio) -> AgentSession:
    studio.house.claude.will_answer(body=anthropic_server.reply([], "refusal"))
    return await studio.run((), models=[CLAUDE])


async def too_long_once(studio: Studio) -> AgentSession:
    studio.house.claude.will_answer(body=anthropic_server.reply([TOOL_USE], "tool_use"))
    studio.house.claude.will_answer(400, TOO_LONG)
    studio.house.claude.will_answer(body=ANTHROPIC.says("Hi."))
    return await studio.run((), Tool("look", answering("x" * 3000)), models=[CLAUDE])


async def paused_by_steps(studio: Studio) -> AgentSession:
    script = [call("look"), call("look"), say("Three.")]
    session = await studio.run(script, Tool("look", answering(3)), limits={"max_steps": 1})
    return await studio.conductor.resume(session.session_id, limits={"max_steps": 5})


async def paused_by_money(studio: Studio) -> AgentSession:
    studio.house.claude.will_answer(body=anthropic_server.reply([TOOL_USE], "tool_use"))
    limits = {"max_cost_usd": "0.031", "max_output_tokens": 2000}
    return await studio.run((), Tool("look", answering("x" * 90)), models=[CLAUDE], limits=limits)


async def cut_by_its_deadline(studio: Studio) -> AgentSession:
    session = await studio.run([call("look"), say("Three.")], Tool("look", answering(3)), limits={"deadline_s": 1e-9})
    return await studio.conductor.resume(session.session_id, limits={"deadline_s": 60})


def sender() -> Tool:
    return Tool("send", answering("sent"), effect="once", requires_approval=True)


async def approved(studio: Studio) -> AgentSession:
    return await _decided(studio, "approved")


async def denied(studio: Studio) -> AgentSession:
    return await _decided(studio, "denied")


async def _decided(studio: Studio, decision: Any) -> AgentSession:
    script = [together(call("send", {"to": "A"}), call("look")), say("Done.")]
    session = await studio.run(script, sender(), Tool("look", answering(3)))
    [approval] = await studio.conductor.approvals()
    await studio.conductor.decide(approval.approval_id, decision, by="Ada", reason="because")
    return await studio.conductor.resume(session.session_id)


async def waiting(studio: Studio) -> AgentSession:
    return await studio.run([call("send", {"to": "A"})], sender())


async def cancelled_while_it_waits(studio: Studio) -> AgentSession:
    session = await waiting(studio)
    return await studio.conductor.cancel(session.session_id)


async def asked_inside_a_call(studio: Studio) -> AgentSession:
    session = await studio.run([call("machine", {"code": "1"}), say("Computed.")], Machine().tool)
    [approval] = await studio.conductor.approvals()
    await studio.conductor.decide(approval.approval_id, "approved", by="Ada")
    return await studio.conductor.resume(session.session_id)


async def cancelled_in_a_tool(studio: Studio) -> AgentSession:
    return await _stopped_in_a_tool(studio, "once", studio_cancels)


async def interrupted_in_a_read(studio: Studio) -> AgentSession:
    session = await _stopped_in_a_tool(studio, "read", interrupted)
    return await studio.conductor.resume(session.session_id)


async def interrupted_then_told_something_else(studio: Studio) -> AgentSession:
    session = await _stopped_in_a_tool(studio, "once", interrupted)
    return await studio.conductor.continue_session(session.session_id, "Leave it.")


async def studio_cancels(studio: Studio, session_id: str, work: asyncio.Task[AgentSession]) -> None:
    await studio.conductor.cancel(session_id)
    await work


async def interrupted(studio: Studio, session_id: str, work: asyncio.Task[AgentSession]) -> None:
    work.cancel()
    await asyncio.wait([work])


async def _stopped_in_a_tool(
    studio: Studio, effect: Any, stop: Callable[[Studio, str, asyncio.Task[AgentSession]], Awaitable[None]]
) -> AgentSession:
    gate = Gate()
    tools = [Tool("wait", gate, effect=effect), Tool("look", answering(3))]
    conductor = await studio.open([together(call("look"), call("wait")), say("Done."), say("More.")], *tools)
    session = await conductor.start(StartRequest(messages=TASK))
    work = asyncio.ensure_future(conductor.run(session.session_id))
    await gate.entered.wait()
    await stop(studio, session.session_id, work)
    gate.open.set()
    return await conductor.session(session.session_id)


async def by_a_schema(studio: Studio) -> AgentSession:
    script = [call("final_answer", {"count": 0}), call("final_answer", {"count": 2})]
    return await studio.run(script, Tool("look", answering(3)), response_schema=SCHEMA)


async def with_an_image(studio: Studio) -> AgentSession:
    studio.house.claude.will_answer(body=ANTHROPIC.says("A pixel."))
    content = [{"type": "image", "data": PIXEL}, {"type": "text", "text": "What is it?"}]
    return await studio.run((), models=[CLAUDE], messages=[{"role": "user", "content": content}])


async def reading_back_what_was_cut(studio: Studio) -> AgentSession:
    script = [call("look"), call("read_result", {"call_id": "c1_0", "offset": 500}), say("Read.")]
    return await studio.run(script, Tool("look", answering("word " * 900)), limits={"max_result_chars": 500})


class Page(Tool):
    """A tool that brings in text from outside."""

    @property
    def definition(self) -> ToolDefinition:
        return super().definition.model_copy(update={"untrusted_output": True})


async def tools_in_trouble(studio: Studio) -> AgentSession:
    async def fails(arguments: dict[str, Any]) -> Any:
        raise ValueError("no luck")

    async def slow(arguments: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    async def from_outside(arguments: dict[str, Any]) -> Any:
        return ToolResult(tool_name="page", success=True, result="text", source="https://example.org/")

    strict = Tool("strict", answering(1), parameters={"type": "object", "properties": {}, "required": ["x"]})
    tools = [
        Tool("fails", fails),
        Tool("slow", slow, effect="once", timeout_s=0.01),
        strict,
        Page("page", from_outside),
    ]
    cues = [call(name) for name in ("fails", "slow", "strict", "page", "nothing_of_that_name")]
    return await studio.run([together(*cues), say("Odd.")], *tools, tools=[tool.definition.name for tool in tools])


SESSIONS = [
    told,
    through_three_providers,
    failed_and_resumed,
    refused_at_the_end,
    too_long_once,
    paused_by_steps,
    paused_by_money,
    cut_by_its_deadline,
    approved,
    denied,
    waiting,
    cancelled_while_it_waits,
    asked_inside_a_call,
    cancelled_in_a_tool,
    interrupted_in_a_read,
    interrupted_then_told_something_else,
    by_a_schema,
    with_an_image,
    reading_back_what_was_cut,
    tools_in_trouble,
]

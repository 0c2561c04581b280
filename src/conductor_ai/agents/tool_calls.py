"""One tool call: may it run, and what came of it. Whatever a tool does, the outcome is something the model can read."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from conductor_ai.agents.read_result import READ_RESULT
from conductor_ai.agents.replies import READ_RESULT_NAME
from conductor_ai.errors import InvalidTool
from conductor_ai.schemas import json_text
from conductor_ai.schemas.events import ProvenancePayload, ToolCompleted, ToolOutcome
from conductor_ai.schemas.messages import ToolCall
from conductor_ai.sdk import context as tool_context
from conductor_ai.sdk.base import BaseTool, ToolDefinition, ToolEffect, ToolResult
from conductor_ai.sdk.context import ToolContext
from conductor_ai.tools.arguments import ArgumentValidator
from conductor_ai.tools.registry import RESERVED_NAMES

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BoundTool:
    """A tool ready to be called: its definition read once, its schema compiled once."""

    tool: BaseTool
    definition: ToolDefinition
    validator: ArgumentValidator

    def effect_of(self, arguments: dict[str, Any]) -> ToolEffect:
        """What repeating this very call would do. A tool that cannot say is not repeated."""
        if type(self.tool).effect_of is BaseTool.effect_of:
            return self.definition.effect
        try:
            effect = self.tool.effect_of(json_text.loads(json_text.dumps(arguments)))
        except Exception:
            _logger.exception("%s.effect_of failed; the call counts as once", self.definition.name)
            return "once"
        return effect if effect in get_args(ToolEffect) else "once"


class Toolset:
    """The tools of one runner, in the order they were named; where there are any, `read_result` comes last."""

    def __init__(self, tools: Iterable[BaseTool]) -> None:
        self._tools: dict[str, BoundTool] = {}
        for tool in tools:
            self._add(tool)
        taken = RESERVED_NAMES & self._tools.keys()
        if taken:
            raise InvalidTool(f"a tool cannot be called {min(taken)!r}: a session brings one of that name itself")
        if self._tools:
            self._add(READ_RESULT)

    def _add(self, tool: BaseTool) -> None:
        definition = tool.definition
        self._tools[definition.name] = BoundTool(tool, definition, ArgumentValidator(definition))

    @property
    def definitions(self) -> tuple[ToolDefinition, ...]:
        return tuple(bound.definition for bound in self._tools.values())

    def get(self, name: str) -> BoundTool | None:
        return self._tools.get(name)

    def only(self, names: Sequence[str]) -> Toolset:
        """Those of the named tools that are here; itself where it has no others."""
        wanted = {*names, READ_RESULT_NAME} if names else set()
        if wanted >= self._tools.keys():
            return self
        kept = Toolset([])
        kept._tools = {name: bound for name, bound in self._tools.items() if name in wanted}
        return kept

    def problem(self, call: ToolCall) -> str | None:
        """Why a call cannot run, in words for the model; None where it can."""
        bound = self._tools.get(call.name)
        if bound is None:
            near = get_close_matches(call.name, self._tools, n=1) or list(self._tools)
            return f"there is no tool {call.name!r}; use {', '.join(near)}" if near else "no tools are available"
        if call.arguments is None:
            return f"the arguments are not a JSON object: {(call.raw_arguments or '')[:200]}"
        wrong = bound.validator.check(call.arguments)
        return f"invalid arguments: {wrong}" if wrong else None


async def run_tool(
    bound: BoundTool,
    call: ToolCall,
    arguments: dict[str, Any],
    context: ToolContext,
    timeout_s: float,
    effect: ToolEffect,
) -> ToolCompleted:
    """Run one checked call to its outcome.

    Args:
        arguments: What the tool is given; it may change them.
        effect: What the tool says of this very call.
    Cancellation of the surrounding task passes through; anything else the tool does becomes an outcome.
    """
    result: Any = None
    source: str | None = None
    outcome = ToolOutcome.FAILED
    started = time.perf_counter()
    token = tool_context.bind(context)
    try:
        async with asyncio.timeout(timeout_s) as timer:
            answer = await bound.tool.run(arguments)
        outcome, result, error, source = _read(call.name, answer)
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        error = _describe(exc)
    # The edge to foreign code: every failure is the model's to read.
    except (Exception, SystemExit, BaseExceptionGroup) as exc:
        error = _describe(exc)
    finally:
        tool_context.reset(token)
    if timer.expired() and outcome is not ToolOutcome.SUCCEEDED:
        error = f"timed out after {timeout_s:g} s"
        if effect == "once":
            outcome, error = ToolOutcome.UNKNOWN, f"{error}; outcome unknown: it may have taken effect, check first"
    done = completed(context.step_no, call, outcome, result, error, (time.perf_counter() - started) * 1000)
    if bound.definition.untrusted_output:  # an error may quote what came from outside, too
        done["provenance"] = provenance(call.name, source)
    return done


def completed(
    step_no: int,
    call: ToolCall,
    outcome: ToolOutcome,
    result: Any = None,
    error: str | None = None,
    execution_time_ms: float = 0.0,
) -> ToolCompleted:
    return {
        "step_no": step_no,
        "call_id": call.call_id,
        "name": call.name,
        "outcome": outcome.value,
        "result": result,
        "error": error,
        "execution_time_ms": round(execution_time_ms, 3),
    }


def provenance(tool: str, source: str | None) -> ProvenancePayload:
    """The label of text from outside, with a fence that the text could not know of."""
    return {"tool": tool, "source": source, "fence": secrets.token_hex(4)}


def idempotency_key(session_id: str, call: ToolCall) -> str:
    """Stable across retries and crashes, and no other call's."""
    return f"{session_id}:{call.call_id}"


def unknown_outcome(step_no: int, call: ToolCall, why: str) -> ToolCompleted:
    """The result of a `once` call that was started and not seen to end."""
    error = f"outcome unknown: {why}; it may have taken effect. Check before you call it again."
    return completed(step_no, call, ToolOutcome.UNKNOWN, error=error)


def _read(name: str, answer: object) -> tuple[ToolOutcome, Any, str | None, str | None]:
    """Outcome, result, error, and the source that the tool names."""
    if not isinstance(answer, ToolResult):
        return ToolOutcome.FAILED, None, f"{name} returned {type(answer).__name__} instead of a ToolResult", None
    if not answer.success:
        return ToolOutcome.FAILED, None, answer.error or "failed without an error text", answer.source
    if isinstance(answer.result, str):
        return ToolOutcome.SUCCEEDED, answer.result, None, answer.source
    try:
        text = json_text.dumps(answer.result)
    except (TypeError, ValueError, RecursionError) as exc:
        return ToolOutcome.FAILED, None, f"{name} returned a result that is not JSON data: {exc}", answer.source
    return ToolOutcome.SUCCEEDED, json_text.Fragment(text), None, answer.source


def _describe(exc: BaseException) -> str:
    text = str(exc)
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__

"""Model tests: a small conformance run against the live or local service, so that a person knows what works there.

Every check is a session like any other: durable, audited, priced, within limits. What is reported is what was run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from importlib.metadata import version
from typing import Any, NamedTuple

from conductor_ai.agents.limits import prices_at_hand, require_price
from conductor_ai.agents.runner import AgentRunner
from conductor_ai.agents.runtime import Runtime
from conductor_ai.conductor.model_checks import (
    CheckName,
    ModelCall,
    Task,
    Trace,
    Verdict,
    judge_usage,
    model_calls,
    task_of,
    usage_of,
)
from conductor_ai.errors import (
    InvalidInput,
    KeyRefused,
    ModelLoading,
    OutOfCredit,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    UnpricedModel,
    UsageError,
)
from conductor_ai.model_catalog import ModelInfo, ModelProvider
from conductor_ai.schemas.costs import CostSummary
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.ids import utc_now
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.session import PauseReason, SessionStatus
from conductor_ai.schemas.usage import LEAST_USD, money_text
from conductor_ai.tools.registry import ToolRegistry

MODEL_TEST = "model-test"
"""The agent of every session of a check, so that a list of sessions tells them from others."""
MODELS_AT_ONCE = 4
CHECK_TIMEOUT_S = 120.0
MAX_STEPS = 5
MAX_OUTPUT_TOKENS = 2048
"""Of each call: room for a model that thinks, and the fewest that leave one an answer beside a budget for thinking."""

_ENDS_ALL = (KeyRefused.code, OutOfCredit.code)
"""Failures after which no other check can pass."""
_OF_ANY_CALL = (
    RequestRefused.code,
    RateLimited.code,
    ProviderUnavailable.code,
    ModelLoading.code,
    ProviderTimeout.code,
)
"""Failures that, met by the plainest of calls, every other call would meet as well: an unknown model, nobody there."""


class Outcome(StrEnum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Skipped(StrEnum):
    """Why a check was not made, or not brought to its end.

    `not_offered`: the catalog says that the model does not do this. `no_use`: an earlier failure would repeat itself.
    `not_possible`: our own rules refuse the request. `max_cost`: the money limit left no room. `interrupted`: a person
    stopped it.
    """

    NOT_OFFERED = "not_offered"
    NO_USE = "no_use"
    NOT_POSSIBLE = "not_possible"
    MAX_COST = "max_cost"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """`detail` is one line without secrets, and so is `hint`: what to do, None where nothing is known to help.
    `session_id`, `duration_ms` and `cost` are None where no session ran."""

    name: CheckName
    outcome: Outcome
    detail: str
    skipped: Skipped | None = None
    error_code: str | None = None
    hint: str | None = None
    session_id: str | None = None
    duration_ms: float | None = None
    cost: CostSummary | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "check": self.name.value,
            "outcome": self.outcome.value,
            "detail": self.detail,
            "skipped": None if self.skipped is None else self.skipped.value,
            "error_code": self.error_code,
            "hint": self.hint,
            "session_id": self.session_id,
            "duration_ms": self.duration_ms,
            "cost": None if self.cost is None else self.cost.to_dict(),
        }


OnCheck = Callable[[str, CheckResult], None]
"""Called with the model's id, as soon as a check is over."""


class ModelTests:
    """A conformance run over several models, some at once; the checks of one model follow each other.

    `run` may be cancelled: `report` then tells what is known.

    Args:
        max_cost_usd: For each model. One without a known price runs without a limit.
    Raises: UsageError where a model is unknown, refused, has no key, or is a script.
    """

    def __init__(
        self,
        runtime: Runtime,
        model_ids: Sequence[str],
        *,
        max_cost_usd: Decimal,
        org_id: str = "default",
        on_check: OnCheck | None = None,
    ) -> None:
        self._started_at = utc_now()
        limit = Limits(max_cost_usd=max_cost_usd).max_cost_usd
        models = [runtime.model(model_id) for model_id in dict.fromkeys(model_ids)]
        scripts = [model.id for model in models if model.provider is ModelProvider.DEMO]
        if scripts:
            raise InvalidInput(
                f"{scripts[0]} follows a script: there is no service to test", hint="name a model that a service runs"
            )
        self._of_models = [_ModelTest(runtime, model, limit, org_id, on_check) for model in models]

    async def run(self) -> None:
        """Make every check. Raises: StorageError."""
        gate = asyncio.Semaphore(MODELS_AT_ONCE)

        async def run_one(test: _ModelTest) -> None:
            async with gate:
                await test.run()

        try:
            async with asyncio.TaskGroup() as group:
                for test in self._of_models:
                    group.create_task(run_one(test))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    def report(self) -> dict[str, Any]:
        """What was run and what came of it, as JSON data. `ok`: every check passed that the models offer."""
        models = [test.report() for test in self._of_models]
        return {
            "created_at": self._started_at,
            "version": version("conductor-ai"),
            "ok": all(model["ok"] for model in models),
            "models": models,
        }


class _ModelTest:
    """The checks of one model, in order."""

    def __init__(
        self, runtime: Runtime, model: ModelInfo, max_cost_usd: Decimal | None, org_id: str, on_check: OnCheck | None
    ) -> None:
        self._runtime = runtime
        self._model = model
        self._max_cost_usd = max_cost_usd
        self._org_id = org_id
        self._on_check = on_check
        self._results: dict[CheckName, CheckResult] = {}
        self._logs: dict[CheckName, Sequence[Event]] = {}
        self._no_use: str | None = None

    async def run(self) -> None:
        limits = Limits(max_cost_usd=self._max_cost_usd)
        await prices_at_hand([self._model], limits)
        try:
            require_price(self._model, limits)
        except UnpricedModel:
            self._max_cost_usd = None
        for name in CheckName:
            result = self._usage() if name is CheckName.USAGE else await self._check(name)
            self._results[name] = result
            if self._on_check is not None:
                self._on_check(self._model.id, result)

    def results(self) -> list[CheckResult]:
        """A result of every check, of those too that were not made."""
        missing = "interrupted before it was made"
        return [self._results.get(name) or self._skipped(name, Skipped.INTERRUPTED, missing) for name in CheckName]

    def report(self) -> dict[str, Any]:
        results = self.results()
        calls = model_calls(self._logs, self._model.id)
        usage = usage_of(calls)
        read = usage.total_tokens - usage.output_tokens
        return {
            "model": self._model.id,
            "provider": self._model.provider.value,
            "answered_by": self._told(calls, "answered_by"),
            "hosts": self._told(calls, "host"),
            "max_cost_usd": None if self._max_cost_usd is None else money_text(self._max_cost_usd),
            "ok": all(one.outcome is Outcome.OK or one.skipped is Skipped.NOT_OFFERED for one in results),
            "model_calls": len(calls),
            "usage": usage.to_dict(),
            "cache_share": round(usage.cache_read_tokens / read, 4) if read else None,
            "cost": CostSummary.of(event for log in self._logs.values() for event in log).to_dict(),
            "checks": [result.to_dict() for result in results],
        }

    async def _check(self, name: CheckName) -> CheckResult:
        task = task_of(name, self._model)
        if isinstance(task, str):
            return self._skipped(name, Skipped.NOT_OFFERED, task)
        if self._no_use is not None:
            return self._skipped(name, Skipped.NO_USE, self._no_use)
        left_usd = self._left_usd()
        if left_usd is not None and left_usd <= 0:
            return self._skipped(name, Skipped.MAX_COST, "the money limit of this model is used up")
        runner = self._runner(task, left_usd)
        try:
            session = await runner.start_session([{"role": "user", "content": task.content}], self._org_id)
        except UsageError as error:
            facts = {"error_code": error.code, "hint": error.hint and self._clean(error.hint)}
            return self._skipped(name, Skipped.NOT_POSSIBLE, f"not asked for: {error}", **facts)
        return await self._driven(name, task, runner, session.session_id)

    def _runner(self, task: Task, left_usd: Decimal | None) -> AgentRunner:
        registry = ToolRegistry()
        for tool in task.tools:
            registry.register(tool)
        return AgentRunner(
            self._model.id,
            [tool.definition.name for tool in task.tools],
            registry,
            limits=Limits(max_steps=MAX_STEPS, max_output_tokens=MAX_OUTPUT_TOKENS, max_cost_usd=left_usd),
            parameters=task.parameters,
            response_schema=task.response_schema,
            agent=MODEL_TEST,
            runtime=self._runtime,
        )

    async def _driven(self, name: CheckName, task: Task, runner: AgentRunner, session_id: str) -> CheckResult:
        items: list[dict[str, Any]] = []
        started = time.perf_counter()
        in_time = True
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await runner.drive(session_id, on_event=items.append if task.streamed else None)
        except TimeoutError:
            in_time = False
        except asyncio.CancelledError:
            log = await self._log_of(name, session_id)
            self._results[name] = self._skipped(
                name, Skipped.INTERRUPTED, "interrupted", session_id=session_id, cost=CostSummary.of(log)
            )
            raise
        duration_ms = round((time.perf_counter() - started) * 1000, 3)
        log = await self._log_of(name, session_id)
        session = await self._runtime.states.view(session_id, self._org_id)
        end = _came_to(task, Trace(session, log, items), in_time=in_time)
        is_first = not any(result.session_id for result in self._results.values())
        detail = self._clean(end.detail)
        if end.error_code in _ENDS_ALL or end.answered_in_place or (is_first and end.of_any_call):
            self._no_use = f"of no use after {name.value}: {detail}"
        return CheckResult(
            name=name,
            outcome=end.outcome,
            detail=detail,
            skipped=end.skipped,
            error_code=end.error_code,
            hint=end.hint and self._clean(end.hint),
            session_id=session_id,
            duration_ms=duration_ms,
            cost=CostSummary.of(log),
        )

    def _usage(self) -> CheckResult:
        """No session of its own: every call of the others is looked at, those that were streamed too."""
        name = CheckName.USAGE
        calls = model_calls(self._logs, self._model.id)
        if not calls:
            why = self._no_use or "no call was answered, so there is nothing to count"
            return self._skipped(name, Skipped.NO_USE, why)
        verdict = judge_usage(calls)
        return CheckResult(name=name, outcome=_outcome(verdict), detail=self._clean(verdict.detail))

    def _left_usd(self) -> Decimal | None:
        """What the money limit leaves; None without one."""
        if self._max_cost_usd is None:
            return None
        cost = CostSummary.of(event for log in self._logs.values() for event in log)
        left_usd = self._max_cost_usd - (cost.at_least_usd if cost.at_most_usd is None else cost.at_most_usd)
        # A bill may have more decimals than a limit.
        return left_usd.quantize(LEAST_USD, rounding=ROUND_DOWN)

    async def _log_of(self, name: CheckName, session_id: str) -> Sequence[Event]:
        log = self._logs[name] = await self._runtime.states.store.events(session_id, self._org_id)
        return log

    def _skipped(self, name: CheckName, why: Skipped, detail: str, **facts: Any) -> CheckResult:
        return CheckResult(name=name, outcome=Outcome.SKIPPED, detail=self._clean(detail), skipped=why, **facts)

    def _told(self, calls: Sequence[ModelCall], field: str) -> list[str]:
        """What the service said of itself, each once."""
        return [self._clean(told) for told in dict.fromkeys(call.payload.get(field) for call in calls) if told]

    def _clean(self, text: str) -> str:
        return self._runtime.states.redactor.clean_log(text)


class _End(NamedTuple):
    """What a session came to. `of_any_call`: its failure is none of this check's own. `answered_in_place`: another
    model answered, as the catalog's successor of one that is gone."""

    outcome: Outcome
    detail: str
    skipped: Skipped | None = None
    error_code: str | None = None
    hint: str | None = None
    of_any_call: bool = False
    answered_in_place: bool = False


def _came_to(task: Task, trace: Trace, *, in_time: bool) -> _End:
    session = trace.session
    newest = {event.type: event.payload for event in trace.events}
    if (switched := newest.get(EventType.MODEL_SWITCHED)) is not None:
        detail = f"{switched['to_model']} answered in its place: {switched['message']}"
        return _End(Outcome.FAILED, detail, error_code=switched["code"], answered_in_place=True)
    if session.status is SessionStatus.COMPLETED:
        verdict = task.judge(trace)
        return _End(_outcome(verdict), verdict.detail)
    if session.status is SessionStatus.FAILED:
        failed = newest[EventType.SESSION_FAILED]
        code = failed["code"]
        of_any_call = code in _OF_ANY_CALL
        return _End(Outcome.FAILED, failed["message"], error_code=code, hint=failed["hint"], of_any_call=of_any_call)
    if not in_time:
        return _End(Outcome.FAILED, f"it had no answer within {CHECK_TIMEOUT_S:g} s", of_any_call=True)
    if session.pause_reason is PauseReason.MAX_COST:
        detail = f"not brought to its end within the money limit: {newest[EventType.SESSION_PAUSED]['detail']}"
        return _End(Outcome.SKIPPED, detail, Skipped.MAX_COST)
    if session.pause_reason is PauseReason.MAX_STEPS:
        return _End(Outcome.FAILED, f"it had no answer after {MAX_STEPS} turns")
    return _End(Outcome.FAILED, f"its session was stopped by somebody else: {session.status.value}")


def _outcome(verdict: Verdict) -> Outcome:
    return Outcome.OK if verdict.ok else Outcome.FAILED

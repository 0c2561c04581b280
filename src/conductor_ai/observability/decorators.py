"""`@audit_logged`: an async function whose every call is on record, before it happens and after."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import orjson

from conductor_ai.errors import InvalidInput
from conductor_ai.observability.audit import AuditLogger, AuditRecord
from conductor_ai.observability.values import described, record_json
from conductor_ai.schemas.ids import new_id

P = ParamSpec("P")
R = TypeVar("R")
AsyncFunction = Callable[P, Coroutine[Any, Any, R]]


def audit_logged(
    category: str, tool_name: str | None = None, *, logger: AuditLogger | None = None
) -> Callable[[AsyncFunction[P, R]], AsyncFunction[P, R]]:
    """Record each call of an async function in `audit_logs` and `tool_executions`.

    A row `started` with the arguments is durable before the function runs; afterwards a row `completed`, `failed` or
    `cancelled` and the execution with output, time and error. What cannot be recorded does not happen: if the first row
    cannot be stored the function is not called, if the second cannot the caller gets AuditUnavailable instead of the
    result. Otherwise result and exception pass through unchanged. While a session is being driven the rows go to its
    chain, else to the chain of the org `default`.

    Args:
        category: The kind of action, as it stands in `audit_logs`.
        tool_name: As it stands in `tool_executions`; the function's name if left out.
        logger: Where to write; the default store if left out.
    """

    def decorate(function: AsyncFunction[P, R]) -> AsyncFunction[P, R]:
        if not inspect.iscoroutinefunction(function):
            name = getattr(function, "__qualname__", repr(function))
            raise InvalidInput(
                f"@audit_logged takes async functions only, and {name} is not one",
                hint=f"write `async def {getattr(function, '__name__', name)}`",
            )
        recorder = _Recorder(function, category, tool_name, AuditLogger() if logger is None else logger)

        @wraps(function)
        async def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
            call = await recorder.started(args, kwargs)
            try:
                result = await function(*args, **kwargs)
            except (Exception, asyncio.CancelledError) as exc:
                await _to_the_end(call.failed(exc))
                raise
            await _to_the_end(call.completed(result))
            return result

        return recorded

    return decorate


class _Recorder:
    """Knows how calls of one function are written down."""

    def __init__(self, function: Callable[..., Any], category: str, tool_name: str | None, logger: AuditLogger) -> None:
        self.category = category
        self.name = tool_name or function.__name__
        self.logger = logger
        self._signature = inspect.signature(function)
        first = next(iter(self._signature.parameters), None)
        self._receiver = first if first in ("self", "cls") else None

    async def started(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        """Raises: TypeError where the arguments do not fit the function, AuditUnavailable."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise TypeError(f"{self.name}(): {exc}") from None
        bound.apply_defaults()
        named = {name: value for name, value in bound.arguments.items() if name != self._receiver}
        # Written down now: the function may change its arguments.
        call = _Call(self, new_id(), orjson.Fragment(record_json(named)))
        await call.log("started")
        call.restart_clock()
        return call


class _Call:
    def __init__(self, recorder: _Recorder, call_id: str, arguments: orjson.Fragment) -> None:
        self._recorder = recorder
        self._call_id = call_id
        self._arguments = arguments
        self.restart_clock()

    def restart_clock(self) -> None:
        self._started = time.perf_counter()

    def completed(self, result: object) -> Coroutine[Any, Any, None]:
        return self.log("completed", output=result, execution_time_ms=self._elapsed_ms(), success=True)

    def failed(self, exc: BaseException) -> Coroutine[Any, Any, None]:
        action = "cancelled" if isinstance(exc, asyncio.CancelledError) else "failed"
        return self.log(action, execution_time_ms=self._elapsed_ms(), success=False, error=described(exc))

    async def log(self, action: str, **outcome: Any) -> None:
        recorder = self._recorder
        record = AuditRecord(
            category=recorder.category,
            action=action,
            call_id=self._call_id,
            tool_name=recorder.name,
            input=self._arguments,
            **outcome,
        )
        await recorder.logger.log(record)

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self._started) * 1000, 3)


async def _to_the_end(recording: Coroutine[Any, Any, None]) -> None:
    """Finish a record of what has happened even if this task is cancelled meanwhile; the cancellation comes after."""
    task = asyncio.ensure_future(recording)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            cancelled = exc
    task.result()
    if cancelled is not None:
        raise cancelled

"""An end to every call of an async function."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from conductor_ai.errors import InvalidInput
from conductor_ai.sdk.security.async_functions import name_of

P = ParamSpec("P")
R = TypeVar("R")
AsyncFunction = Callable[P, Coroutine[Any, Any, R]]

GRACE_S = 1.0
"""How long a cancelled call may clean up before it is cancelled again."""


def with_timeout(*, seconds: float) -> Callable[[AsyncFunction[P, R]], AsyncFunction[P, R]]:
    """Cancel the decorated `async def` once `seconds` have passed; the call then raises TimeoutError.

    The call is cancelled where it awaits, and once more each second for as long as it goes on. What it returns too late
    is never taken for an answer: that is a TimeoutError too, and so is an exception that came too late, as its cause.
    When somebody else cancels the task, that stays a cancellation. Code that blocks the event loop cannot be cut short.

    Raises: InvalidInput for anything but an `async def`, and for seconds that are no positive, finite number.
    """
    _check_seconds(seconds)

    def decorate(function: AsyncFunction[P, R]) -> AsyncFunction[P, R]:
        name = name_of(function, "@with_timeout")

        @functools.wraps(function)
        async def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            with _Deadline(name, seconds):
                return await function(*args, **kwargs)

        return timed

    return decorate


def _check_seconds(seconds: object) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        raise InvalidInput(f"with_timeout: seconds must be a positive, finite number, not {seconds!r}")


class _Deadline:
    """Cancels the task that entered it when the time is over.

    Not asyncio.timeout: that cancels once, and lets a late value pass where the cancellation was swallowed.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._cancels = 0

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._task = task
        self._asked_before = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + self._seconds
        self._timer = self._loop.call_at(self._end, self._cancel)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        late = self._cancels > 0 or self._loop.time() >= self._end
        for _ in range(self._cancels):
            self._task.uncancel()
        cancelled = isinstance(error, asyncio.CancelledError)
        if not late or not (error is None or cancelled or isinstance(error, Exception)):
            return
        if self._task.cancelling() > self._asked_before:  # somebody else wants the task to end as well
            if cancelled:
                return
            raise asyncio.CancelledError from error
        raise TimeoutError(f"{self._name} timed out after {self._seconds:g} s") from error

    def _cancel(self) -> None:
        self._cancels += 1
        self._task.cancel()
        self._timer = self._loop.call_later(GRACE_S, self._cancel)

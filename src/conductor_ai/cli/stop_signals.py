"""Ctrl-C and SIGTERM: the first asks the work to stop cleanly, the second leaves the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from conductor_ai.cli.exit_codes import ExitCode

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Holds both signals while it is entered. `stopped` says whether one came.

    A session's log is durable at every moment, so leaving at once loses nothing but the clean pause.
    """

    def __init__(self, *, on_stop: Callable[[], None], before_leaving: Callable[[], None]) -> None:
        self.stopped = False
        self._on_stop = on_stop
        self._before_leaving = before_leaving
        self._task: asyncio.Task[Any] | None = None

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which the first signal cancels. Raises: CancelledError once it has stopped."""
        self._task = task = asyncio.create_task(work)
        if self.stopped:  # the task's first step is scheduled before this, so `work` sees its own cancellation
            asyncio.get_running_loop().call_soon(task.cancel)
        try:
            return await task
        finally:
            self._task = None

    def _received(self) -> None:
        if self.stopped:
            self._before_leaving()
            os._exit(ExitCode.INTERRUPTED)
        self.stopped = True
        self._on_stop()
        if self._task is not None:
            self._task.cancel()

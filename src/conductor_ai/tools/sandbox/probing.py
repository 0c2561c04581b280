"""Keeps what a backend's self test found, as far as it is known for sure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from conductor_ai.tools.sandbox.base import Capabilities, KilledBy, RunResult, RunSpec

RETRY_S = 30.0
_Run = Callable[[RunSpec], Awaitable[RunResult]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one self test found. `lasting` is False where something failed that may not fail the next time: the machine
    was short of descriptors, an engine was away, a program was slow to start."""

    capabilities: Capabilities
    lasting: bool


class Probing:
    """Tests when asked, until a test is lasting, and no more often than every `RETRY_S` seconds.

    Args:
        test: Raises nothing but cancellation.
    """

    def __init__(self, test: Callable[[], Awaitable[Finding]]) -> None:
        self._test = test
        self._testing = asyncio.Lock()
        self._again_at = 0.0
        self._finding: Finding | None = None

    @property
    def last(self) -> Capabilities | None:
        return None if self._finding is None else self._finding.capabilities

    async def found(self) -> Capabilities:
        async with self._testing:
            if self._finding is None or (not self._finding.lasting and time.monotonic() >= self._again_at):
                self._finding = _better(self._finding, await self._test())
                self._again_at = time.monotonic() + RETRY_S
            return self._finding.capabilities


def _better(before: Finding | None, after: Finding) -> Finding:
    """A bad moment takes nothing away from what was found before."""
    if before is None or after.lasting or not before.capabilities.available:
        return after
    fewer = not after.capabilities.available or after.capabilities.languages < before.capabilities.languages
    return before if fewer else after


class Watched:
    """Runs for a self test, and whether each of them told something for sure."""

    def __init__(self, run: _Run, *, slow_s: float) -> None:
        """
        Args:
            run: Does one run.
            slow_s: A run that has this long, and still does not end in time, tells nothing.
        """
        self._run = run
        self._slow_s = slow_s
        self.sure = True

    async def __call__(self, spec: RunSpec) -> RunResult:
        found = await self._run(spec)
        slow = found.killed_by is KilledBy.TIME and spec.limits.wall_s >= self._slow_s
        if found.killed_by is KilledBy.INFRA or slow:
            self.sure = False
        return found

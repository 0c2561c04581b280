"""Which backend a process runs code with: chosen once, by its self test, and never swapped for another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from conductor_ai.errors import ToolUnavailable
from conductor_ai.tools.sandbox.base import Capabilities, IsolationLevel, SandboxBackend

AUTO = "auto"


class Sandbox:
    """The backend of one process, and why there is none where there is none.

    Args:
        backends: By name, in the order in which `auto` tries them.
        wanted: `auto` for the first that works here, or a name.
        level: The weakest isolation that will do.
    """

    def __init__(
        self,
        backends: Mapping[str, SandboxBackend],
        *,
        wanted: str = AUTO,
        level: IsolationLevel = IsolationLevel.NAMESPACES,
    ) -> None:
        self._candidates = dict(backends) if wanted == AUTO else {wanted: backends[wanted]}
        self._level = level
        self._choosing = asyncio.Lock()
        self._chosen: tuple[SandboxBackend, Capabilities] | None = None
        self._refusal: ToolUnavailable | None = None

    def missing(self) -> ToolUnavailable | None:
        """Why no code can run here, as far as can be told within milliseconds and without starting anything big."""
        reasons = {name: backend.missing() for name, backend in self._candidates.items()}
        if any(reason is None for reason in reasons.values()):
            return None
        return _unavailable({name: (reason or "",) for name, reason in reasons.items()}, None)

    async def chosen(self) -> tuple[SandboxBackend, Capabilities]:
        """The backend and what it can do; its self test runs first. Once there is one it stays that one, but it is
        asked again: a language that failed for a moment only may be there by now. Raises: ToolUnavailable; the next
        call tries again, as far as the backends do."""
        async with self._choosing:
            try:
                self._chosen = await (self._choose() if self._chosen is None else self._asked_again(*self._chosen))
            except ToolUnavailable as exc:
                self._refusal = exc
                raise
            return self._chosen

    def state(self) -> dict[str, Any]:
        """As health reports show it: `ok`, with the `name` and `isolation` of the backend once it was tried, or the
        `error`. Tries nothing itself."""
        if self._chosen is not None:
            backend, found = self._chosen
            return {"ok": True, "name": backend.name, "isolation": found.level.value}
        error = self._refusal or self.missing()
        return {"ok": True} if error is None else {"ok": False, "error": f"{error}; {error.hint}"}

    async def close(self) -> None:
        await asyncio.gather(*(backend.close() for backend in self._candidates.values()))

    async def _asked_again(self, backend: SandboxBackend, before: Capabilities) -> tuple[SandboxBackend, Capabilities]:
        found = await backend.probe()
        return backend, found if found.available and found.level.reaches(self._level) else before

    async def _choose(self) -> tuple[SandboxBackend, Capabilities]:
        reasons: dict[str, tuple[str, ...]] = {}
        hint = None
        for name, backend in self._candidates.items():
            if (lacking := backend.missing()) is not None:
                reasons[name] = (lacking,)
                continue
            found = await backend.probe()
            if found.available and found.level.reaches(self._level):
                await backend.reap()
                return backend, found
            if found.available:
                reasons[name] = (f"it isolates by {found.level}, and CONDUCTOR_SANDBOX_LEVEL is {self._level}",)
            else:
                reasons[name], hint = found.reasons, hint or found.hint
        raise _unavailable(reasons, hint)


def _unavailable(reasons: Mapping[str, tuple[str, ...]], hint: str | None) -> ToolUnavailable:
    listed = "; ".join(f"{name}: {', '.join(why)}" for name, why in reasons.items())
    return ToolUnavailable(
        f"code cannot run here ({listed})", hint=hint or "apt-get install bubblewrap, or see docs/code.md"
    )

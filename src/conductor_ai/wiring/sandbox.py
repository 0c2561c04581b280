"""The sandbox that a process's settings ask for."""

from __future__ import annotations

from conductor_ai.settings import Settings
from conductor_ai.tools.sandbox import IsolationLevel, Sandbox, backends


def sandbox_of(settings: Settings) -> Sandbox:
    """Nothing is started; the caller closes it."""
    return Sandbox(
        backends(image=settings.conductor_sandbox_image),
        wanted=settings.conductor_sandbox,
        level=IsolationLevel(settings.conductor_sandbox_level),
    )

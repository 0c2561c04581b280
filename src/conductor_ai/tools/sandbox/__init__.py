"""Sandboxes: where `code_run` runs code that nobody vouches for."""

from __future__ import annotations

from conductor_ai.tools.sandbox.base import (
    Capabilities,
    IsolationLevel,
    KilledBy,
    Language,
    RunLimits,
    RunResult,
    RunSpec,
    RunUsage,
    SandboxBackend,
)
from conductor_ai.tools.sandbox.choosing import AUTO, Sandbox

__all__ = [
    "AUTO",
    "Capabilities",
    "IsolationLevel",
    "KilledBy",
    "Language",
    "RunLimits",
    "RunResult",
    "RunSpec",
    "RunUsage",
    "Sandbox",
    "SandboxBackend",
    "backends",
]


def backends(*, image: str | None = None) -> dict[str, SandboxBackend]:
    """Every backend by name, in the order in which `auto` tries them. Nothing is started.

    Args:
        image: For `docker`, pinned; None: `CONDUCTOR_SANDBOX_IMAGE` of the environment.
    """
    # Each is loaded here, so that a process without code_run pays for none.
    from conductor_ai.tools.sandbox.bubblewrap import BubblewrapBackend
    from conductor_ai.tools.sandbox.docker import DockerBackend

    return {"bubblewrap": BubblewrapBackend(), "docker": DockerBackend(image)}

"""What a caller asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.messages import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class StartRequest:
    """A session to be started. `model` None is the default model, `tools` None every registered tool; the tools named
    in `pre_approved` run without asking."""

    messages: Sequence[Message | Mapping[str, Any]]
    model: str | None = None
    tools: Sequence[str] | None = None
    instructions: str | None = None
    limits: Limits | dict[str, Any] | None = None
    pre_approved: Sequence[str] = ()
    agent: str | None = None

"""What the loop needs opened for it; `conductor_ai.wiring` has the real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from conductor_ai.agents.heads import ModelSource
from conductor_ai.agents.state import StateManager
from conductor_ai.model_catalog import ModelInfo
from conductor_ai.providers.retries import RetryBudget
from conductor_ai.schemas.costs import CallCost
from conductor_ai.schemas.messages import ModelResponse


class Runtime(ModelSource, Protocol):
    """Everything that is opened once for all sessions of a process."""

    @property
    def states(self) -> StateManager: ...

    @property
    def retry_budget(self) -> RetryBudget: ...

    @property
    def fetch_grants(self) -> Sequence[str]:
        """`host:port` pairs that images may be fetched from although they are not public."""
        ...

    def cost_usd(self, model: ModelInfo, response: ModelResponse) -> CallCost:
        """What a call to `model` cost, and who says so."""
        ...

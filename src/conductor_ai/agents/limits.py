"""The one check before each model call: may the session go on?"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import NamedTuple

from conductor_ai.agents.session_state import SessionState
from conductor_ai.errors import UnpricedModel
from conductor_ai.model_catalog import ModelInfo, reserve_usd
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.session import PauseReason
from conductor_ai.schemas.usage import money_text


class Pause(NamedTuple):
    reason: PauseReason
    detail: str


def reached(state: SessionState, model: ModelInfo, head_bytes: int, segment_started: float) -> Pause | None:
    """The limit that stops the next model call; None where it may be made.

    Args:
        head_bytes: As for `reserve`.
        segment_started: `time.monotonic()` at the start of the segment.
    """
    limits = state.config.limits
    if limits.max_steps is not None and state.steps_since_message >= limits.max_steps:
        return Pause(PauseReason.MAX_STEPS, f"{limits.max_steps} steps were made")
    if past_deadline(state, segment_started):
        return deadline_pause(state)
    if limits.max_tokens is not None and state.usage.total_tokens >= limits.max_tokens:
        return Pause(PauseReason.MAX_TOKENS, f"{state.usage.total_tokens:,} of {limits.max_tokens:,} tokens are used")
    if limits.max_cost_usd is not None:
        return _money(state, limits.max_cost_usd, reserve(state, model, head_bytes))
    return None


def require_price(model: ModelInfo, limits: Limits) -> None:
    """Raises: UnpricedModel where money is limited and nobody knows what a call costs."""
    if limits.max_cost_usd is not None and model.price is None:
        raise UnpricedModel(
            f"{model.id} has no known price, so a money limit cannot be kept",
            hint="leave out the money limit, or give the model a price in models.toml under $CONDUCTOR_HOME",
        )


def max_output_tokens(model: ModelInfo, limits: Limits) -> int:
    """What one call may answer at most: the session's limit, or the model's where that is lower."""
    return min(limits.max_output_tokens, model.max_output_tokens)


def past_deadline(state: SessionState, segment_started: float) -> bool:
    deadline_s = state.config.limits.deadline_s
    return deadline_s is not None and time.monotonic() - segment_started >= deadline_s


def deadline_pause(state: SessionState) -> Pause:
    return Pause(PauseReason.DEADLINE, f"{state.config.limits.deadline_s:g} s have passed since the segment began")


def reserve(state: SessionState, model: ModelInfo, head_bytes: int) -> Decimal | None:
    """The most the next call can cost, in US dollars; None where no price is known.

    Args:
        head_bytes: Size of the request's unchanging part. What no billed call has held yet counts a token a byte.
    """
    price = model.price
    if price is None:
        return None
    prompt_tokens = (state.prompt.billed_tokens or head_bytes) + state.prompt.unbilled_bytes
    return reserve_usd(price, prompt_tokens, max_output_tokens(model, state.config.limits))


def _money(state: SessionState, limit_usd: Decimal, bound: Decimal | None) -> Pause | None:
    if bound is None or state.cost_usd is None:
        return Pause(PauseReason.MAX_COST, "a call of this session had no known price, so no limit can be kept")
    spent = state.cost_usd + state.unsettled_usd
    if spent + bound <= limit_usd:
        return None
    detail = f"${money_text(spent)} is spent and the next call may cost ${bound:.4f}"
    return Pause(PauseReason.MAX_COST, f"{detail}, over the limit of ${money_text(limit_usd)}")

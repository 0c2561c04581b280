"""The one check before each model call: may the session go on?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from conductor_ai.agents.org_money import Hold
from conductor_ai.agents.session_state import SessionState
from conductor_ai.errors import ProviderError, UnpricedModel
from conductor_ai.model_catalog import ModelInfo, listed_price, most_usd, price_snapshot
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.session import PauseReason
from conductor_ai.schemas.usage import money_text

TOOL_INSTRUCTION_TOKENS = 1024
"""What a service may add to a prompt with tools: instructions of its own, of which the request holds not a byte. The
longest that is documented has 530 tokens. Source: Anthropic, "Tool use pricing and tokens"."""


class Pause(NamedTuple):
    reason: PauseReason
    detail: str


def reached(
    state: SessionState, model: ModelInfo, head_bytes: int, segment_started: float, lost_usd: Decimal
) -> Pause | None:
    """The limit that stops the next model call; None where it may be made.

    Args:
        head_bytes: As for `reserve`.
        segment_started: `time.monotonic()` at the start of the segment.
        lost_usd: As for `Reserve`.
    """
    limits = state.config.limits
    if limits.max_steps is not None and state.steps_since_message >= limits.max_steps:
        return Pause(PauseReason.MAX_STEPS, f"{limits.max_steps} steps were made")
    if past_deadline(state, segment_started):
        return deadline_pause(state)
    if limits.max_tokens is not None and state.usage.total_tokens >= limits.max_tokens:
        return Pause(PauseReason.MAX_TOKENS, f"{state.usage.total_tokens:,} of {limits.max_tokens:,} tokens are used")
    if limits.max_cost_usd is not None:
        return _money(state, limits.max_cost_usd, reserve(state, model, head_bytes), lost_usd)
    return None


class Reserve:
    """What one model call may cost at most, over all its attempts, while money is limited.

    Args:
        attempt_usd: The most that one attempt can cost.
        left_usd: What the session's limit leaves for the call; None where it has none.
        lost_usd: What attempts before it may have cost that are in no event yet.
        hold: What is set aside of the org's money, where that is limited.
    """

    def __init__(
        self, attempt_usd: Decimal, left_usd: Decimal | None, lost_usd: Decimal = Decimal(0), hold: Hold | None = None
    ) -> None:
        self.attempt_usd = attempt_usd
        self._left_usd = left_usd
        self._lost_before_usd = self._lost_usd = lost_usd
        self._hold = hold
        self.under_way = False
        """Whether an attempt is being made now."""

    @classmethod
    def of(
        cls, state: SessionState, model: ModelInfo, head_bytes: int, lost_usd: Decimal, hold: Hold | None = None
    ) -> Reserve | None:
        """None where money is not limited, or nobody knows what a call costs."""
        limit_usd, spent_usd = state.config.limits.max_cost_usd, state.cost_usd
        if hold is None and (limit_usd is None or spent_usd is None):
            return None
        bound = reserve(state, model, head_bytes)
        if bound is None:
            return None
        left = None if limit_usd is None or spent_usd is None else limit_usd - spent_usd - state.unsettled_usd
        return cls(bound, left, lost_usd, hold)

    async def begin(self) -> bool:
        """An attempt is made from now on. False, and none may be, where the org's money does not reach for it."""
        if self._hold is not None:
            missing = self._lost_usd - self._lost_before_usd + self.attempt_usd - self._hold.usd
            if missing > 0 and not await self._hold.extend(missing):
                self._lost_usd -= self.attempt_usd  # the attempt before is the last, and counts as that
                return False
        self.under_way = True
        return True

    def lose(self) -> bool:
        """Count an attempt that ended without saying what it cost, where the limit leaves room for another beside it.

        Returns: whether there is room; where not, the attempt is not counted yet.
        """
        if self._left_usd is not None and self._lost_usd + self.attempt_usd * 2 > self._left_usd:
            return False
        self._lost_usd += self.attempt_usd
        return True

    def settle(self, answer_usd: Decimal | None = None, error: BaseException | None = None) -> None:
        """Tell the org's money what the call cost, once it is over.

        Args:
            answer_usd: What the answer cost; None where there is none, or where nobody knows.
            error: What it ended with where there is none.
        """
        if self._hold is None:
            return
        lost = self._lost_usd - self._lost_before_usd
        if error is None:
            spent = self.attempt_usd if answer_usd is None else answer_usd
        elif isinstance(error, ProviderError):
            spent = error.billed_cost_usd or (self.attempt_usd if error.may_be_billed else Decimal(0))
        else:  # it was ended from outside
            spent = self.attempt_usd if self.under_way else Decimal(0)
        self._hold.settle(lost + spent)
        self._hold = None

    def lost_usd(self, *, with_this: bool | None = None) -> Decimal:
        """What attempts may have cost that did not say. `with_this`: the newest is one; None: if it is under way."""
        return self._lost_usd + self.attempt_usd * (self.under_way if with_this is None else with_this)


def unsettled_text(
    reserve: Reserve | None, error: ProviderError | None = None, *, answered: bool = False
) -> str | None:
    """What a call may have cost at most beside what is known of it, as text; None for nothing.

    Args:
        error: What it failed with, None where it was answered or ended early. A refusal costs nothing, an answer that
            was cut off on its way may have been billed, and some services say of a failure what it costs.
        answered: Only the attempts before the answer count.
    """
    named = error.billed_cost_usd if error is not None else None
    lost = named or Decimal(0)
    if reserve is not None:
        with_this = False if answered or named is not None else None if error is None else error.may_be_billed
        lost += reserve.lost_usd(with_this=with_this)
    return money_text(lost) if lost else None


def require_price(model: ModelInfo, limits: Limits) -> None:
    """Raises: UnpricedModel where money is limited and nobody knows what a call costs."""
    if limits.max_cost_usd is not None and model.price is None and listed_price(model) is None:
        raise UnpricedModel(
            f"{model.id} has no known price, so a money limit cannot be kept",
            hint="leave out the money limit, or give the model a price in models.toml under $CONDUCTOR_HOME",
        )


async def prices_at_hand(models: Iterable[ModelInfo], limits: Limits | None = None) -> None:
    """Have the price list of genai-prices loaded, off the event loop, where `reserve` will look into it: with `limits`,
    those of a session, only where they limit money."""
    if (limits is not None and limits.max_cost_usd is None) or price_snapshot.is_loaded():
        return
    if any(price_snapshot.covers(model.provider) for model in models):
        await asyncio.to_thread(price_snapshot.load)


def max_output_tokens(model: ModelInfo, limits: Limits) -> int:
    """What one call may answer at most: the session's limit, or the model's where that is lower."""
    return min(limits.max_output_tokens, model.max_output_tokens)


def past_deadline(state: SessionState, segment_started: float) -> bool:
    deadline_s = state.config.limits.deadline_s
    return deadline_s is not None and time.monotonic() - segment_started >= deadline_s


def deadline_pause(state: SessionState) -> Pause:
    return Pause(PauseReason.DEADLINE, f"{state.config.limits.deadline_s:g} s have passed since the segment began")


def reserve(state: SessionState, model: ModelInfo, head_bytes: int) -> Decimal | None:
    """The most the next call can cost, in US dollars, by the dearest price list; None where no price is known.

    Args:
        head_bytes: Size of the request's unchanging part.
    """
    return most_usd(model, _prompt_tokens(state, model, head_bytes), max_output_tokens(model, state.config.limits))


def _prompt_tokens(state: SessionState, model: ModelInfo, head_bytes: int) -> int:
    """The most tokens that the next prompt can have: those last billed, and a token for each byte that came since.

    Another model's tokens say nothing about this one's: then, as before the first bill, all of it counts by bytes.
    """
    prompt, newest = state.prompt, state.newest
    by_this_model = newest is not None and newest["model"] == model.id and any(newest["usage"].values())
    if by_this_model and prompt.billed_tokens:
        return prompt.billed_tokens + prompt.unbilled_bytes
    return head_bytes + TOOL_INSTRUCTION_TOKENS + prompt.size


def _money(state: SessionState, limit_usd: Decimal, bound: Decimal | None, lost_usd: Decimal) -> Pause | None:
    if bound is None or state.cost_usd is None:
        return Pause(PauseReason.MAX_COST, "a call of this session had no known price, so no limit can be kept")
    spent = state.cost_usd + state.unsettled_usd + lost_usd
    if spent + bound <= limit_usd:
        return None
    detail = f"${money_text(spent)} is spent and the next call may cost ${bound:.4f}"
    return Pause(PauseReason.MAX_COST, f"{detail}, over the limit of ${money_text(limit_usd)}")

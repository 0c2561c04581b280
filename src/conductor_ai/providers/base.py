"""The provider port: to the wire, call, from the wire. Retries, fallback, prices and logging have rooms of their own.

An adapter turns our vocabulary into bytes in three pieces, so that the loop can keep them: the *head* (model,
instructions, tools, parameters) is built once for all sessions of a runner, each *turn* once when it happens, and a
call only joins what is there. That keeps the CPU cost of step 200 that of step 10.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from conductor_ai.model_catalog import ReasoningStyle
from conductor_ai.schemas.deltas import Delta
from conductor_ai.schemas.messages import Message, ModelResponse
from conductor_ai.schemas.parameters import ReasoningEffort
from conductor_ai.sdk.base import ToolDefinition


class Reasoning(NamedTuple):
    """How much to think, as the model wants to be told. `budget_tokens` counts where `style` is budget; it is 0 for
    `ReasoningEffort.NONE`, and below `max_output_tokens`."""

    effort: ReasoningEffort
    style: ReasoningStyle
    budget_tokens: int = 0


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """What stays the same from call to call. `model` is the provider's own id, `max_output_tokens` bounds an answer.

    Everything below is checked against the model's profile before: an adapter only says it in its wire's words.
    `temperature`, `reasoning`: None leaves it to the model. `answer_schema` is a JSON schema that the answer shall fit,
    where the provider itself holds the model to it. `must_call`: the model may not answer without calling a tool; only
    with `tools`. `hosts`: who shall run the model, in this order, where a provider chooses among several.
    """

    model: str
    instructions: str | None
    tools: tuple[ToolDefinition, ...]
    max_output_tokens: int
    temperature: float | None = None
    reasoning: Reasoning | None = None
    answer_schema: dict[str, Any] | None = None
    must_call: bool = False
    hosts: tuple[str, ...] = ()


class ModelRequest(NamedTuple):
    """One call. `head` and `turns`, at least one, are what this provider's `encode_head` and `encode_turn` returned."""

    model: str
    head: bytes
    turns: Sequence[bytes]


class Provider(Protocol):
    """One model service. An instance belongs to one process, serves any number of concurrent calls and holds no
    session's state; who opened it closes its HTTP session."""

    @property
    def name(self) -> str:
        """The word that stands in `WireTurn.provider`: anthropic, gemini, openrouter, local or demo; `+text` follows it
        where the model is driven by text."""
        ...

    def encode_head(self, spec: HeadSpec) -> bytes:
        """The unchanging part of the request."""
        ...

    def encode_turn(self, message: Message) -> bytes:
        """One message in this provider's wire form, without spare room.

        An assistant message whose `wire` is this provider's own goes back unchanged; any other is rebuilt from its
        text and calls, under `ToolCall.call_id` where there is no `provider_call_id` of this provider.
        """
        ...

    async def complete(self, request: ModelRequest) -> ModelResponse:
        """One whole answer. Raises: a subclass of ProviderError."""
        ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]:
        """The answer as it comes, then the whole: last the `ModelResponse` that `complete` would have given.

        Whoever iterates slowly slows the service down; nothing is read ahead beyond the socket's buffers. Close it
        (`aclose`) to stop early. Raises, also after deltas have come: a subclass of ProviderError. A stream that ends
        without its terminal mark is a TruncatedReply, never an answer.
        """
        ...

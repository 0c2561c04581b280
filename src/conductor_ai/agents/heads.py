"""Heads: what each call of a session tells its model before the conversation, built once for all sessions alike."""

from __future__ import annotations

from typing import Any, Protocol

from conductor_ai.agents import profile
from conductor_ai.agents.answer_schema import AnswerSchema
from conductor_ai.agents.limits import max_output_tokens, require_price
from conductor_ai.agents.models import ReadyModel
from conductor_ai.agents.session_state import SessionConfig
from conductor_ai.agents.tool_calls import Toolset
from conductor_ai.model_catalog import ModelInfo
from conductor_ai.providers.base import HeadSpec, Provider

_KEPT = 7


class ModelSource(Protocol):
    """Where models and their providers come from."""

    def model(self, model_id: str) -> ModelInfo:
        """Raises: UsageError where the model is unknown, refused, or has no key."""
        ...

    def provider(self, model: ModelInfo) -> Provider: ...


class Heads:
    """The heads of one runner: its sessions mostly share theirs.

    Args:
        schema: What answers of new sessions must fit.
    """

    def __init__(self, schema: AnswerSchema | None) -> None:
        self._schema = schema
        self._kept: dict[tuple[Any, ...], bytes] = {}

    @property
    def response_schema(self) -> dict[str, Any] | None:
        return None if self._schema is None else self._schema.schema

    def schema_of(self, config: SessionConfig) -> AnswerSchema | None:
        """The schema of a session: our own, with its Pydantic model, where the session asks for that one."""
        asked = config.response_schema
        return self._schema if asked == self.response_schema else AnswerSchema.of(asked)

    def ready(self, source: ModelSource, model_id: str, config: SessionConfig, toolset: Toolset) -> ReadyModel:
        """A model that can be called for such a session. Raises: UsageError."""
        model = source.model(model_id)
        require_price(model, config.limits)
        provider = source.provider(model)
        schema_text = None if config.response_schema is None else repr(config.response_schema)
        output_tokens = max_output_tokens(model, config.limits)
        key = (model.id, config.instructions, output_tokens, config.tools, config.parameters, schema_text)
        if key not in self._kept:
            head = provider.encode_head(self._spec(model, config, toolset, output_tokens))
            self._kept = {**dict(list(self._kept.items())[-_KEPT:]), key: head}
        return ReadyModel(model, provider, self._kept[key])

    def _spec(self, model: ModelInfo, config: SessionConfig, toolset: Toolset, output_tokens: int) -> HeadSpec:
        """What the model does not take is not in it."""
        schema, tools, parameters = self.schema_of(config), toolset.definitions, config.parameters
        native = schema is not None and profile.holds_to_schema(model, schema.schema, with_tools=bool(tools))
        by_tool = schema is not None and not native
        return HeadSpec(
            model.wire_id,
            config.instructions,
            (*tools, schema.definition) if schema is not None and by_tool else tools,
            output_tokens,
            temperature=profile.temperature(model, parameters),
            reasoning=profile.reasoning(model, parameters, output_tokens),
            answer_schema=schema.schema if schema is not None and native else None,
            must_call=by_tool and profile.must_call(model, parameters),
            hosts=model.hosts,
        )

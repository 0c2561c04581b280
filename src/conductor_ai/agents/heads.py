"""Heads: what each call of a session tells its model before the conversation, built once for all sessions alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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

    def output_type(self, config: SessionConfig) -> Callable[[dict[str, Any]], Any] | None:
        """Makes of an answer's data what the caller of a session asked for; None where that is the data itself."""
        schema = self._schema if config.response_schema == self.response_schema else None
        return None if schema is None or schema.model is None else schema.instance

    def ready(self, source: ModelSource, model_id: str, config: SessionConfig, toolset: Toolset) -> ReadyModel:
        """A model that can be called for such a session. Raises: UsageError."""
        model = source.model(model_id)
        require_price(model, config.limits)
        provider = source.provider(model)
        output_tokens = max_output_tokens(model, config.limits)
        asked = config.parameters, repr(config.response_schema), bool(config.fallbacks)
        key = (model.id, config.instructions, output_tokens, config.tools, *asked)
        if key not in self._kept:
            head = provider.encode_head(self._spec(model, config, toolset, output_tokens))
            self._kept = {**dict(list(self._kept.items())[-_KEPT:]), key: head}
        return ReadyModel(model, provider, self._kept[key])

    def _spec(self, model: ModelInfo, config: SessionConfig, toolset: Toolset, output_tokens: int) -> HeadSpec:
        """What the model does not take is not in it."""
        parameters = config.parameters
        spec = HeadSpec(
            model.wire_id,
            config.instructions,
            toolset.definitions,
            output_tokens,
            temperature=profile.temperature(model, parameters),
            reasoning=profile.reasoning(model, parameters, output_tokens),
            hosts=model.hosts,
        )
        schema = self.schema_of(config)
        return spec if schema is None else _asking_for(schema, spec, model, config)


def _asking_for(schema: AnswerSchema, spec: HeadSpec, model: ModelInfo, config: SessionConfig) -> HeadSpec:
    """The head with the schema as well, in whichever way the model can be asked for an answer that fits it."""
    # A history with calls of the answer tool may come from another model; Anthropic refuses it where no tool is named.
    tools = spec.tools or ((schema.definition,) if config.fallbacks else ())
    if profile.holds_to_schema(model, schema.schema, with_tools=bool(tools)):
        return replace(spec, tools=tools, answer_schema=schema.schema)
    return replace(spec, tools=(*spec.tools, schema.definition), must_call=profile.must_call(model, config.parameters))

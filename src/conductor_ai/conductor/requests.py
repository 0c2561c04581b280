"""What a caller asks for, and what would come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from conductor_ai.agents.answer_schema import AnswerSchema
from conductor_ai.agents.limits import TOOL_INSTRUCTION_TOKENS, max_output_tokens, require_price
from conductor_ai.agents.models import check_order
from conductor_ai.agents.profile import check_parameters, require_vision
from conductor_ai.agents.tool_calls import Toolset
from conductor_ai.conductor.agent_files import AgentSpec
from conductor_ai.errors import InvalidInput, UnknownTool
from conductor_ai.model_catalog import ModelInfo, most_usd
from conductor_ai.schemas import json_text
from conductor_ai.schemas.images import IMAGE_TOKENS_BOUND
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.messages import Message, parse_messages
from conductor_ai.schemas.parameters import Parameters
from conductor_ai.schemas.usage import money_text
from conductor_ai.tools.registry import ToolRegistry

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, kw_only=True, slots=True)
class StartRequest:
    """A session to be started. `agent` names an agent in a file, which gives what the request leaves open, each limit
    by itself. `models`, in place of `model`, are several, each of which may take over from the one before it. Without
    any it is the default model, with `tools` None every registered tool. The tools in `pre_approved` run without
    asking. `parameters` and `response_schema` as `AgentRunner` takes them. `metadata` is the caller's own."""

    messages: Sequence[Message | Mapping[str, Any]]
    model: str | None = None
    models: Sequence[str] = ()
    tools: Sequence[str] | None = None
    instructions: str | None = None
    limits: Limits | dict[str, Any] | None = None
    parameters: Parameters | dict[str, Any] | None = None
    response_schema: type[BaseModel] | dict[str, Any] | None = None
    pre_approved: Sequence[str] = ()
    agent: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def with_agent(request: StartRequest, agent: AgentSpec) -> StartRequest:
    """`request` with what it leaves open filled in from its agent's file. Raises: InvalidInput for its limits."""
    limits = agent.limits
    if isinstance(request.limits, dict):
        limits = limits.with_changes(request.limits)
    elif request.limits is not None:
        limits = Limits.of(request.limits)
    return replace(
        request,
        models=request.models or (() if request.model else agent.models),
        tools=agent.tools if request.tools is None else request.tools,
        instructions=agent.instructions if request.instructions is None else request.instructions,
        limits=limits,
        parameters=Parameters.of(request.parameters).over(agent.parameters),
        response_schema=agent.response_schema if request.response_schema is None else request.response_schema,
    )


def tool_names(request: StartRequest, registry: ToolRegistry) -> list[str]:
    """The tools a session is given. Raises: InvalidInput, UnknownTool."""
    names = [tool.name for tool in registry.definitions] if request.tools is None else list(request.tools)
    if len(set(names)) != len(names):
        raise InvalidInput("a tool is named twice")
    unknown = [name for name in request.pre_approved if name not in names]
    if unknown:
        raise UnknownTool(f"cannot approve {', '.join(unknown)}: not a tool of this run")
    return names


def plan(request: StartRequest, models: Sequence[ModelInfo], registry: ToolRegistry) -> dict[str, Any]:
    """What starting `request` (its agent's values filled in) on `models` would do, as JSON data; calls nothing, stores
    nothing, refuses what `start` refuses. `first_call_at_most_usd` counts a token for each byte of the prompt and the
    longest answer allowed, of the first model."""
    _, messages = parse_messages(request.messages)
    limits, parameters = Limits.of(request.limits), Parameters.of(request.parameters)
    schema = AnswerSchema.of(request.response_schema)
    check_order([model.id for model in models])
    for each in models:
        require_price(each, limits)
        require_vision(each, messages)
    model = models[0]
    check_parameters(model, parameters, max_output_tokens(model, limits))
    names = tool_names(request, registry)
    tools = [registry.get_tool(name).definition for name in names]
    conversation = [{"role": message.role.value, "content": message.content} for message in messages]
    toolset = Toolset(registry.get_tool(name) for name in names)  # with the tool that every session has beside them
    definitions = [tool.model_dump(mode="json") for tool in toolset.definitions]
    images = sum(len(message.images) for message in messages)
    texts: list[Any] = [request.instructions, conversation, definitions]
    if schema is not None:  # told as a tool at most
        texts.append(schema.definition.model_dump(mode="json"))
    prompt_tokens = len(json_text.wire_dumps(texts)) + images * IMAGE_TOKENS_BOUND + TOOL_INSTRUCTION_TOKENS
    price = model.price
    bound = most_usd(model, prompt_tokens, max_output_tokens(model, limits))
    return {
        "agent": request.agent,
        "model": model.id,
        "fallbacks": [after.id for after in models[1:]],
        "provider": model.provider.value,
        "usd_per_million_tokens": price and {"input": str(price.input), "output": str(price.output)},
        "first_call_at_most_usd": None if bound is None else money_text(bound),
        "tools": [
            {
                "name": tool.name,
                "effect": tool.effect,
                "requires_approval": tool.requires_approval and tool.name not in request.pre_approved,
            }
            for tool in tools
        ],
        "instructions": request.instructions,
        "limits": limits.to_dict(),
        "parameters": parameters.to_dict(),
        "response_schema": None if schema is None else schema.schema,
        "images": images,
        "messages": conversation,
    }

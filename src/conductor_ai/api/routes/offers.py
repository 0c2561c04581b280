"""What the server has to offer: tools, models, agents in files."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from conductor_ai import errors as tree
from conductor_ai.api.answers import page
from conductor_ai.api.declared import ScopedRoute, needs
from conductor_ai.api.routes.agents import CallDep
from conductor_ai.api.views import DefinitionView, ModelView, Page, ToolView
from conductor_ai.conductor.agent_files import AgentSpec
from conductor_ai.model_catalog import ModelInfo
from conductor_ai.schemas.orgs import Scope
from conductor_ai.schemas.usage import money_text

router = APIRouter(route_class=ScopedRoute, tags=["offers"])


@router.get("/tools", operation_id="list_tools", response_model=Page[ToolView], **needs(Scope.READ))
async def list_tools(call: CallDep) -> Response:
    """The tools that a session may be given."""
    return page(tool.model_dump(mode="json") for tool in call.service.conductor.tools())


@router.get("/models", operation_id="list_models", response_model=Page[ModelView], **needs(Scope.READ))
async def list_models(call: CallDep) -> Response:
    """The models of the catalog, with what each can do and costs. Others of a known provider work, too."""
    return page(map(_model, call.service.conductor.models()))


@router.get(
    "/definitions",
    operation_id="list_definitions",
    response_model=Page[DefinitionView],
    **needs(Scope.READ, tree.InvalidInput),
)
async def list_definitions(call: CallDep) -> Response:
    """The agents in files that a run may name; broken ones with their error."""
    return page(map(_definition, await call.service.conductor.agents()))


def _definition(spec: AgentSpec) -> dict[str, Any]:
    """Where the file is on the server is nobody's business."""
    data = spec.to_dict()
    path = data.pop("path")
    if spec.error is not None:
        begins = f"{path}: "
        data["error"] = spec.error.removeprefix(begins) if spec.error.startswith(begins) else "its file is broken"
    return data


def _model(model: ModelInfo) -> dict[str, Any]:
    price = model.price
    return {
        "id": model.id,
        "name": model.name,
        "provider": model.provider.value,
        "wire_id": model.wire_id,
        "vendor": model.vendor,
        "origin": model.origin,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "vision": model.vision,
        "native_tools": model.native_tools,
        "forced_tools": model.forced_tools,
        "answer_schema": model.answer_schema.value,
        "temperature": model.temperature,
        "reasoning": model.reasoning.value,
        "always_reasons": model.always_reasons,
        "hosts": list(model.hosts),
        "budget": model.budget.value,
        "price": price
        and {
            "input": _figure(price.input),
            "output": _figure(price.output),
            "cache_read": _figure(price.cache_read),
            "cache_write": _figure(price.cache_write),
            "source": price.source,
            "as_of": price.as_of and price.as_of.isoformat(),
        },
        "retires_on": model.retires_on and model.retires_on.isoformat(),
        "successor": model.successor,
    }


def _figure(dollars: Decimal | None) -> str | None:
    return None if dollars is None else money_text(dollars)

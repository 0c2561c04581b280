"""What the server has to offer: tools, models, agents in files."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from conductor_ai import errors as tree
from conductor_ai.api.answers import page
from conductor_ai.api.declared import ScopedRoute, needs
from conductor_ai.api.routes.agents import CallDep
from conductor_ai.api.views import DefinitionView, ModelView, Page, ToolView
from conductor_ai.conductor.agent_files import AgentSpec
from conductor_ai.schemas.orgs import Scope

router = APIRouter(route_class=ScopedRoute, tags=["offers"])


@router.get("/tools", operation_id="list_tools", response_model=Page[ToolView], **needs(Scope.READ))
async def list_tools(call: CallDep) -> Response:
    """The tools that a session may be given."""
    return page(tool.model_dump(mode="json") for tool in call.service.conductor.tools())


@router.get("/models", operation_id="list_models", response_model=Page[ModelView], **needs(Scope.READ))
async def list_models(call: CallDep) -> Response:
    """The models of the catalog, with what each can do and costs. Others of a known provider work, too."""
    return page(model.to_dict() for model in call.service.conductor.models())


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

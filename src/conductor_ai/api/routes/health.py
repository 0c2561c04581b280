"""How the server is: for those who watch it."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from conductor_ai.api.answers import JSON
from conductor_ai.api.declared import ScopedRoute, needs, open_to_anybody
from conductor_ai.api.metrics import CONTENT_TYPE
from conductor_ai.api.routes.agents import CallDep
from conductor_ai.api.views import HealthView
from conductor_ai.schemas.orgs import Scope

router = APIRouter(route_class=ScopedRoute, tags=["health"])

_DOWN = {"model": HealthView, "description": "it cannot work now"}
_health = open_to_anybody()
_health["responses"][503] = _DOWN
_ready = open_to_anybody()
_ready["responses"][503] = _DOWN
_metrics = needs(Scope.READ)
_metrics["responses"][200] = {
    "description": "Figures in Prometheus' text form. No label tells one org from another.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}


@router.get("/health", operation_id="get_health", response_model=HealthView, **_health)
async def get_health(call: CallDep) -> Response:
    """Whether the server works: `ok`, `degraded` where it goes on without a part, `down`."""
    health = await call.house.health()
    shown = {"status": health["status"]} if call.known_caller is None else health
    return JSON(shown, 503 if health["status"] == "down" else 200)


@router.get("/health/live", operation_id="get_liveness", response_model=HealthView, **open_to_anybody())
async def get_liveness() -> Response:
    """Whether the process answers at all."""
    return JSON({"status": "ok"})


@router.get("/health/ready", operation_id="get_readiness", response_model=HealthView, **_ready)
async def get_readiness(call: CallDep) -> Response:
    """Whether requests can be served now; not while the database is away, nor while the server stops."""
    down = call.house.streams.closing or (await call.house.health())["status"] == "down"
    return JSON({"status": "down" if down else "ok"}, 503 if down else 200)


@router.get("/metrics", operation_id="get_metrics", response_class=Response, **_metrics)
async def get_metrics(call: CallDep) -> Response:
    """Figures of this process, for Prometheus."""
    health = await call.house.health()
    parts = {part: bool(told["ok"]) for part, told in health.items() if isinstance(told, dict)}
    return Response(call.house.metrics.text(parts), headers={"content-type": CONTENT_TYPE})

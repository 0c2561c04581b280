"""The app: routes behind the gate, and the service that is opened when the server starts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from conductor_ai.api.declared import DocumentedAPI
from conductor_ai.api.errors import invalid_request
from conductor_ai.api.gate import Gate
from conductor_ai.api.house import House
from conductor_ai.api.open_streams import closed_by_signals
from conductor_ai.api.routes import agents, approvals, docs, events, files, health, offers, orgs
from conductor_ai.settings import Settings

if TYPE_CHECKING:
    from conductor_ai.delivery.service import Service

_ROUTERS = (
    agents.router,
    events.router,
    files.router,
    approvals.router,
    offers.router,
    orgs.router,
    health.router,
    docs.router,
)
_ABOUT = """Runs LLM agents for people who depend on them: durable, audited, priced.

Show a key as `Authorization: Bearer cond_...`. Money is a string of US dollars, times are ISO 8601 in UTC. Lists come
in pages: pass `next_cursor` as `cursor`. Every answer has an `X-Request-ID`; every error is a Problem (RFC 9457)."""


def create_app(settings: Settings | None = None, service: Service | None = None) -> FastAPI:
    """The API as an ASGI app.

    Args:
        settings: Default: those of the environment.
        service: An open service, which stays its owner's. None: the app opens one of its own when its server starts,
            and closes it when it stops.
    Raises: InvalidInput for settings that cannot be.
    """
    house = House(Settings.load() if settings is None else settings, service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if service is None:
                from conductor_ai.wiring.service import open_service

                house.open(await stack.enter_async_context(open_service(house.settings)))
            stack.enter_context(closed_by_signals(house.streams.close))
            yield
            house.streams.close()

    app = DocumentedAPI(
        title="conductor-ai",
        version=version("conductor-ai"),
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # both pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in _ROUTERS:
        # Not `include_router`, which wraps each route and looks for it twice on every request.
        app.router.routes.extend(router.routes)
    app.add_exception_handler(RequestValidationError, _unfit)
    app.add_exception_handler(HTTPException, _refused)
    app.add_middleware(Gate, house=house)
    app.state.house = house
    return app


async def _unfit(request: Request, exc: Exception) -> NoReturn:
    assert isinstance(exc, RequestValidationError)
    raise invalid_request(exc.errors()) from None


async def _refused(request: Request, exc: Exception) -> NoReturn:
    raise exc  # the gate answers

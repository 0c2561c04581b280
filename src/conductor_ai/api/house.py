"""What all requests of one app share: settings, rules, the service once it is open, figures, open streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from conductor_ai.api.hosts import HostRules
from conductor_ai.api.metrics import Metrics
from conductor_ai.api.open_streams import OpenStreams
from conductor_ai.api.tickets import Tickets
from conductor_ai.observability.redaction import Redactor

if TYPE_CHECKING:
    from starlette.types import Scope

    from conductor_ai.delivery.service import Service
    from conductor_ai.schemas.orgs import Caller
    from conductor_ai.settings import Settings

_HEALTH_S = 1.0


class House:
    """`service` may be asked for while the app runs."""

    def __init__(self, settings: Settings, service: Service | None = None) -> None:
        pepper = settings.conductor_key_pepper
        self.settings = settings
        self.rules = HostRules.of(settings.conductor_allowed_hosts, settings.conductor_cors_origins)
        self.redactor = Redactor(settings.secrets())
        self.metrics = Metrics()
        self.streams = OpenStreams(self.metrics.open_streams)
        self.tickets = Tickets(None if pepper is None else pepper.get_secret_value().encode())
        self._service = service
        self._health: tuple[float, asyncio.Future[dict[str, Any]]] | None = None

    @property
    def allows_keyless(self) -> bool:
        """While there is no key, for who is at this machine."""
        return self.settings.app_env != "production"

    @property
    def service(self) -> Service:
        assert self._service is not None, "the app has been started"
        return self._service

    def open(self, service: Service | None) -> None:
        self._service = service

    async def health(self, now: Callable[[], float] = monotonic) -> dict[str, Any]:
        """As the service says, asked at most once a second: anybody may ask, and it costs a query."""
        if self._health is None or self._health[0] <= now():
            self._health = (now() + _HEALTH_S, asyncio.ensure_future(self.service.health()))
        return await asyncio.shield(self._health[1])


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was let in. `caller` is None only where anybody may ask."""

    house: House
    request_id: str
    known_caller: Caller | None
    body: bytes

    @property
    def service(self) -> Service:
        return self.house.service

    @property
    def caller(self) -> Caller:
        assert self.known_caller is not None, "the gate lets nobody else in"
        return self.known_caller


def call_of(scope: Scope) -> Call:
    call: Call = scope["conductor.call"]
    return call


async def current_call(request: Request) -> Call:  # a plain function would run in a thread
    return call_of(request.scope)

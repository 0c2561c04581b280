"""The service: a runtime, the door to it, and an engine in this process that drives what is started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from conductor_ai.conductor.keys import Keys
from conductor_ai.conductor.orgs import Orgs
from conductor_ai.delivery.local import LocalEngine
from conductor_ai.delivery.retention import Retention
from conductor_ai.delivery.service import Service
from conductor_ai.delivery.views import Views
from conductor_ai.observability.audit import AuditLogger
from conductor_ai.observability.redaction import Redactor
from conductor_ai.settings import Settings
from conductor_ai.storage.base import Store
from conductor_ai.storage.hot_state import HotState
from conductor_ai.wiring.pepper import key_pepper
from conductor_ai.wiring.runtime import conductor_of, open_runtime
from conductor_ai.wiring.storage import open_hot, open_store


@dataclass(frozen=True, slots=True)
class Administration:
    """What keys and orgs are managed with, without anything that runs a session."""

    store: Store
    keys: Keys
    orgs: Orgs


@asynccontextmanager
async def open_service(
    settings: Settings | None = None,
    *,
    plugins_dir: Path | None = None,
    agents_dir: Path | None = None,
    grace_s: float = 10.0,
) -> AsyncIterator[Service]:
    """Open all that the API needs, and drive what the last process left.

    Args:
        plugins_dir, agents_dir: As for `open_conductor`.
        grace_s: How long steps that are under way at the end may take.
    Raises: InvalidInput, StorageError, MissingExtra.
    """
    settings = Settings.load() if settings is None else settings
    async with open_runtime(settings) as runtime:
        states = runtime.states
        conductor = conductor_of(runtime, plugins_dir=plugins_dir, agents_dir=agents_dir)
        keys, orgs = await _access(settings, states.store, states.hot, states.audit, states.redactor)
        views = Views(states.store, states.hot)
        retention = Retention(conductor, states.store, views, settings.conductor_retention_days)
        engine = LocalEngine(conductor, states.store, states.hot, retention=retention)
        service = Service(
            conductor,
            engine,
            keys=keys,
            orgs=orgs,
            store=states.store,
            hot=states.hot,
            views=views,
            redactor=states.redactor,
            sandbox=runtime.sandbox,
        )
        try:
            await service.open()
            yield service
        finally:
            await service.close(grace_s)
            await conductor.close()


@asynccontextmanager
async def open_administration(settings: Settings | None = None) -> AsyncIterator[Administration]:
    """Open what keys and orgs are managed with: no model, no tool, no session. Raises: as `open_service`."""
    settings = Settings.load() if settings is None else settings
    async with AsyncExitStack() as stack:
        store, hot = await open_store(settings, stack), await open_hot(settings, stack)
        redactor = Redactor(settings.secrets())
        keys, orgs = await _access(settings, store, hot, AuditLogger(store, redactor), redactor)
        yield Administration(store, keys, orgs)


async def _access(
    settings: Settings, store: Store, hot: HotState, audit: AuditLogger, redactor: Redactor
) -> tuple[Keys, Orgs]:
    pepper = await asyncio.to_thread(key_pepper, settings)
    redactor.add(pepper.decode(errors="replace"))
    env = "live" if settings.app_env == "production" else "dev"
    return Keys(store, audit, pepper, env), Orgs(store, hot, audit)

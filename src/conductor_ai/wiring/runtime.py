"""Runtime: everything a process has opened, from settings to sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from conductor_ai.agents.state import StateManager
from conductor_ai.conductor import Conductor, StartRequest, plan
from conductor_ai.conductor.agent_files import find_agent
from conductor_ai.conductor.requests import with_agent
from conductor_ai.errors import ConductorError
from conductor_ai.model_catalog import Catalog, ModelInfo
from conductor_ai.observability.audit import AuditLogger
from conductor_ai.observability.logging import configure
from conductor_ai.observability.redaction import Redactor
from conductor_ai.providers.base import Provider
from conductor_ai.providers.retries import RetryBudget
from conductor_ai.providers.scripted import Script
from conductor_ai.schemas.costs import CallCost
from conductor_ai.schemas.messages import ModelResponse
from conductor_ai.settings import Settings, default_model, require_key
from conductor_ai.storage.hot_memory import MemoryHotState
from conductor_ai.storage.sqlite import SQLiteStore
from conductor_ai.wiring.agents import load_agent_files
from conductor_ai.wiring.costs import call_cost
from conductor_ai.wiring.demo import demo_script
from conductor_ai.wiring.providers import Providers
from conductor_ai.wiring.tools import load_tools

if TYPE_CHECKING:
    from conductor_ai.storage.base import SessionStore


class Runtime:
    """The opened parts. Belongs to one event loop; `open_runtime` closes it."""

    def __init__(self, settings: Settings, catalog: Catalog, providers: Providers, states: StateManager) -> None:
        self.settings = settings
        self.catalog = catalog
        self.states = states
        self._providers = providers

    @property
    def store(self) -> SessionStore:
        return self.states.store

    @property
    def audit(self) -> AuditLogger:
        return self.states.audit

    @property
    def redactor(self) -> Redactor:
        return self.states.redactor

    @property
    def retry_budget(self) -> RetryBudget:
        return RetryBudget(attempts=self.settings.conductor_model_attempts)

    def model(self, model_id: str) -> ModelInfo:
        """Raises: UnknownModel, ModelForbidden, MissingKey."""
        model = self.catalog.get_model(model_id)
        require_key(model, self.settings)
        return model

    def provider(self, model: ModelInfo) -> Provider:
        return self._providers.of(model)

    def cost_usd(self, model: ModelInfo, response: ModelResponse) -> CallCost:
        """What a call to `model` cost, and who says so."""
        return call_cost(self.catalog, model, response)


@asynccontextmanager
async def open_runtime(settings: Settings | None = None, *, script: Script = demo_script) -> AsyncIterator[Runtime]:
    """Open the store under `$CONDUCTOR_HOME` and what the loop needs; HTTP is opened when a model first needs it.

    Args:
        script: What `demo/scripted` says and does.
    """
    async with AsyncExitStack() as stack:
        yield await _opened(Settings.load() if settings is None else settings, script, stack)


async def _opened(settings: Settings, script: Script, stack: AsyncExitStack) -> Runtime:
    redactor = Redactor(settings.secrets())
    catalog = Catalog.load(settings.models_file)
    store = await SQLiteStore.open(settings.conductor_home)
    stack.push_async_callback(store.close)
    hot = MemoryHotState()
    stack.push_async_callback(hot.close)
    providers = Providers(settings, script)
    stack.push_async_callback(providers.close)
    states = StateManager(store, hot, AuditLogger(store, redactor), redactor)
    stack.push_async_callback(states.cancels.close)
    return Runtime(settings, catalog, providers, states)


@asynccontextmanager
async def open_conductor(
    settings: Settings | None = None, *, plugins_dir: Path | None = None, agents_dir: Path | None = None
) -> AsyncIterator[Conductor]:
    """The door, with our own tools, those of `plugins_dir` (default: as settings say) and of installed plugins behind
    it, and the agents of `agents_dir` (default: as settings say) beside the bundled ones."""
    settings = Settings.load() if settings is None else settings
    async with open_runtime(settings) as runtime:
        if settings.app_env == "production":
            configure(settings.app_env, runtime.redactor)
        registry, plugins = load_tools(settings, plugins_dir)
        conductor = Conductor(
            runtime,
            registry,
            runtime.catalog,
            default_model=lambda: default_model(settings, runtime.catalog).id,
            plugins=plugins,
            agents=lambda: load_agent_files(settings, agents_dir),
        )
        try:
            yield conductor
        finally:
            await conductor.close()


def plan_run(
    settings: Settings, request: StartRequest, *, plugins_dir: Path | None = None, agents_dir: Path | None = None
) -> dict[str, Any]:
    """What `Conductor.start` would do with `request`, without opening or making anything. Raises: UsageError."""
    if request.agent is not None:
        request = with_agent(request, find_agent(load_agent_files(settings, agents_dir), request.agent))
    catalog = Catalog.load(settings.models_file)
    ids = request.models or ([request.model] if request.model else [])
    models = [catalog.get_model(model_id) for model_id in ids] or [default_model(settings, catalog)]
    for model in models:
        require_key(model, settings)
    registry, _ = load_tools(settings, plugins_dir)
    return plan(request, models, registry)


_Opening = tuple[AsyncIterator[Runtime], "asyncio.Future[Runtime]"]
_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, _Opening]] = WeakKeyDictionary()


async def default_runtime() -> Runtime:
    """The runtime of callers who open none: one per event loop and home, closed when the loop shuts down."""
    settings = Settings.load()
    home = settings.conductor_home.absolute()
    openings = _by_loop.setdefault(asyncio.get_running_loop(), {})
    if home not in openings:
        # asyncio.run closes suspended async generators before it closes the loop: that is what closes this runtime.
        scope = _until_shutdown(settings)
        openings[home] = (scope, asyncio.ensure_future(anext(scope)))
    _, opening = openings[home]
    try:
        return await asyncio.shield(opening)  # others wait for it too
    except ConductorError:
        openings.pop(home, None)
        raise


async def _until_shutdown(settings: Settings) -> AsyncIterator[Runtime]:
    # No `async with open_runtime`: that is a generator of its own, which the loop would close at the same time.
    stack = AsyncExitStack()
    try:
        yield await _opened(settings, demo_script, stack)
    finally:
        await stack.aclose()

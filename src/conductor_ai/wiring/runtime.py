"""Runtime: everything a process has opened, from settings to sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from conductor_ai.agents.exchange_recorder import ExchangeRecorder
from conductor_ai.agents.state import StateManager
from conductor_ai.conductor import Conductor, StartRequest, plan
from conductor_ai.conductor.agent_files import find_agent
from conductor_ai.conductor.requests import with_agent
from conductor_ai.errors import ConductorError, InvalidInput
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
from conductor_ai.wiring.agents import load_agent_files
from conductor_ai.wiring.costs import call_cost
from conductor_ai.wiring.demo import demo_script
from conductor_ai.wiring.providers import Providers
from conductor_ai.wiring.recording import RecordedStore, describe_models
from conductor_ai.wiring.sandbox import sandbox_of
from conductor_ai.wiring.storage import open_hot, open_store
from conductor_ai.wiring.tools import load_tools

if TYPE_CHECKING:
    from conductor_ai.storage.base import Store


class Runtime:
    """The opened parts. Belongs to one event loop; `open_runtime` closes it."""

    def __init__(self, settings: Settings, catalog: Catalog, providers: Providers, states: StateManager) -> None:
        self.settings = settings
        self.catalog = catalog
        self.states = states
        self.sandbox = sandbox_of(settings)
        self._providers = providers

    @property
    def store(self) -> Store:
        return self.states.store

    @property
    def audit(self) -> AuditLogger:
        return self.states.audit

    @property
    def redactor(self) -> Redactor:
        return self.states.redactor

    @property
    def fetch_grants(self) -> tuple[str, ...]:
        """`host:port` pairs that may be fetched from although they are not public."""
        return tuple(filter(None, map(str.strip, self.settings.conductor_fetch_grants.split(","))))

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
async def open_runtime(
    settings: Settings | None = None,
    *,
    script: Script = demo_script,
    record_dir: str | Path | None = None,
    replay: str | Path | None = None,
) -> AsyncIterator[Runtime]:
    """Open the store under `$CONDUCTOR_HOME` and what the loop needs; HTTP is opened when a model first needs it.

    Args:
        script: What `demo/scripted` says and does.
        record_dir: Folder into which each session is recorded.
        replay: A recording that answers in place of all models, in its order: no key is needed, nothing reaches the
            network, and the store is one that is gone afterwards. What is asked otherwise than then is a
            `ReplayDiffers`.
    Raises: InvalidInput for a folder that cannot be written to, or a file that is no recording.
    """
    settings = Settings.load() if settings is None else settings
    async with AsyncExitStack() as stack:
        if replay is None:
            yield await _opened(settings, script, stack, record_dir)
            return
        if record_dir is not None:
            raise InvalidInput("record_dir and replay: a replay is not recorded again")
        from conductor_ai.wiring.replay.runtime import open_replaying, script_in

        recorded = await asyncio.to_thread(script_in, replay)
        yield await open_replaying(settings, recorded, stack, Catalog.load(settings.models_file))


async def _opened(
    settings: Settings, script: Script, stack: AsyncExitStack, record_dir: str | Path | None = None
) -> Runtime:
    redactor = Redactor(settings.secrets())
    catalog = Catalog.load(settings.models_file)
    recorder = None
    if record_dir is not None:
        if record_dir == "":
            raise InvalidInput("record_dir names no folder")
        folder = Path(record_dir)
        recorder = await asyncio.to_thread(ExchangeRecorder.into, folder, redactor, describe_models(catalog))
        stack.push_async_callback(asyncio.to_thread, recorder.close)
    providers = Providers(settings, script, recorder)
    stack.push_async_callback(providers.close)
    runtime = Runtime(settings, catalog, providers, await open_states(settings, redactor, stack, recorder))
    stack.push_async_callback(runtime.sandbox.close)
    return runtime


async def open_states(
    settings: Settings, redactor: Redactor, stack: AsyncExitStack, recorder: ExchangeRecorder | None = None
) -> StateManager:
    """The sessions of the store that the settings name; `stack` closes it."""
    store = await open_store(settings, stack)
    if recorder is not None:
        store = RecordedStore.over(store, recorder)
    states = StateManager(store, await open_hot(settings, stack), AuditLogger(store, redactor), redactor)
    stack.push_async_callback(states.close)
    return states


@asynccontextmanager
async def open_conductor(
    settings: Settings | None = None,
    *,
    plugins_dir: Path | None = None,
    agents_dir: Path | None = None,
    record_dir: str | Path | None = None,
) -> AsyncIterator[Conductor]:
    """The door, with our own tools, those of `plugins_dir` (default: as settings say) and of installed plugins behind
    it, and the agents of `agents_dir` (default: as settings say) beside the bundled ones. Sessions are recorded into
    `record_dir`, where it is given."""
    settings = Settings.load() if settings is None else settings
    async with open_runtime(settings, record_dir=record_dir) as runtime:
        conductor = conductor_of(runtime, plugins_dir=plugins_dir, agents_dir=agents_dir)
        try:
            yield conductor
        finally:
            await conductor.close()


def conductor_of(runtime: Runtime, *, plugins_dir: Path | None = None, agents_dir: Path | None = None) -> Conductor:
    """The door to `runtime`; the caller closes it first. Arguments as for `open_conductor`."""
    settings = runtime.settings
    if settings.app_env == "production":
        configure(settings.app_env, runtime.redactor)
    registry, plugins = load_tools(settings, plugins_dir, sandbox=runtime.sandbox)
    return Conductor(
        runtime,
        registry,
        runtime.catalog,
        default_model=lambda: default_model(settings, runtime.catalog).id,
        plugins=plugins,
        agents=lambda: load_agent_files(settings, agents_dir),
    )


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

"""Services over one home, driven by the scripted model: a second one is what a second process would be."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from conductor_ai.conductor import Conductor, StartRequest
from conductor_ai.conductor.follow import Follows
from conductor_ai.conductor.keys import Keys
from conductor_ai.conductor.orgs import Orgs
from conductor_ai.delivery.local import LocalEngine
from conductor_ai.delivery.retention import Retention
from conductor_ai.delivery.service import Service
from conductor_ai.delivery.views import Views
from conductor_ai.providers.scripted import Script
from conductor_ai.schemas.orgs import Caller
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.sdk import BaseTool
from conductor_ai.settings import Settings
from conductor_ai.storage.base import EVERY_SESSION
from conductor_ai.storage.hot_state import HotState
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import Runtime, open_runtime
from tests.conftest import fail_after

CALLER = Caller("default")
REQUEST = StartRequest(messages=[{"role": "user", "content": "Do it."}], model="demo/scripted")
NEXT = {"role": "user", "content": "And then?"}
SWEEP_S = 0.05


class Desk:
    """Opens services, and waits for what becomes of sessions."""

    def __init__(self, home: Path, stack: AsyncExitStack) -> None:
        self.home = home
        self._stack = stack
        self.runtime: Runtime

    async def open(
        self,
        script: Script,
        *tools: BaseTool,
        retention_days: int | None = None,
        sweep_s: float = SWEEP_S,
        hot: HotState | None = None,
    ) -> Service:
        runtime = await self._stack.enter_async_context(open_runtime(Settings(conductor_home=self.home), script=script))
        self.runtime = runtime
        states = runtime.states
        if hot is not None:  # shared with another service, as Redis is
            states.hot = hot
        registry = ToolRegistry()
        for tool in tools:
            registry.register(tool)
        conductor = Conductor(runtime, registry, runtime.catalog, default_model=lambda: "demo/scripted")
        self._stack.push_async_callback(conductor.close)
        views = Views(states.store, states.hot)
        retention = Retention(conductor, states.store, views, retention_days)
        engine = LocalEngine(conductor, states.store, states.hot, retention=retention, sweep_s=sweep_s)
        service = Service(
            conductor,
            engine,
            keys=Keys(states.store, states.audit, b"p" * 32, "dev"),
            orgs=Orgs(states.store, states.hot, states.audit),
            store=states.store,
            hot=states.hot,
            views=views,
            redactor=states.redactor,
            sandbox=runtime.sandbox,
        )
        self._stack.push_async_callback(service.close, 0)
        await service.open()
        return service

    async def stopped(self, service: Service, session_id: str, *, after_seq: int = 0) -> str:
        """The status with which a session stops, and that its row has then."""
        async with fail_after(20):
            async for _ in Follows(service.store, service.hot, poll_s=0.02).follow(
                session_id, "default", after_seq=after_seq
            ):
                pass
        return (await service.store.session(session_id, "default")).status

    async def all_stopped(self, service: Service) -> list[SessionStatus]:
        sessions = await service.store.sessions("default", EVERY_SESSION)
        await asyncio.gather(*(self.stopped(service, session.session_id) for session in sessions))
        return [session.status for session in await service.store.sessions("default", EVERY_SESSION)]

    def edit(self, statement: str) -> None:
        """What somebody with the file in hand could do."""
        connection = sqlite3.connect(self.home / "conductor.db")
        with connection:
            connection.execute(statement)
        connection.close()

    async def types(self, service: Service, session_id: str) -> list[str]:
        return [event.type.value for event in await service.store.events(session_id, "default")]

    async def comes_to(self, service: Service, session_id: str, kind: str, *, times: int = 1) -> None:
        """Returns once an event has happened so many times."""
        async with fail_after(20):
            follows = Follows(service.store, service.hot, poll_s=0.02)
            seq = 0
            while times:
                async for item in follows.follow(session_id, "default", after_seq=seq):
                    seq = item.get("seq", seq)
                    times -= item["type"] == kind
                    if not times:
                        return


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        yield Desk(tmp_path / "home", stack)

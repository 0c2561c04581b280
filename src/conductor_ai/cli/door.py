"""Opening what a command needs, and finding what a person named by a part of its id."""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from conductor_ai.cli.output import note
from conductor_ai.cli.text import one_line
from conductor_ai.errors import ApprovalNotFound, SessionNotFound, StorageError, UsageError

if TYPE_CHECKING:
    from conductor_ai.agents.session_log import OnEvent
    from conductor_ai.conductor import Conductor, StartRequest
    from conductor_ai.model_catalog import ModelInfo
    from conductor_ai.schemas.costs import CostSummary
    from conductor_ai.schemas.session import PauseReason, SessionStatus
    from conductor_ai.schemas.steps import AgentStep
    from conductor_ai.schemas.usage import Usage
    from conductor_ai.sdk.context import SessionFile
    from conductor_ai.tools.registry import PluginInfo, ToolRegistry

_WHOLE_ID = 36
_SHORTEST_PART = 6
_SEARCHED = 10_000


class SessionView(Protocol):
    """What the commands show of a session, wherever it is; as `AgentSession`."""

    @property
    def session_id(self) -> str: ...
    @property
    def status(self) -> SessionStatus: ...
    @property
    def model(self) -> str: ...
    @property
    def agent(self) -> str | None: ...
    @property
    def title(self) -> str: ...
    @property
    def pause_reason(self) -> PauseReason | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def failure(self) -> dict[str, Any] | None: ...
    @property
    def final_answer(self) -> str | None: ...
    @property
    def steps(self) -> Sequence[AgentStep]: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def cost_usd(self) -> Decimal | None: ...
    @property
    def cost(self) -> CostSummary: ...
    @property
    def created_at(self) -> str: ...

    def to_dict(self) -> dict[str, Any]: ...


class ApprovalView(Protocol):
    """What the commands show of an approval; as `ApprovalRecord`. `to_dict` has its `arguments` as JSON data."""

    @property
    def approval_id(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def tool_name(self) -> str: ...
    @property
    def action(self) -> str | None: ...
    @property
    def status(self) -> str: ...

    def to_dict(self) -> dict[str, Any]: ...


class Door(Protocol):
    """What the commands ask for, here (`Conductor`) or of a server (`RemoteDoor`); all of it as `Conductor` has it."""

    def models(self) -> Sequence[ModelInfo]: ...

    async def start(self, request: StartRequest) -> SessionView: ...

    async def run(self, session_id: str, *, on_event: OnEvent | None = None) -> SessionView: ...

    async def resume(
        self, session_id: str, *, limits: dict[str, Any] | None = None, on_event: OnEvent | None = None
    ) -> SessionView: ...

    async def continue_session(
        self,
        session_id: str,
        message: dict[str, Any],
        *,
        limits: dict[str, Any] | None = None,
        on_event: OnEvent | None = None,
    ) -> SessionView: ...

    async def cancel(self, session_id: str, *, by: str) -> SessionView: ...

    async def session(self, session_id: str) -> SessionView: ...

    async def sessions(self, *, status: SessionStatus | None = None, limit: int = 100) -> Sequence[SessionView]: ...

    async def files(self, session_id: str) -> Sequence[SessionFile]: ...

    async def file(self, session_id: str, name: str) -> bytes: ...

    async def delete(self, session_id: str, *, by: str) -> None: ...

    async def approvals(self, *, session_id: str | None = None) -> Sequence[ApprovalView]: ...

    async def decide(
        self, approval_id: str, decision: Literal["approved", "denied"], *, by: str, reason: str | None = None
    ) -> ApprovalView: ...


@asynccontextmanager
async def door_to(
    server: str | None,
    plugins_dir: Path | None = None,
    agents_dir: Path | None = None,
    record_dir: Path | None = None,
) -> AsyncIterator[Door]:
    """The door of the server at this address, else the one to what is stored here, as `opened`."""
    if server is None:
        async with opened(plugins_dir, agents_dir, record_dir) as conductor:
            yield conductor
        return
    from conductor_ai.cli.remote import open_remote

    async with open_remote(server) as remote:
        yield remote


@asynccontextmanager
async def opened(
    plugins_dir: Path | None = None, agents_dir: Path | None = None, record_dir: Path | None = None
) -> AsyncIterator[Conductor]:
    """The door for one command, its database made where there is none. Broken plugins are named on standard error."""
    from conductor_ai.observability.logging import clean_last_resort
    from conductor_ai.observability.redaction import Redactor
    from conductor_ai.settings import Settings
    from conductor_ai.wiring import open_conductor

    settings = Settings.load()
    clean_last_resort(Redactor(settings.secrets()))
    _refuse_file(settings.conductor_home)
    opening = open_conductor(settings, plugins_dir=plugins_dir, agents_dir=agents_dir, record_dir=record_dir)
    async with opening as conductor:
        _warn_of_broken(conductor.plugins)
        yield conductor


def loaded_tools(plugins_dir: Path | None = None) -> tuple[ToolRegistry, list[PluginInfo]]:
    """Tools and where they come from, without a database: listing works in any folder. Warns as `opened` does."""
    from conductor_ai.settings import Settings
    from conductor_ai.wiring.tools import load_tools

    registry, plugins = load_tools(Settings.load(), plugins_dir)
    _warn_of_broken(plugins)
    return registry, plugins


def has_database() -> bool:
    """Whether anything was ever stored here; a command that lists makes no database only to find it empty.

    Raises: StorageError where the folder that it would be in is none; OSError where nobody may look into it.
    """
    from conductor_ai.settings import Settings
    from conductor_ai.storage.sqlite.database import FILE_NAME

    settings = Settings.load()
    if settings.postgres_url is not None:  # it is somebody's already: reading makes nothing
        return True
    _refuse_file(settings.conductor_home)
    return (settings.conductor_home / FILE_NAME).exists()


async def session_id_of(door: Door, text: str) -> str:
    """The id of the session that `text` means: its id, or the beginning or end of it.

    Raises: SessionNotFound; UsageError where several sessions fit.
    """
    if len(text) >= _WHOLE_ID:
        return text
    found = _matching(text, (session.session_id for session in await door.sessions(limit=_SEARCHED)))
    if not found:
        raise SessionNotFound(f"no session {text!r}", hint="conductor sessions list")
    return _only(found, text, "sessions")


async def approval_id_of(door: Door, text: str) -> str:
    """As `session_id_of`, for the approvals that are pending. Raises: ApprovalNotFound, UsageError."""
    if len(text) >= _WHOLE_ID:
        return text
    found = _matching(text, (approval.approval_id for approval in await door.approvals()))
    if not found:
        raise ApprovalNotFound(f"no pending approval {text!r}", hint="conductor approvals list")
    return _only(found, text, "approvals")


def person() -> str:
    """Who decides here, as the audit will name them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return f"uid {os.getuid()}"


def _refuse_file(home: Path) -> None:
    if home.exists() and not home.is_dir():
        raise StorageError(f"CONDUCTOR_HOME is a file: {home}", hint="name a folder")


def _warn_of_broken(plugins: Iterable[PluginInfo]) -> None:
    for plugin in plugins:
        if plugin.error:
            note(f"warning: plugin {plugin.name} was not loaded: {one_line(plugin.error, 300)}")


def _matching(part: str, ids: Iterable[str]) -> list[str]:
    if len(part) < _SHORTEST_PART:
        return []
    return [whole for whole in ids if whole.startswith(part) or whole.endswith(part)]


def _only(found: list[str], part: str, noun: str) -> str:
    if len(found) > 1:
        raise UsageError(f"{part!r} fits {len(found)} {noun}", hint="give more of the id; its end differs soonest")
    return found[0]

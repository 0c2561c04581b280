"""What a server tells beside its sessions: what it offers, what it spent, who may use it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, TypeVar

from conductor_ai.client.requests import given
from conductor_ai.client.results import reading, usage_of
from conductor_ai.client.transport import Call, Transport, segment
from conductor_ai.errors import KeyNotFound
from conductor_ai.schemas.orgs import KeyRecord, OrgLimits, OrgRecord, Scope
from conductor_ai.schemas.usage import Usage
from conductor_ai.sdk.base import ToolDefinition

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """A model that the server knows. `data` is the whole JSON object: prices, window, what the model can do."""

    id: str
    provider: str
    data: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteDefinition:
    """An agent in a file on the server; with an `error` it cannot be used."""

    name: str
    description: str
    error: str | None
    data: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteUsage:
    """One day's calls (UTC) to one model. `cost_usd` is of those whose cost is known, `unpriced_calls` are the
    others."""

    day: str
    model: str
    calls: int
    usage: Usage
    cost_usd: Decimal
    unpriced_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteAuditRow:
    """One row of the audit; `metadata` as it was recorded, without secrets."""

    id: str
    session_id: str | None
    category: str
    action: str
    metadata: dict[str, Any]
    created_at: str
    data: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteHealth:
    """`status` is `ok`, `degraded` where the server goes on without a part, or `down`. To a caller with a key, or on
    its own machine, it also says its version, and in `data` how each part is."""

    status: str
    version: str | None
    data: dict[str, Any] = field(repr=False, compare=False)


class Administration:
    """The part of `ConductorClient` that is not about sessions."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def health(self) -> RemoteHealth:
        """How the server is. Needs no key."""
        data = await self._ask(Call("GET", "/health", answers=(503,)))
        with reading("a health report"):
            return RemoteHealth(status=data["status"], version=data.get("version") or None, data=data)

    async def tools(self) -> list[ToolDefinition]:
        """The tools that a session may be given."""
        return [tool async for tool in self._listed("/tools", {}, _tool)]

    async def models(self) -> list[RemoteModel]:
        return [model async for model in self._listed("/models", {}, _model)]

    async def definitions(self) -> list[RemoteDefinition]:
        """The agents that `run_agent` can be given by name, broken ones with their error."""
        return [agent async for agent in self._listed("/definitions", {}, _definition)]

    async def usage(self, day_from: date | None = None, day_before: date | None = None) -> list[RemoteUsage]:
        """By day, then by model; days are UTC. What is left out, the server decides."""
        query = given(day_from=_day(day_from), day_before=_day(day_before))
        return [row async for row in self._listed("/usage", query, _usage)]

    def audit(self, *, session_id: str | None = None, page_size: int = 100) -> AsyncGenerator[RemoteAuditRow]:
        """The org's audit, newest first, page after page as it is read."""
        return self._listed("/audit", given(session_id=session_id), _audit_row, page_size)

    async def keys(self) -> list[KeyRecord]:
        """The org's keys, oldest first, revoked and expired ones included. Raises: Forbidden without the scope admin,
        as all that follow."""
        return [key async for key in self._listed("/keys", {}, _key)]

    async def create_key(
        self, scopes: Sequence[Scope | str], *, name: str = "", expires_at: str | None = None
    ) -> tuple[KeyRecord, str]:
        """Returns: the key's record, and the key itself, which nobody can show again. Never asked for twice: where the
        reply is lost, look for the key with `keys` and revoke it."""
        body = given(scopes=[str(scope) for scope in scopes], name=name, expires_at=expires_at)
        return _new_key(await self._ask(Call("POST", "/keys", body, repeatable=False)))

    async def rotate_key(self, key_id: str) -> tuple[KeyRecord, str, str]:
        """A new key like this one, which works on for 24 hours at most.

        Returns: as `create_key`, and when the old key ends, ISO 8601. Raises: KeyNotFound.
        """
        data = await self._ask(Call("POST", f"{_key_path(key_id)}/rotate", repeatable=False))
        with reading("a key"):
            return *_new_key(data), str(data["old_key_expires_at"])

    async def revoke_key(self, key_id: str) -> KeyRecord:
        """Raises: KeyNotFound."""
        return _key(await self._ask(Call("DELETE", _key_path(key_id))))

    async def org(self) -> OrgRecord:
        """The caller's own org with its limits."""
        return _org(await self._ask(Call("GET", "/org")))

    async def set_org_limits(self, changes: Mapping[str, Any]) -> OrgRecord:
        """Replace some limits; None takes one away. Raises: InvalidInput."""
        body = {name: format(value, "f") if isinstance(value, Decimal) else value for name, value in changes.items()}
        return _org(await self._ask(Call("PATCH", "/org", body)))

    async def _ask(self, call: Call) -> Any:
        return await self._transport.call(call)

    async def _listed(
        self, path: str, query: Mapping[str, str], read: Callable[[Any], T], page_size: int | None = None
    ) -> AsyncGenerator[T]:
        """The items of a list, from page to page."""
        asked = dict(query) if page_size is None else {**query, "limit": str(page_size)}
        while True:
            page = await self._ask(Call("GET", path, query=asked))
            with reading("a list"):
                items, cursor = list(page["items"]), page.get("next_cursor")
            for item in items:
                yield read(item)
            if cursor is None:
                return
            asked["cursor"] = str(cursor)


def _tool(data: Any) -> ToolDefinition:
    with reading("a tool"):  # a newer server may say more of it than this version knows
        return ToolDefinition(**{name: data[name] for name in ToolDefinition.model_fields if name in data})


def _model(data: Any) -> RemoteModel:
    with reading("a model"):
        return RemoteModel(id=data["id"], provider=data["provider"], data=data)


def _definition(data: Any) -> RemoteDefinition:
    with reading("an agent"):
        return RemoteDefinition(
            name=data["name"], description=data.get("description") or "", error=data.get("error"), data=data
        )


def _usage(data: Any) -> RemoteUsage:
    with reading("usage"):
        return RemoteUsage(
            day=data["day"],
            model=data["model"],
            calls=data["calls"],
            usage=usage_of(data["usage"]),
            cost_usd=Decimal(data["cost_usd"]),
            unpriced_calls=data["unpriced_calls"],
        )


def _audit_row(data: Any) -> RemoteAuditRow:
    with reading("an audit row"):
        return RemoteAuditRow(
            id=data["id"],
            session_id=data["session_id"],
            category=data["category"],
            action=data["action"],
            metadata=data["metadata"],
            created_at=data["created_at"],
            data=data,
        )


def _new_key(data: Any) -> tuple[KeyRecord, str]:
    with reading("a key"):
        return _key(data), str(data["key"])


def _key(data: Any) -> KeyRecord:
    with reading("a key"):
        return KeyRecord(
            key_id=data["key_id"],
            org_id=data["org_id"],
            name=data["name"],
            scopes=frozenset(Scope(scope) for scope in data["scopes"]),
            created_at=data["created_at"],
            created_by=data["created_by"],
            expires_at=data.get("expires_at"),
            revoked_at=data.get("revoked_at"),
            last_used_at=data.get("last_used_at"),
            in_place_of=data.get("in_place_of"),
        )


def _org(data: Any) -> OrgRecord:
    with reading("an org"):
        known = {name: data["limits"].get(name) for name in OrgLimits.__dataclass_fields__}
        return OrgRecord(data["org_id"], OrgLimits(**known), data.get("created_at"), data.get("updated_at"))


def _key_path(key_id: str) -> str:
    return f"/keys/{segment(key_id, KeyNotFound, 'key')}"


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()

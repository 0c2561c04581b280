"""Orgs, what they may use, and the keys that speak for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

from conductor_ai.errors import InvalidInput
from conductor_ai.schemas.usage import bound_usd, money_text

DEFAULT_ORG = "default"


class Scope(StrEnum):
    """What a key is good for: `read` looks, `run` starts, continues, resumes, cancels and deletes sessions, `approve`
    decides approvals, `admin` manages the org's keys and limits. None includes another."""

    RUN = "run"
    READ = "read"
    APPROVE = "approve"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)
_ORG_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,99}")
MONEY_LIMITS = ("max_usd_per_day", "max_usd_per_month")
_MOST = 10**9  # fits into the integers of every database


def checked_org_id(org_id: str) -> str:
    """The id, where it may be that of an org with keys or limits. Raises: InvalidInput."""
    if not _ORG_ID.fullmatch(org_id):
        raise InvalidInput(
            f"{org_id!r:.60} cannot be an org",
            hint="1 to 100 letters, digits and ._@:-, the first a letter or a digit",
        )
    return org_id


def _checked(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in MONEY_LIMITS:
        try:
            return bound_usd(value)
        except ValueError as exc:
            raise InvalidInput(f"{name} must be {exc}, got {value!r:.40}") from None
    try:
        if isinstance(value, bool):
            raise ValueError
        number = Decimal(str(value))
        if not number.is_finite() or not 1 <= number <= _MOST or number != int(number):
            raise ValueError
    except (ArithmeticError, ValueError):
        raise InvalidInput(f"{name} must be a whole number above zero, got {value!r:.40}") from None
    return int(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgLimits:
    """Bounds on what an org uses; None means no bound, for `retention_days` that of the settings.

    Money is in US dollars over UTC days and months. Raises: InvalidInput for a value that is no positive number.
    """

    requests_per_minute: int | None = None
    max_running_sessions: int | None = None
    max_usd_per_day: Decimal | None = None
    max_usd_per_month: Decimal | None = None
    retention_days: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field.name, getattr(self, field.name)))

    def with_changes(self, changes: dict[str, Any]) -> Self:
        """A copy with some replaced. Raises: InvalidInput for an unknown name or a value of the wrong kind."""
        merged = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in changes.items():
            if name not in merged:
                raise InvalidInput(f"unknown limit {name!r}", hint=f"limits of an org are: {', '.join(merged)}")
            merged[name] = value
        return type(self)(**merged)

    @property
    def limits_money(self) -> bool:
        return self.max_usd_per_day is not None or self.max_usd_per_month is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON data; money is a string."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: money_text(value) if isinstance(value, Decimal) else value for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class OrgRecord:
    """One org. An org without a row of its own has no limits and no dates.

    `problem`, only in a list: its limits cannot be read, and those here are not its own.
    """

    org_id: str
    limits: OrgLimits = OrgLimits()
    created_at: str | None = None
    updated_at: str | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        data = {
            "org_id": self.org_id,
            "limits": self.limits.to_dict(),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }
        return data if self.problem is None else {**data, "limits": None, "problem": self.problem}


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key, without anything that it could be made from. Dates are ISO 8601 UTC; None: never.

    `in_place_of` is the id of the key that was rotated to make this one.
    """

    key_id: str
    org_id: str
    name: str
    scopes: frozenset[Scope]
    created_at: str
    created_by: str
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None
    in_place_of: str | None = None

    def works_at(self, now: str) -> bool:
        """Whether it opens anything at `now`, ISO 8601 UTC with microseconds as all dates here."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    def to_dict(self) -> dict[str, Any]:
        return {
            "key_id": self.key_id,
            "org_id": self.org_id,
            "name": self.name,
            "scopes": sorted(scope.value for scope in self.scopes),
            "created_at": self.created_at,
            "created_by": self.created_by,
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
            "last_used_at": self.last_used_at,
            "in_place_of": self.in_place_of,
        }


def same_holder(key_id: str, keys: Iterable[KeyRecord]) -> frozenset[str]:
    """The ids of all keys that stand in one line of rotations with this one, itself among them."""
    before = {key.key_id: key.in_place_of for key in keys}

    def first(one: str) -> str:
        passed = {one}
        while (older := before.get(one)) is not None and older not in passed:  # rows may say anything
            passed.add(one := older)
        return one

    origin = first(key_id)
    return frozenset(one for one in {*before, key_id} if first(one) == origin)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request. `key_id` None: nobody showed a key, and the place that the request came from allowed it."""

    org_id: str
    scopes: frozenset[Scope] = ALL_SCOPES
    key_id: str | None = None

    @property
    def name(self) -> str:
        """As the log and the audit name the caller."""
        return "keyless caller" if self.key_id is None else f"key {self.key_id}"

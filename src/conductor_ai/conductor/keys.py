"""Keys that speak for an org: made, shown once, checked, rotated, revoked.

`cond_<env>_<id>_<secret><checksum>`: `env` is live or dev, `id` eight letters and digits, `secret` 32 random bytes in
base64url, `checksum` CRC-32 in hex over all before it, so that scanners and people can tell a key from a typing error.
Stored is HMAC-SHA-256 of the whole key under the server's pepper: whoever reads the database can make no key of it.
"""

from __future__ import annotations

import base64
import hmac
import logging
import re
import secrets
import string
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, NoReturn

from conductor_ai.errors import InvalidInput, KeyNotFound, StorageError, Unauthorized
from conductor_ai.observability.audit import AuditLogger
from conductor_ai.schemas.orgs import Caller, KeyRecord, Scope, checked_org_id, same_holder
from conductor_ai.storage.base import OrgStore
from conductor_ai.storage.rows import moment, storable

ENVIRONMENTS = {"production": "live", "development": "dev"}
"""The `env` of a key, by the `APP_ENV` that it is made under. It is a label: either kind opens either server."""

GRACE_S = 24 * 3600.0
"""How long a key that was rotated works on."""

_CACHED_S = 1.0
_MOST_CACHED = 1024
_USE_TOLD_S = 60.0
_MOST_NAME_CHARS = 100
_ID_CHARS = string.ascii_lowercase + string.digits
_KEY = re.compile(r"(cond_(?:live|dev)_([a-z0-9]{8})_[A-Za-z0-9_-]{43})([0-9a-f]{8})", re.ASCII)
_NO_ID = "-" * 8  # looked up in place of the id that a malformed key has not

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Checked:
    """What became of one presented text; `caller` None: it is no valid key."""

    at: float
    caller: Caller | None


class Rotated(NamedTuple):
    """What a rotation made: the new key's record and its text, and the old key as it is now, with its end."""

    record: KeyRecord
    key: str
    old: KeyRecord


class Keys:
    """`env` is one of ENVIRONMENTS' values; `clock` gives seconds since 1970."""

    def __init__(
        self, store: OrgStore, audit: AuditLogger, pepper: bytes, env: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._audit = audit
        self._pepper = pepper
        self._env = env
        self._clock = clock
        self._nobodys_digest = secrets.token_bytes(32)
        # By digest, never by key. What failed is kept apart, so that a flood of it drives no valid key out.
        self._valid: dict[bytes, _Checked] = {}
        self._invalid: dict[bytes, _Checked] = {}
        self._use_told: dict[str, float] = {}
        self._looked_for_keys_at: float | None = None
        self._has_keys = False

    async def create(
        self, org_id: str, *, scopes: Iterable[Scope | str], name: str = "", expires_at: str | None = None, by: str
    ) -> tuple[KeyRecord, str]:
        """A new key, whose text is nowhere but in the answer.

        Args:
            expires_at: ISO 8601, in the future; None: it never expires.
            by: Who makes it, as the audit will name them.
        Raises: InvalidInput.
        """
        return await self._create(
            checked_org_id(org_id), _scopes(scopes), _name(name), self._future(expires_at), by, "key.created"
        )

    async def rotate(self, key_id: str, org_id: str, *, by: str, grace_s: float = GRACE_S) -> Rotated:
        """A new key for the org, name and scopes of another, which works on for `grace_s` seconds at most.

        Where the old key was made to expire, the new one lives as long as that was meant to. Both count as one holder:
        see `same_holder`.
        Raises: KeyNotFound; InvalidInput for a key that works no more, or a grace below zero.
        """
        if not 0 <= grace_s < timedelta.max.total_seconds():
            raise InvalidInput(f"a grace of {grace_s} s is not possible", hint="0 ends the old key at once")
        old = await self._of_org(key_id, org_id)
        if not old.works_at(self._now()):
            raise InvalidInput(f"key {old.key_id} works no more", hint="create a new one")
        ends_at, expires_at = _later(self._now(), grace_s), None
        if old.expires_at is not None:
            expires_at = _later(self._now(), _seconds(old.expires_at) - _seconds(old.created_at))
        new, text = await self._create(
            old.org_id, old.scopes, old.name, expires_at, by, "key.rotated", in_place_of=old.key_id
        )
        entry = self._audit.entry(
            "key",
            "key.expiry_set",
            {"key_id": old.key_id, "expires_at": ends_at, "new_key_id": new.key_id, "by": by},
        )
        old = await self._store.expire_key(old.key_id, old.org_id, ends_at, entry)
        self._forget(old.key_id)
        return Rotated(new, text, old)

    async def revoke(self, key_id: str, org_id: str, *, by: str) -> KeyRecord:
        """End a key: at once in this process, elsewhere within a second. Raises: KeyNotFound."""
        entry = self._audit.entry("key", "key.revoked", {"key_id": key_id, "by": by})
        record = await self._store.revoke_key(key_id, org_id, entry)
        self._forget(record.key_id)
        return record

    async def list(self, org_id: str) -> list[KeyRecord]:
        """Oldest first, revoked and expired ones included."""
        return await self._store.keys(org_id)

    async def exist(self) -> bool:
        """Whether anybody ever made a key, of any org: at once in this process, elsewhere within a second.

        One that was revoked or has expired counts: a server must not be open to all once its last key has run out.
        """
        now = self._clock()
        looked_at = self._looked_for_keys_at
        if not self._has_keys and (looked_at is None or not 0 <= now - looked_at < _CACHED_S):
            self._has_keys = await self._store.has_keys()
            self._looked_for_keys_at = now
        return self._has_keys

    async def admits(self, caller: Caller) -> bool:
        """Whether who was let in before still would be: their key works, or none was made since. Asks the store."""
        if caller.key_id is None:
            return not await self.exist()
        found = await self._store.key(caller.key_id)
        return found is not None and found[0].works_at(self._now())

    async def same_holder(self, key_id: str, org_id: str) -> frozenset[str]:
        """The ids of the org's keys that were made in place of this one, or it of them, itself among them."""
        return same_holder(key_id, await self._store.keys(org_id))

    async def caller(self, presented: str | None) -> Caller:
        """Whose key this is.

        Raises: Unauthorized, in the same words and after the same work for every kind of wrong: no key, no such key,
            one that expired or was revoked, one that was typed wrongly.
        """
        text = presented or ""
        digest = self._digest(text)
        now = self._clock()
        known = self._valid.get(digest) or self._invalid.get(digest)
        if known is None or not 0 <= now - known.at < _CACHED_S:
            known = _Checked(now, await self._verified(text, digest))
            self._keep(digest, known)
        if known.caller is None:
            _refuse()
        return known.caller

    async def _verified(self, text: str, digest: bytes) -> Caller | None:
        match = _KEY.fullmatch(text)
        is_whole = match is not None and zlib.crc32(match[1].encode()) == int(match[3], 16)
        found = await self._store.key(match[2] if match is not None and is_whole else _NO_ID)
        is_same = hmac.compare_digest(self._nobodys_digest if found is None else found[1], digest)
        if found is None or not is_same or not found[0].works_at(self._now()):
            return None
        await self._tell_use(found[0])
        return Caller(found[0].org_id, found[0].scopes, found[0].key_id)

    async def _tell_use(self, key: KeyRecord) -> None:
        now = self._clock()
        last = max(self._use_told.get(key.key_id, 0.0), 0.0 if key.last_used_at is None else _seconds(key.last_used_at))
        if now - last < _USE_TOLD_S:
            return
        self._use_told[key.key_id] = now  # also where it fails: it is tried once a minute, not with each request
        try:
            await self._store.key_used(key.key_id, self._now())
        except StorageError as exc:
            _logger.warning("the use of key %s could not be recorded: %s", key.key_id, exc)

    async def _create(
        self,
        org_id: str,
        scopes: frozenset[Scope],
        name: str,
        expires_at: str | None,
        by: str,
        action: str,
        in_place_of: str | None = None,
    ) -> tuple[KeyRecord, str]:
        key_id = "".join(secrets.choice(_ID_CHARS) for _ in range(8))
        secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        text = f"cond_{self._env}_{key_id}_{secret}"
        text += f"{zlib.crc32(text.encode()):08x}"
        record = KeyRecord(key_id, org_id, name, scopes, self._now(), by, expires_at, in_place_of=in_place_of)
        told = {"key_id": key_id, "name": name, "scopes": sorted(scopes), "expires_at": expires_at, "by": by}
        if in_place_of is not None:
            told["in_place_of"] = in_place_of
        await self._store.add_key(record, self._digest(text), self._audit.entry("key", action, told))
        self._has_keys = True
        return record, text

    async def _of_org(self, key_id: str, org_id: str) -> KeyRecord:
        found = await self._store.key(key_id)
        if found is None or found[0].org_id != org_id:
            raise KeyNotFound(f"no key {storable(key_id)}", hint="`conductor keys list` shows those there are")
        return found[0]

    def _future(self, expires_at: str | None) -> str | None:
        if expires_at is None:
            return None
        time_ = moment(expires_at)
        if time_ <= self._now():
            raise InvalidInput(f"a key cannot expire at {time_}: that is over")
        return time_

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._pepper, text.encode("utf-8", "surrogatepass"), "sha256")

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="microseconds")

    def _keep(self, digest: bytes, known: _Checked) -> None:
        for cache in (self._valid, self._invalid):
            cache.pop(digest, None)
        cache = self._invalid if known.caller is None else self._valid
        if len(cache) >= _MOST_CACHED:
            del cache[next(iter(cache))]  # the oldest
        cache[digest] = known

    def _forget(self, key_id: str) -> None:
        self._valid = {
            digest: known
            for digest, known in self._valid.items()
            if known.caller is None or known.caller.key_id != key_id
        }


def _refuse() -> NoReturn:
    raise Unauthorized("no valid key", hint="send the header `Authorization: Bearer KEY` with a key of this server")


def _scopes(scopes: Iterable[Scope | str]) -> frozenset[Scope]:
    wanted = list(scopes)
    unknown = [scope for scope in wanted if scope not in set(Scope)]
    if unknown or not wanted:
        what = f"unknown scope {unknown[0]!r:.40}" if unknown else "a key needs at least one scope"
        raise InvalidInput(what, hint=f"scopes are: {', '.join(Scope)}")
    return frozenset(map(Scope, wanted))


def _name(name: str) -> str:
    if not name.isprintable() or len(name) > _MOST_NAME_CHARS:
        raise InvalidInput(f"a key's name is one line of at most {_MOST_NAME_CHARS} characters")
    return name


def _seconds(time_: str) -> float:
    return datetime.fromisoformat(time_).timestamp()


def _later(time_: str, seconds: float) -> str:
    try:
        return (datetime.fromisoformat(time_) + timedelta(seconds=seconds)).isoformat(timespec="microseconds")
    except OverflowError:
        raise InvalidInput(f"{seconds:.0f} s from now lies beyond the years there are") from None

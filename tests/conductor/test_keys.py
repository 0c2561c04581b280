"""Keys: what opens, what does not, and that nothing tells the wrong ones apart."""

from __future__ import annotations

import hmac
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conductor_ai.conductor import keys as keys_module
from conductor_ai.conductor.keys import Keys
from conductor_ai.errors import InvalidInput, KeyNotFound, StorageError, Unauthorized
from conductor_ai.observability.audit import AuditLogger
from conductor_ai.observability.redaction import Redactor
from conductor_ai.schemas import json_text
from conductor_ai.schemas.orgs import Caller, KeyRecord, Scope
from conductor_ai.storage.base import OrgStore
from conductor_ai.storage.sqlite import SQLiteStore

ORG = "acme"
PEPPER = b"a pepper of the tests"
START = datetime(2026, 11, 23, 8, tzinfo=UTC).timestamp()
DAY = 24 * 3600


class Clock:
    def __init__(self) -> None:
        self.seconds = START

    def __call__(self) -> float:
        return self.seconds

    def text(self, later_s: float = 0) -> str:
        return datetime.fromtimestamp(self.seconds + later_s, UTC).isoformat(timespec="microseconds")


class WatchedStore:
    """The real store, whose look-ups of keys are noted, and whose notes of their use can be made to fail."""

    def __init__(self, inner: SQLiteStore) -> None:
        self._inner = inner
        self.looked_up: list[str] = []
        self.uses: list[str] = []
        self.is_full = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def key(self, key_id: str) -> tuple[KeyRecord, bytes] | None:
        self.looked_up.append(key_id)
        return await self._inner.key(key_id)

    async def key_used(self, key_id: str, at: str) -> None:
        self.uses.append(key_id)
        if self.is_full:
            raise StorageError("the disk is full")
        await self._inner.key_used(key_id, at)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[WatchedStore]:
    opened = await SQLiteStore.open(tmp_path)
    yield WatchedStore(opened)
    await opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def keys_over(store: Any, clock: Clock, *, pepper: bytes = PEPPER, env: str = "live") -> Keys:
    org_store: OrgStore = store
    return Keys(org_store, AuditLogger(store, Redactor()), pepper, env, clock=clock)


@pytest.fixture
def keys(store: WatchedStore, clock: Clock) -> Keys:
    return keys_over(store, clock)


async def refusal(keys: Keys, presented: str | None) -> tuple[str, str | None]:
    with pytest.raises(Unauthorized) as caught:
        await keys.caller(presented)
    return str(caught.value), caught.value.hint


async def audit_of(store: WatchedStore, org_id: str = ORG) -> list[tuple[str, dict[str, Any]]]:
    rows, _ = await store.audit_rows(org_id, None)
    return [(row.action, json_text.loads(row.metadata)) for row in rows]


async def test_a_key_speaks_for_its_org_with_its_scopes(keys: Keys, clock: Clock) -> None:
    record, text = await keys.create(ORG, scopes=["run", Scope.READ], name="ci", by="ann")
    assert record == KeyRecord(record.key_id, ORG, "ci", frozenset({Scope.RUN, Scope.READ}), clock.text(), "ann")
    assert await keys.caller(text) == Caller(ORG, record.scopes, record.key_id)


@pytest.mark.parametrize("env", ["live", "dev"])
async def test_the_text_of_a_key_can_be_told_from_other_text(store: WatchedStore, clock: Clock, env: str) -> None:
    record, text = await keys_over(store, clock, env=env).create(ORG, scopes=["run"], by="ann")
    head, checksum = text[:-8], text[-8:]
    assert head.startswith(f"cond_{env}_{record.key_id}_")
    assert (len(record.key_id), len(head.split("_", 3)[3])) == (8, 43)
    assert int(checksum, 16) == zlib.crc32(head.encode())


async def test_no_two_keys_are_alike(keys: Keys) -> None:
    made = [await keys.create(ORG, scopes=["run"], by="ann") for _ in range(50)]
    assert len({record.key_id for record, _ in made}) == 50
    assert len({text.split("_", 3)[3] for _, text in made}) == 50


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_what_is_stored_makes_no_key_and_the_key_is_nowhere(
    keys: Keys, store: WatchedStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _, text = await keys.create(ORG, scopes=["admin"], name="ci", by="ann")
    record, second, _ = await keys.rotate((await keys.list(ORG))[0].key_id, ORG, by="ann")
    store.is_full = True
    await keys.caller(second)
    await refusal(keys, text[:-1])
    await keys.revoke(record.key_id, ORG, by="ann")

    kept = all_bytes(tmp_path)
    said = caplog.text + str(await audit_of(store))
    for secret in (text[18:], second[18:], text[18:40], second[18:40]):
        assert secret.encode() not in kept
        assert secret not in said
    assert record.key_id.encode() in kept
    assert record.key_id in said


Wrong = Callable[[Keys, str, WatchedStore, Clock], Awaitable[str | None]]


async def none_at_all(keys: Keys, text: str, store: WatchedStore, clock: Clock) -> None:
    return None


async def empty(keys: Keys, text: str, store: WatchedStore, clock: Clock) -> str:
    return ""


async def other_text(keys: Keys, text: str, store: WatchedStore, clock: Clock) -> str:
    return "'; DROP TABLE api_keys; -- \0\ud800"


async def very_long(keys: Keys, text: str, store: WatchedStore, clock: Clock) -> str:
    return text * 500


async def wrong_checksum(keys: Keys, text: str, store: WatchedStore, clock: Clock) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


async def unknown_id(keys: Keys, text: str, store: WatchedStore, clock: Clock) -> str:
    return with_checksum(f"cond_live_00000000_{text[19:-8]}")


async def wrong_secret(keys: Keys, text: str, store: WatchedStore, clock: Clock) -> str:
    return with_checksum(f"{text[:19]}{'A' * 43}")


async def other_environment(keys: Keys, text: str, store: WatchedStore, clock: Clock) -> str:
    return with_checksum(text[:-8].replace("cond_live_", "cond_dev_"))


async def other_pepper(keys: Keys, text: str, store: WatchedStore, clock: Clock) -> str:
    _, made_elsewhere = await keys_over(store, clock, pepper=b"another pepper").create(ORG, scopes=["run"], by="ann")
    return made_elsewhere


async def revoked(keys: Keys, text: str, store: WatchedStore, clock: Clock) -> str:
    await keys.revoke((await keys.list(ORG))[0].key_id, ORG, by="ann")
    return text


async def expired(keys: Keys, text: str, store: WatchedStore, clock: Clock) -> str:
    _, ending = await keys.create(ORG, scopes=["run"], expires_at=clock.text(60), by="ann")
    clock.seconds += 60
    return ending


WRONG: dict[str, Wrong] = {
    wrong.__name__: wrong
    for wrong in (
        none_at_all,
        empty,
        other_text,
        very_long,
        wrong_checksum,
        unknown_id,
        wrong_secret,
        other_environment,
        other_pepper,
        revoked,
        expired,
    )
}


def with_checksum(head: str) -> str:
    return f"{head}{zlib.crc32(head.encode()):08x}"


@pytest.mark.parametrize("kind", WRONG)
async def test_every_wrong_key_gets_the_same_words_after_the_same_work(
    keys: Keys, store: WatchedStore, clock: Clock, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = await keys.create(ORG, scopes=["run"], by="ann")
    presented = await WRONG[kind](keys, text, store, clock)
    work: list[str] = []

    class CountedHMAC:
        @staticmethod
        def digest(key: bytes, msg: bytes, digest: str) -> bytes:
            work.append("digest")
            return hmac.digest(key, msg, digest)

        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            assert len(one) == len(other) == 32
            work.append("compare")
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys_module, "hmac", CountedHMAC)
    store.looked_up.clear()

    said = await refusal(keys, presented)

    assert said == ("no valid key", "send the header `Authorization: Bearer KEY` with a key of this server")
    assert work == ["digest", "compare"]
    assert len(store.looked_up) == 1
    assert store.uses == []


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(presented=st.text() | st.from_regex(r"\Acond_(live|dev)_[a-z0-9]{8}_[A-Za-z0-9_-]{43}[0-9a-f]{8}\n?\Z"))
async def test_no_other_text_is_a_key(keys: Keys, presented: str) -> None:
    await refusal(keys, presented)


async def test_a_key_is_looked_up_once_a_second(keys: Keys, store: WatchedStore, clock: Clock) -> None:
    record, text = await keys.create(ORG, scopes=["run"], by="ann")
    for _ in range(5):
        await keys.caller(text)
        await refusal(keys, "wrong")
    assert store.looked_up == [record.key_id, "-" * 8]
    clock.seconds += 1
    await keys.caller(text)
    await refusal(keys, "wrong")
    assert len(store.looked_up) == 4


async def test_a_flood_of_wrong_keys_drives_no_valid_one_out(keys: Keys, store: WatchedStore, clock: Clock) -> None:
    _, text = await keys.create(ORG, scopes=["run"], by="ann")
    await keys.caller(text)
    for n in range(1100):
        await refusal(keys, f"wrong {n}")
    store.looked_up.clear()
    await keys.caller(text)
    assert store.looked_up == []
    await refusal(keys, "wrong 1099")
    await refusal(keys, "wrong 0")  # forgotten: what is remembered has a bound
    assert len(store.looked_up) == 1


async def test_a_clock_that_is_set_back_keeps_nothing_alive(keys: Keys, store: WatchedStore, clock: Clock) -> None:
    record, text = await keys.create(ORG, scopes=["run"], by="ann")
    await keys.caller(text)
    await keys_over(store, clock).revoke(record.key_id, ORG, by="ann")
    clock.seconds -= DAY
    await refusal(keys, text)


async def test_a_revoked_key_ends_at_once_here_and_within_a_second_elsewhere(
    keys: Keys, store: WatchedStore, clock: Clock
) -> None:
    elsewhere = keys_over(store, clock)
    record, text = await keys.create(ORG, scopes=["run"], by="ann")
    await keys.caller(text)
    await elsewhere.caller(text)

    revoked_key = await keys.revoke(record.key_id, ORG, by="bob")

    assert revoked_key.revoked_at is not None
    await refusal(keys, text)
    clock.seconds += 1
    await refusal(elsewhere, text)
    assert (await audit_of(store))[-1] == ("key.revoked", {"key_id": record.key_id, "by": "bob"})


async def test_a_key_expires(keys: Keys, clock: Clock) -> None:
    _, text = await keys.create(ORG, scopes=["run"], expires_at=clock.text(10), by="ann")
    clock.seconds += 9
    await keys.caller(text)
    clock.seconds += 1
    await refusal(keys, text)


async def test_rotation_lets_both_keys_work_until_the_grace_is_over(
    keys: Keys, store: WatchedStore, clock: Clock
) -> None:
    old, old_text = await keys.create(ORG, scopes=["run", "read"], name="ci", by="ann")
    await keys.caller(old_text)

    new, new_text, ending = await keys.rotate(old.key_id, ORG, by="bob")

    assert (new.name, new.scopes, new.expires_at) == (old.name, old.scopes, None)
    assert (ending.key_id, ending.expires_at) == (old.key_id, clock.text(DAY))
    assert {(await keys.caller(text)).key_id for text in (old_text, new_text)} == {old.key_id, new.key_id}
    assert {key.key_id: key.expires_at for key in await keys.list(ORG)} == {
        old.key_id: clock.text(DAY),
        new.key_id: None,
    }
    clock.seconds += DAY
    await refusal(keys, old_text)
    await keys.caller(new_text)
    rotated, expiry = (await audit_of(store))[-2:]
    assert rotated[0] == "key.rotated"
    assert rotated[1]["key_id"] == new.key_id
    assert (rotated[1]["in_place_of"], rotated[1]["by"]) == (old.key_id, "bob")
    assert expiry == (
        "key.expiry_set",
        {
            "key_id": old.key_id,
            "expires_at": datetime.fromtimestamp(START + DAY, UTC).isoformat(timespec="microseconds"),
            "new_key_id": new.key_id,
            "by": "bob",
        },
    )


async def test_rotation_without_a_grace_ends_the_old_key_at_once(keys: Keys) -> None:
    old, old_text = await keys.create(ORG, scopes=["run"], by="ann")
    await keys.caller(old_text)
    await keys.rotate(old.key_id, ORG, by="ann", grace_s=0)
    await refusal(keys, old_text)


async def test_a_key_that_expires_gives_way_to_one_that_lives_as_long(keys: Keys, clock: Clock) -> None:
    old, _ = await keys.create(ORG, scopes=["run"], expires_at=clock.text(30 * DAY), by="ann")
    clock.seconds += 29.5 * DAY
    new, _, ending = await keys.rotate(old.key_id, ORG, by="ann")
    assert new.expires_at == clock.text(30 * DAY)
    assert ending.expires_at == old.expires_at
    assert (await keys.list(ORG))[0].expires_at == old.expires_at  # sooner than the grace ends


async def test_keys_in_one_line_of_rotations_have_one_holder(keys: Keys, store: WatchedStore, clock: Clock) -> None:
    first, _ = await keys.create(ORG, scopes=["run"], by="ann")
    other, _ = await keys.create(ORG, scopes=["run"], by="ann")
    second = (await keys.rotate(first.key_id, ORG, by="ann")).record
    third = (await keys.rotate(second.key_id, ORG, by="ann")).record
    twin = (await keys.rotate(first.key_id, ORG, by="ann")).record
    line = {key.key_id for key in (first, second, third, twin)}

    assert (second.in_place_of, third.in_place_of, first.in_place_of) == (first.key_id, second.key_id, None)
    elsewhere = keys_over(store, clock)
    for key_id in line:
        assert await elsewhere.same_holder(key_id, ORG) == line
    assert await elsewhere.same_holder(other.key_id, ORG) == {other.key_id}
    assert await elsewhere.same_holder(first.key_id, "another org") == {first.key_id}


async def test_that_there_are_keys_is_known_at_once_here_and_elsewhere_within_a_second_and_for_good(
    keys: Keys, store: WatchedStore, clock: Clock
) -> None:
    elsewhere = keys_over(store, clock)
    assert not await keys.exist() and not await elsewhere.exist()

    record, _ = await keys.create(ORG, scopes=["run"], by="ann")
    assert await keys.exist() and not await elsewhere.exist()
    clock.seconds += 1
    assert await elsewhere.exist()

    await keys.revoke(record.key_id, ORG, by="ann")
    clock.seconds += 1
    assert await elsewhere.exist() and await keys_over(store, clock).exist()


async def test_whoever_was_let_in_is_let_in_no_more_once_the_key_is_over(keys: Keys, clock: Clock) -> None:
    nobody = Caller(ORG)
    assert await keys.admits(nobody)
    record, _ = await keys.create(ORG, scopes=["run"], expires_at=clock.text(60), by="ann")
    holder = Caller(ORG, record.scopes, record.key_id)

    assert await keys.admits(holder) and not await keys.admits(nobody)
    clock.seconds += 60
    assert not await keys.admits(holder)
    assert not await keys.admits(Caller(ORG, key_id="nothing1"))


async def test_a_key_that_works_no_more_is_not_rotated(keys: Keys) -> None:
    old, _ = await keys.create(ORG, scopes=["run"], by="ann")
    await keys.revoke(old.key_id, ORG, by="ann")
    with pytest.raises(InvalidInput, match="works no more"):
        await keys.rotate(old.key_id, ORG, by="ann")
    assert len(await keys.list(ORG)) == 1


@pytest.mark.parametrize("org_id", ["other", ORG])
async def test_another_orgs_key_and_no_key_are_not_found(keys: Keys, store: WatchedStore, org_id: str) -> None:
    record, text = await keys.create("mine", scopes=["run"], by="ann")
    for key_id in (record.key_id, "nothing1", "\0\ud800'"):
        with pytest.raises(KeyNotFound):
            await keys.rotate(key_id, org_id, by="eve")
        with pytest.raises(KeyNotFound):
            await keys.revoke(key_id, org_id, by="eve")
    assert await keys.list("mine") == [record]
    await keys.caller(text)


async def test_the_last_use_is_told_once_a_minute(keys: Keys, store: WatchedStore, clock: Clock) -> None:
    record, text = await keys.create(ORG, scopes=["run"], by="ann")
    for _ in range(130):
        await keys.caller(text)
        clock.seconds += 1
    assert store.uses == [record.key_id] * 3
    assert (await keys.list(ORG))[0].last_used_at == datetime.fromtimestamp(START + 120, UTC).isoformat(
        timespec="microseconds"
    )
    await keys_over(store, clock).caller(text)  # another process knows when it was told
    assert len(store.uses) == 3


async def test_a_use_that_cannot_be_told_fails_no_request(
    keys: Keys, store: WatchedStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    record, text = await keys.create(ORG, scopes=["run"], by="ann")
    store.is_full = True
    for _ in range(50):
        await keys.caller(text)
        clock.seconds += 1
    assert store.uses == [record.key_id]
    assert caplog.messages == [f"the use of key {record.key_id} could not be recorded: the disk is full"]


REFUSED: dict[str, dict[str, Any]] = {
    "no scope": {"scopes": []},
    "unknown scope": {"scopes": ["run", "root"]},
    "expiry that is over": {"expires_at": "2020-01-01"},
    "no expiry": {"expires_at": "soon"},
    "two lines": {"name": "a\nb"},
    "long name": {"name": "x" * 101},
    "no org": {"org_id": ""},
    "odd org": {"org_id": "a b"},
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_key_that_makes_no_sense_is_not_made(keys: Keys, store: WatchedStore, what: str) -> None:
    wanted = {"org_id": ORG, "scopes": ["run"]} | REFUSED[what]
    with pytest.raises(InvalidInput):
        await keys.create(wanted.pop("org_id"), by="ann", **wanted)
    assert await store.orgs() == []


@pytest.mark.parametrize("grace_s", [-1, float("nan"), float("inf"), 1e12])
async def test_a_grace_that_makes_no_sense_is_refused_before_anything_is_made(keys: Keys, grace_s: float) -> None:
    old, _ = await keys.create(ORG, scopes=["run"], by="ann")
    with pytest.raises(InvalidInput):
        await keys.rotate(old.key_id, ORG, by="ann", grace_s=grace_s)
    assert await keys.list(ORG) == [old]

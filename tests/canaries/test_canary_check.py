"""The check itself: it finds a canary in every form and place, and it finds each wall that is taken away."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from conductor_ai.observability import logging as our_logging
from conductor_ai.observability import redaction
from conductor_ai.observability.redaction import Redactor
from conductor_ai.providers import failures
from conductor_ai.settings import Settings
from tests.canaries import planted
from tests.canaries.careless_session import careless_session, rows
from tests.canaries.echoes import FAULTS, STREAM_FAULTS
from tests.canaries.house import MODELS, House, planted_house
from tests.canaries.planted import ANTHROPIC, IN_PLACE, REGISTERED, TOKEN, Sweep, trace_of
from tests.providers.stream_lines import STREAMS

VALUE = ANTHROPIC.value
FORMS = {
    "as it is": VALUE,
    "json": json.dumps({"key": VALUE}),
    "json in json": json.dumps({"body": json.dumps({"key": VALUE})}),
    "json in json in json": json.dumps(json.dumps(json.dumps(VALUE))),
    "escaped slash": json.dumps(VALUE).replace("/", "\\/"),
    "repr": repr({"key": VALUE}),
    "percent": f"?key={quote(VALUE, safe='')}",
    "percent in small letters": quote(VALUE, safe="").replace("%2F", "%2f").replace("%5C", "%5c"),
    "basic": "Basic " + base64.b64encode(f"user:{VALUE}".encode()).decode(),
    "base64 of URLs": base64.urlsafe_b64encode(f"u:{VALUE}".encode()).decode(),
    "base64 in a URL": quote(base64.b64encode(VALUE.encode()).decode(), safe=""),
    "its beginning": f"invalid key {VALUE[:16]}…",
    "its end": f"invalid key …{VALUE[-16:]}",
    "its middle": f"invalid key …{VALUE[9:29]}…",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_a_canary_is_found_in_every_form(text: str) -> None:
    [found] = trace_of(f"before {text} after")
    assert found.startswith(ANTHROPIC.name)


def test_no_canary_is_taken_for_another_or_found_in_ordinary_text() -> None:
    for canary in planted.ALL:
        [found] = trace_of(canary.value)
        assert found.startswith(canary.name)
    assert trace_of("invalid key [redacted] of https://user:[redacted]@db.example/x?token=[redacted]") == []


def test_names_and_bytes_of_files_are_searched(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "data.db-wal").write_bytes(b"\xff\x00" + TOKEN.value.encode() + b"\xfe")
    (tmp_path / f"{planted.PASSWORD.value}.lock").touch()
    sweep = Sweep()
    sweep.add_folder(tmp_path)
    assert [line.partition(" (")[0] for line in sweep.traces()] == [
        "a file's name: password of a URL",
        "data.db-wal: ?token=",
    ]


def unchanged(text: str) -> str:
    return text


async def failing_sessions(house: House) -> None:
    [wire, *_] = STREAMS
    for name in ("status 401", "status 500", "error in a 200", "error event"):
        house.providers[wire.name].will_fail((FAULTS | STREAM_FAULTS)[name])
        await house.run(house.runner(MODELS[wire.name]), name, watched=True)


def seen_in(traces: list[str], what: str) -> bool:
    return any(what in line for line in traces)


@pytest.mark.usefixtures("logging_as_before")
async def test_a_redactor_that_knows_no_secret_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "secrets", lambda settings: [])
    async with planted_house(tmp_path, "production") as house:
        await careless_session(house, STREAMS[0], watched=True)
    traces = house.left.traces(REGISTERED)
    for place in (
        "conductor.db: ANTHROPIC",
        "conductor.db-wal: ANTHROPIC",
        "log lines: ANTHROPIC",
        "REDIS",
        "SUPABASE",
    ):
        assert seen_in(traces, place), place
    for place in ("model.completed", "tool.completed", "tool.progress", "the session"):
        assert seen_in(traces, f"session: {place}"), place


@pytest.mark.usefixtures("logging_as_before")
async def test_a_redactor_without_patterns_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "without_credentials", unchanged)
    async with planted_house(tmp_path, "production") as house:
        await careless_session(house, STREAMS[0], watched=True)
    in_rows, in_lines = rows(house.home).traces(IN_PLACE), trace_of(house.lines.getvalue(), IN_PLACE)
    in_recording = house.left.traces(IN_PLACE)
    for canary in IN_PLACE:
        assert seen_in(in_recording, f".jsonl: {canary.name}"), canary.name
        assert seen_in(in_rows, canary.name), canary.name
        assert seen_in(in_lines, canary.name), canary.name


@pytest.mark.usefixtures("logging_as_before")
async def test_a_provider_whose_words_are_passed_on_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "without_credentials", unchanged)
    monkeypatch.setattr(failures, "forms_of", lambda secret: [])
    async with planted_house(tmp_path, "production") as house:
        await failing_sessions(house)
    traces = house.left.traces()
    for place in (
        "session.failed: password of a URL",
        "model.retrying: ",
        "conductor.db-wal: ?token=",
        "the session: ",
    ):
        assert seen_in(traces, place), place


@pytest.mark.usefixtures("logging_as_before")
async def test_log_lines_that_nobody_cleans_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with planted_house(tmp_path, "production") as house:
        our_logging.configure("production", Redactor(), "DEBUG", stream=house.lines)
        await careless_session(house, STREAMS[0], watched=True)
    assert {line.partition(":")[0] for line in house.left.traces(REGISTERED)} == {"log lines"}

"""`conductor models test`: which models, what is printed where, what is kept, and that no key is in any of it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.conductor.model_checks import CheckName
from tests.cli.console import Console
from tests.conductor.chat_service import ChatService, chat_service

CANARY = "canary-key-0123456789"
DEEPSEEK = "deepseek/deepseek-chat-v3"
CHECKS = [name.value for name in CheckName]


@pytest.fixture
def service(console: Console) -> Iterator[ChatService]:
    """Answers as a local server, which `conductor` finds as its default model, and as OpenRouter."""
    with chat_service() as service:
        console.env |= {
            "LOCAL_LLM_BASE_URL": service.url,
            "LOCAL_LLM_API_KEY": CANARY,
            "OPENROUTER_BASE_URL": service.url,
            "CONDUCTOR_MODEL": "local/mine",
            "CONDUCTOR_MODEL_ATTEMPTS": "1",
        }
        yield service


def saved(console: Console) -> list[Path]:
    return sorted((console.folder / ".conductor" / "model-tests").glob("*"))


def names_of(report: dict[str, Any]) -> list[str]:
    return [model["model"] for model in report["models"]]


def test_what_passes_is_a_row_of_a_table_and_a_file_that_says_so(console: Console, service: ChatService) -> None:
    ended = console.here("models", "test")

    row, summary, *rest = ended.out.splitlines()
    assert ended.code == 0
    assert row.split("\t") == ["local/mine", "$0.00", "ok", "skipped", "ok", "ok", "ok", "ok", "skipped", "ok"]
    assert summary == "local/mine: answered by mine-1; 8 calls, 800 tokens in (25% from a cache) and 80 out"
    assert rest[:2] == [
        "  image skipped: the catalog says that it cannot read images",
        "  reasoning skipped: the catalog names no setting for its reasoning",
    ]
    assert re.fullmatch(r"tested on 2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d UTC with conductor-ai \S+", rest[2])
    first, *progress, last = ended.err.splitlines()
    assert first == "testing local/mine: real calls, at most $0.10 each where a price is known"
    made = [name for name in CHECKS if name not in ("image", "reasoning")]
    assert [line.split(":")[0] for line in progress] == [f"local/mine  {name}" for name in made]
    assert all(re.search(r": ok( \(\d+ ms\))?: ", line) for line in progress)
    (path,) = saved(console)
    assert last == f"saved: .conductor/model-tests/{path.name}"
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z\.json", path.name)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_holds_what_json_prints_and_last_shows_it_again(console: Console, service: ChatService) -> None:
    older = console.here("models", "test", "--json")
    service.counts = False
    console.env["OPENROUTER_API_KEY"] = CANARY
    newer = console.here("models", "test", DEEPSEEK, "local/mine", "--json")

    assert (older.code, newer.code) == (0, 1)
    assert [json.loads(path.read_text()) for path in saved(console)] == [older.json, newer.json]
    assert (older.json["ok"], newer.json["ok"]) == (True, False)
    assert names_of(newer.json) == [DEEPSEEK, "local/mine"]
    model = newer.json["models"][0]
    assert (model["provider"], model["hosts"]) == ("openrouter", ["SomeHost"])
    assert model["answered_by"] == ["deepseek/deepseek-chat-v3-0324-1"]
    assert [check["check"] for check in model["checks"]] == CHECKS
    assert model["checks"][0].keys() == {
        "check",
        "outcome",
        "detail",
        "skipped",
        "error_code",
        "hint",
        "session_id",
        "duration_ms",
        "cost",
    }
    asked = len(service.requests)
    assert console.here("models", "test", "--last", "--json").json == newer.json
    again = console.here("models", "test", "--last")
    assert (again.code, len(service.requests)) == (0, asked)
    assert again.out.splitlines()[0].split("\t")[::2] == [DEEPSEEK, "ok", "ok", "ok", "skipped"]
    assert "  usage failed: no token counts came with the answers to: text, " in again.out
    assert again.err == f"saved: .conductor/model-tests/{saved(console)[1].name}\n"


def test_a_session_of_a_check_can_be_looked_at(console: Console, service: ChatService) -> None:
    report = console.here("models", "test", "--json").json

    checks = {check["check"]: check for check in report["models"][0]["checks"]}
    session = console.here("sessions", "show", checks["parallel"]["session_id"], "--json").json
    assert [call["name"] for call in session["steps"][0]["tool_calls"]] == ["look_up_code", "look_up_code"]
    assert session["cost"] == checks["parallel"]["cost"]


def test_without_a_name_it_is_the_default_and_all_that_have_a_key(console: Console, service: ChatService) -> None:
    console.env["OPENROUTER_API_KEY"] = CANARY
    assert names_of(console.here("models", "test", "--json").json) == ["local/mine", DEEPSEEK]
    console.env["CONDUCTOR_MODEL"] = "demo/scripted"
    assert names_of(console.here("models", "test", "--json").json) == [DEEPSEEK]


def test_no_key_is_printed_or_kept_whatever_the_service_says(console: Console, service: ChatService) -> None:
    console.env["OPENROUTER_API_KEY"] = CANARY
    refusal = {"error": {"message": f"bad key {CANARY}, or Bearer sk-or-v1-abcdefgh12345678", "code": 401}}
    service.refusals = {"deepseek/deepseek-chat-v3-0324": (401, refusal)}
    service.leaks = f"{CANARY} and sk-ant-abcdefgh12345678"

    ended = console.here("models", "test")
    as_json = console.here("models", "test", "--json")

    assert (ended.code, as_json.code) == (1, 1)
    failed = [line for line in ended.out.splitlines() if line.startswith("  text failed: openrouter")]
    assert failed[0].startswith(f"  text failed: openrouter answered 401 for {DEEPSEEK}-0324: bad key [key]")
    hint = "set OPENROUTER_API_KEY to a key that openrouter accepts for this model"
    assert f"{failed[0]}\n    hint: {hint}\n" in ended.out
    assert ended.out.count("hint: ") == 1
    assert as_json.json["models"][1]["checks"][0]["hint"] == hint
    assert "  tool, parallel, schema, stream, usage skipped: of no use after text: openrouter answered 401" in ended.out
    assert '  text failed: it was to say marigold, and said "[redacted] and [redacted]"' in ended.out
    written = [ended.out, ended.err, as_json.out, as_json.err, *(path.read_text() for path in saved(console))]
    for secret in (CANARY, "sk-or-v1-abcdefgh12345678", "sk-ant-abcdefgh12345678"):
        assert [text for text in written if secret in text] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody/nothing"], "unknown model 'nobody/nothing'"),
        (["local/mine", "claude-sonnet-5-5"], "claude-sonnet-5-5 needs ANTHROPIC_API_KEY, which is not set"),
        (["demo/scripted"], "demo/scripted follows a script: there is no service to test"),
        ([""], "no model is named"),
        (["--max-cost", "much"], "limit max_cost_usd must be an amount in US dollars"),
        (["--last", "local/mine"], "--last shows a saved report: it takes no model"),
        (["--last"], "no model test was saved yet"),
    ],
    ids=["unknown", "no key", "script", "no name", "no figure", "last of one", "none saved"],
)
def test_what_cannot_be_is_a_usage_error_and_asks_nobody(
    console: Console, service: ChatService, arguments: list[str], said: str
) -> None:
    ended = console.here("models", "test", *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert f"error: {said}" in ended.err
    assert (service.requests, saved(console)) == ([], [])


def test_several_models_may_be_named_in_one_word(console: Console, service: ChatService) -> None:
    report = console.here("models", "test", "local/mine, local/eye,", "local/mine", "--json").json

    assert names_of(report) == ["local/mine", "local/eye"]


def test_a_figure_that_is_none_is_told_before_a_missing_key(console: Console) -> None:
    ended = console.here("models", "test", "--max-cost", "much", "--json")

    assert (ended.code, ended.json["error"]["code"]) == (2, "invalid_input")
    assert "limit max_cost_usd must be an amount in US dollars" in ended.err


def test_without_any_key_it_says_which_to_set(console: Console) -> None:
    ended = console.here("models", "test", "--json")

    assert (ended.code, ended.json["error"]["code"]) == (2, "missing_key")
    assert "set ANTHROPIC_API_KEY" in ended.err


def test_a_saved_report_that_is_broken_is_one_line(console: Console, service: ChatService) -> None:
    folder = console.folder / ".conductor" / "model-tests"
    folder.mkdir(parents=True)
    (folder / "20260101T000000.000000Z.json").write_text("{")

    ended = console.here("models", "test", "--last")

    assert (ended.code, ended.out) == (1, "")
    assert "20260101T000000.000000Z.json cannot be read" in ended.err


def test_an_interrupt_prints_and_keeps_what_is_known(console: Console, service: ChatService) -> None:
    service.held = "rooms 3 and 7"
    with console.start("models", "test", "--json") as process:
        assert service.arrived.acquire(timeout=30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    report = json.loads(out)
    checks = {check["check"]: (check["outcome"], check["skipped"]) for check in report["models"][0]["checks"]}
    assert (checks["text"], checks["tool"], report["ok"]) == (("ok", None), ("ok", None), False)
    assert checks["parallel"] == checks["schema"] == checks["usage"] == ("skipped", "interrupted")
    assert [json.loads(path.read_text()) for path in saved(console)] == [report]
    assert "stopping cleanly" in err


def test_on_a_terminal_the_table_has_headings(console: Console, service: ChatService) -> None:
    child = console.on_terminal("models", "test", "--last")
    child.expect_exact("no model test was saved yet")
    console.here("models", "test")
    child = console.on_terminal("models", "test", "--last")
    child.expect(r"model +cost +text +image +tool +parallel +schema +stream +reasoning +usage")
    child.expect(r"local/mine +\$0.00 +ok +skipped +ok")


def test_the_profile_of_a_model_is_listed(console: Console) -> None:
    models = {model["id"]: model for model in console.here("models", "list", "--json").json}

    profile = {
        name: models["claude-sonnet-4-5-20250929"][name]
        for name in ("forced_tools", "answer_schema", "temperature", "reasoning", "always_reasons", "hosts")
    }
    assert profile == {
        "forced_tools": True,
        "answer_schema": "with_tools",
        "temperature": True,
        "reasoning": "budget",
        "always_reasons": False,
        "hosts": [],
    }

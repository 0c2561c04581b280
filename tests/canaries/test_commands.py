"""Real `conductor` processes with every secret in their environment: nothing that they print or leave holds one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canaries import planted
from tests.canaries.planted import IN_PLACE, LOCAL, PATH, REGISTERED, Sweep, trace_of
from tests.cli.console import Console, Outcome
from tests.cli.model_server import ModelServer, model_server

CARELESS = f'''
"""A plugin whose tools repeat the keys that they find in the environment, and a URL with a password."""

import logging
import os

from conductor_ai.sdk import PluginRegistry

registry = PluginRegistry()
KEYS = " | ".join(os.environ[name] for name in {sorted(planted.environment())!r})
URL = {planted.URL!r}
logger = logging.getLogger("careless")


@registry.tool
async def repeat() -> str:
    """Repeat everything."""
    logger.warning("fetched %s: %s", URL, KEYS)
    return KEYS


@registry.tool
async def fail() -> str:
    """Fail, and say all there is to say."""
    logger.error("%d", KEYS)
    raise ConnectionError(f"cannot reach {{URL}}: {{KEYS}}") from KeyError(KEYS)


def register(global_registry):
    for tool in registry.tools:
        global_registry.register(tool)
'''
TOLD = " | ".join(planted.sayings(LOCAL.value))


@pytest.fixture
def console(tmp_path: Path) -> Console:
    console = Console(tmp_path)
    folder = tmp_path / "plugins" / "careless"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "register.py").write_text(CARELESS)
    console.env |= planted.environment()
    return console


@pytest.fixture
def model(console: Console) -> Iterator[ModelServer]:
    with model_server() as server:
        console.env |= {
            "LOCAL_LLM_BASE_URL": server.url.replace("/v1", f"/{PATH}/v1"),
            "CONDUCTOR_MODEL": "local/tiny",
            "CONDUCTOR_MODEL_ATTEMPTS": "2",
        }
        yield server


def will_be_careless(model: ModelServer) -> None:
    model.will_call(("repeat", {}), ("fail", {}), ("web_fetch", {"url": planted.URL, "method": TOLD}), content=TOLD)
    model.will_answer(TOLD)


def said(outcome: Outcome) -> str:
    return f"{outcome.out}\n{outcome.err}"


def left_in(folder: Path) -> Sweep:
    sweep = Sweep()
    sweep.add_folder(folder)
    return sweep


def test_a_session_and_whatever_shows_it_hold_no_key(console: Console, model: ModelServer) -> None:
    will_be_careless(model)
    ran = console("run", "task", "--json", "--record", "recordings", APP_ENV="production")
    assert (ran.code, ran.json["status"]) == (0, "completed"), ran.err
    session_id = ran.json["session_id"]
    commands: tuple[tuple[str, ...], ...] = (
        ("sessions", "show", session_id),
        ("sessions", "show", session_id, "--json"),
        ("sessions", "list", "--json"),
        ("sessions", "export", session_id),
        ("sessions", "export", session_id, "--as", "pytest", "--out", "exported"),
        ("approvals", "list", "--json"),
        ("doctor", "--json"),
        ("models", "list", "--json"),
        ("plugins", "list", "--json"),
        ("tools", "list", "--json"),
    )
    shown = {"run": ran, **{" ".join(command[:2]) + command[-1]: console.here(*command) for command in commands}}
    assert {command: outcome.code for command, outcome in shown.items()} == dict.fromkeys(shown, 0)
    for command, outcome in shown.items():
        assert trace_of(said(outcome), REGISTERED) == [], command
    lines = [line for line in ran.err.splitlines() if line.startswith("{")]
    assert any("fetched" in json.loads(line)["event"] for line in lines)
    assert trace_of("\n".join(lines)) == []
    assert left_in(console.folder / ".conductor").traces(REGISTERED) == []
    for folder in ("recordings", "exported"):
        files = left_in(console.folder / folder)
        assert files.size > 3_000, folder
        assert files.traces() == [], folder
    assert trace_of(console.here("sessions", "export", session_id).out) == []


def test_a_refused_session_and_its_errors_hold_no_secret_at_all(console: Console, model: ModelServer) -> None:
    model.will_refuse(500, TOLD)
    model.will_refuse(401, "Cookie: " + TOLD)
    for flag in ("--debug", "--json"):
        ended = console("run", "task", flag, APP_ENV="production", CONDUCTOR_MODEL_ATTEMPTS="1")
        assert ended.code == 1
        assert "[key]" in said(ended)
        assert trace_of(said(ended)) == [], flag
    assert trace_of(said(console.here("sessions", "list", "--json"))) == []
    assert left_in(console.folder / ".conductor").traces() == []


def test_a_model_test_holds_no_key(console: Console, model: ModelServer) -> None:
    model.will_answer(TOLD)
    will_be_careless(model)
    model.will_refuse(500, TOLD)
    model.will_refuse(401, TOLD)
    tested = console.here("models", "test", "local/tiny", "--json")
    assert tested.code == 1
    assert "[key]" in said(tested)
    last = console.here("models", "test", "--last")
    for text in (said(tested), said(last)):
        assert trace_of(text, REGISTERED) == []
    reports = left_in(console.folder / ".conductor" / "model-tests")
    assert reports.size > 500
    assert reports.traces(REGISTERED) == []


@pytest.mark.parametrize("name", ["LOCAL_LLM_BASE_URL", "REDIS_URL", "ANTHROPIC_BASE_URL", "SUPABASE_URL"])
def test_a_setting_that_is_refused_is_not_shown(console: Console, name: str) -> None:
    console.env[name] = planted.URL
    for arguments in (("doctor",), ("run", "task", "--debug")):
        ended = console.here(*arguments)
        assert name in said(ended)
        assert trace_of(said(ended), (*REGISTERED, *IN_PLACE)) == []


def test_a_broken_env_file_is_not_quoted(console: Console) -> None:
    (console.folder / ".env").write_text(f'ANTHROPIC_API_KEY="{planted.ANTHROPIC.value}\n{planted.URL}\n')
    for arguments in (("doctor",), ("run", "task", "--debug")):
        ended = console.here(*arguments)
        assert ".env line" in said(ended)
        assert trace_of(said(ended)) == []

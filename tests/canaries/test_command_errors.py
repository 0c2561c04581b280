"""What commands say of errors, broken plugins and log lines that nobody configured: no secret in any of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.canaries import planted
from tests.canaries.planted import ANTHROPIC, IN_PLACE, REGISTERED, trace_of
from tests.canaries.test_commands import CARELESS, said, will_be_careless
from tests.cli.console import Console
from tests.cli.model_server import model_server

BROKEN = f"""
import os

raise RuntimeError("cannot reach {planted.URL}: " + os.environ["ANTHROPIC_API_KEY"])
"""
SECRETS = (*REGISTERED, *IN_PLACE)


@pytest.fixture
def console(tmp_path: Path) -> Console:
    console = Console(tmp_path)
    for name, text in (("careless", CARELESS), ("broken", BROKEN)):
        folder = tmp_path / "plugins" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "register.py").write_text(text)
    console.env |= planted.environment()
    return console


@pytest.mark.parametrize("app_env", ["development", "production"])
def test_nothing_on_standard_error_holds_a_secret(console: Console, app_env: str) -> None:
    with model_server() as model:
        console.env |= {"LOCAL_LLM_BASE_URL": model.url, "CONDUCTOR_MODEL": "local/tiny", "APP_ENV": app_env}
        will_be_careless(model)
        ended = console("run", "task")
    assert ended.code == 0, ended.err
    assert "plugin broken was not loaded" in ended.err
    assert "fetched https://user:[redacted]@" in ended.err
    assert "could not be written: TypeError" in ended.err
    assert trace_of(ended.err) == []


def test_a_broken_plugin_is_shown_without_the_secrets_of_its_error(console: Console) -> None:
    for arguments in (("doctor",), ("doctor", "--json"), ("plugins", "list"), ("plugins", "list", "--json")):
        ended = console.here(*arguments)
        assert "RuntimeError: cannot reach https://user:[redacted]@" in ended.out
        assert trace_of(said(ended)) == [], arguments


@pytest.mark.parametrize("flags", [(), ("--json",), ("--debug",)], ids=str)
def test_a_tool_that_is_called_says_no_secret(console: Console, flags: tuple[str, ...]) -> None:
    for tool, code in (("repeat", 0), ("fail", 1)):
        ended = console("tools", "call", tool, *flags)
        assert ended.code == code
        assert "[redacted]" in said(ended)
        assert trace_of(said(ended)) == [], tool


def test_an_error_about_what_was_given_shows_no_secret_of_it(console: Console) -> None:
    for arguments in (
        ("run", "task", "--debug", "--model", ANTHROPIC.value),
        ("run", "task", "--json", "--model", f"local/{planted.URL}"),
        ("tools", "call", "repeat", json.dumps({"url": planted.URL}), "--debug"),
    ):
        ended = console.here(*arguments)
        assert ended.code == 2, said(ended)
        assert trace_of(said(ended), SECRETS) == [], arguments
    console.env["CONDUCTOR_FETCH_GRANTS"] = planted.URL
    ended = console.here("run", "task", "--debug")
    assert "CONDUCTOR_FETCH_GRANTS" in ended.err
    assert trace_of(said(ended), SECRETS) == []

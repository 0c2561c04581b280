"""Log lines: where they go, what they name, what they leave out."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys

import pytest
import structlog

from conductor_ai.observability.logging import bind_session, configure
from conductor_ai.observability.redaction import REDACTED, Redactor

SECRET = "correct-horse-battery"


pytestmark = pytest.mark.usefixtures("logging_as_before")


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_production_lines_are_json_and_name_the_session() -> None:
    stream = io.StringIO()
    configure("production", Redactor([SECRET]), stream=stream)
    log = logging.getLogger("conductor_ai.test")
    with bind_session("s1", "acme"):
        log.info("look_up found %s", {1})
    log.warning("done")

    first, second = lines(stream)
    assert first.pop("timestamp")
    assert first == {
        "event": "look_up found {1}",
        "session_id": "s1",
        "org_id": "acme",
        "level": "info",
        "logger": "conductor_ai.test",
    }
    assert "session_id" not in second


def test_no_line_holds_a_secret_not_even_of_another_library() -> None:
    stream = io.StringIO()
    configure("production", Redactor([SECRET]), stream=stream)
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("a").exception("failed with sk-ant-api03-abcdefghijkl")
    logging.getLogger("other.library").warning("sent %s", SECRET)

    first, second = lines(stream)
    assert f"ValueError: {REDACTED}" in str(first["exception"])
    assert first["event"] == f"failed with {REDACTED}"
    assert (second["event"], second["logger"]) == (f"sent {REDACTED}", "other.library")


@pytest.mark.parametrize("app_env", ["production", "development"])
def test_a_line_that_cannot_be_made_says_where_it_is_and_not_what_it_holds(
    app_env: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    logging.getLogger().handlers.clear()  # pytest's own raise here
    configure(app_env, Redactor(), stream=stream)
    logging.getLogger("a").info("%d of %d", SECRET)
    [line] = stream.getvalue().splitlines()
    assert "could not be written: TypeError" in line
    assert f"{__file__}:" in line
    assert SECRET not in line + "".join(capsys.readouterr())


def test_a_stream_that_is_closed_takes_no_line_and_breaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    configure("production", Redactor(), stream=stream)
    stream.close()
    logging.getLogger("a").info("to nobody: %s", SECRET)
    assert "".join(capsys.readouterr()) == ""


def test_development_lines_are_for_people() -> None:
    stream = io.StringIO()
    configure("development", Redactor([SECRET]), stream=stream)
    with bind_session("s1", "acme"):
        logging.getLogger("a").info("look_up took %s", SECRET)
    line = stream.getvalue()
    assert f"look_up took {REDACTED}" in line
    assert "session_id=s1" in line


@pytest.mark.parametrize("app_env", ["production", "development"])
def test_a_plugin_may_log_through_structlog(app_env: str, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    configure(app_env, Redactor([SECRET]), stream=stream)
    with bind_session("s1", "acme"):
        structlog.get_logger("a").info("looked up", found={1}, token=SECRET)
        structlog.get_logger("a").debug("quiet")
    [line] = stream.getvalue().splitlines()
    for part in ("looked up", "{1}", REDACTED, "s1", "acme"):
        assert part in line
    assert SECRET not in line
    assert capsys.readouterr().out == ""


def test_lines_below_the_level_are_left_out_and_configuring_again_replaces() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("production", Redactor(), stream=first)
    configure("production", Redactor(), "WARNING", stream=second)
    logging.getLogger("a").info("quiet")
    logging.getLogger("a").error("loud")
    assert first.getvalue() == ""
    assert [line["event"] for line in lines(second)] == ["loud"]


def test_without_configuration_nothing_is_said() -> None:
    program = (
        "import logging, conductor_ai.observability.logging\n"
        "logging.getLogger('conductor_ai.agents.runner').error('loud')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import sys, conductor_ai.observability, conductor_ai.observability.logging\n"
        "print([name for name in ('pydantic', 'structlog', 'aiohttp', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import conductor_ai.observability as package

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018

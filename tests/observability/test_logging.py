"""Log lines: where they go, what they name, what they leave out."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys

import pytest

from conductor_ai.observability.logging import bind_session, configure, get_logger
from conductor_ai.observability.redaction import REDACTED, Redactor

SECRET = "correct-horse-battery"


pytestmark = pytest.mark.usefixtures("logging_as_before")


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_production_lines_are_json_and_name_the_session() -> None:
    stream = io.StringIO()
    configure("production", Redactor([SECRET]), stream=stream)
    log = get_logger("conductor_ai.test")
    with bind_session("s1", "acme"):
        log.info("tool.completed", tool="look_up", found={1})
    log.warning("done")

    first, second = lines(stream)
    assert first.pop("timestamp")
    assert first == {
        "event": "tool.completed",
        "tool": "look_up",
        "found": "{1}",
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
        get_logger("a").exception("failed", key="sk-ant-api03-abcdefghijkl")
    logging.getLogger("other.library").warning("sent %s", SECRET)

    first, second = lines(stream)
    assert f"ValueError: {REDACTED}" in str(first["exception"])
    assert first["key"] == REDACTED
    assert (second["event"], second["logger"]) == (f"sent {REDACTED}", "other.library")


def test_development_lines_are_for_people() -> None:
    stream = io.StringIO()
    configure("development", Redactor([SECRET]), stream=stream)
    with bind_session("s1", "acme"):
        get_logger("a").info("tool.completed", token=SECRET)
    line = stream.getvalue()
    assert "tool.completed" in line
    assert "session_id=s1" in line
    assert f"token={REDACTED}" in line


def test_lines_below_the_level_are_left_out_and_configuring_again_replaces() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("production", Redactor(), stream=first)
    configure("production", Redactor(), "WARNING", stream=second)
    get_logger("a").info("quiet")
    get_logger("a").error("loud")
    assert first.getvalue() == ""
    assert [line["event"] for line in lines(second)] == ["loud"]


def test_without_configuration_nothing_reaches_stdout() -> None:
    program = (
        "from conductor_ai.observability.logging import get_logger\n"
        "log = get_logger('a')\nlog.info('quiet')\nlog.warning('loud')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "loud" in done.stderr
    assert "quiet" not in done.stderr


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

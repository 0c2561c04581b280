"""Log lines: silent by default, one line a stop with the session in it, never a secret."""

from __future__ import annotations

import io
import json

import pytest

from conductor_ai.observability.logging import configure
from conductor_ai.providers.scripted import say
from tests.agents.conftest import TASK, Bench


@pytest.mark.usefixtures("logging_as_before")
async def test_a_stop_is_one_json_line_that_names_session_and_org(bench: Bench) -> None:
    runner = await bench.runner([say("Hi.")])
    stream = io.StringIO()
    configure("production", bench.runtime.redactor, stream=stream)

    session = await runner.run(TASK, org_id="acme")

    [line] = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert line["event"] == f"session {session.session_id}: completed after 1 steps"
    assert (line["session_id"], line["org_id"], line["level"]) == (session.session_id, "acme", "info")

"""Log lines: silent by default, one line a stop with the session in it, never a secret."""

from __future__ import annotations

import io
import json
import logging

from conductor_ai.observability.logging import configure
from conductor_ai.providers.scripted import say
from tests.agents.conftest import TASK, Bench


async def test_a_stop_is_one_json_line_that_names_session_and_org(bench: Bench) -> None:
    runner = await bench.runner([say("Hi.")])
    stream = io.StringIO()
    former = logging.getLogger().level
    configure("production", bench.runtime.redactor, stream=stream)
    try:
        session = await runner.run(TASK, org_id="acme")
    finally:
        logging.getLogger().setLevel(former)
        logging.getLogger().handlers = [
            h for h in logging.getLogger().handlers if h.__class__.__module__ != configure.__module__
        ]

    [line] = [json.loads(line) for line in stream.getvalue().splitlines() if "completed" in line]
    assert (line["session_id"], line["org_id"], line["level"]) == (session.session_id, "acme", "info")

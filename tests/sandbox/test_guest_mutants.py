"""A guest without one of its own walls is caught by what the other tests look at."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.tools.sandbox import frames
from conductor_ai.tools.sandbox.base import Language
from tests.conftest import fail_after
from tests.sandbox.conftest import Bench
from tests.sandbox.greed import DAEMON, marked
from tests.sandbox.payloads import WALLS
from tests.sandbox.test_hostile_code import SIGNALS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


async def run_with(bench: Bench, before: str, after: str, code: str, **more: Any) -> dict[str, Any]:
    """Run code with a guest in whose source `before` is replaced, in a process of its own."""
    source = frames.GUEST.decode()
    assert source.count(before) == 1
    asked = {"backend": bench.backend.name, "run_id": f"mutant-{secrets.token_hex(8)}", "code": code, **more}
    async with fail_after(60):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.sandbox.stage"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(json.dumps({**asked, "guest": source.replace(before, after)}).encode())
    ended: dict[str, Any] = json.loads(out.splitlines()[-1])
    return ended


async def test_a_guest_that_can_be_looked_into_is_caught(bench: Bench) -> None:
    known = json.dumps({"pid": 2**22})
    code = WALLS["other-processes"].python
    ended = await run_with(bench, "    set_dumpable(False)", "    pass", code, stdin=known)
    assert "open 1/mem " in ended["stdout"], ended


async def test_a_guest_that_leaves_daemons_alone_is_caught(bench: Bench) -> None:
    code = marked(DAEMON, Language.PYTHON, f"daemon-{secrets.token_hex(8)}")
    ended = await run_with(bench, "        os.kill(KILL_ALL, signal.SIGKILL)\n", "        pass\n", code, wall_s=1.5)
    assert ended["killed_by"] == "time", ended


async def test_a_guest_that_listens_to_the_codes_signals_is_caught_and_the_code_is_known_to_have_begun(
    bench: Bench,
) -> None:
    patient = SIGNALS.replace("time.sleep(0.1)", "time.sleep(30)")  # a busy machine ends the guest later
    ended = await run_with(bench, "    signal.signal(signal.SIGINT, signal.SIG_IGN)", "    pass", patient)
    assert (ended["killed_by"], ended["stdout"], ended["started"]) == ("infra", "", True), ended


async def test_a_guest_whose_code_inherits_what_it_ignores_is_caught(bench: Bench) -> None:
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('deaf')"
    ended = await run_with(bench, "        signal.signal(signal.SIGINT, signal.SIG_DFL)\n", "", code)
    assert ended["stdout"] == "deaf\n", ended


async def test_code_that_could_not_begin_is_known_not_to_have_begun(bench: Bench) -> None:
    ended = await run_with(bench, "        check_alone()\n", "        raise Refusal('not here')\n", "print(1)")
    assert (ended["killed_by"], ended["detail"], ended["started"]) == ("infra", "Refusal: not here", False), ended

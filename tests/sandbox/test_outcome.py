"""What ended a run is told from facts, the host's own first."""

from __future__ import annotations

from typing import Any

import pytest

from conductor_ai.tools.sandbox.base import KilledBy
from conductor_ai.tools.sandbox.outcome import killed_by

WELL: dict[str, Any] = {
    "killed_by_host": None,
    "over_output": False,
    "out_of_memory": False,
    "ended": True,
    "exit_code": 0,
    "stderr": "",
}
CUT: dict[str, Any] = {"ended": False, "exit_code": None}
TRACEBACK = 'Traceback (most recent call last):\n  File "/work/.main.py", line 1, in <module>\n'
NUMPY = TRACEBACK + "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array\n"
V8 = "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n----- Native stack trace"

CASES: dict[str, tuple[dict[str, Any], KilledBy]] = {
    "ended-well": ({}, KilledBy.NONE),
    "ended-badly": ({"exit_code": 1, "stderr": TRACEBACK + "ValueError: 1\n"}, KilledBy.NONE),
    "killed-itself": ({"exit_code": -9}, KilledBy.NONE),
    "deadline": ({**CUT, "killed_by_host": KilledBy.TIME}, KilledBy.TIME),
    "cancelled": ({**CUT, "killed_by_host": KilledBy.CANCELLED}, KilledBy.CANCELLED),
    "cancelled-while-memory-ran-out": (
        {**CUT, "killed_by_host": KilledBy.CANCELLED, "out_of_memory": True},
        KilledBy.CANCELLED,
    ),
    "watchdog": ({**CUT, "killed_by_host": KilledBy.MEMORY}, KilledBy.MEMORY),
    "output": ({**CUT, "over_output": True}, KilledBy.OUTPUT),
    "output-and-the-host-says-so": ({**CUT, "killed_by_host": KilledBy.OUTPUT}, KilledBy.OUTPUT),
    "host-passes-none": ({"killed_by_host": KilledBy.NONE}, KilledBy.NONE),
    "cgroup-killed-the-code": ({"exit_code": -9, "out_of_memory": True}, KilledBy.MEMORY),
    "cgroup-killed-the-code-by-its-shell": ({"exit_code": 137, "out_of_memory": True}, KilledBy.MEMORY),
    "cgroup-killed-everything": ({**CUT, "out_of_memory": True}, KilledBy.MEMORY),
    "cgroup-killed-a-child-that-the-code-answered": ({"out_of_memory": True}, KilledBy.NONE),
    "sandbox-died": (CUT, KilledBy.INFRA),
    "python-found-no-memory": ({"exit_code": 1, "stderr": TRACEBACK + "MemoryError\n"}, KilledBy.MEMORY),
    "numpy-found-no-memory": ({"exit_code": 1, "stderr": NUMPY}, KilledBy.MEMORY),
    "python-caught-its-memory-error": ({"stderr": TRACEBACK + "MemoryError\n"}, KilledBy.NONE),
    "a-word-in-a-message": ({"exit_code": 1, "stderr": "KeyError: 'MemoryError'\n"}, KilledBy.NONE),
    "v8-heap": ({"exit_code": -6, "stderr": V8}, KilledBy.MEMORY),
    "v8-heap-and-many-stacks": ({"exit_code": -6, "stderr": V8 + " 1: 0xb78db3 node\n" * 2000}, KilledBy.MEMORY),
    "python-met-another-error-later": (
        {"exit_code": 1, "stderr": TRACEBACK + "MemoryError\n" + TRACEBACK * 20 + "ValueError: 1\n"},
        KilledBy.NONE,
    ),
    "v8-buffer": ({"exit_code": 1, "stderr": "RangeError: Array buffer allocation failed"}, KilledBy.MEMORY),
}


@pytest.mark.parametrize(("facts", "expected"), CASES.values(), ids=CASES.keys())
def test_the_end_is_told_from_the_facts(facts: dict[str, Any], expected: KilledBy) -> None:
    assert killed_by(**{**WELL, **facts}) is expected

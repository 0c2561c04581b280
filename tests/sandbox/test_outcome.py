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
V8 = (
    "<--- JS stacktrace --->\n\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n"
    "----- Native stack trace -----\n\n"
)
V8_ZONE = "\n#\n# Fatal process out of memory: Zone\n#\n#\n#FailureMessage Object: 0x\n----- Native stack trace -----\n"
V8_FRAME = "10: 0xb78db3 node::X(char const*) [/opt/bin/node]\n"
V8_BUFFER = (
    "node:internal/buffer:1063\n  return new FastBuffer(size);\n\nRangeError: Array buffer allocation failed\n"
    "    at Function.alloc (node:buffer:394:17)\n    at node:internal/main/run_main_module:28:49\n\nNode.js v20.20.2\n"
)
V8_CODED = (
    "Error [ERR_MEMORY_ALLOCATION_FAILED]: Failed to allocate memory\n    at node:zlib:1 {\n"
    "  code: 'ERR_MEMORY_ALLOCATION_FAILED'\n}\n\nNode.js v20.20.2\n"
)

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
    "v8-heap-and-many-stacks": (
        {"exit_code": -6, "stderr": V8 + V8_FRAME * 900},
        KilledBy.MEMORY,
    ),
    "python-met-another-error-later": (
        {"exit_code": 1, "stderr": TRACEBACK + "MemoryError\n" + TRACEBACK * 20 + "ValueError: 1\n"},
        KilledBy.NONE,
    ),
    "v8-zone": ({"exit_code": -5, "stderr": V8_ZONE}, KilledBy.MEMORY),
    "v8-buffer": ({"exit_code": 1, "stderr": V8_BUFFER}, KilledBy.MEMORY),
    "v8-error-with-a-code": ({"exit_code": 1, "stderr": V8_CODED}, KilledBy.MEMORY),
    "no-memory-for-c++": (
        {"exit_code": -6, "stderr": "terminate called after throwing\n  what():  std::bad_alloc\n"},
        KilledBy.MEMORY,
    ),
    "by-way-of-a-shell": ({"exit_code": 134, "stderr": V8}, KilledBy.MEMORY),
    "said-by-the-code": ({"exit_code": 3, "stderr": "MemoryError: says the table\n"}, KilledBy.NONE),
    "said-by-the-code-and-gone-on": (
        {"exit_code": 1, "stderr": V8 + TRACEBACK + "MemoryError\n" + TRACEBACK + "ValueError: 1\n"},
        KilledBy.NONE,
    ),
    "v8-words-of-code-that-was-not-aborted": ({"exit_code": 1, "stderr": V8}, KilledBy.NONE),
    "v8-words-before-others": ({"exit_code": -11, "stderr": V8 + "segmentation fault\n"}, KilledBy.NONE),
}


@pytest.mark.parametrize(("facts", "expected"), CASES.values(), ids=CASES.keys())
def test_the_end_is_told_from_the_facts(facts: dict[str, Any], expected: KilledBy) -> None:
    assert killed_by(**{**WELL, **facts}) is expected

"""Questions to the person at the terminal. Keys pressed before a question was shown do not answer it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import termios
from typing import Any

from conductor_ai.cli.output import note
from conductor_ai.cli.text import exact


def can_ask() -> bool:
    """Whether a person can read the question and answer it."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


async def ask_yes_no(question: str) -> bool | None:
    """The answer; None where the person ended the input instead."""
    while True:
        answer = await _line(f"{question} [y/n] ")
        if answer is None:
            note("")
            return None
        if answer.lower() in ("y", "yes"):
            return True
        if answer.lower() in ("n", "no"):
            return False


def show_call(who: str, arguments: dict[str, Any]) -> None:
    """What `who` would do, a tool or an action inside one: nothing shortened and nothing hidden."""
    note(f"{exact(who)} wants to run with exactly these arguments:")
    note(exact(json.dumps(arguments, indent=2, ensure_ascii=False)))


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def _line(prompt: str) -> str | None:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    terminal = sys.stdin.fileno()
    termios.tcflush(terminal, termios.TCIFLUSH)
    sys.stderr.write(prompt)
    sys.stderr.flush()
    loop.add_reader(terminal, _wake, readable)
    try:
        await readable
    finally:
        loop.remove_reader(terminal)
    typed = os.read(terminal, 4096)  # a terminal hands over one line at a time
    return typed.decode(errors="replace").strip() if typed else None

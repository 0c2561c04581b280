"""What the decorators of this package take: an `async def`, and nothing that only looks like one."""

from __future__ import annotations

import inspect
from typing import Any

from conductor_ai.errors import InvalidInput


def name_of(function: Any, decorator: str) -> str:
    """The name of an async function, with its class: `Mailer.send`. Raises: InvalidInput, which says what to mend."""
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise InvalidInput(
            f"{decorator} goes on an async def, not on {_described(function)}",
            hint=f"put {decorator} right above the async def, below @registry.tool, @staticmethod and @classmethod",
        )
    name: str = function.__qualname__.rpartition("<locals>.")[2]
    if inspect.isasyncgenfunction(function):
        raise InvalidInput(f"{decorator} goes on an async def that returns; {name} yields")
    if not inspect.iscoroutinefunction(function):
        raise InvalidInput(
            f"{decorator} goes on an async def; {name} is a plain def",
            hint="work that blocks belongs in await asyncio.to_thread(...), inside an async def",
        )
    return name


def _described(value: Any) -> str:
    return f"the class {value.__qualname__}" if inspect.isclass(value) else f"a {type(value).__name__}"

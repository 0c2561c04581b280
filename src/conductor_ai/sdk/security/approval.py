"""A person's word before a function runs, for exactly the arguments that it will run with."""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from conductor_ai.errors import ApprovalRefused, ApprovalRequired, InvalidInput
from conductor_ai.sdk.security.async_functions import name_of

P = ParamSpec("P")
R = TypeVar("R")
AsyncFunction = Callable[P, Coroutine[Any, Any, R]]


@dataclass(frozen=True)
class ApprovalRequest:
    """What a person is asked. `arguments` is JSON data, by the function's own names and with its defaults."""

    category: str
    function: str
    arguments: dict[str, Any]

    @property
    def action(self) -> str:
        return f"{self.category}: {self.function}"


Approver = Callable[[ApprovalRequest], Awaitable[bool]]
"""True: go on. False: refused. It may raise ApprovalRequired itself where the answer can only come later."""

_bound: ContextVar[Approver] = ContextVar("conductor_ai_approver")


@contextmanager
def bind_approver(approver: Approver) -> Iterator[None]:
    """Within, functions under `require_approval` ask `approver`; tasks that are started here too. The innermost counts.

    A session binds its own around each tool call.
    """
    token = _bound.set(approver)
    try:
        yield
    finally:
        _bound.reset(token)


def require_approval(*, category: str) -> Callable[[AsyncFunction[P, R]], AsyncFunction[P, R]]:
    """Ask a person before each call of the decorated `async def`, which never runs unasked.

    The person sees the arguments by name, made JSON data as pydantic does it; `self` and `cls` are not arguments. The
    function is given copies of its own, made before the question, so that nobody can change them meanwhile.

    In a session the tool call that comes here stops until a person has decided, and then starts again from its
    beginning: put the approval first, before anything that acts. Elsewhere the approver of `bind_approver` is asked.

    Args:
        category: What kind of thing is approved, such as `code_execution`: one line, for the person.
    Raises: InvalidInput for anything but an `async def`. A call raises ApprovalRequired where nobody is bound to ask,
        ApprovalRefused where the answer is no, InvalidInput for an argument that cannot be shown as JSON.
    """
    _check_category(category)

    def decorate(function: AsyncFunction[P, R]) -> AsyncFunction[P, R]:
        name = name_of(function, "@require_approval")
        signature = inspect.signature(function)
        owner = _owner(name, signature)

        @functools.wraps(function)
        async def approved(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            own, shown = _copied_and_shown(name, given.arguments, owner)
            await _ask(ApprovalRequest(category, name, shown))
            given.arguments.update(own)
            return await function(*given.args, **given.kwargs)

        return approved

    return decorate


def _check_category(category: object) -> None:
    if not isinstance(category, str) or not category.strip() or not category.isprintable():
        raise InvalidInput(f"require_approval: category must be one line of text, not {category!r}")


async def _ask(request: ApprovalRequest) -> None:
    approver = _bound.get(None)
    if approver is None:
        raise ApprovalRequired(
            f"{request.action} needs approval, and nobody is there to ask",
            hint="outside a session: with bind_approver(ask): ..., where ask(request) says True or False",
        )
    if await approver(request) is not True:
        raise ApprovalRefused(f"{request.action} was refused")


def _owner(name: str, signature: inspect.Signature) -> str | None:
    """The parameter that is the instance or the class; a function outside a class has none, whatever its names."""
    first = next(iter(signature.parameters), None)
    return first if "." in name and first in ("self", "cls") else None


def _copied_and_shown(
    name: str, arguments: Mapping[str, Any], owner: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each argument as the function will get it, and as the person sees it, made from that very copy."""
    copies: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for parameter, value in arguments.items():
        if parameter == owner:
            continue
        try:
            copies[parameter] = copy.deepcopy(value)
            shown[parameter] = _json_data(copies[parameter])
        except (TypeError, ValueError, RecursionError, copy.Error) as exc:
            raise InvalidInput(
                f"{name}: argument {parameter!r} cannot be shown for approval: {exc}",
                hint="pass data, as text, numbers, lists and models; keep clients and connections out of the arguments",
            ) from exc
    return copies, shown


def _json_data(value: Any) -> Any:
    from pydantic_core import to_jsonable_python

    data = to_jsonable_python(_in_order(value), inf_nan_mode="constants")
    json.dumps(data, allow_nan=False)
    return data


def _in_order(value: Any) -> Any:
    """`value` with its sets sorted: another process sees them in another order, and must ask about the same thing."""
    from pydantic_core import to_jsonable_python

    if isinstance(value, Iterator):
        raise TypeError("it can be read only once")
    if isinstance(value, (set, frozenset)):
        return sorted((to_jsonable_python(_in_order(item)) for item in value), key=json.dumps)
    if isinstance(value, (list, tuple)):
        return [_in_order(item) for item in value]
    if isinstance(value, dict):
        if len(to_jsonable_python(dict.fromkeys(value))) < len(value):
            raise ValueError("two of its keys read alike")
        return {key: _in_order(item) for key, item in value.items()}
    return value

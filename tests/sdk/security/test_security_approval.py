"""@require_approval: never unasked, and with exactly what was asked about."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel

from conductor_ai.errors import ApprovalRefused, ApprovalRequired, InvalidInput
from conductor_ai.sdk import PluginRegistry, testing
from conductor_ai.sdk.security.approval import ApprovalRequest, bind_approver, require_approval


@dataclass
class Person:
    """Answers what the test says, and remembers what it was asked."""

    answer: bool = True
    asked: list[ApprovalRequest] = field(default_factory=list)

    async def __call__(self, request: ApprovalRequest) -> bool:
        self.asked.append(request)
        return self.answer


@contextmanager
def asking(answer: bool = True) -> Iterator[Person]:
    person = Person(answer)
    with bind_approver(person):
        yield person


def recorder() -> tuple[list[Any], Any]:
    """What the function ran with, and the function."""
    ran: list[Any] = []

    @require_approval(category="files")
    async def delete(paths: Any, *, force: bool = False) -> str:
        ran.append((paths, force))
        return "deleted"

    return ran, delete


async def test_the_plans_snippet_runs() -> None:
    from conductor_ai.sdk.security import require_approval

    @require_approval(category="code_execution")
    async def run_code(code: str) -> None:
        # Requires human approval before executing
        # Useful for destructive operations
        pass

    with pytest.raises(ApprovalRequired, match="code_execution: run_code"):
        await run_code("1 + 1")
    with asking() as person:
        await run_code("1 + 1")
    assert person.asked == [ApprovalRequest("code_execution", "run_code", {"code": "1 + 1"})]


async def test_without_anybody_to_ask_nothing_runs() -> None:
    ran, delete = recorder()

    with pytest.raises(ApprovalRequired) as caught:
        await delete(["a"])

    assert ran == []
    assert "bind_approver" in (caught.value.hint or "")


async def test_a_yes_lets_it_run_with_arguments_by_name_and_defaults() -> None:
    ran, delete = recorder()

    with asking() as person:
        assert await delete(["a", "b"]) == "deleted"
        assert await delete(paths="c", force=True) == "deleted"

    assert [request.arguments for request in person.asked] == [
        {"paths": ["a", "b"], "force": False},
        {"paths": "c", "force": True},
    ]
    assert person.asked[0].action == "files: delete"
    assert ran == [(["a", "b"], False), ("c", True)]


async def test_a_no_is_refused_and_nothing_runs() -> None:
    ran, delete = recorder()

    with asking(answer=False) as person, pytest.raises(ApprovalRefused, match="files: delete was refused"):
        await delete(["a"])

    assert (len(person.asked), ran) == (1, [])


@pytest.mark.parametrize("answer", [None, "yes", 1, "", 0])
async def test_only_true_is_a_yes(answer: Any) -> None:
    ran, delete = recorder()

    with asking(answer), pytest.raises(ApprovalRefused):
        await delete(["a"])

    assert ran == []


async def test_what_an_approver_raises_passes_and_nothing_runs() -> None:
    ran, delete = recorder()

    async def later(request: ApprovalRequest) -> bool:
        raise ApprovalRequired("later")

    with bind_approver(later), pytest.raises(ApprovalRequired, match="later"):
        await delete(["a"])

    assert ran == []


async def test_what_is_changed_while_a_person_thinks_does_not_run() -> None:
    ran, delete = recorder()
    paths, shared = ["harmless", ["nested"]], ["shared"]
    asked, decided = asyncio.Event(), asyncio.Event()

    async def slow(request: ApprovalRequest) -> bool:
        asked.set()
        await decided.wait()
        request.arguments["paths"].append("by the approver")
        return True

    with bind_approver(slow):
        running = asyncio.create_task(delete([paths, shared, shared]))
        await asked.wait()
        paths[0] = "evil"
        paths[1].append("evil")  # type: ignore[attr-defined]
        shared.append("evil")
        decided.set()
        await running

    [([seen, first, second], _)] = ran
    assert seen == ["harmless", ["nested"]]
    assert first == ["shared"]
    assert first is second


async def test_a_default_that_a_call_changes_is_not_changed_for_the_next() -> None:
    @require_approval(category="files")
    async def collect(into: list[str] = []) -> list[str]:  # noqa: B006
        into.append("more")
        return into

    with asking() as person:
        assert await collect() == await collect() == ["more"]
    assert [request.arguments for request in person.asked] == [{"into": []}] * 2


class Letter(BaseModel):
    to: str
    on: date


async def test_models_dates_sets_and_tuples_are_shown_as_json_and_passed_as_they_are() -> None:
    ran, delete = recorder()
    letter = Letter(to="ann", on=date(2026, 2, 1))
    value = {"letter": letter, "days": (date(2026, 1, 1),), "tags": {"b", "a"}, 1: "one"}

    with asking() as person:
        await delete(value)

    assert person.asked[0].arguments["paths"] == {
        "letter": {"to": "ann", "on": "2026-02-01"},
        "days": ["2026-01-01"],
        "tags": ["a", "b"],
        "1": "one",
    }
    [(passed, _)] = ran
    assert passed == value
    assert isinstance(passed["letter"], Letter)
    assert passed["letter"] is not letter


def test_another_process_asks_about_a_set_in_the_same_words() -> None:
    program = """
import asyncio, json
from conductor_ai.sdk.security.approval import bind_approver, require_approval
@require_approval(category="c")
async def act(tags): pass
async def show(request):
    print(json.dumps(request.arguments))
    return True
with bind_approver(show):
    asyncio.run(act({f"tag {n}" for n in range(20)}))
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }

    assert len(said) == 1
    assert len(json.loads(said.pop())["tags"]) == 20


def cycle() -> list[Any]:
    itself: list[Any] = []
    itself.append(itself)
    return itself


@pytest.mark.parametrize(
    "value",
    [
        object(),
        float("nan"),
        [float("-inf")],
        b"\xff",
        (item for item in "ab"),
        iter([1, 2]),
        lambda: None,
        {"1": "harmless", 1: "evil"},
        cycle(),
        sys.stdin,
    ],
    ids=["object", "nan", "infinity", "bytes", "generator", "iterator", "function", "keys alike", "cycle", "file"],
)
async def test_what_cannot_be_shown_is_neither_asked_about_nor_run(value: Any) -> None:
    ran, delete = recorder()

    with asking() as person, pytest.raises(InvalidInput, match=r"^delete: argument 'paths' cannot be shown"):
        await delete(value)

    assert (person.asked, ran) == ([], [])


async def test_arguments_that_do_not_fit_the_function_are_a_type_error() -> None:
    ran, delete = recorder()

    with asking() as person, pytest.raises(TypeError, match="missing a required argument: 'paths'"):
        await delete()

    assert (person.asked, ran) == ([], [])


async def test_methods_leave_self_and_cls_out_and_stars_are_shown() -> None:
    class Mailer:
        sent: list[Any] = []  # noqa: RUF012

        @require_approval(category="mail")
        async def send(self, *to: str, **options: int) -> None:
            self.sent.append((to, options))

        @classmethod
        @require_approval(category="mail")
        async def purge(cls, days: int) -> None:
            cls.sent.append(days)

    mailer = Mailer()
    with asking() as person:
        await mailer.send("ann", "bob", copies=2)
        await Mailer.purge(30)

    assert [(request.function, request.arguments) for request in person.asked] == [
        ("Mailer.send", {"to": ["ann", "bob"], "options": {"copies": 2}}),
        ("Mailer.purge", {"days": 30}),
    ]
    assert mailer.sent == [(("ann", "bob"), {"copies": 2}), 30]


async def test_an_argument_that_only_is_called_self_is_shown() -> None:
    @require_approval(category="mail")
    async def send(self: str) -> None: ...

    with asking() as person:
        await send("hidden?")

    assert person.asked[0].arguments == {"self": "hidden?"}


async def test_the_innermost_approver_counts_and_the_outer_one_is_back_after_it() -> None:
    _, delete = recorder()

    with asking() as outer:
        with asking() as inner:
            await delete("a")
        await delete("b")

    assert [request.arguments["paths"] for request in inner.asked] == ["a"]
    assert [request.arguments["paths"] for request in outer.asked] == ["b"]
    with pytest.raises(ApprovalRequired):
        await delete("c")


async def test_tasks_started_within_ask_too_and_others_do_not() -> None:
    _, delete = recorder()
    elsewhere = asyncio.Event()

    async def outside() -> str:
        await elsewhere.wait()
        return str(await delete("outside"))

    other = asyncio.create_task(outside())
    with asking() as person:
        elsewhere.set()
        assert await asyncio.create_task(delete("a")) == "deleted"
        with pytest.raises(ApprovalRequired):
            await other

    assert len(person.asked) == 1


async def test_a_tool_may_be_decorated_below_the_registry() -> None:
    registry = PluginRegistry()

    @registry.tool(effect="once")
    @require_approval(category="code_execution")
    async def run_code(code: str) -> str:
        """Run code."""
        return f"ran {code}"

    assert run_code.definition.parameters["required"] == ["code"]
    with asking() as person:
        result = await testing.run_tool(run_code, {"code": "x"})
    assert (result.result, person.asked[0].arguments) == ("ran x", {"code": "x"})
    unasked = await testing.run_tool(run_code, {"code": "x"})
    assert unasked.error is not None
    assert unasked.error.startswith("ApprovalRequired: code_execution: run_code")


def test_the_function_keeps_what_it_says_of_itself() -> None:
    @require_approval(category="files")
    async def delete(path: str) -> None:
        """Delete it."""

    assert (delete.__name__, delete.__doc__) == ("delete", "Delete it.")
    assert list(inspect.signature(delete).parameters) == ["path"]
    assert inspect.iscoroutinefunction(delete)


def plain() -> None: ...


async def generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("target", "said"), [(plain, "plain is a plain def"), (generator, "generator yields"), (Letter, "the class Letter")]
)
def test_only_async_functions_are_taken(target: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"^@require_approval goes on an async def.*{said}"):
        require_approval(category="c")(target)


@pytest.mark.parametrize("category", ["", "  ", "two\nlines", "\x1b[31m", "\ud800", None, 7])
def test_a_category_is_one_line_of_text(category: Any) -> None:
    with pytest.raises(InvalidInput, match="category must be one line of text"):
        require_approval(category=category)

"""@with_timeout: it ends what it decorates, and tells its own end from everybody else's."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conductor_ai.errors import InvalidInput
from conductor_ai.sdk.security.timeouts import with_timeout
from tests.conftest import fail_after

SOON_S = 0.01
NEVER_S = 3600.0


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_the_plans_snippet_runs() -> None:
    from conductor_ai.sdk.security import with_timeout

    @with_timeout(seconds=30)
    async def long_running_operation() -> None:
        # Automatically cancelled after 30 seconds
        pass

    await long_running_operation()


async def test_what_comes_in_time_is_returned_and_leaves_no_cancellation_behind() -> None:
    @with_timeout(seconds=NEVER_S)
    async def add(a: int, b: int = 2) -> int:
        await asyncio.sleep(0)
        return a + b

    assert await add(1) == 3
    assert await add(1, b=4) == 5
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_call_that_takes_too_long_is_cancelled_where_it_waits() -> None:
    seen: list[str] = []

    @with_timeout(seconds=SOON_S)
    async def wait() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    async with fail_after(10):
        with pytest.raises(TimeoutError) as caught:
            await wait()
    assert str(caught.value) == "wait timed out after 0.01 s"
    assert seen == ["cancelled", "cleaned up"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_late_value_is_no_answer() -> None:
    @with_timeout(seconds=SOON_S)
    async def stubborn() -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            return "late"
        raise AssertionError("it waits for ever")

    async with fail_after(10):
        with pytest.raises(TimeoutError, match="stubborn"):
            await stubborn()


async def test_a_call_that_swallows_its_cancellation_and_goes_on_is_cancelled_again() -> None:
    swallowed = 0

    @with_timeout(seconds=SOON_S)
    async def stubborn() -> None:
        nonlocal swallowed
        try:
            await for_ever()
        except asyncio.CancelledError:
            swallowed += 1
        await for_ever()

    async with fail_after(30):
        with pytest.raises(TimeoutError, match="stubborn"):
            await stubborn()
    task = asyncio.current_task()
    assert task is not None
    assert (swallowed, task.cancelling()) == (1, 0)


async def test_a_value_that_a_blocked_loop_made_late_is_no_answer() -> None:
    loop = asyncio.get_running_loop()

    @with_timeout(seconds=SOON_S)
    async def blocking() -> str:
        end = loop.time() + SOON_S
        while loop.time() < end:
            pass
        return "late"

    with pytest.raises(TimeoutError, match="blocking"):
        await blocking()


async def test_an_exception_that_comes_too_late_is_the_cause() -> None:
    @with_timeout(seconds=SOON_S)
    async def fails() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            raise ValueError("while it cleaned up") from None

    async with fail_after(10):
        with pytest.raises(TimeoutError) as caught:
            await fails()
    assert isinstance(caught.value.__cause__, ValueError)


async def test_an_exception_in_time_passes_as_it_is() -> None:
    @with_timeout(seconds=NEVER_S)
    async def fails(error: BaseException) -> None:
        raise error

    for error in (ValueError("no"), TimeoutError("its own"), asyncio.CancelledError(), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            await fails(error)
        assert caught.value is error


async def test_an_outer_cancellation_stays_one() -> None:
    entered = asyncio.Event()

    @with_timeout(seconds=NEVER_S)
    async def wait() -> None:
        entered.set()
        await for_ever()

    task = asyncio.create_task(wait())
    async with fail_after(10):
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert task.cancelled()


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_cancellation_that_comes_while_a_late_call_cleans_up_is_not_lost(swallows: bool) -> None:
    cleaning, cleaned = asyncio.Event(), asyncio.Event()

    @with_timeout(seconds=SOON_S)
    async def wait() -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            cleaning.set()
            try:
                await cleaned.wait()
            except asyncio.CancelledError:
                if not swallows:
                    raise
        return "late"

    task = asyncio.create_task(wait())
    async with fail_after(10):
        await cleaning.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("outer_is_shorter", [False, True])
async def test_of_nested_timeouts_the_one_that_was_reached_is_named(outer_is_shorter: bool) -> None:
    @with_timeout(seconds=NEVER_S if outer_is_shorter else SOON_S)
    async def inner() -> None:
        await for_ever()

    @with_timeout(seconds=SOON_S if outer_is_shorter else NEVER_S)
    async def outer() -> None:
        await inner()

    async with fail_after(10):
        with pytest.raises(TimeoutError, match="^outer" if outer_is_shorter else "^inner"):
            await outer()


async def test_within_asyncios_own_timeout_the_shorter_one_ends_it() -> None:
    @with_timeout(seconds=NEVER_S)
    async def wait() -> None:
        await for_ever()

    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(SOON_S):
            await wait()
    assert "wait timed out" not in str(caught.value)


async def test_concurrent_calls_have_a_deadline_each() -> None:
    @with_timeout(seconds=0.2)
    async def wait(for_it: asyncio.Event) -> str:
        await for_it.wait()
        return "came"

    came = asyncio.Event()
    came.set()
    async with fail_after(10):
        results = await asyncio.gather(wait(came), wait(asyncio.Event()), wait(came), return_exceptions=True)
    assert results[0] == results[2] == "came"
    assert isinstance(results[1], TimeoutError)


async def test_a_method_is_named_with_its_class_and_keeps_what_it_says_of_itself() -> None:
    class Mailer:
        @with_timeout(seconds=SOON_S)
        async def send(self, to: str, *, copies: int = 1) -> None:
            """Send it."""
            await for_ever()

    assert Mailer.send.__doc__ == "Send it."
    assert list(inspect.signature(Mailer.send).parameters) == ["self", "to", "copies"]
    assert inspect.iscoroutinefunction(Mailer.send)
    async with fail_after(10):
        with pytest.raises(TimeoutError, match=r"^Mailer\.send timed out after 0\.01 s$"):
            await Mailer().send("ann")


def plain() -> None: ...


async def generator() -> AsyncIterator[int]:
    yield 1


class Sender:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (plain, "plain is a plain def"),
        (generator, "generator yields"),
        (Sender, "the class Sender"),
        (Sender(), "a Sender"),
        (functools.partial(for_ever), "a partial"),
        (staticmethod(for_ever), "a staticmethod"),
        (None, "a NoneType"),
    ],
)
def test_only_async_functions_are_taken(target: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"^@with_timeout goes on an async def.*{said}"):
        with_timeout(seconds=1)(target)


@pytest.mark.parametrize("seconds", [0, -1, 0.0, float("nan"), float("inf"), True, "30", None])
def test_seconds_are_positive_and_finite(seconds: Any) -> None:
    with pytest.raises(InvalidInput, match="seconds must be a positive, finite number"):
        with_timeout(seconds=seconds)

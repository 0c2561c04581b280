"""The places at which a process is killed, and how the world is stopped so that it is killed exactly there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.crash.world import World

Stop = Callable[[World, Sequence[str], int], Awaitable[None]]
"""Starts `conductor ARGUMENTS`, lets it come to the boundary, waits until event SEQ is stored, and kills it there."""

STEP = "step {}  local/tiny"  # what the live view says as soon as an answer is on its way into the log


@dataclass(frozen=True)
class Boundary:
    """Where to kill, and what must follow.

    `seq` and `last` are the newest event in the log of the dead process. `runs` is how often each tool has acted once
    the session is completed, `outcomes` how its call ended; a tool that is not named acted once and succeeded.
    """

    name: str
    seq: int
    last: str
    stop: Stop
    runs: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)


def at(*points: str) -> Stop:
    """While the world stands still at `points`, all of them."""

    async def stop(world: World, arguments: Sequence[str], seq: int) -> None:
        holds = [world.stage.hold(point) for point in points]
        process = await world.start(arguments)
        for hold in holds:
            await hold.arrived()
        await world.log.reaches(seq)
        await process.kill()
        world.stage.let_go()

    return stop


def before_storing(cause: str, *, then: str = "") -> Stop:
    """After the process has handed over what follows from `cause`, before that is stored.

    The database is held. That the process has got so far shows in its arriving at `then`, or in its doing nothing more.
    """

    async def stop(world: World, arguments: Sequence[str], seq: int) -> None:
        hold = world.stage.hold(cause)
        further = world.stage.hold(then) if then else None
        process = await world.start(arguments)
        await hold.arrived()
        await world.log.reaches(seq)
        with world.log.held():
            hold.release()
            if further is not None:
                await further.arrived()
            else:
                await process.settles()
            await process.kill()
        world.stage.let_go()

    return stop


def unheard(stream: str, *, says: str = "") -> Stop:
    """When the process writes to `stream`, which takes nothing; it has said `says` on the other one before."""

    async def stop(world: World, arguments: Sequence[str], seq: int) -> None:
        process = await world.start(arguments, blocked=stream)
        if says:
            await process.said(says)
        await world.log.reaches(seq)
        await process.kill()

    return stop


def as_soon_as_stored() -> Stop:
    """At the moment at which the event is seen, wherever the process has got to by then."""

    async def stop(world: World, arguments: Sequence[str], seq: int) -> None:
        process = await world.start(arguments)
        await world.log.reaches(seq)
        await process.kill()

    return stop


def _tool(name: str, seq: int, step: int, *, once: bool = False) -> list[Boundary]:
    """The boundaries of a step with one call; `seq` is its intent."""
    outcome = {name: "unknown"} if once else {}
    return [
        Boundary(
            f"{name} started, before it acts",
            seq,
            "tool.started",
            at(f"{name}:begin"),
            {name: 0 if once else 1},
            outcome,
        ),
        Boundary(
            f"{name} acted, before it returns",
            seq,
            "tool.started",
            at(f"{name}:acted"),
            {name: 1 if once else 2},
            outcome,
        ),
        Boundary(
            f"{name} returned, before its result is stored",
            seq,
            "tool.started",
            before_storing(f"{name}:acted", then=f"model:{step + 1}"),
            {name: 1 if once else 2},
            outcome,
        ),
    ]


def _model(step: int, seq: int, last: str) -> list[Boundary]:
    """The boundaries of a model call; `seq` is the newest event before it."""
    return [
        Boundary(f"step {step} asked of the model", seq, last, at(f"model:{step}")),
        Boundary(
            f"step {step} answered, before that is stored",
            seq,
            last,
            before_storing(f"model:{step}"),
        ),
    ]


# look_up, save, charge, one after the other: events 1-2 begin the session, 3-5, 6-8 and 9-11 are steps, 12-13 the end.
IN_TURN = [
    Boundary("created, before the first model call", 2, "message.added", unheard("stderr")),
    *_model(1, 2, "message.added"),
    *_tool("look_up", 4, 1),
    *_model(2, 5, "tool.completed"),
    *_tool("save", 7, 2),
    *_model(3, 8, "tool.completed"),
    *_tool("charge", 10, 3, once=True),
    *_model(4, 11, "tool.completed"),
    Boundary("completed, before anybody is told", 13, "session.completed", unheard("stdout", says="completed:")),
]

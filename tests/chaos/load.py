"""People who use the service all the time, and do not give up."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import aiohttp

from tests.service.door import Door, Refused

PROGRAM = "call charge a; call charge b, look_up c; call look_up d; call charge e; stream 40"
ENDS = {"session.completed", "session.failed", "session.cancelled", "session.paused"}
AGAIN_S = 0.05
"""How long somebody waits who was refused."""

_AWAY = (aiohttp.ClientError, ConnectionError, TimeoutError, Refused)


class Load:
    """Each of `people` starts a session, follows it to its end and begins anew, until told that it is `over`.

    `acknowledged` are the sessions whose start was answered with 202; `broken` says where a stream was not whole.
    """

    def __init__(self, door: Door, people: int) -> None:
        self.acknowledged: list[str] = []
        self.ended: set[str] = set()
        self.broken: list[str] = []
        self.refused = 0
        self.over = False
        self._door = door
        self._tasks = [asyncio.create_task(self._person(number)) for number in range(people)]

    async def finish(self) -> None:
        """Return once everybody has seen the end of what they started."""
        self.over = True
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _person(self, number: int) -> None:
        times = 0
        while not self.over:
            times += 1
            session_id = await self._start(f"person {number} time {times}")
            self.acknowledged.append(session_id)
            await self._follow(session_id)
            self.ended.add(session_id)

    async def _start(self, key: str) -> str:
        body = {"messages": [{"role": "user", "content": PROGRAM}], "tools": ["charge", "look_up"]}
        while True:
            try:
                answer = await self._door.ask("POST", "/agents/run", body, headers={"Idempotency-Key": key})
            except _AWAY:
                answer = None
            if answer is not None and answer.status == 202:
                return str(answer.json["session_id"])
            self.refused += 1
            await asyncio.sleep(AGAIN_S)

    async def _follow(self, session_id: str) -> None:
        seq, newest = 0, ""
        while newest not in ENDS:
            try:
                async with aclosing(self._door.stream(session_id, after=seq)) as frames:
                    async for frame in frames:
                        if frame.id is None:
                            continue
                        if frame.id != seq + 1:
                            self.broken.append(f"{session_id}: event {frame.id} came after {seq}")
                        seq, newest = frame.id, frame.event
            except _AWAY:
                self.refused += 1
                await asyncio.sleep(AGAIN_S)

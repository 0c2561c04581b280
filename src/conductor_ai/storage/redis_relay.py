"""What one process tells the others through Redis: live items, and requests to cancel.

Each session has a channel, which a process listens to while it has a subscriber itself; all share one connection. A
process that has begun to listen says so on the channel `control`, which all listen to. So whoever publishes knows a
moment later that somebody elsewhere listens, and sends nothing for nobody: what it does not know it asks once, and with
each message Redis tells how many it reached. Nothing is kept in Redis that could outlive a process.

A message is lines: the id of the process it is from, then items as JSON text, which has no line breaks. Nothing is sent
twice, and what cannot be sent now is dropped: the session's log has it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from itertools import islice
from typing import Any
from uuid import uuid4

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from conductor_ai.errors import StoreUnavailable
from conductor_ai.schemas import json_text
from conductor_ai.storage.hot_memory import MemoryHotState
from conductor_ai.storage.redis_link import ANSWER_S, CONNECT_S, FAILURES, RedisLink
from conductor_ai.storage.redis_outbox import Outbox

MAX_KNOWN = 4_000

_SILENCE_S = 2.0
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 1.0
_WATCH = "watch "
_CANCEL = "cancel "

_logger = logging.getLogger(__name__)


class RedisRelay:
    """Two tasks: one keeps a connection and reads what it brings, the other sends what waits.

    What comes from other processes goes to the subscribers of `local`.
    """

    def __init__(self, link: RedisLink, local: MemoryHotState) -> None:
        self._link = link
        self._local = local
        self._origin = uuid4().hex
        self._control = link.channel("control")
        self._live = link.channel("live:")
        self._connection: AbstractConnection | None = None
        self._tried = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        # What this process listens to: sessions, those that Redis has confirmed, and the changes to be sent.
        self._sessions: set[str] = set()
        self._confirmed: set[str] = set()
        self._to_join: set[str] = set()
        self._to_leave: set[str] = set()
        # Whether anybody elsewhere listens to a session; None while that is being asked.
        self._known: dict[str, bool | None] = {}
        self._to_ask: set[str] = set()
        self._announced: set[str] = set()
        self._outbox = Outbox()
        self._news: list[str] = []
        self._work = asyncio.Event()
        self._closing = False

    async def start(self) -> None:
        """Returns once there is a connection, or the first attempt has failed."""
        for task in (asyncio.create_task(self._attend()), asyncio.create_task(self._send_all())):
            task.add_done_callback(_tell_of_crash)
            self._tasks.append(task)
        await self._tried.wait()

    async def close(self) -> None:
        """Send what waits, within moments, and end."""
        self._closing = True
        self._work.set()
        attending, sending = self._tasks
        await asyncio.wait([sending], timeout=ANSWER_S)
        attending.cancel()
        sending.cancel()
        await asyncio.gather(attending, sending, return_exceptions=True)

    # What this process has to say.

    def heard_elsewhere(self, session_id: str) -> bool:
        """Whether anybody in another process may listen; True while that is being asked."""
        if self._connection is None or self._closing or not self._link.usable:
            return False
        if session_id in self._known:
            return self._known[session_id] is not False
        if len(self._known) >= MAX_KNOWN:  # those asked about first have most likely ended
            for forgotten in list(islice(self._known, MAX_KNOWN // 2)):
                del self._known[forgotten]
        self._known[session_id] = None
        self._to_ask.add(session_id)
        self._work.set()
        return True

    def send(self, session_id: str, text: str, *, lasting: bool) -> None:
        """Queue an item, JSON text; `lasting` ones are kept longer where too many wait."""
        self._outbox.put(session_id, text.replace("\n", " "), lasting=lasting)  # white space at most
        self._work.set()

    def listen(self, session_id: str) -> None:
        """Pass on what other processes publish, for as long as `local` has subscribers."""
        if session_id not in self._sessions:
            self._sessions.add(session_id)
            self._to_join.add(session_id)
            self._work.set()

    def cancel_message(self, session_id: str) -> tuple[str, str]:
        """The channel and the message by which every other process learns of a request to cancel."""
        return self._control, f"{self._origin}\n{_CANCEL}{session_id}"

    async def _send_all(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            connection = self._connection
            if connection is not None and not await self._send(connection) and not self._closing:
                await asyncio.sleep(_LONGEST_DELAY_S / 2)
                self._work.set()
            if self._closing:
                return

    async def _send(self, connection: AbstractConnection) -> bool:
        """Send all that waits now; False where Redis did not take it. What comes meanwhile is the next batch."""
        if not await self._adjust(connection):
            return True  # it is lost, and whoever reads from it knows
        asked, news, messages = sorted(self._to_ask), self._news, self._outbox.messages()
        self._to_ask, self._news = set(), []
        if not (asked or news or messages):
            return True
        own = {session_id for session_id in (*asked, *(to for to, _ in messages)) if session_id in self._confirmed}
        self._announced.clear()
        try:
            answers = await self._link.ask(lambda: self._put(asked, news, messages))
        except StoreUnavailable:
            for session_id in asked:
                self._known.pop(session_id, None)
            self._news[:0] = news
            return False
        if connection is self._connection:  # else all is asked anew
            for session_id, reached in answers:
                self._learn(session_id, reached - (session_id in own))
        return True

    async def _adjust(self, connection: AbstractConnection) -> bool:
        """Join and leave channels. A channel is left only once it was joined for certain: else an answer could be taken
        for that of a later request."""
        joined = [session_id for session_id in self._to_join if self._local.watched(session_id)]
        self._sessions -= self._to_join.difference(joined)
        left = [one for one in self._to_leave & self._confirmed if not self._local.watched(one)]
        self._to_join, self._to_leave = set(), set()
        self._sessions.difference_update(left)
        self._confirmed.difference_update(left)
        try:
            async with asyncio.timeout(ANSWER_S):
                for command, sessions in (("SUBSCRIBE", joined), ("UNSUBSCRIBE", left)):
                    if sessions and connection.is_connected:  # else it would connect by itself
                        await connection.send_command(command, *(self._live + one for one in sessions))
        except FAILURES:
            return False
        return True

    async def _put(self, asked: list[str], news: list[str], messages: list[tuple[str, str]]) -> list[tuple[str, int]]:
        """Returns how many listeners each session has, as far as it was asked or written to."""
        pipeline = self._link.pipeline()
        if asked:
            pipeline.pubsub_numsub(*(self._live + session_id for session_id in asked))
        if news:
            pipeline.publish(self._control, "\n".join([self._origin, *news]))
        for session_id, text in messages:
            pipeline.publish(self._live + session_id, f"{self._origin}\n{text}")
        answers = await pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, ResponseError):
                self._link.refused(answer)
        counts = [0 if isinstance(answer, Exception) else answer for answer in answers[len(answers) - len(messages) :]]
        reached = [(session_id, count) for (session_id, _), count in zip(messages, counts, strict=True)]
        if asked and not isinstance(answers[0], Exception):
            reached[:0] = [(self._session_of(channel), count) for channel, count in answers[0]]
        return reached

    def _learn(self, session_id: str, elsewhere: int) -> None:
        # Somebody who has begun to listen since was too late to be counted.
        if session_id in self._known:
            self._known[session_id] = elsewhere > 0 or session_id in self._announced

    # What others have to say.

    async def _attend(self) -> None:
        loop = asyncio.get_running_loop()
        delay_s = _FIRST_DELAY_S
        while not self._closing:
            connection = self._link.connection()
            began_at = loop.time()
            try:
                await self._join(connection)
                await self._read(connection)
            except FAILURES as exc:
                self._link.lost(exc)
            finally:
                self._forget()
                with suppress(*FAILURES):
                    await connection.disconnect(nowait=True)
                self._tried.set()
            if loop.time() - began_at > 2 * (CONNECT_S + ANSWER_S):  # it was there for some time
                delay_s = _FIRST_DELAY_S
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads processes, guards nothing
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _join(self, connection: AbstractConnection) -> None:
        async with asyncio.timeout(CONNECT_S + ANSWER_S):
            await connection.connect()  # type: ignore[no-untyped-call]
            self._sessions = {session_id for session_id in self._sessions if self._local.watched(session_id)}
            self._to_join.clear()
            self._to_leave.clear()
            await connection.send_command(
                "SUBSCRIBE", self._control, *(self._live + session_id for session_id in self._sessions)
            )
            await connection.read_response()  # `control` is joined, or refused
            await self._link.found()
        self._connection = connection
        self._local.forget_cancels()
        self._tried.set()
        self._work.set()

    def _forget(self) -> None:
        """Without a connection nothing is known, and nothing can be said."""
        self._connection = None
        self._confirmed.clear()
        self._known.clear()
        self._to_ask.clear()
        self._news.clear()
        self._outbox.clear()

    async def _read(self, connection: AbstractConnection) -> None:
        """Until the connection is lost, or silent even when spoken to."""
        loop = asyncio.get_running_loop()
        sweep_at = loop.time() + _SILENCE_S
        spoken_to = False
        while not self._closing:
            message = await connection.read_response(timeout=ANSWER_S if spoken_to else _SILENCE_S)
            if message is not None:
                self._hear(message)
            elif spoken_to:
                raise NoAnswer
            else:
                async with asyncio.timeout(ANSWER_S):
                    await connection.send_command("PING")
            spoken_to = message is None
            if loop.time() >= sweep_at:
                self._sweep()
                sweep_at = loop.time() + _SILENCE_S

    def _sweep(self) -> None:
        """Leave the channels whose subscribers have gone without a word."""
        deserted = {session_id for session_id in self._confirmed if not self._local.watched(session_id)}
        if deserted:
            self._to_leave |= deserted
            self._work.set()

    def _hear(self, message: list[Any]) -> None:
        if message[0] == b"message":
            channel, (origin, *lines) = message[1].decode(), message[2].split(b"\n")
            if origin == self._origin.encode():
                return
            if channel == self._control:
                for line in lines:
                    self._hear_news(line.decode(errors="replace"))
            else:
                self._pass_on(self._session_of(channel), lines)
        elif message[0] == b"subscribe":
            session_id = self._session_of(message[1])
            if session_id in self._sessions:
                self._confirmed.add(session_id)
                self._news.append(_WATCH + session_id)
                self._work.set()

    def _hear_news(self, line: str) -> None:
        if line.startswith(_CANCEL):
            self._local.tell_of_cancel(line.removeprefix(_CANCEL))
        elif line.startswith(_WATCH) and line.removeprefix(_WATCH) in self._known:
            session_id = line.removeprefix(_WATCH)
            self._known[session_id] = True
            self._announced.add(session_id)

    def _pass_on(self, session_id: str, lines: list[bytes]) -> None:
        if not self._local.watched(session_id):
            self._to_leave.add(session_id)
            self._work.set()
            return
        for line in lines:
            text = line.decode(errors="replace")
            if _is_item(text):
                self._local.publish_text(session_id, text)

    def _session_of(self, channel: bytes | str) -> str:
        name = channel if isinstance(channel, str) else channel.decode(errors="replace")
        return name.removeprefix(self._live)


def _is_item(text: str) -> bool:
    """Anybody on the same Redis may write to a channel, a later version of ours too: what is no item ends no stream."""
    try:
        return isinstance(json_text.loads(text), dict)
    except ValueError:
        return False


def _tell_of_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (exc := task.exception()) is not None:
        _logger.critical("live signals between processes have ended", exc_info=exc)

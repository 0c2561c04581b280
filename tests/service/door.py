"""Requests to the service as somebody with a key makes them, and its answers down to the bytes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.conftest import fail_after

_WAIT_S = 60
_REQUEST_ID = re.compile(rb'"request_id":"[^"]*"')


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error."""
        return str(self.json["code"])

    def seen(self, *ids: str) -> tuple[int, dict[str, str], bytes]:
        """What a caller can tell from it, without the request's id, the time, and ids that they named themselves."""
        body = _REQUEST_ID.sub(b'"request_id":"-"', self.body)
        for one in ids:
            body = body.replace(one.encode(), b"ID")
        heads = {name.lower(): value for name, value in self.headers.items()}
        for name in ("date", "x-request-id"):
            heads.pop(name, None)
        heads.pop("content-length", None)  # follows from the body, of which ids of another length were taken out
        return self.status, heads, body


class Refused(Exception):
    """No event stream, but another answer."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event. `id` None: it is no event of the log."""

    event: str
    id: int | None
    data: Any


class Door:
    """Requests with one key, or with none."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str | None = None) -> None:
        self._http = http
        self.url = url
        self.key = key

    def with_key(self, key: str | None) -> Door:
        return Door(self._http, self.url, key)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """`body` is sent as JSON, `data` as it is. Of an event stream the first frame is read."""
        sent = self._headers(headers)
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with (
            fail_after(_WAIT_S),
            self._http.request(method, self.url + path, data=data, headers=sent, params=query) as reply,
        ):
            if reply.content_type == "text/event-stream":
                return Answer(reply.status, reply.headers, await _first_frame(reply.content))
            return Answer(reply.status, reply.headers, await reply.read())

    async def get(self, path: str, **query: str) -> Any:
        """The JSON of a GET that succeeds."""
        answer = await self.ask("GET", path, query=query)
        assert answer.status == 200, answer.body
        return answer.json

    async def start(self, program: str, **fields: Any) -> str:
        """Start a session; answers its id."""
        body = {"messages": [{"role": "user", "content": program}], **fields}
        answer = await self.ask("POST", "/agents/run", body)
        assert answer.status == 202, answer.body
        return str(answer.json["session_id"])

    async def stream(self, session_id: str, *, after: int | None = None) -> AsyncGenerator[Frame]:
        """Frames until the server ends the stream. Raises: Refused."""
        headers = self._headers(None if after is None else {"Last-Event-ID": str(after)})
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._http.get(f"{self.url}/agents/{session_id}/events", headers=headers, timeout=timeout) as reply:
            if reply.status != 200:
                raise Refused(await reply.text())
            held = b""
            async for piece in reply.content.iter_any():
                *whole, held = (held + piece).split(b"\n\n")
                for text in whole:
                    if (frame := frame_of(text)) is not None:
                        yield frame

    async def events(self, session_id: str, *, after: int | None = None) -> list[Frame]:
        """What the log holds of a session, once it has stopped."""
        async with fail_after(_WAIT_S), aclosing(self.stream(session_id, after=after)) as frames:
            return [frame async for frame in frames if frame.id is not None]

    async def comes_to(self, session_id: str, event: str) -> Any:
        """The data of the session's first such event, as soon as it happens."""
        async with fail_after(_WAIT_S), aclosing(self.stream(session_id)) as frames:
            async for frame in frames:
                if frame.event == event:
                    return frame.data
        raise AssertionError(f"session {session_id} stopped without {event}")

    async def stopped(self, session_id: str) -> Any:
        """The session, once it does not run any more and waits for nobody."""
        await self.events(session_id)
        return await self.get(f"/agents/{session_id}")

    async def run(self, program: str, **fields: Any) -> Any:
        """A session from its start to its end."""
        return await self.stopped(await self.start(program, **fields))

    async def waiting(self, program: str, **fields: Any) -> tuple[str, str]:
        """A session that waits for an approval, and the id of that."""
        session_id = await self.start(program, **fields)
        requested = await self.comes_to(session_id, "approval.requested")
        return session_id, str(requested["payload"]["approval_id"])

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        return ({} if self.key is None else {"Authorization": f"Bearer {self.key}"}) | dict(headers or {})


def frame_of(text: bytes) -> Frame | None:
    """One frame without its blank line; None for a comment or a word about retrying."""
    fields = dict(line.split(": ", 1) for line in text.decode().split("\n") if ": " in line and line[0] != ":")
    if "data" not in fields:
        return None
    number = fields.get("id")
    return Frame(fields["event"], None if number is None else int(number), json.loads(fields["data"]))


async def _first_frame(stream: aiohttp.StreamReader) -> bytes:
    held = b""
    while b"data:" not in held and (piece := await stream.readany()):
        held += piece
    return held


async def together(*works: Any) -> list[Any]:
    """What all of them answer; they begin at the same time."""
    async with fail_after(_WAIT_S):
        return list(await asyncio.gather(*works))

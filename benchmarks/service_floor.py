"""The floor of `service.py`: runs over HTTP by bare aiohttp, without a store, limits, audit or recovery.

POST /agents/run starts a task that asks the model and answers its calls; GET /agents/{id}/events streams what it does.
Prints one JSON line with its address.
"""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import count
from typing import Any

import aiohttp
import orjson
from aiohttp import web

ENDED = "session.completed"


class Floor:
    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._ids = count(1)
        self._events: dict[str, asyncio.Queue[tuple[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read())
        session_id = str(next(self._ids))
        events = self._events[session_id] = asyncio.Queue()
        task = asyncio.create_task(self._drive(asked["messages"], events))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.Response(status=202, body=orjson.dumps({"session_id": session_id}), content_type="application/json")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        events = self._events.pop(request.match_info["id"])
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        kind = ""
        while kind != ENDED:
            kind, data = await events.get()
            await reply.write(b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(data)))
        return reply

    async def _drive(self, messages: list[Any], events: asyncio.Queue[tuple[str, Any]]) -> None:
        while True:
            body = orjson.dumps({"model": "bench", "messages": messages})
            async with self._http.post("/v1/chat/completions", data=body) as reply:
                answer = orjson.loads(await reply.read())["choices"][0]["message"]
            messages.append(answer)
            events.put_nowait(("model.completed", answer))
            if not answer.get("tool_calls"):
                events.put_nowait((ENDED, {}))
                return
            for call in answer["tool_calls"]:
                key = orjson.loads(call["function"]["arguments"])["key"]
                result = {"key": key, "city": "Springfield", "phone": "+1 555 0100", "open_slots": 3}
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": orjson.dumps(result).decode()})
                events.put_nowait(("tool.completed", result))


async def serve(model_url: str) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(model_url, connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
        floor = Floor(http)
        app = web.Application()
        app.router.add_post("/agents/run", floor.start)
        app.router.add_get("/agents/{id}/events", floor.stream)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))

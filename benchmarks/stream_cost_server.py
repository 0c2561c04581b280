"""A server that streams answers on the wires of all providers, so that a benchmark measures its client.

Runs in a process of its own as a bare asyncio protocol. The path names the wire; the request's user message says
`pieces=N every_ms=M`: N pieces of text, each a write of its own M milliseconds after the one before, or all of the
answer at once where M is 0. Each event is an HTTP chunk of its own. The port is printed at start.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from collections.abc import Callable
from functools import cache

_ASKED = re.compile(rb"pieces=(\d+) every_ms=(\d+)")
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST = b"0\r\n\r\n"
_WORDS = (" the", " dealer", " opens", " at", " nine", " and", " closes", " at", " half", " past", " six", ".")


class StreamProtocol(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request at a time: all that the clients here use."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _CONTENT_LENGTH.search(received, 0, end + 2)
        if len(received) >= end + 4 + (int(length[1]) if length else 0):
            request = bytes(received)
            received.clear()
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        assert self._transport is not None
        asked = _ASKED.search(request)
        assert asked is not None, "the request does not say what to stream"
        writes = answer_on(request.split(b" ", 2)[1].decode(), int(asked[1]))
        every_s = int(asked[2]) / 1000
        if every_s:
            self._write(writes, 0, every_s, asyncio.get_running_loop().time())
        else:
            self._transport.write(b"".join(writes))

    def _write(self, writes: tuple[bytes, ...], at: int, every_s: float, due: float) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(writes[at])
        if at + 1 < len(writes):
            # Never two at once to make up for a delay: they would come as one read.
            loop = asyncio.get_running_loop()
            due = max(due + every_s, loop.time() + every_s / 2)
            loop.call_at(due, self._write, writes, at + 1, every_s, due)


@cache
def answer_on(path: str, pieces: int) -> tuple[bytes, ...]:
    """The writes of one answer: its head, one for each event, its end."""
    texts = [_WORDS[number % len(_WORDS)] for number in range(pieces)]
    events: Callable[[list[str]], list[bytes]] = _chat_events
    if path.endswith("/messages"):
        events = _anthropic_events
    elif ":streamGenerateContent" in path:
        events = _gemini_events
    return (_HEAD, *(b"%x\r\n%b\r\n" % (len(event), event) for event in events(texts)), _LAST)


def _anthropic_events(texts: list[str]) -> list[bytes]:
    usage = {"input_tokens": 40, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 1}
    message: dict[str, object] = {
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "model": "bench",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    events: list[dict[str, object]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in texts),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": len(texts)},
        },
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {_json(event)}\n\n".encode() for event in events]


def _chat_events(texts: list[str]) -> list[bytes]:
    def chunk(delta: dict[str, str], finish_reason: str | None = None, **more: object) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "native_finish_reason": finish_reason}
        data = {
            "id": "gen-1767225600-bench",
            "provider": "Bench",
            "model": "bench",
            "object": "chat.completion.chunk",
            "created": 1_767_225_600,
            "choices": [{**choice, "logprobs": None}],
            **more,
        }
        return f"data: {_json(data)}\n\n".encode()

    nothing = {"role": "assistant", "content": ""}
    tokens = {"prompt_tokens": 40, "completion_tokens": len(texts), "total_tokens": 40 + len(texts)}
    return [
        *(chunk({"role": "assistant", "content": text}) for text in texts),
        chunk(nothing, "stop"),
        chunk(nothing, usage=tokens),
        b"data: [DONE]\n\n",
    ]


def _gemini_events(texts: list[str]) -> list[bytes]:
    events = []
    for number, text in enumerate(texts, 1):
        candidate: dict[str, object] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if number == len(texts):
            candidate["finishReason"] = "STOP"
        data = {
            "candidates": [candidate],
            # Counted anew in each chunk, as the service does it.
            "usageMetadata": {"promptTokenCount": 40, "candidatesTokenCount": number, "totalTokenCount": 40 + number},
            "modelVersion": "bench",
            "responseId": "bench",
        }
        events.append(f"data: {_json(data)}\r\n\r\n".encode())
    return events


def _json(data: object) -> str:
    return json.dumps(data, separators=(",", ":"))


async def _serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    server = await asyncio.get_running_loop().create_server(StreamProtocol, sock=listener)
    print(listener.getsockname()[1], flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with server:
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve())

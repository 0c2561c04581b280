"""A chat-completions server that answers at once, so that a benchmark measures its client.

Runs in a process of its own as a bare asyncio protocol. The request says what to do, in its first user message:
`steps=N` asks for N-1 tool calls and then an answer, `steps=N hold` for no answer to the last call before `GET
/release`. How far a session is shows in the number of tool results in its body. The port is printed at start.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket

TOOL = "look_up"
_ASKED = re.compile(rb"steps=(\d+)( hold)?")
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_USAGE = {"prompt_tokens": 120, "completion_tokens": 20, "total_tokens": 140}


class Counters:
    """What the server has seen, and the calls it holds back."""

    def __init__(self) -> None:
        self.calls = 0
        self.body_bytes = 0
        self.held: list[tuple[ChatProtocol, bytes]] = []
        self.waiting: list[tuple[int, ChatProtocol]] = []

    def take(self) -> bytes:
        """The counters since the last call, as JSON."""
        data = {"calls": self.calls, "body_bytes": self.body_bytes}
        self.calls = self.body_bytes = 0
        return json.dumps(data).encode()

    def hold(self, protocol: ChatProtocol, answer: bytes) -> None:
        self.held.append((protocol, answer))
        for needed, waiter in self.waiting:
            if len(self.held) >= needed:
                waiter.reply(b"{}")
        self.waiting = [entry for entry in self.waiting if len(self.held) < entry[0]]

    def wait_for(self, needed: int, waiter: ChatProtocol) -> None:
        if len(self.held) >= needed:
            waiter.reply(b"{}")
        else:
            self.waiting.append((needed, waiter))

    def release(self) -> None:
        held, self.held = self.held, []
        for protocol, answer in held:
            protocol.reply(answer)


class ChatProtocol(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request at a time: all that the clients here use."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._body_at = 0
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if not self._needed:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _CONTENT_LENGTH.search(received, 0, end + 2)
            self._body_at = end + 4
            self._needed = self._body_at + (int(length[1]) if length else 0)
        if len(received) >= self._needed:
            body_at, needed = self._body_at, self._needed
            request = bytes(received[:needed])
            del received[:needed]
            self._needed = 0
            self._answer(request, body_at)

    def _answer(self, request: bytes, body_at: int) -> None:
        counters = self._counters
        if request.startswith(b"POST"):
            counters.calls += 1
            counters.body_bytes += len(request) - body_at
            asked = _ASKED.search(request, body_at)
            steps = int(asked[1]) if asked else 1
            done = request.count(b'"role":"tool"', body_at)
            if done < steps - 1:
                self.reply(_tool_call(done + 1))
            elif asked and asked[2]:
                counters.hold(self, _final_answer(steps))
            else:
                self.reply(_final_answer(steps))
            return
        path = request.split(b" ", 2)[1]
        if path.startswith(b"/held/"):
            counters.wait_for(int(path[6:]), self)
        elif path == b"/release":
            counters.release()
            self.reply(b"{}")
        else:
            self.reply(counters.take())

    def reply(self, body: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )


def _tool_call(number: int) -> bytes:
    arguments = json.dumps({"key": f"dealer-{number}"})
    call = {"id": f"call_{number}", "type": "function", "function": {"name": TOOL, "arguments": arguments}}
    return _completion({"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls")


def _final_answer(steps: int) -> bytes:
    return _completion({"role": "assistant", "content": f"Done after {steps} steps."}, "stop")


def _completion(message: dict[str, object], finish_reason: str) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    completion = {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1_767_225_600,
        "model": "bench",
        "choices": [choice],
        "usage": _USAGE,
    }
    return json.dumps(completion, separators=(",", ":")).encode()


async def _serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    counters = Counters()
    server = await asyncio.get_running_loop().create_server(lambda: ChatProtocol(counters), sock=listener)
    print(listener.getsockname()[1], flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with server:
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve())

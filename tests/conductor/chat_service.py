"""A chat-completions service with a model behind it that does what model tests ask for, and the ways in which it may
fall short. It runs in a thread of its own, so that programs of every kind can talk to it."""

from __future__ import annotations

import base64
import json
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COUNTED = "one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve"
_COLOURS = {(255, 0, 0): "Red", (0, 128, 0): "Green", (0, 0, 255): "Blue", (255, 255, 0): "Yellow"}


@dataclass
class ChatService:
    """Each flag is a way to fall short; `leaks` is said whatever was asked.

    `refusals`: status and body, by model or by a field of the request. `held`: requests of this prompt wait for
    `release`, and `arrived` counts those that are here. `requests` are the bodies that came.
    """

    ignores_schema: bool = False
    counts: bool = True
    counts_streams: bool = True
    calls_together: bool = True
    calls_tools: bool = True
    calls_forever: bool = False
    garbles_arguments: bool = False
    makes_codes_up: bool = False
    sees: bool = True
    reasons: bool = True
    speaks: bool = True
    leaks: str | None = None
    refusals: dict[str, tuple[int, Any]] = field(default_factory=dict)
    held: str | None = None
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    release: threading.Event = field(default_factory=threading.Event)
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def message(self, body: dict[str, Any]) -> dict[str, Any]:
        """What the model answers; in text, where it was told to call tools so."""
        message = self._native(body)
        if not body.get("tools") and "tool_calls" in message:
            calls = [call["function"] for call in message["tool_calls"]]
            lines = (f"Action: {call['name']}\nAction Input: {call['arguments']}" for call in calls)
            return {"role": "assistant", "content": "\n".join(lines)}
        return message

    def _native(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt, picture = _prompt(body)
        rooms = re.findall(r"\d+", prompt) if "door code" in prompt else []
        if not rooms:
            return {"role": "assistant", "content": self._said(prompt, picture)}
        codes = _returned(body)
        missing = rooms if self.calls_forever else rooms[len(codes) :] if self.calls_tools else []
        if missing:
            asked = missing if self.calls_together else missing[:1]
            return _calls(*(("look_up_code", self._room(room)) for room in asked))
        return self._told(body, rooms, ["made-up"] * len(rooms) if self.makes_codes_up else codes)

    def _room(self, room: str) -> dict[str, Any]:
        return {"room": f"{room}0"} if self.garbles_arguments else {"room": room}

    def _told(self, body: dict[str, Any], rooms: list[str], codes: list[str]) -> dict[str, Any]:
        answer = {"room": rooms[0], "code": codes[0] if codes else "?"}
        if "final_answer" in _offered(body) and not self.ignores_schema:
            return _calls(("final_answer", answer))
        if "response_format" in body and not self.ignores_schema:
            return {"role": "assistant", "content": json.dumps(answer)}
        return {"role": "assistant", "content": f"The codes: {' '.join(codes)}"}

    def _said(self, prompt: str, picture: bytes | None) -> str:
        if self.leaks is not None:
            return self.leaks
        if not self.speaks:
            return "I would rather not."
        if picture is not None:
            return _colour(picture) if self.sees else "It is pink."
        if "17 plus 25" in prompt:
            return "42"
        return COUNTED if prompt.startswith("Count") else f"{prompt.rpartition(' ')[2].capitalize()}."

    def usage(self, body: dict[str, Any]) -> dict[str, Any] | None:
        counted = self.counts and (self.counts_streams or not body.get("stream"))
        if not counted:
            return None
        details = {"reasoning_tokens": 7} if "reasoning_effort" in body and self.reasons else {}
        return {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 25},
            "completion_tokens_details": details,
        }

    def answer(self, body: dict[str, Any]) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        self.requests.append(body)
        if self.held is not None and self.held in _prompt(body)[0]:
            self.arrived.release()
            self.release.wait(30)
        for name in (body["model"], *body):
            if name in self.refusals:
                status, refusal = self.refusals[name]
                return status, "application/json", json.dumps(refusal).encode()
        message = self.message(body)
        reason = "tool_calls" if "tool_calls" in message else "stop"
        head = {"id": "gen-1", "model": f"{body['model']}-1", "provider": "SomeHost"}
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": reason}
            whole = {**head, "choices": [choice], "usage": self.usage(body)}
            return 200, "application/json", json.dumps(whole).encode()
        return 200, "text/event-stream", b"".join(self._chunks(head, message, reason, body))

    def _chunks(
        self, head: dict[str, Any], message: dict[str, Any], reason: str, body: dict[str, Any]
    ) -> Iterator[bytes]:
        deltas: list[dict[str, Any]] = [message]
        if "tool_calls" not in message:
            deltas = [{"content": piece} for piece in message["content"].split(" ")]
            deltas = [{"content": f"{delta['content']} "} for delta in deltas[:-1]] + deltas[-1:]
        for delta in deltas:
            yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        yield _event({**head, "choices": [], "usage": self.usage(body)})
        yield b"data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _calls(*calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    wire = [
        {
            "index": at,
            "id": f"call_{at}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(given)},
        }
        for at, (name, given) in enumerate(calls)
    ]
    return {"role": "assistant", "content": None, "tool_calls": wire}


def _offered(body: dict[str, Any]) -> list[str]:
    native = [tool["function"]["name"] for tool in body.get("tools", ())]
    told = [turn["content"] for turn in body["messages"] if turn["role"] == "system"]
    return native + re.findall(r"^- (\w+):", "".join(told), re.MULTILINE)


def _returned(body: dict[str, Any]) -> list[str]:
    """What the tool returned, call by call; the text of an error has no code."""
    replies = [turn["content"] for turn in body["messages"] if turn["role"] == "tool"]
    for turn in body["messages"][1:]:
        if turn["role"] == "user" and isinstance(turn["content"], str):
            replies += re.findall(r"^Observation.*$", turn["content"], re.MULTILINE)
    found = (re.search(r'"code":"(\w+)"', reply) for reply in replies)
    return [code[1] if code else "?" for code in found]


def _prompt(body: dict[str, Any]) -> tuple[str, bytes | None]:
    """The text of the first message, and the picture beside it."""
    content = next(turn["content"] for turn in body["messages"] if turn["role"] == "user")
    if isinstance(content, str):
        return content, None
    parts = {part["type"]: part for part in content}
    picture = base64.b64decode(parts["image_url"]["image_url"]["url"].partition("base64,")[2])
    return parts["text"]["text"], picture


def _colour(png: bytes) -> str:
    """The colour of the first pixel: what a model that sees the picture would say."""
    at = png.index(b"IDAT")
    length = int.from_bytes(png[at - 4 : at], "big")
    red, green, blue = zlib.decompress(png[at + 4 : at + 4 + length])[1:4]
    return f"{_COLOURS[red, green, blue]}."


@contextmanager
def chat_service() -> Iterator[ChatService]:
    service = ChatService()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, kind, data = service.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except ConnectionError:
                self.close_connection = True  # the client was told to stop

        def log_message(self, *_: object) -> None:
            """Nothing: pytest shows what matters."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield service
        finally:
            service.release.set()
            server.shutdown()
            thread.join()

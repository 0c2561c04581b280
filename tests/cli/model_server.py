"""A chat-completions server on loopback that answers as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Held:
    """An answer that does not come before `release`; `arrived` says that the request is here."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.release = threading.Event()


class ModelServer:
    """Gives the prepared replies in order; a request too many is answered 500. `requests` are the bodies received."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self._replies: list[tuple[int, dict[str, Any]] | Held] = []
        self._held: list[Held] = []
        self._lock = threading.Lock()
        self.url = ""

    def will_answer(self, text: str) -> None:
        self._will_complete({"role": "assistant", "content": text}, "stop")

    def will_call(self, *calls: tuple[str, dict[str, Any]], content: str | None = None) -> None:
        """Each call is a tool's name with its arguments."""
        wire = [
            {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for number, (name, arguments) in enumerate(calls)
        ]
        self._will_complete({"role": "assistant", "content": content, "tool_calls": wire}, "tool_calls")

    def will_decline(self) -> None:
        """An answer that the provider holds back."""
        self._will_complete({"role": "assistant", "content": ""}, "content_filter")

    def will_refuse(self, status: int, message: str) -> None:
        self._replies.append((status, {"error": {"message": message, "type": "error", "code": status}}))

    def will_hold(self) -> Held:
        held = Held()
        self._replies.append(held)
        self._held.append(held)
        return held

    def next_reply(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.requests.append(body)
            reply = self._replies.pop(0) if self._replies else (500, {"error": {"message": "no reply was prepared"}})
        if isinstance(reply, Held):
            reply.arrived.set()
            reply.release.wait(30)
            return 500, {"error": {"message": "held"}}
        return reply

    def release_all(self) -> None:
        for held in self._held:
            held.release.set()

    def _will_complete(self, message: dict[str, Any], finish_reason: str) -> None:
        usage = {"prompt_tokens": 1200, "completion_tokens": 34, "total_tokens": 1234}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice]}
        self._replies.append((200, {**body, "usage": usage}))


@contextmanager
def model_server() -> Iterator[ModelServer]:
    answers = ModelServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, reply = answers.next_reply(body)
            data = json.dumps(reply).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except ConnectionError:
                self.close_connection = True  # the client was told to stop

        def log_message(self, *_: object) -> None:
            """Nothing: pytest shows what matters."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        answers.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield answers
        finally:
            answers.release_all()
            server.shutdown()
            thread.join()

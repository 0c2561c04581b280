"""Chat completions, as OpenRouter and local servers speak it; strict about keys, ids and arguments."""

from __future__ import annotations

import json
from typing import Any

from tests.servers.provider_server import KEY, ProviderServer, Seen


class FakeLocal(ProviderServer):
    """Asks for no key."""

    path = "/v1/chat/completions"
    base_path = "/v1"

    def refusal(self, seen: Seen) -> tuple[int, Any] | None:
        broken = violation(seen.json)
        return None if broken is None else (400, {"error": {"code": 400, "message": broken}})

    def will_say(self, text: str) -> None:
        self.will_answer(body=reply({"role": "assistant", "content": text}))


class FakeOpenRouter(FakeLocal):
    path = "/api/v1/chat/completions"
    base_path = "/api/v1"

    def refusal(self, seen: Seen) -> tuple[int, Any] | None:
        if seen.headers.get("authorization") != f"Bearer {KEY}":
            return 401, {"error": {"code": 401, "message": "No auth credentials found"}}
        return super().refusal(seen)


def reply(message: dict[str, Any], finish: str | None = "stop", **usage: Any) -> dict[str, Any]:
    return {
        "id": "gen-1",
        "object": "chat.completion",
        "created": 1,
        "model": "maker/model-1",
        "provider": "SomeHost",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "native_finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, **usage},
    }


def tool_call(call_id: str | None, name: str, arguments: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return call if call_id is None else {"id": call_id, **call}


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **fields: Any) -> bytes:
    """One event of a stream; `delta` None: a chunk without a choice."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"id": "gen-1", "object": "chat.completion.chunk", "created": 1, "model": "maker/model-1"}
    return event({**body, "provider": "SomeHost", "choices": choices, **fields})


def event(data: Any) -> bytes:
    # Half a surrogate pair travels as an escape.
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode(errors="backslashreplace")


DONE = b"data: [DONE]\n\n"


def violation(body: dict[str, Any]) -> str | None:
    """What a strict server would refuse in a request, None where nothing is wrong."""
    open_ids: list[str] = []
    for index, message in enumerate(body["messages"]):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_ids:
                return f"messages.{index}: no tool call has this tool_call_id"
            open_ids.remove(message["tool_call_id"])
            continue
        if open_ids:
            return f"messages.{index}: an assistant message with tool_calls must be followed by its tool messages"
        calls = message.get("tool_calls") or []
        open_ids = [call["id"] for call in calls]
        if len(set(open_ids)) != len(open_ids):
            return f"messages.{index}: duplicate tool call id"
        if any(not isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls):
            return f"messages.{index}: arguments must be a JSON object"
    return "the last turn's calls were not answered" if open_ids else None

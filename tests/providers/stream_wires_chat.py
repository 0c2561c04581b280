"""How OpenRouter and local servers stream: the row of each for the streaming contract."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from conductor_ai.errors import (
    KeyRefused,
    OutOfCredit,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
)
from tests.providers.stream_wires import COMMENT, StreamWire, pieces
from tests.providers.wires import LOCAL, OPENROUTER, Body
from tests.servers.chat_completions import DONE, chunk, event, reply, tool_call

_PROCESSING = b": OPENROUTER PROCESSING\n\n"


def chat_events(body: Body, usage_in_a_choice: bool = False) -> list[bytes]:
    """The chunks of a whole answer: who speaks, reasoning, text, calls, why it stopped, the bill, the end."""
    choice = body["choices"][0]
    message = choice["message"]
    deltas: list[Body] = [{"role": "assistant", "content": ""}]
    for name in ("reasoning", "reasoning_content", "content"):
        deltas += [{name: piece} for piece in pieces(message.get(name) or "")]
    deltas += [
        {"reasoning_details": [piece]} for detail in message.get("reasoning_details") or () for piece in _cut(detail)
    ]
    for index, call in enumerate(message.get("tool_calls") or ()):
        deltas += [{"tool_calls": [{"index": index, **piece}]} for piece in _cut_call(call)]
    events = [chunk(delta, model=body["model"]) for delta in deltas]
    events.append(chunk({}, choice["finish_reason"], native_finish_reason="end_turn"))
    if body.get("usage") is not None:
        last = {"role": "assistant", "content": ""} if usage_in_a_choice else None
        events.append(chunk(last, usage=body["usage"]))
    return [*events, DONE]


def _cut(detail: Body) -> list[Body]:
    if detail["type"] != "reasoning.text":
        return [detail]
    cut = [{**detail, "text": piece, "signature": None} for piece in pieces(detail["text"])]
    return [*cut, {"type": detail["type"], "index": detail["index"], "signature": detail["signature"]}]


def _cut_call(call: Body) -> list[Body]:
    function = call["function"]
    arguments = function["arguments"] if isinstance(function["arguments"], str) else json.dumps(function["arguments"])
    begun = {**call, "function": {"name": function["name"], "arguments": ""}}
    return [begun, *({"function": {"arguments": piece}} for piece in pieces(arguments))]


def _failed(error: Any, **fields: Any) -> bytes:
    return event({"id": "gen-1", "object": "chat.completion.chunk", "error": error, **fields})


def _in_a_choice(error: Any) -> bytes:
    """An error beside an ordinary choice and a bill."""
    return chunk({"content": ""}, None, error=error, usage={"prompt_tokens": 10, "completion_tokens": 3, "cost": 0.001})


_RICH = (
    reply(
        {
            "role": "assistant",
            "content": "Let me look for it … übermorgen.",
            "reasoning": "The dealer 🚗 may be closed.",
            "reasoning_details": [
                {
                    "type": "reasoning.text",
                    "text": "The dealer 🚗 may be closed.",
                    "signature": "EqQBCkYIBxgCKkDx+/==",
                    "format": "anthropic-claude-v1",
                    "index": 0,
                },
                {"type": "reasoning.encrypted", "data": "gAAAAAB+/==", "id": "rs_1", "format": "x-v1", "index": 1},
                {"type": "reasoning.encrypted", "data": "gAAAAAC+/==", "id": "rs_2", "format": "x-v1", "index": 2},
            ],
            "tool_calls": [
                {
                    **tool_call(
                        "functions.find:0", "find", '{"what": "ünï \\u00fc 🚗", "n": [1, 2.5, null, {"a": "}"}]}'
                    ),
                    "extra_content": {"google": {"thought_signature": "CsYB+/=="}},
                },
                tool_call("functions.find:1", "find", ""),
                tool_call("functions.find:2", "find", '{"what": '),
            ],
        },
        "tool_calls",
        prompt_tokens_details={"cached_tokens": 4},
        completion_tokens_details={"reasoning_tokens": 3},
        cost=0.00014625,
    ),
    reply({"role": "assistant", "content": "", "reasoning_content": "Hm. Nothing to say."}, "length"),
)

OPENROUTER_STREAM = StreamWire(
    OPENROUTER,
    partial(chat_events, usage_in_a_choice=True),
    {
        "credits": (_failed({"code": 402, "message": "Insufficient credits"}), OutOfCredit),
        "moderation": (
            _failed({"code": 403, "message": "flagged", "metadata": {"reasons": ["x"], "flagged_input": "y"}}),
            RequestRefused,
        ),
        "key": (_failed({"code": 401, "message": "User not found."}), KeyRefused),
        "timeout": (_failed({"code": 408, "message": "timed out"}), ProviderUnavailable),
        "rate limit": (_failed({"code": 429, "message": "slow down"}), RateLimited),
        "host failed": (
            _in_a_choice({"code": 502, "message": "host", "metadata": {"raw": "boom"}}),
            ProviderUnavailable,
        ),
        "nobody fits": (_failed({"code": 503, "message": "no host"}, choices=[]), ProviderUnavailable),
        "a word for a code": (_failed({"code": "server_error", "message": "x"}), ProviderUnavailable),
        "finish_reason": (chunk({"content": ""}, "error"), ProviderUnavailable),
        "finish_reason and a code": (chunk({"content": ""}, "error", error={"code": 429, "message": "x"}), RateLimited),
    },
    keep_alive=_PROCESSING,
    skipped=(
        COMMENT,
        _PROCESSING,
        chunk({"role": "assistant", "content": ""}),
        chunk({}, ""),
        chunk(None),
        event({"id": "gen-1", "choices": None}),
        event({"object": "an.object.of.next.year"}),
        b"id: 7\nretry: 100\n\n",
    ),
    rich=_RICH,
)

_LOCAL_ERRORS: dict[str, tuple[bytes, type[ProviderError]]] = {
    "500": (_failed({"code": 500, "message": "out of memory", "type": "server_error"}), ProviderUnavailable),
    "400": (_failed({"code": 400, "message": "context is full", "type": "BadRequestError"}), RequestRefused),
    "text": (event({"error": "an error was encountered while running the model"}), ProviderUnavailable),
    "null code": (_failed({"code": None, "message": "x", "type": "api_error"}), ProviderUnavailable),
}
LOCAL_STREAM = StreamWire(
    LOCAL,
    chat_events,
    _LOCAL_ERRORS,
    skipped=(COMMENT, chunk({"role": "assistant", "content": None}), chunk(None), b"id: 7\nretry: 100\n\n"),
    may_lack=2,
    rich=_RICH,
)

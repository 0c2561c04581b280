"""How each wire streams: the events that stand for a whole answer, and what may come between them or in their place.

One entry per wire drives the streaming contract. `stream_wires_chat` and `stream_wires_gemini` hold the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conductor_ai.errors import KeyRefused, OutOfCredit, ProviderError, ProviderUnavailable, RateLimited, RequestRefused
from tests.providers.wires import ANTHROPIC, Body, Wire
from tests.servers.anthropic import reply as anthropic_reply

COMMENT = b": keep-alive\n\n"


@dataclass(frozen=True)
class StreamWire:
    """`events` turns the body of a whole answer into what the service would stream for it: one element per event, its
    empty line included, line feeds only, texts and arguments in several pieces where the wire can cut them."""

    wire: Wire
    events: Callable[[Body], list[bytes]]
    errors: Mapping[str, tuple[bytes, type[ProviderError]]]
    """Events that tell of an error after the 200, and what each is to us."""
    keep_alive: bytes = COMMENT
    """Bytes that hold the connection open and are no progress."""
    skipped: tuple[bytes, ...] = (COMMENT, b"id: 7\nretry: 100\n\n", b":\n\n\n\n")
    """What may stand between two events and changes nothing."""
    may_lack: int = 0
    """How many of the last events an answer can do without, where the reply itself ends in order."""
    rich: tuple[Body, ...] = field(default=())
    """Whole answers with everything that the wire knows, besides those of `wires`."""

    @property
    def name(self) -> str:
        return self.wire.name


def named(name: str, data: Any) -> bytes:
    """An event of one data line."""
    return f"event: {name}\ndata: {_json(data)}\n\n".encode()


def unnamed(data: Any) -> bytes:
    return f"data: {_json(data)}\n\n".encode()


def _json(data: Any) -> str:
    """Characters as they are, several bytes each; a lone surrogate, which has none, as its escape."""
    text = json.dumps(data, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def pieces(text: str) -> list[str]:
    """Few characters each, so that there are many; a huge text in some hundred."""
    size = max(7, len(text) // 300)
    return [text[at : at + size] for at in range(0, len(text), size)]


def anthropic_event(kind: str, **fields: Any) -> bytes:
    return named(kind, {"type": kind, **fields})


def anthropic_error(kind: str, message: str = "Nothing more comes") -> bytes:
    return anthropic_event("error", error={"type": kind, "message": message}, request_id="req_stream")


def anthropic_events(body: Body) -> list[bytes]:
    usage = body.get("usage")
    begun = {**body, "content": [], "stop_reason": None}
    if usage:
        begun["usage"] = {**usage, "output_tokens": usage["output_tokens"] and 1}
    events = [anthropic_event("message_start", message=begun), anthropic_event("ping")]
    for index, block in enumerate(body["content"]):
        start, deltas = _block(block)
        events.append(anthropic_event("content_block_start", index=index, content_block=start))
        events += [anthropic_event("content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(anthropic_event("content_block_stop", index=index))
    changed = {"stop_reason": body["stop_reason"], "stop_sequence": body["stop_sequence"]}
    counted = None if usage is None else {name: count for name, count in usage.items() if name != "input_tokens"}
    events.append(anthropic_event("message_delta", delta=changed, usage=counted))
    return [*events, anthropic_event("message_stop")]


def _block(block: Body) -> tuple[Body, list[Body]]:
    """Its start, and the deltas that make it whole."""
    kind = block["type"]
    if kind == "text":
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
        cited = block.get("citations") or []
        deltas += [{"type": "citations_delta", "citation": citation} for citation in cited]
        start = {name: [] if name == "citations" else value for name, value in block.items()}
        return {**start, "text": ""}, deltas
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
        return {**block, "thinking": "", "signature": ""}, [
            *deltas,
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    if "input" in block:
        text = json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(text)]]
        return {**block, "input": {}}, deltas
    return block, []


_CITATION = {"type": "char_location", "cited_text": "Öffnungszeiten", "document_index": 0, "end_char_index": 9}
_FOUND = {
    "type": "web_search_result",
    "title": "A dealer",
    "url": "https://dealer.example",
    "encrypted_content": "EqI+/==",
    "page_age": None,
}
_RICH = (
    anthropic_reply(
        [
            {"type": "thinking", "thinking": "The dealer 🚗 may be\nclosed.", "signature": "EqQBCkYIBxgCKkDx+/=="},
            {"type": "redacted_thinking", "data": "Emw+/AKqw=="},
            {"type": "thinking", "thinking": "Or not.", "signature": "EqQC"},
            {"type": "text", "text": "\n\n\n\n\n\n\n\n  Let me look for it … übermorgen."},
            {"type": "text", "text": "It opens at nine.", "citations": [_CITATION, {**_CITATION, "document_index": 1}]},
            {"type": "text", "text": " \n" * 9},
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "dealer ü"}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [_FOUND]},
            {"type": "a_block_of_next_year", "x": [1]},
            {
                "type": "tool_use",
                "id": "toolu_1",
                "name": "find",
                "input": {"what": "ü 🚗 \ud83d", "n": [1, 2.5, None]},
            },
            {"type": "tool_use", "id": "toolu_2", "name": "find", "input": {}},
            {"type": "tool_use", "id": "toolu_3", "name": "find", "input": {"n": 12345678901234567890123}},
        ],
        "tool_use",
        cache_read_input_tokens=60,
        cache_creation_input_tokens=10,
        output_tokens_details={"thinking_tokens": 3},
    ),
    anthropic_reply([], "end_turn"),
    anthropic_reply([{"type": "text", "text": "I would rather n"}], "refusal"),
)


ANTHROPIC_STREAM = StreamWire(
    ANTHROPIC,
    anthropic_events,
    {
        "overloaded": (anthropic_error("overloaded_error"), ProviderUnavailable),
        "internal": (anthropic_error("api_error"), ProviderUnavailable),
        "rate limit": (anthropic_error("rate_limit_error"), RateLimited),
        "invalid request": (anthropic_error("invalid_request_error"), RequestRefused),
        "key": (anthropic_error("authentication_error"), KeyRefused),
        "credit": (anthropic_error("billing_error"), OutOfCredit),
        "of next year": (anthropic_error("an_error_of_next_year"), ProviderUnavailable),
    },
    keep_alive=anthropic_event("ping"),
    skipped=(
        COMMENT,
        anthropic_event("ping"),
        anthropic_event("an_event_of_next_year", index=0, delta={"type": "text_delta", "text": "no"}),
        b"id: 7\nretry: 100\n\n",
        b"event: nothing\n\n",
    ),
    rich=_RICH,
)

"""How Gemini streams: its row for the streaming contract."""

from __future__ import annotations

from typing import Any

from conductor_ai.errors import KeyRefused, ProviderUnavailable, RateLimited, RequestRefused
from tests.providers.stream_wires import COMMENT, StreamWire, pieces, unnamed
from tests.providers.wires import GEMINI, Body
from tests.servers.gemini import reply


def gemini_events(body: Body) -> list[bytes]:
    """The chunks of a whole answer, each of them a whole response: plain text cut, a signed part and a call not."""
    answer = {name: value for name, value in body.items() if name not in ("candidates", "usageMetadata")}
    counted = {"usageMetadata": body["usageMetadata"]} if "usageMetadata" in body else {}
    candidates = body.get("candidates")
    if not candidates:
        return [unnamed({**answer, **counted})]
    candidate = candidates[0]
    given = (candidate.get("content") or {}).get("parts")
    cut = [piece for part in given or () for piece in _cut(part)]
    if cut and set(cut[-1]) == {"text"}:
        cut.append({"text": ""})  # often all that the last chunk has
    chunks: list[Body] = [{"content": {"role": "model", "parts": [part]}, "index": 0} for part in cut]
    if not chunks:
        chunks = [{name: value for name, value in candidate.items() if name != "finishReason"}]
    if "finishReason" in candidate:
        chunks[-1]["finishReason"] = candidate["finishReason"]
    partial = _so_far(body["usageMetadata"]) if counted.get("usageMetadata") else counted
    events = [unnamed({"candidates": [chunk], **partial, **answer}) for chunk in chunks[:-1]]
    return [*events, unnamed({"candidates": [chunks[-1]], **counted, **answer})]


def _cut(part: Body) -> list[Body]:
    if not part.get("text") or set(part) - {"text", "thought"}:
        return [part]
    return [{**part, "text": piece} for piece in pieces(part["text"])]


def _so_far(usage: dict[str, Any]) -> Body:
    """Counts of the beginning: fewer, and those of 0 left out."""
    left_out = ("candidatesTokenCount", "cachedContentTokenCount")
    return {"usageMetadata": {name: count for name, count in usage.items() if name not in left_out}}


def _failed(code: int, status: str, details: list[Body] | None = None) -> bytes:
    return unnamed(
        {"error": {"code": code, "message": "Nothing more comes", "status": status, "details": details or []}}
    )


_SIGNATURE = "CsYBAVSoXO4/+w=="
GEMINI_STREAM = StreamWire(
    GEMINI,
    gemini_events,
    {
        "overloaded": (_failed(503, "UNAVAILABLE"), ProviderUnavailable),
        "internal": (_failed(500, "INTERNAL"), ProviderUnavailable),
        "deadline": (_failed(504, "DEADLINE_EXCEEDED"), ProviderUnavailable),
        "quota": (_failed(429, "RESOURCE_EXHAUSTED", [{"retryDelay": "12s"}]), RateLimited),
        "signature": (_failed(400, "INVALID_ARGUMENT"), RequestRefused),
        "key": (_failed(400, "INVALID_ARGUMENT", [{"reason": "API_KEY_INVALID"}]), KeyRefused),
        "without a code": (unnamed({"error": "text"}), ProviderUnavailable),
    },
    skipped=(
        COMMENT,
        unnamed({"modelVersion": "gemini-test-1"}),
        unnamed({"candidates": []}),
        unnamed({"a_field_of_next_year": {"text": "no"}}),
        b"id: 7\nretry: 100\n\n",
    ),
    rich=(
        reply(
            [
                {"text": "The dealer 🚗 may be closed übermorgen.", "thought": True},
                {"text": "Let me look for it … übermorgen."},
                {"text": "", "thoughtSignature": _SIGNATURE},
                {
                    "functionCall": {"name": "find", "args": {"what": "ü 🚗", "n": [1, 2.5, None]}, "id": "g1"},
                    "thoughtSignature": _SIGNATURE,
                },
                {"functionCall": {"name": "find", "args": {}}},
                {"functionCall": {"name": "find"}},
            ],
            cachedContentTokenCount=4,
            thoughtsTokenCount=3,
        ),
        reply([{"text": "Signed at its end.", "thoughtSignature": _SIGNATURE}]),
        {"promptFeedback": {"blockReason": "OTHER"}, "usageMetadata": {"promptTokenCount": 7}},
        {"candidates": [{"content": {}, "finishReason": "SAFETY"}], "usageMetadata": {"promptTokenCount": 7}},
        {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]},
    ),
)

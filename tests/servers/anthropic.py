"""Anthropic Messages, as strict as the service is said to be about keys, turns and tool results."""

from __future__ import annotations

from typing import Any

from tests.servers.provider_server import KEY, ProviderServer, Seen


class FakeAnthropic(ProviderServer):
    path = "/v1/messages"
    wants_tools_with_calls = False
    """Refuse a history with tool calls where no tool is offered. Tests of turns alone offer none."""

    def refusal(self, seen: Seen) -> tuple[int, Any] | None:
        if KEY not in (seen.headers.get("x-api-key"), seen.headers.get("authorization", "").removeprefix("Bearer ")):
            return 401, _error("authentication_error", "invalid x-api-key")
        if "anthropic-version" not in seen.headers:
            return 400, _error("invalid_request_error", "anthropic-version: header is required")
        broken = violation(seen.json) or (_tools_missing(seen.json) if self.wants_tools_with_calls else None)
        return None if broken is None else (400, _error("invalid_request_error", broken))

    def will_say(self, text: str) -> None:
        self.will_answer(body=reply([{"type": "text", "text": text}]))


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_refused"}


def reply(content: list[dict[str, Any]], stop_reason: str = "end_turn", **usage: Any) -> dict[str, Any]:
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-test-1",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5, **usage},
    }


def violation(body: dict[str, Any]) -> str | None:
    """What the service would refuse in a request, None where nothing is wrong."""
    if not isinstance(body.get("max_tokens"), int):
        return "max_tokens: Field required"
    badly_marked = _mark_violation(body)
    if badly_marked is not None:
        return badly_marked
    used: set[str] = set()
    open_ids: list[str] = []
    for index, message in enumerate(body["messages"]):
        blocks = _blocks(message["content"])
        if not blocks or any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            return f"messages.{index}: text content blocks must contain non-whitespace text"
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(answered) != sorted(open_ids):
            return f"messages.{index}: tool_use ids without tool_result in the next message, or the reverse"
        open_ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if used & set(open_ids) or len(set(open_ids)) != len(open_ids):
            return f"messages.{index}: tool_use ids must be unique"
        used |= set(open_ids)
        if any(not isinstance(block["input"], dict) for block in blocks if block["type"] == "tool_use"):
            return f"messages.{index}: tool_use.input: Input should be a valid dictionary"
    return "the last turn's calls were not answered" if open_ids else None


def _tools_missing(body: dict[str, Any]) -> str | None:
    blocks = [block for message in body["messages"] for block in _blocks(message["content"])]
    if body.get("tools") or not any(block["type"] in ("tool_use", "tool_result") for block in blocks):
        return None
    return "Requests which include `tool_use` or `tool_result` blocks must define tools"


def cached_blocks(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Every block that may carry a mark for the cache, in the order in which the service caches."""
    blocks = [*body.get("tools", ()), *_blocks(body.get("system", []))]
    for message in body["messages"]:
        blocks += _blocks(message["content"])
    return blocks


def _mark_violation(body: dict[str, Any]) -> str | None:
    marked = [block for block in cached_blocks(body) if "cache_control" in block]
    if len(marked) > 4:
        return f"A maximum of 4 blocks with cache_control may be provided. Found {len(marked)}."
    if any(block.get("type") in ("thinking", "redacted_thinking") for block in marked):
        return "thinking blocks cannot have cache_control"
    if any(block["cache_control"] != {"type": "ephemeral"} for block in marked):
        return "cache_control: Input should be ephemeral"
    return None


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content

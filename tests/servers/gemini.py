"""Gemini generateContent (v1beta), strict about keys in headers, parts and the order of function responses."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tests.servers.provider_server import KEY, ProviderServer, Seen


class FakeGemini(ProviderServer):
    path = "/v1beta/models/{model}:{method:generateContent|streamGenerateContent}"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        # Without this, the service streams one JSON array, which no reader of events understands.
        if request.match_info["method"] == "streamGenerateContent" and request.query_string != "alt=sse":
            return web.json_response([_error(400, "not asked for events", "INVALID_ARGUMENT", [])], status=400)
        return await super()._serve(request)

    def refusal(self, seen: Seen) -> tuple[int, Any] | None:
        if seen.headers.get("x-goog-api-key") != KEY:
            return 400, _error(400, "API key not valid.", "INVALID_ARGUMENT", [{"reason": "API_KEY_INVALID"}])
        broken = violation(seen.json)
        return None if broken is None else (400, _error(400, broken, "INVALID_ARGUMENT", []))

    def will_say(self, text: str) -> None:
        self.will_answer(body=reply([{"text": text}]))


def _error(code: int, message: str, status: str, details: list[dict[str, Any]]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": details}}


def reply(parts: list[dict[str, Any]], finish: str = "STOP", **usage: int) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15, **usage},
        "modelVersion": "gemini-test-1",
        "responseId": "resp-1",
    }


def chunk(parts: list[dict[str, Any]] | None, finish: str | None = None, **fields: Any) -> bytes:
    """One event of a stream, its lines ended as the service ends them; `parts` None: a candidate without content."""
    candidate: dict[str, Any] = {"index": 0} if parts is None else {"content": {"role": "model", "parts": parts}}
    if finish is not None:
        candidate["finishReason"] = finish
    return event({"candidates": [candidate], "modelVersion": "gemini-test-1", "responseId": "resp-1", **fields})


def event(data: Any) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\r\n\r\n".encode(errors="backslashreplace")


def violation(body: dict[str, Any]) -> str | None:
    """What the service would refuse in a request, None where nothing is wrong."""
    open_calls: list[tuple[str, Any]] = []
    for index, content in enumerate(body["contents"]):
        parts = content["parts"]
        if not parts or content["role"] not in ("user", "model"):
            return f"contents[{index}]: parts must not be empty"
        responses = [part["functionResponse"] for part in parts if "functionResponse" in part]
        if any(not isinstance(response["response"], dict) for response in responses):
            return f"contents[{index}]: function response must be an object"
        if [(response["name"], response.get("id")) for response in responses] != open_calls:
            return f"contents[{index}]: function responses must match the function calls of the turn before"
        calls = [part["functionCall"] for part in parts if "functionCall" in part]
        open_calls = [(call["name"], call.get("id")) for call in calls]
    return "the last turn's calls were not answered" if open_calls else None

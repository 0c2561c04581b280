"""The four wires side by side: how each says the same thing. One entry drives the contract suite."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from conductor_ai.providers.anthropic import AnthropicProvider
from conductor_ai.providers.base import Provider
from conductor_ai.providers.failures import Timeouts
from conductor_ai.providers.gemini import GeminiProvider
from conductor_ai.providers.local import LocalProvider
from conductor_ai.providers.openrouter import OpenRouterProvider
from conductor_ai.schemas.messages import StopReason
from conductor_ai.schemas.usage import Usage
from tests.servers import FakeAnthropic, FakeGemini, FakeLocal, FakeOpenRouter, ProviderServer
from tests.servers import anthropic as anthropic_server
from tests.servers import chat_completions as chat_server
from tests.servers import gemini as gemini_server
from tests.servers.provider_server import KEY

Body = dict[str, Any]
Call = tuple[str, str, Any]
"""Provider's id, tool name, arguments."""


@dataclass(frozen=True)
class Wire:
    """`says` and `calls` build reply bodies, `sent_text` finds the text of the last turn in a request body."""

    name: str
    server: type[ProviderServer]
    connect: Callable[[aiohttp.ClientSession, str, Timeouts | None], Provider]
    key_variable: str
    says: Callable[[str], Body]
    calls: Callable[[list[Call]], Body]
    violation: Callable[[Body], str | None]
    sent_text: Callable[[Body], str]
    stops: dict[str, tuple[Body, StopReason]]
    usage: tuple[Body, Usage]
    required: tuple[tuple[str | int, ...], ...]
    """Paths of the fields that a reply cannot do without."""
    counts: tuple[str, ...]
    """Where the usage stands, and the counts without which it tells nothing."""


def _anthropic(http: aiohttp.ClientSession, url: str, timeouts: Timeouts | None) -> Provider:
    return AnthropicProvider(http, api_key=KEY, base_url=url, timeouts=timeouts)


def _gemini(http: aiohttp.ClientSession, url: str, timeouts: Timeouts | None) -> Provider:
    return GeminiProvider(http, api_key=KEY, base_url=url, timeouts=timeouts)


def _openrouter(http: aiohttp.ClientSession, url: str, timeouts: Timeouts | None) -> Provider:
    return OpenRouterProvider(http, api_key=KEY, base_url=url, timeouts=timeouts)


def _local(http: aiohttp.ClientSession, url: str, timeouts: Timeouts | None) -> Provider:
    return LocalProvider(http, base_url=url, api_key=KEY, timeouts=timeouts)


def _anthropic_calls(calls: list[Call]) -> Body:
    blocks = [{"type": "tool_use", "id": id_, "name": name, "input": arguments} for id_, name, arguments in calls]
    return anthropic_server.reply(blocks, "tool_use")


def _gemini_calls(calls: list[Call]) -> Body:
    return gemini_server.reply([{"functionCall": {"name": name, "args": arguments}} for _, name, arguments in calls])


def _chat_calls(calls: list[Call]) -> Body:
    made = [chat_server.tool_call(id_, name, json.dumps(arguments)) for id_, name, arguments in calls]
    return chat_server.reply({"role": "assistant", "content": None, "tool_calls": made}, "tool_calls")


def _chat_says(text: str) -> Body:
    return chat_server.reply({"role": "assistant", "content": text})


_TEXT = {"type": "text", "text": "x"}
_ANTHROPIC_STOPS = {
    reason: (anthropic_server.reply([_TEXT], reason), expected)
    for reason, expected in {
        "end_turn": StopReason.END_TURN,
        "max_tokens": StopReason.MAX_TOKENS,
        "stop_sequence": StopReason.STOP_SEQUENCE,
        "tool_use": StopReason.TOOL_USE,
        "pause_turn": StopReason.PAUSE_TURN,
        "refusal": StopReason.REFUSAL,
        "model_context_window_exceeded": StopReason.CONTEXT_WINDOW,
        "a_reason_of_next_year": StopReason.OTHER,
    }.items()
}
_GEMINI_STOPS = {
    reason: (gemini_server.reply([{"text": "x"}], reason), expected)
    for reason, expected in {
        "STOP": StopReason.END_TURN,
        "MAX_TOKENS": StopReason.MAX_TOKENS,
        "SAFETY": StopReason.CONTENT_FILTER,
        "RECITATION": StopReason.CONTENT_FILTER,
        "PROHIBITED_CONTENT": StopReason.CONTENT_FILTER,
        "SPII": StopReason.CONTENT_FILTER,
        "BLOCKLIST": StopReason.CONTENT_FILTER,
        "MALFORMED_FUNCTION_CALL": StopReason.MALFORMED_CALL,
        "A_REASON_OF_NEXT_YEAR": StopReason.OTHER,
    }.items()
}
_CALLED = {"role": "assistant", "content": None, "tool_calls": [chat_server.tool_call("c", "find", "{}")]}
_CHAT_STOPS = {
    "stop": (_chat_says("x"), StopReason.END_TURN),
    "length": (chat_server.reply({"role": "assistant", "content": "x"}, "length"), StopReason.MAX_TOKENS),
    "length in a call": (chat_server.reply(_CALLED, "length"), StopReason.MAX_TOKENS),
    "content_filter": (
        chat_server.reply({"role": "assistant", "content": ""}, "content_filter"),
        StopReason.CONTENT_FILTER,
    ),
    "tool_calls": (chat_server.reply(_CALLED, "tool_calls"), StopReason.TOOL_USE),
    "stop with calls": (chat_server.reply(_CALLED, "stop"), StopReason.TOOL_USE),
    "null with calls": (chat_server.reply(_CALLED, None), StopReason.TOOL_USE),
    "tool_calls without calls": (
        chat_server.reply({"role": "assistant", "content": "x"}, "tool_calls"),
        StopReason.OTHER,
    ),
    "unknown": (chat_server.reply({"role": "assistant", "content": "x"}, "next_year"), StopReason.OTHER),
}
_CHAT_USAGE = (
    chat_server.reply(
        {"role": "assistant", "content": "x"},
        prompt_tokens=100,
        completion_tokens=50,
        prompt_tokens_details={"cached_tokens": 60, "cache_write_tokens": 10},
        completion_tokens_details={"reasoning_tokens": 20},
    ),
    Usage(input_tokens=30, output_tokens=50, cache_read_tokens=60, cache_write_tokens=10, reasoning_tokens=20),
)
_CHAT_REQUIRED: tuple[tuple[str | int, ...], ...] = (("choices",), ("choices", 0, "message"))

ANTHROPIC = Wire(
    "anthropic",
    FakeAnthropic,
    _anthropic,
    "ANTHROPIC_API_KEY",
    lambda text: anthropic_server.reply([{"type": "text", "text": text}]),
    _anthropic_calls,
    anthropic_server.violation,
    lambda body: str(body["messages"][-1]["content"][0]["text"]),
    _ANTHROPIC_STOPS,
    (
        anthropic_server.reply(
            [_TEXT],
            input_tokens=30,
            output_tokens=50,
            cache_read_input_tokens=60,
            cache_creation_input_tokens=10,
            output_tokens_details={"thinking_tokens": 20},
        ),
        Usage(input_tokens=30, output_tokens=50, cache_read_tokens=60, cache_write_tokens=10, reasoning_tokens=20),
    ),
    (("content",), ("content", 0, "type"), ("stop_reason",)),
    ("usage", "input_tokens", "output_tokens"),
)
GEMINI = Wire(
    "gemini",
    FakeGemini,
    _gemini,
    "GOOGLE_API_KEY",
    lambda text: gemini_server.reply([{"text": text}]),
    _gemini_calls,
    gemini_server.violation,
    lambda body: str(body["contents"][-1]["parts"][0]["text"]),
    _GEMINI_STOPS,
    (
        gemini_server.reply(
            [{"text": "x"}],
            promptTokenCount=90,
            cachedContentTokenCount=60,
            candidatesTokenCount=30,
            thoughtsTokenCount=20,
            totalTokenCount=140,
        ),
        Usage(input_tokens=30, output_tokens=50, cache_read_tokens=60, reasoning_tokens=20),
    ),
    (("candidates",),),
    ("usageMetadata", "promptTokenCount"),
)
OPENROUTER = Wire(
    "openrouter",
    FakeOpenRouter,
    _openrouter,
    "OPENROUTER_API_KEY",
    _chat_says,
    _chat_calls,
    chat_server.violation,
    lambda body: str(body["messages"][-1]["content"]),
    {**_CHAT_STOPS},
    _CHAT_USAGE,
    _CHAT_REQUIRED,
    ("usage", "prompt_tokens", "completion_tokens"),
)
LOCAL = Wire(
    "local",
    FakeLocal,
    _local,
    "LOCAL_LLM_API_KEY",
    _chat_says,
    _chat_calls,
    chat_server.violation,
    lambda body: str(body["messages"][-1]["content"]),
    {**_CHAT_STOPS},
    _CHAT_USAGE,
    _CHAT_REQUIRED,
    ("usage", "prompt_tokens", "completion_tokens"),
)
WIRES = (ANTHROPIC, GEMINI, OPENROUTER, LOCAL)

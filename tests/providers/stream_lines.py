"""The four wires as they stream, connected, and what came over one as a list."""

from __future__ import annotations

import re
from typing import Any

from conductor_ai.schemas.messages import ModelResponse
from tests.providers.lines import FIND, Line
from tests.providers.stream_wires import ANTHROPIC_STREAM, StreamWire
from tests.providers.stream_wires_chat import LOCAL_STREAM, OPENROUTER_STREAM
from tests.providers.stream_wires_gemini import GEMINI_STREAM

STREAMS = (ANTHROPIC_STREAM, GEMINI_STREAM, OPENROUTER_STREAM, LOCAL_STREAM)
Streamed = tuple[Line, StreamWire]

_MADE = re.compile(r"call_[0-9a-f-]{32,}")
_MADE_IN_WIRE = re.compile(_MADE.pattern.encode())


def unnamed_calls(response: ModelResponse) -> ModelResponse:
    """Without the ids that the adapter made itself, which no two answers share."""
    calls = tuple(
        call._replace(provider_call_id="") if _MADE.fullmatch(call.provider_call_id or "") else call
        for call in response.tool_calls
    )
    wire = _MADE_IN_WIRE.sub(b"", response.wire.json)
    return response._replace(tool_calls=calls, wire=response.wire._replace(json=wire))


async def streamed_items(line: Line, *steps: bytes) -> list[Any]:
    line.server.will_stream(*steps)
    deltas, response = await line.stream(tools=(FIND,))
    return [*deltas, unnamed_calls(response)]

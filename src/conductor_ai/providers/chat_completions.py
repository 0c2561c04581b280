"""The chat-completions wire, as far as OpenRouter and local servers share it. Source: OpenRouter API reference."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from conductor_ai.errors import ProviderError
from conductor_ai.providers import tool_arguments
from conductor_ai.providers.base import HeadSpec
from conductor_ai.providers.chat_thinking import told_apart
from conductor_ai.providers.failures import Failures
from conductor_ai.schemas import json_text
from conductor_ai.schemas.ids import new_id
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.messages import Message, ModelResponse, Role, StopReason, ToolCall, WireTurn
from conductor_ai.schemas.usage import Usage

_STOP = {
    "stop": StopReason.END_TURN,
    "tool_calls": StopReason.TOOL_USE,
    "function_call": StopReason.TOOL_USE,
    "length": StopReason.MAX_TOKENS,
    "content_filter": StopReason.CONTENT_FILTER,
}
_ECHOED = ("reasoning", "reasoning_content", "reasoning_details")
"""What a server reads in a turn that goes back, besides text and calls. Some models refuse a turn without it."""
_UPSTREAM_FAILED = 502
_SCHEMA_NAME = "answer"
"""The wire wants a name for a schema; letters, digits, _ and - only."""


def encode_head(spec: HeadSpec, extra: dict[str, Any]) -> bytes:
    """`extra` is what the servers are told in different words."""
    head: dict[str, Any] = {"model": spec.model, "max_tokens": spec.max_output_tokens, **extra}
    if spec.temperature is not None:
        head["temperature"] = spec.temperature
    if spec.tools:
        head["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in spec.tools
        ]
        if spec.must_call:
            head["tool_choice"] = "required"
    encoded = json_text.wire_dumps(head)[:-1] + b',"messages":['
    if spec.instructions:
        encoded += json_text.wire_dumps({"role": "system", "content": spec.instructions}) + b","
    return encoded


def response_format(schema: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    """Strict: a schema that a host cannot hold the model to is refused."""
    return {"type": "json_schema", "json_schema": {"name": _SCHEMA_NAME, "strict": strict, "schema": schema}}


def encode_turn(provider: str, message: Message) -> bytes:
    if message.role is Role.TOOL:
        replies = [
            {"role": "tool", "tool_call_id": _known_as(provider, reply.call), "content": reply.shown}
            for reply in message.tool_replies
        ]
        return json_text.exact(b",".join(map(json_text.wire_dumps, replies)))
    if message.role is Role.USER:
        turn: dict[str, Any] = {"role": "user", "content": _parts(message) if message.images else message.content}
    elif message.wire is not None and message.wire.provider == provider:
        return message.wire.json
    else:
        turn = {"role": "assistant", "content": message.content}
        if message.tool_calls:
            turn["tool_calls"] = [_rebuilt(provider, call) for call in message.tool_calls]
    return json_text.exact(json_text.wire_dumps(turn))


def _parts(message: Message) -> list[dict[str, Any]]:
    """The text first: OpenRouter recommends that, for how it reads the parts ("Image inputs")."""
    text = [{"type": "text", "text": message.content}] if message.content else []
    return [*text, *map(_image, message.images)]


def _image(image: Image) -> dict[str, Any]:
    if not image.data:
        raise ValueError("an image that was not fetched cannot be sent")
    return {"type": "image_url", "image_url": {"url": f"data:{image.media_type};base64,{image.data}"}}


def _known_as(provider: str, call: ToolCall) -> str:
    """The id of a call on this wire: theirs, unchanged, where it is this provider's own."""
    if call.provider_call_id is None or call.provider not in (None, provider):
        return call.call_id
    return call.provider_call_id


def _rebuilt(provider: str, call: ToolCall) -> dict[str, Any]:
    arguments = json_text.wire_dumps(call.arguments or {}).decode()
    return {
        "id": _known_as(provider, call),
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def read(
    provider: str,
    data: dict[str, Any],
    headers: Mapping[str, str],
    model: str,
    *,
    billed: Decimal | None = None,
    host: str | None = None,
) -> ModelResponse:
    """A whole answer; a streamed one has the same form once it is put together.

    Thinking that the host left in the text is reasoning; the turn goes back with it, as it came.
    """
    choice = data["choices"][0]
    message = choice["message"]
    calls: list[ToolCall] = []
    turn: dict[str, Any] = {"role": "assistant", "content": message.get("content") or ""}
    turn |= {name: message[name] for name in _ECHOED if message.get(name) not in (None, [])}
    given = message.get("tool_calls")
    if given:
        turn["tool_calls"] = [_read_call(provider, call, calls) for call in given]
    own = message.get("reasoning") or message.get("reasoning_content") or ""
    text = told_apart(text_of(message.get("content")), separated=bool(own))
    return ModelResponse(
        content=text.said,
        tool_calls=tuple(calls),
        stop_reason=stop_reason(choice.get("finish_reason"), called=bool(calls), answered=text.closed),
        usage=usage(data.get("usage")),
        wire=WireTurn(provider, json_text.exact(json_text.wire_dumps(turn))),
        answered_by=data.get("model") or model,
        reasoning=own or text.thought,
        billed_cost_usd=billed,
        request_id=data.get("id") or headers.get("x-generation-id"),
        host=host,
    )


def refused(body: dict[str, Any]) -> dict[str, Any] | None:
    """What says no in a 200, or in a chunk: once a model has begun, an error comes inside its answer."""
    if body.get("error"):
        return body
    choices = body.get("choices")
    if choices and (choices[0].get("error") or choices[0].get("finish_reason") == "error"):
        choice: dict[str, Any] = choices[0]
        return choice
    return None


def refusal(
    failures: Failures,
    body: dict[str, Any],
    headers: Mapping[str, str],
    model: str,
    *,
    billed: Decimal | None = None,
) -> ProviderError:
    """The error that `refused` found; its code is the status that it means. `billed`: what the failed answer costs."""
    error = body.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else _UPSTREAM_FAILED
    refusal = failures.refusal(status, body if error else None, headers, model, within_200=True)
    refusal.billed_cost_usd = billed
    return refusal


def _read_call(provider: str, given: dict[str, Any], calls: list[ToolCall]) -> dict[str, Any]:
    """Add one call; gives it as it may go back, with fields of the host's own and, if they can be used, its id."""
    function = given["function"]
    arguments, raw, text = _arguments(function.get("arguments"))
    name, call_id = function["name"], given.get("id")
    if not name:
        raise KeyError("name")
    if not call_id or any(call.provider_call_id == call_id for call in calls):
        call_id = f"call_{new_id()}"  # some hosts give none, or one for all
    calls.append(ToolCall("", name, arguments, raw, call_id, provider))
    if text is None and call_id == given.get("id"):
        return given
    return {**given, "id": call_id, "function": {**function, "arguments": text or function["arguments"]}}


def _arguments(given: Any) -> tuple[dict[str, Any] | None, str | None, str | None]:
    """Arguments, the raw text where they are none, and the text to send back where theirs would not be read again."""
    if isinstance(given, str):
        arguments, raw = tool_arguments.from_text(given)
        return arguments, raw, None if arguments else tool_arguments.EMPTY_OBJECT
    arguments, raw = tool_arguments.from_value(given)
    return arguments, raw, json_text.wire_dumps(arguments or {}).decode()


def text_of(content: Any) -> str:
    """Most hosts send text or null, some a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content or ())


def stop_reason(given: str | None, *, called: bool, answered: bool) -> StopReason:
    """Some hosts say "stop", or nothing, beside calls: the calls count.

    `answered` is False for a text that broke off within its thinking: who stopped there has not ended its turn.
    """
    if called and given in ("stop", "tool_calls", "function_call", "", None):
        return StopReason.TOOL_USE
    stop = _STOP.get(given or "", StopReason.OTHER)
    if stop is StopReason.END_TURN and not answered:
        return StopReason.OTHER
    return StopReason.OTHER if stop is StopReason.TOOL_USE else stop


def usage(given: dict[str, Any] | None) -> Usage | None:
    """None where one of the two counts is missing: some servers report nothing, and a half is no bill.

    The prompt includes what was read from and written to a cache, the completion includes reasoning.
    """
    if not given or given.get("prompt_tokens") is None or given.get("completion_tokens") is None:
        return None
    prompt = given.get("prompt_tokens_details") or {}
    completion = given.get("completion_tokens_details") or {}
    cached = int(prompt.get("cached_tokens") or 0)
    written = int(prompt.get("cache_write_tokens") or 0)
    return Usage(
        input_tokens=max(0, int(given["prompt_tokens"]) - cached - written),
        output_tokens=int(given["completion_tokens"]),
        cache_read_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=int(completion.get("reasoning_tokens") or 0),
    )

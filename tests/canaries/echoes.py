"""Provider servers that say back what they were sent, secrets first, in every way in which a service can fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from aiohttp import web

from tests.canaries import planted
from tests.providers.stream_wires import StreamWire
from tests.servers.provider_server import ProviderServer, Seen

Fault = Callable[[web.Request, StreamWire, str], "web.StreamResponse | list[bytes]"]
"""Makes an answer out of what is said: a whole one, or the pieces of a stream."""

_KEY_HEADERS = ("x-api-key", "x-goog-api-key", "authorization")
_OFTEN = 4
_NOW = {"retry-after": "0"}


class Careless:
    """A wire's server, open to any key, under an address with a secret path.

    Each failed answer begins with another saying: of a long message the beginning is shown.
    """

    def __init__(self, wire: StreamWire) -> None:
        self.wire = wire
        self.server = _echoing(wire.wire.server)
        self._fault: Fault = _no_json
        self._turns = count()

    def will_fail(self, fault: Fault) -> None:
        """From now on, until another is named: how often it is asked is the client's affair."""
        self._fault = fault

        async def answer(request: web.Request) -> web.StreamResponse:
            made = self._fault(request, self.wire, said(request, next(self._turns)))
            if isinstance(made, web.StreamResponse):
                return made
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            for piece in made:
                await response.write(piece)
            return response

        self.server.will_do(answer, _OFTEN)


def _echoing(kind: type[ProviderServer]) -> ProviderServer:
    class Echo(kind):  # type: ignore[valid-type, misc]
        path = f"/{planted.PATH}{kind.path}"
        base_path = f"/{planted.PATH}{kind.base_path}"

        def refusal(self, seen: Seen) -> None:
            return None

    server: ProviderServer = Echo()
    return server


def said(request: web.Request, turn: int) -> str:
    key = next(request.headers[name] for name in _KEY_HEADERS if name in request.headers).removeprefix("Bearer ")
    parts = planted.sayings(key)
    first = turn % len(parts)
    return " | ".join((*parts[first:], *parts[:first]))


def _refusal(status: int) -> Fault:
    def fault(request: web.Request, wire: StreamWire, said: str) -> web.StreamResponse:
        return web.json_response(_error(status, said), status=status, headers=_echoed(said))

    return fault


def _error(status: int, said: str) -> dict[str, Any]:
    details = [{"reason": said, "retryDelay": "0s"}]
    error = {"code": status, "type": "api_error", "status": "X", "message": said, "details": details}
    return {"type": "error", "error": {**error, "metadata": {"raw": said}}, "request_id": said}


def _echoed(said: str) -> Mapping[str, str]:
    return {**_NOW, "request-id": said, "x-echo": said, "set-cookie": f"sid={planted.COOKIE.value}"}


def _plain(request: web.Request, wire: StreamWire, said: str) -> web.StreamResponse:
    return web.Response(status=502, text=f"<h1>{said}</h1>", headers=_NOW)


def _redirect(request: web.Request, wire: StreamWire, said: str) -> web.StreamResponse:
    return web.Response(status=302, headers={"location": planted.URL, **_NOW})


def _error_in_200(request: web.Request, wire: StreamWire, said: str) -> web.StreamResponse:
    return web.json_response(_error(500, said), headers=_echoed(said))


def _no_json(request: web.Request, wire: StreamWire, said: str) -> web.StreamResponse:
    return web.Response(text=f'{{"content": {said}', content_type="application/json")


def _wrong_shape(request: web.Request, wire: StreamWire, said: str) -> web.StreamResponse:
    return web.json_response({name: [said] for name in ("content", "choices", "candidates", "usage")})


def _wrong_values(request: web.Request, wire: StreamWire, said: str) -> web.StreamResponse:
    """An answer whose every value is a text: what expects a number or a list says which text it got instead."""
    return web.json_response(_with_text(wire.wire.says("x"), said))


def _with_text(value: Any, said: str) -> Any:
    if isinstance(value, dict):
        return {name: _with_text(item, said) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_text(item, said) for item in value]
    return said


def _begun(wire: StreamWire) -> list[bytes]:
    return wire.events(wire.wire.says("Hello, hello"))[:3]


def _error_event(request: web.Request, wire: StreamWire, said: str) -> list[bytes]:
    return [*_begun(wire), f"event: error\ndata: {json.dumps(_error(500, said))}\n\n".encode()]


def _broken_event(request: web.Request, wire: StreamWire, said: str) -> list[bytes]:
    return [*_begun(wire), f'data: {{"type": "message_delta", "delta": {said}\n\n'.encode()]


def _wrong_event(request: web.Request, wire: StreamWire, said: str) -> list[bytes]:
    [first, *_] = wire.events(_with_text(wire.wire.says("x"), said))
    return [*_begun(wire), first, f"data: {json.dumps([said])}\n\n".encode()]


def _stray_text(request: web.Request, wire: StreamWire, said: str) -> list[bytes]:
    return [f"<html>{said}</html>\n".encode()]


def _cut_off(request: web.Request, wire: StreamWire, said: str) -> list[bytes]:
    return wire.events(wire.wire.says(said))[:-3]


def _answer_cut(request: web.Request, wire: StreamWire, said: str) -> web.StreamResponse:
    return web.Response(body=json.dumps(wire.wire.says(said)).encode()[:-20], content_type="application/json")


FAULTS: dict[str, Fault] = {
    **{f"status {status}": _refusal(status) for status in (400, 401, 403, 404, 429, 500, 503, 529)},
    "plain text": _plain,
    "redirect": _redirect,
    "error in a 200": _error_in_200,
    "no JSON": _no_json,
    "wrong shape": _wrong_shape,
    "wrong values": _wrong_values,
    "answer cut": _answer_cut,
}
STREAM_FAULTS: dict[str, Fault] = {
    "error event": _error_event,
    "broken event": _broken_event,
    "wrong event": _wrong_event,
    "stray text": _stray_text,
    "stream cut": _cut_off,
}

"""A request before anybody acts on it: the parts of its head that decide, and its body, bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from conductor_ai.api.refusals import BodyTooLarge, CutOff, JSONTooDeep, MalformedHead
from conductor_ai.schemas.ids import new_id

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope

MAX_BODY_BYTES = 2**20
MAX_JSON_DEPTH = 32

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_PROXY_HEADERS = (b"forwarded", b"via", b"x-real-ip")


@dataclass(slots=True)
class Head:
    """What of a request's head the gate acts on."""

    request_id: str
    host: str | None = None
    origin: str | None = None
    authorization: str | None = None
    org_id: str | None = None
    content_length: str | None = None
    requested_method: str | None = None
    has_body: bool = False
    was_forwarded: bool = False

    @classmethod
    def of(cls, scope: Scope) -> Head:
        """Raises: MalformedHead, which carries no request id of the caller's."""
        head = cls("")
        for name, value in scope["headers"]:
            field = _FIELDS.get(name)
            if field is not None:
                if getattr(head, field):
                    raise MalformedHead(f"the header {name.decode()} came twice")
                setattr(head, field, value.decode("latin-1"))
            elif name == b"transfer-encoding":
                head.has_body = True
            elif name.startswith(b"x-forwarded") or name in _PROXY_HEADERS:
                head.was_forwarded = True
        head.has_body = head.has_body or head.content_length not in (None, "0")
        if not _REQUEST_ID.fullmatch(head.request_id):
            head.request_id = new_id()
        return head


_FIELDS = {
    b"x-request-id": "request_id",
    b"host": "host",
    b"origin": "origin",
    b"authorization": "authorization",
    b"x-org-id": "org_id",
    b"content-length": "content_length",
    b"access-control-request-method": "requested_method",
}


def query_value(scope: Scope, name: str) -> str | None:
    """The last value of that name in the query string."""
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)).get(name)


def refuse_declared_size(head: Head) -> None:
    """Raises: BodyTooLarge for a body that says beforehand how large it is; no byte of it is read."""
    declared = head.content_length
    if declared is not None and declared.isdecimal() and int(declared[:20]) > MAX_BODY_BYTES:
        raise _too_large()


async def read_body(receive: Receive) -> bytes:
    """Raises: BodyTooLarge as soon as there is one byte too many; JSONTooDeep; CutOff."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CutOff("the connection ended before the body did")  # nobody waits for an answer
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise _too_large()
        parts.append(bytes(part))
        if not message.get("more_body", False):
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            if is_deeper_than(body, MAX_JSON_DEPTH):
                raise JSONTooDeep(f"the body is nested deeper than {MAX_JSON_DEPTH} levels")
            return body


def with_body(body: bytes, receive: Receive) -> Receive:
    """`receive` for whoever comes next: the body that was read, then whatever the connection says."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def is_deeper_than(body: bytes, levels: int) -> bool:
    """Whether brackets outside strings nest deeper, found without a step per byte: each round takes the innermost pairs
    away."""
    if body.count(b"[") + body.count(b"{") <= levels:
        return False
    left = _STRINGS.sub(b"", body).translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(levels):
        left = left.replace(b"[]", b"")
    return b"[" in left


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")

"""What kind of content an answer holds, and its bytes as text."""

from __future__ import annotations

import asyncio
import codecs
import re
from dataclasses import dataclass
from enum import Enum, auto

from conductor_ai.tools.web import json_layout, page_charset

_ESSENCE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,100}", re.ASCII)
_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?([\w.:+-]{1,40})""", re.IGNORECASE | re.ASCII)
_HTML_START = re.compile(
    rb"\s*(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_TEXT_APPLICATIONS = frozenset(
    f"application/{name}"
    for name in ("xml", "javascript", "ecmascript", "x-javascript", "x-ndjson", "ndjson", "jsonl", "yaml", "x-yaml")
    + ("toml", "sql", "csv", "graphql", "x-sh")
)
_LARGE_BYTES = 2**16
"""From here on text is decoded in a thread: some encodings take more than a second for a large page."""
_SNIFFED_BYTES = 1024
MAX_PRETTY_CHARS = 2**17
"""Larger JSON is shown as it came: a megabyte of it, taken apart, takes fifty of memory for a moment."""
_SMALL_CHARS = 2**12
"""Up to here JSON is laid out at once, in less time than a thread takes to start."""


class Kind(Enum):
    """How an answer is read."""

    HTML = auto()
    JSON = auto()
    TEXT = auto()
    BINARY = auto()
    UNKNOWN = auto()  # the server does not say: the bytes will


@dataclass(frozen=True, slots=True)
class ContentType:
    """A Content-Type header: `essence` in lower case and empty where it names none, `charset` as it was written."""

    essence: str
    charset: str | None

    @classmethod
    def of(cls, header: str) -> ContentType:
        essence = header.partition(";")[0].strip().lower()
        charset = _CHARSET.search(header)
        return cls(essence if _ESSENCE.fullmatch(essence) else "", charset.group(1) if charset else None)

    @property
    def kind(self) -> Kind:
        essence = self.essence
        if not essence:
            return Kind.UNKNOWN
        if essence in ("text/html", "application/xhtml+xml"):
            return Kind.HTML
        if essence in ("application/json", "text/json") or essence.endswith("+json"):
            return Kind.JSON
        if essence.startswith("text/") or essence.endswith("+xml") or essence in _TEXT_APPLICATIONS:
            return Kind.TEXT
        return Kind.BINARY


def sniff(body: bytes) -> Kind:
    """The kind of bytes that came without a content type."""
    if is_binary(body):
        return Kind.BINARY
    start = body[:_SNIFFED_BYTES]
    if _HTML_START.match(start):
        return Kind.HTML
    if start.lstrip()[:1] in (b"{", b"["):
        return Kind.JSON
    return Kind.TEXT


def is_binary(body: bytes) -> bool:
    """Whether bytes that claim to be text are none: a NUL near the start, outside UTF-16."""
    start = body[:_SNIFFED_BYTES]
    return b"\0" in start and not start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


async def text_of(body: bytes, charset: str | None) -> str:
    """Bytes as text with newlines as line ends; `charset` is the header's, or None."""
    return await asyncio.to_thread(_text_of, body, charset) if len(body) > _LARGE_BYTES else _text_of(body, charset)


def _text_of(body: bytes, charset: str | None) -> str:
    text = page_charset.text_of(body, charset)
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


async def pretty_json(text: str) -> str:
    """JSON text indented, its strings readable; as it came where it is no JSON or too large to take apart."""
    if len(text) > MAX_PRETTY_CHARS:
        return text
    return (
        json_layout.indented(text) if len(text) <= _SMALL_CHARS else await asyncio.to_thread(json_layout.indented, text)
    )

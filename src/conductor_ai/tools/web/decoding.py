"""Content-Encoding undone in bounded steps: a small input never becomes a large output in one go."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from conductor_ai.tools.web.failures import FetchFailed

ACCEPT_ENCODING = "gzip, deflate, identity"
PIECE_BYTES = 2**16
"""The most that one step gives."""
_MAX_MEMBERS = 1000
_GZIP_MAGIC = b"\x1f\x8b"


class Decoder(Protocol):
    """Turns the bytes of the wire into those of the page."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` adds, in pieces made one at a time. Raises: FetchFailed where it is not what it claims to be."""
        ...

    @property
    def complete(self) -> bool:
        """Whether what was fed can be all of it."""
        ...


def decoder_for(content_encoding: str) -> Decoder:
    """The decoder for the value of a Content-Encoding header. Raises: FetchFailed where there is none."""
    codings = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if not codings:
        return _Identity()
    if codings in (["gzip"], ["x-gzip"]):
        return _Gzip()
    if codings == ["deflate"]:
        return _Deflate()
    raise FetchFailed(
        f"the server answered in the encoding {', '.join(codings)[:80]!r} although only {ACCEPT_ENCODING} were offered:"
        " use another source"
    )


class _Identity:
    complete = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data


class _Deflate:
    """RFC 9110 means the zlib format; some servers send the bare deflate stream. Its first byte tells them apart."""

    def __init__(self) -> None:
        self._head = b""
        self._inflater: zlib._Decompress | None = None

    @property
    def complete(self) -> bool:
        return self._inflater.eof if self._inflater is not None else not self._head

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inflater is None:
            data, self._head = self._head + data, b""
            if len(data) < 2:
                self._head = data
                return
            is_zlib = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        yield from _inflate(self._inflater, data)


class _Gzip:
    """One member or several, one after another; what follows the last and is no member is padding, and is dropped."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._between = b""
        self._members = 0
        self._started = False

    @property
    def complete(self) -> bool:
        return self._inflater.eof or not self._started

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._started = self._started or bool(data)
        while data:
            if self._inflater.eof:
                self._between += data
                if len(self._between) < len(_GZIP_MAGIC):
                    return
                data, self._between = self._between, b""
                if not data.startswith(_GZIP_MAGIC):
                    return
                self._next_member()
            yield from _inflate(self._inflater, data)
            data = self._inflater.unused_data

    def _next_member(self) -> None:
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise _broken()
        self._inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)


def _inflate(inflater: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    try:
        while not inflater.eof:
            piece = inflater.decompress(data, PIECE_BYTES)
            data = inflater.unconsumed_tail
            if piece:
                yield piece
            if not data and len(piece) < PIECE_BYTES:
                return
    except zlib.error as exc:
        raise _broken() from exc


def _broken() -> FetchFailed:
    return FetchFailed("the answer's compressed data is broken: try once more, or use another source")

"""Server-sent events out of bytes, as they come. Source: HTML standard, 9.2.6 "Interpreting an event stream"."""

from __future__ import annotations

from typing import NamedTuple

MAX_EVENT_BYTES = 16 * 2**20
_MAX_STRAY_BYTES = 2**16
_BOM = b"\xef\xbb\xbf"
_CR, _LF = 13, 10


class SSEvent(NamedTuple):
    """One event: its name, b"" where it has none, and its data lines joined by line feeds."""

    name: bytes
    data: bytes


class SSEParser:
    """Takes the bytes of one stream in pieces of any size, cut anywhere, also within a character or between CR and LF.

    Comments, ids and retry times are no events and leave no trace. An event that its stream does not end with an empty
    line is none. What a server that broke off its events said in plain lines is kept: see `stray`.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_data_bytes",
        "_max_bytes",
        "_name",
        "_part",
        "_stray",
        "_stray_bytes",
    )

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_event_bytes
        self._name = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._part = bytearray()  # a line that has not ended
        self._after_cr = False
        self._at_start = True
        self._stray: list[bytes] = []
        self._stray_bytes = 0

    def feed(self, chunk: bytes) -> list[SSEvent]:
        """The events that `chunk` completes. Raises: ValueError where a line or an event is too large."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return []
        last = chunk[-1]
        self._after_cr = last == _CR
        lines = chunk.splitlines()  # of bytes: at CR, LF and CR LF, and nowhere else
        begun = None if last in (_CR, _LF) else lines.pop()
        if self._part and lines:
            self._part += lines[0]
            lines[0] = bytes(self._part)
            self._part.clear()
        events = self._read(lines)
        if begun is not None:
            self._part += begun
            self._check(len(self._part))
        return events

    @property
    def stray(self) -> bytes:
        """The lines, at most 64 kB, that are nothing an event stream knows: an error in plain JSON, a page."""
        return b"\n".join([*self._stray, self._part[:_MAX_STRAY_BYTES]])

    def _read(self, lines: list[bytes]) -> list[SSEvent]:
        events: list[SSEvent] = []
        if self._at_start and lines:
            lines[0] = lines[0].removeprefix(_BOM)
            self._at_start = False
        for line in lines:
            if line.startswith(b"data: "):
                self._add(line[6:])
            elif not line:
                if self._data:
                    data = self._data
                    events.append(SSEvent(self._name, data[0] if len(data) == 1 else b"\n".join(data)))
                    self._data, self._data_bytes = [], 0
                self._name = b""
            elif line.startswith(b"data:"):
                self._add(line[5:])
            elif line.startswith(b"event:"):
                self._name = line[7:] if line.startswith(b" ", 6) else line[6:]
            else:
                self._other(line)
        return events

    def _add(self, data: bytes) -> None:
        self._data.append(data)
        self._data_bytes += len(data) + 1
        self._check(self._data_bytes)

    def _other(self, line: bytes) -> None:
        field = line.partition(b":")[0]
        if line == b"data":
            self._add(b"")
        elif line == b"event":
            self._name = b""
        elif field not in (b"", b"id", b"retry") and self._stray_bytes + len(line) < _MAX_STRAY_BYTES:
            self._stray.append(line)
            self._stray_bytes += len(line) + 1

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise ValueError(f"an event is larger than {self._max_bytes:,} bytes")

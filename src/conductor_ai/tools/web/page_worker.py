"""The process that reads pages: one request in, one answer out, until its standard input ends.

Markup is hostile, its parsers are written in C and Rust, and neither can be interrupted. So they run here: this process
can be killed at a deadline, may crash or run out of its memory, and takes nobody with it. It holds no secret: its
environment is empty but for the search path of libraries.

A message is eight bytes of length, then JSON and, of a request, the page's bytes behind it as a message of its own.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from pathlib import Path

LENGTH = struct.Struct(">Q")

# Measured: 0.06 GB of address space to start with, 0.2 GB for an article of 5 MB, 0.6 GB for 4 MB of `<p>x`.
_MAX_ADDRESS_SPACE = 2 << 30
# A process that has been this large keeps its heap; a new one starts within half a second.
_WORN_RSS = 256 << 20


def main() -> None:
    """Serve the socket that is standard input."""
    with socket.socket(fileno=os.dup(0)) as connection:
        _bound()
        serve(connection)


def serve(connection: socket.socket) -> None:
    import orjson

    from conductor_ai.tools.web.page_markdown import read_page

    while (head := receive(connection)) is not None:
        request = orjson.loads(head)
        body = receive(connection)
        if body is None:
            return
        _allow_cpu(request["cpu_s"])
        page = read_page(bytes(body), url=request["url"], charset=request["charset"])
        del body
        reply = orjson.dumps(
            {
                "title": _sendable(page.title),
                "content": _sendable(page.content),
                "links": [(_sendable(link.text), _sendable(link.url)) for link in page.links],
                "worn": _largest_rss() > _WORN_RSS,
            }
        )
        connection.sendall(LENGTH.pack(len(reply)) + reply)


def receive(connection: socket.socket) -> bytearray | None:
    """One message; None where the other side is gone."""
    head = _exactly(connection, LENGTH.size)
    return None if head is None else _exactly(connection, LENGTH.unpack(head)[0])


def _exactly(connection: socket.socket, size: int) -> bytearray | None:
    message = bytearray(size)
    view = memoryview(message)
    while view:
        received = connection.recv_into(view)
        if not received:
            return None
        view = view[received:]
    return message


def _sendable(text: str) -> str:
    """Half of a surrogate pair is no character, and cannot be sent as UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _bound() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "darwin":  # which refuses any value
        _lower(resource.RLIMIT_AS, _MAX_ADDRESS_SPACE)


def _allow_cpu(cpu_s: int) -> None:
    """The deadline is kept from outside. This one ends a loop whose owner was killed and can keep no deadline."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + cpu_s + 1)


def _lower(limit: int, value: int) -> None:
    """Set the soft limit; where somebody set a lower hard one, that is kept."""
    import resource

    _, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _largest_rss() -> int:
    """Of this program; `ru_maxrss` would count what the process was before, a copy of its parent."""
    import resource

    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    if found := re.search(r"^VmHWM:\s*(\d+) kB", status, re.M):
        return int(found[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024

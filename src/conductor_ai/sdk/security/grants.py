"""Exceptions from the guard, one `host:port` pair each: for tests, and for servers of one's own network."""

from __future__ import annotations

import os

from conductor_ai.errors import InvalidInput, SSRFError
from conductor_ai.sdk.security.hosts import parse_host
from conductor_ai.sdk.security.urls import parse_port, split_port

VARIABLE = "CONDUCTOR_FETCH_GRANTS"


def grants_of_environment() -> frozenset[tuple[str, int]]:
    """What the operator of this process grants. Raises: InvalidInput that names the variable."""
    try:
        return parse_grants(os.environ.get(VARIABLE, ""))
    except InvalidInput as exc:
        raise InvalidInput(f"{VARIABLE}: {exc}", hint=exc.hint) from exc


def parse_grants(text: str) -> frozenset[tuple[str, int]]:
    """Read "wiki.corp:8080, [::1]:9000" into pairs of a canonical host and a port. Blank text grants nothing.

    Raises: InvalidInput for an entry without a port, with a wildcard, a scheme or anything else beyond the pair.
    """
    return frozenset(parse_grant(entry.strip()) for entry in text.split(",")) if text.strip() else frozenset()


def parse_grant(entry: str) -> tuple[str, int]:
    try:
        host, port = split_port(entry)
        if port is not None:
            return parse_host(host), parse_port(port)
    except SSRFError as exc:
        raise InvalidInput(f"{entry!r} grants nothing: {str(exc).removeprefix('refused: ')}") from exc
    raise InvalidInput(f"{entry!r} grants nothing: it has no port", hint="Write host:port, as in wiki.corp:8080.")

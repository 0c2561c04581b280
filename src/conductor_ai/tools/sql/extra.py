"""Whether what Postgres needs is installed."""

from __future__ import annotations

from importlib.util import find_spec

from conductor_ai.errors import MissingExtra

_PACKAGES = ("pglast", "psycopg")


def require_extra(tool: str) -> None:
    """Raises: MissingExtra where Postgres cannot be used."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"{tool} needs packages that are not installed: {', '.join(missing)}",
            hint='pip install "conductor-ai[sql]"',
        )

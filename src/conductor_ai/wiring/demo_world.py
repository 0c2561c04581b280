"""The world of `conductor demo --full`: a site on loopback and a database, made up and the same each time."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

DATABASE_TABLES = ("dealers", "sales")

_INDEX = {"AZ": 0.9, "CA": 2.4, "NV": 0.7, "OR": 1.1, "TX": 2.1, "WA": 1.3}
_DEALERS_PER_STATE = 4
_MONTHS = tuple(f"2026-{month:02d}" for month in range(1, 11))
_SCHEMA = """
CREATE TABLE dealers (dealer_id INTEGER PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, phone TEXT NOT NULL);
CREATE TABLE sales (dealer_id INTEGER NOT NULL REFERENCES dealers, month TEXT NOT NULL, cars INTEGER NOT NULL,
                    revenue_usd NUMERIC NOT NULL, PRIMARY KEY (dealer_id, month));
CREATE TABLE staff (name TEXT NOT NULL, salary_usd INTEGER NOT NULL);
INSERT INTO staff VALUES ('nobody may read this table', 0);
"""


def make_database(path: Path) -> None:
    """Write the database anew, dealers with ten months of sales. Blocks: call it in a worker thread. Raises: OSError,
    sqlite3.Error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    chance = random.Random(7)  # noqa: S311  the same world each time
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_SCHEMA)
        for number, state in enumerate(sorted(_INDEX) * _DEALERS_PER_STATE, start=1):
            phone = f"+1-555-{number:04d}"
            connection.execute(
                "INSERT INTO dealers VALUES (?, ?, ?, ?)", (number, f"{state} Cars {number}", state, phone)
            )
            for month in _MONTHS:
                cars = max(1, round(_INDEX[state] * chance.uniform(4, 16)))
                row = (number, month, cars, cars * chance.randrange(18_000, 42_000))
                connection.execute("INSERT INTO sales VALUES (?, ?, ?, ?)", row)


@asynccontextmanager
async def demo_site() -> AsyncIterator[str]:
    """Serve one page on a free port of loopback. Yields: its address."""
    from aiohttp import web

    rows = "".join(f"<tr><td>{state}</td><td>{value}</td></tr>" for state, value in _INDEX.items())
    page = (
        "<!doctype html><title>Demand index</title><h1>Demand for cars by state</h1>"
        f"<table><tr><th>State</th><th>Index</th></tr>{rows}</table><p>Every figure here is made up.</p>"
    )

    async def index(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    app = web.Application()
    app.router.add_get("/index.html", index)
    server = web.AppRunner(app, access_log=None)
    await server.setup()
    try:
        await web.TCPSite(server, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{server.addresses[0][1]}/index.html"
    finally:
        await server.cleanup()

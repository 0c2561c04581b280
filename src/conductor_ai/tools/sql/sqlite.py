"""One query on a SQLite file, in a process of its own that ends with the answer or is killed at the deadline."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conductor_ai.schemas import json_text
from conductor_ai.tools.sql.address import SQLiteAddress
from conductor_ai.tools.sql.answer import Answer, Caps
from conductor_ai.tools.sql.failures import QueryFailed, refused, too_slow
from conductor_ai.tools.sql.policy import DEFAULT_SCHEMA, SQLPolicy

_WORKER = Path(__file__).with_name("sqlite_worker.py")
# Where an interpreter finds its own libraries, on systems that need to be told.
_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_GRACE_S = 0.7
"""What the process has beyond the deadline, to start and to say so itself."""
_BYTES_OF_A_CHARACTER = 4
"""As JSON in ASCII has it, at most, for each byte of the cap."""
_ROOM_FOR_NAMES = 1 << 20
_MOST_CHARS = 500
_MAIN = "main"
_DENIED = ("prohibited", "not authorized", "authorization denied", "one statement at a time")
_TOO_MUCH = ("disk I/O error", "disk is full", "out of memory", "more memory", "too big")


@dataclass(frozen=True, slots=True)
class SQLiteDatabase:
    """A file, and the tables of it that may be read. All orgs read the same rows: a file has no roles."""

    address: SQLiteAddress
    policy: SQLPolicy
    caps: Caps = field(default_factory=Caps)

    async def query(self, sql: str, given: dict[str, Any], org_id: str | None) -> Answer:
        """Run one statement. Raises: QueryFailed."""
        reply = await self._ask({"sql": sql, "params": _parameters(given)})
        answer = Answer(reply["columns"], reply["rows"], truncated_by=reply["truncated_by"])
        answer.size_bytes = len(json_text.dumps(answer.rows).encode())
        return answer

    async def describe(self, only: str | None, org_id: str | None) -> list[dict[str, Any]]:
        """The tables that may be read, or one of them, as far as the file has them. Raises: QueryFailed."""
        name = None if only is None else only.rpartition(".")[2]
        described: list[dict[str, Any]] = (await self._ask({"sql": None, "only": name}))["tables"]
        if only is not None and not described:
            raise QueryFailed(f"there is no table {only!r}; tables are: {', '.join(self._names()) or 'none'}")
        return described

    def _names(self) -> list[str]:
        return sorted(table.name for table in self.policy.allowed if table.schema in (DEFAULT_SCHEMA, _MAIN))

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Raises: QueryFailed."""
        if not self.address.path.is_file():
            raise QueryFailed(f"{self.address.shown} is not there: go on without the database")
        limits = {
            "path": str(self.address.path.resolve()),
            "tables": self._names(),
            "max_rows": self.caps.max_rows,
            "max_bytes": self.caps.max_bytes,
            "timeout_s": self.caps.timeout_s,
        }
        reply = await self._run(json.dumps({**limits, **request}).encode())
        if (error := reply.get("error")) is not None:
            raise self._told(error)
        return reply

    async def _run(self, request: bytes) -> dict[str, Any]:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_WORKER)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            )
        except OSError as exc:
            raise QueryFailed(f"no process could be started to read it ({exc.strerror or exc})") from exc
        is_over = False
        try:
            async with asyncio.timeout(self.caps.timeout_s + _GRACE_S):
                longest = _BYTES_OF_A_CHARACTER * self.caps.max_bytes + _ROOM_FOR_NAMES
                reply = await _exchange(process, request, longest)
                if reply:
                    await process.wait()
                    is_over = True
        except TimeoutError as exc:
            raise too_slow(self.caps.timeout_s) from exc
        finally:
            if not is_over:  # `kill` looks at a process first, and may take its end from whoever waits for it
                process.kill()
                await process.wait()
        if not reply:
            raise QueryFailed("the process that reads it died of the query: ask for less")
        found: dict[str, Any] = json.loads(reply)
        return found

    def _told(self, error: str) -> QueryFailed:
        if error == "interrupted":
            return too_slow(self.caps.timeout_s)
        if any(words in error for words in _TOO_MUCH):
            return QueryFailed(f"it is too much ({error[:_MOST_CHARS]}): sort, join or build less at a time")
        if any(words in error for words in _DENIED):
            tables = ", ".join(self._names()) or "none"
            return refused(f"{error[:_MOST_CHARS]}: one SELECT over these tables, with ordinary functions: {tables}")
        return QueryFailed(f"the database refused it: {error[:_MOST_CHARS]}")


async def _exchange(process: asyncio.subprocess.Process, request: bytes, longest: int) -> bytes:
    """Its whole answer; nothing where it is longer than any."""
    assert process.stdin is not None and process.stdout is not None, "both are pipes"
    process.stdin.write(request)
    process.stdin.close()
    reply = bytearray()
    while chunk := await process.stdout.read(1 << 16):
        reply += chunk
        if len(reply) > longest:
            return b""
    return bytes(reply)


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    """Raises: QueryFailed for a value that SQLite cannot have."""
    values: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise QueryFailed(f"the parameter {name} is too large a number for SQLite")
        try:
            values[name] = json_text.dumps(value) if isinstance(value, dict | list) else value
            json.dumps(values[name], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise QueryFailed(f"the parameter {name} holds a character that a database does not store") from None
    return values

"""Tools as careless as can be: they repeat secrets in results, errors, facts, log lines and records of their own."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from conductor_ai.observability import AuditLogger, AuditRecord, audit_logged
from conductor_ai.sdk import BaseTool, ToolCategory, ToolDefinition, ToolResult
from tests.canaries import planted

_logger = logging.getLogger("a_plugin")


class Leaky(BaseTool):
    """`told` is what it repeats; `audit` is the session's logger."""

    name = "leaky"

    def __init__(self, told: str, audit: AuditLogger) -> None:
        self._told = told
        self._audit = audit

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(
            name=self.name,
            description="A tool of a test.",
            category=ToolCategory.DATA,
            effect="read",
            parameters={"type": "object", "properties": {}},
        )

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        raise NotImplementedError

    def failed(self, error: str) -> ToolResult:
        return ToolResult(tool_name=self.name, success=False, error=error)


class Repeats(Leaky):
    name = "repeats"

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        told = self._told
        return ToolResult(tool_name=self.name, success=True, result={told: told, "list": [told], "text": told})


class Raises(Leaky):
    name = "raises"

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        try:
            raise KeyError(self._told)
        except KeyError as exc:
            raise ConnectionError(f"cannot reach {planted.URL}: {self._told}") from exc


class SaysNo(Leaky):
    name = "says_no"

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        return self.failed(f"GET {planted.URL} said {self._told}")


class Records(Leaky):
    """What it does is on record in every way that a tool has."""

    name = "records"

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        self.context.progress(self._told)
        self.context.record(url=planted.URL, headers={"Authorization": self._told})
        # Text of a tool's own that is named to be stored, in the middle of much other text.
        long = "x" * 65_000 + self._told + "y" * 10_000
        await self._audit.log(
            AuditRecord(category="web", action="fetched", metadata={"url": planted.URL, "long": long})
        )
        record = AuditRecord(
            category="web", action="called", tool_name="inner", input=planted.URL, output=self._told, success=True
        )
        await self._audit.log(record)
        await self._audit.log(AuditRecord(category="web", action=f"GET {planted.URL} with {self._told}"))

        @audit_logged("web", logger=self._audit)
        async def fetch(url: str, said: str) -> str:
            raise ValueError(f"{url} {said}")

        try:
            await fetch(planted.URL, said=self._told)
        except ValueError as exc:
            return self.failed(str(exc))
        raise AssertionError("fetch raises")


class Logs(Leaky):
    """Its log lines hold secrets, are broken, carry a traceback, or are asyncio's own about a task that failed."""

    name = "logs"

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        _logger.warning("fetched %s: %s", planted.URL, self._told)
        _logger.info("fetched", extra={"url": planted.URL})
        _logger.error("%d retries", self._told)
        try:
            raise ConnectionError(planted.URL) from KeyError(self._told)
        except ConnectionError:
            _logger.exception("failed")
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"Task exception was never retrieved: {planted.URL}", "exception": ConnectionError(self._told)}
        )
        return ToolResult(tool_name=self.name, success=True, result="logged")


TOOLS: tuple[type[Leaky], ...] = (Repeats, Raises, SaysNo, Records, Logs)

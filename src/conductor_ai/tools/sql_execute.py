"""`sql_execute`: change rows of a Postgres, each statement only after a person has read what it does.

No process has it unless a program or a plugin registers it, with the URL of a role that may write: what `sql_query`
logs in as may not.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from conductor_ai.errors import InvalidInput
from conductor_ai.sdk.base import BaseTool, ToolCategory, ToolDefinition, ToolResult
from conductor_ai.sdk.security.approval import require_approval
from conductor_ai.tools.sql import address as addresses
from conductor_ai.tools.sql.answer import Answer, Caps
from conductor_ai.tools.sql.caller import org_of_call, record_answer
from conductor_ai.tools.sql.extra import require_extra
from conductor_ai.tools.sql.failures import QueryFailed, refused
from conductor_ai.tools.sql.policy import SQLPolicy
from conductor_ai.tools.sql.validate import validate_change

if TYPE_CHECKING:
    from conductor_ai.tools.sql.policy import Statement

__all__ = ["SQLExecuteTool"]

NAME = "sql_execute"
MAX_CHANGED = 100
_GRACE_S = 5.0

_DESCRIPTION = (
    "Change rows of a PostgreSQL database with one INSERT, UPDATE or DELETE; a person reads and approves each statement"
    " before it runs. Write values as :name in the SQL and give them in `params`. A statement that would change more"
    " than {rows:,} rows changes none. RETURNING brings back rows. An error that begins with `refused:` is final for"
    " that statement."
)
_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "sql": {
            "type": "string",
            "minLength": 1,
            "description": "One statement, such as UPDATE leads SET status = :status WHERE id = :id",
        },
        "params": {"type": "object", "description": "A value for each :name in `sql`."},
    },
    "required": ["sql"],
    "additionalProperties": False,
}


class SQLExecuteTool(BaseTool):
    """Runs one change in a transaction of its own, and commits it. Nothing is kept open between calls."""

    def __init__(
        self, url: str, policy: SQLPolicy, *, caps: Caps | None = None, max_changed: int = MAX_CHANGED
    ) -> None:
        """Nothing opens here.

        Args:
            url: `postgresql://role:password@host/name`, of a role that may change the tables of `policy` and is neither
                their owner nor an administrator.
            policy: The tables that may be changed, and read on the way.
            caps: Of one call: seconds, and what RETURNING may bring back.
            max_changed: The most rows that one statement may touch.
        Raises: InvalidInput for an address that is no Postgres; MissingExtra without the `sql` extra.
        """
        require_extra(NAME)
        address = addresses.parse(url)
        if not isinstance(address, addresses.PostgresAddress):
            raise InvalidInput("sql_execute works on Postgres only", hint="give postgresql://role:password@host/name")
        from conductor_ai.tools.sql.postgres import PostgresDatabase

        caps = caps or Caps()
        self._database = PostgresDatabase(address, policy, caps)
        self._policy = policy
        self._max_changed = max_changed
        self._definition = ToolDefinition(
            name=NAME,
            description=_DESCRIPTION.format(rows=max_changed),
            category=ToolCategory.DATA,
            parameters=_PARAMETERS,
            effect="once",
            timeout_s=caps.timeout_s + _GRACE_S,
            untrusted_output=True,
        )

    @property
    def definition(self) -> ToolDefinition:
        return self._definition

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        sql, params = arguments["sql"], arguments.get("params", {})
        shown = self._database.address.shown
        try:
            verdict = await asyncio.to_thread(validate_change, sql, self._policy)
            if verdict.statement is None:
                raise refused(verdict.reason)
            await change_rows(effect=verdict.statement.effect, sql=sql, params=params)
            answer = await self._changed(verdict.statement, params)
        except QueryFailed as exc:
            return ToolResult(tool_name=NAME, success=False, error=str(exc), source=shown)
        result = {"changed": answer.changed, **answer.to_dict()}
        return ToolResult(tool_name=NAME, success=True, result=result, source=shown)

    async def _changed(self, statement: Statement, params: dict[str, Any]) -> Answer:
        answer = await self._database.change(statement, params, org_of_call(), self._max_changed)
        record_answer(self._database.address.shown, answer)
        return answer


@require_approval(category="sql_execute")
async def change_rows(effect: str, sql: str, params: dict[str, Any]) -> None:
    """What a person is asked about: the parsed effect, the statement and its values. It ends where they say yes."""

"""`sql_query`, where the settings name a database for it."""

from __future__ import annotations

from conductor_ai.errors import MissingExtra
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry


def register_sql(registry: ToolRegistry, settings: Settings) -> None:
    """Register the tool where CONDUCTOR_SQL_URL is set; without its extra it is unavailable in the registry.

    Raises: InvalidInput for a URL or for tables that cannot be used.
    """
    if settings.conductor_sql_url is None:
        return
    from conductor_ai.tools.sql_query import NAME, SQLQueryTool, policy_of

    policy = policy_of(settings.conductor_sql_tables)
    try:
        registry.register(SQLQueryTool(settings.conductor_sql_url.get_secret_value(), policy))
    except MissingExtra as exc:
        registry.keep_unavailable(NAME, exc)

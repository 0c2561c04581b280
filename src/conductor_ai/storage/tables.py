"""The tables as SQLAlchemy sees them: the columns that `listings` reads. `sql/` is where they are made."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Integer, MetaData, Table, Text

metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("org_id", Text),
    Column("status", Text),
    Column("model", Text),
    Column("agent", Text),
    Column("title", Text),
    Column("pause_reason", Text),
    Column("error", Text),
    Column("step_no", Integer),
    Column("segment_no", Integer),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("cache_read_tokens", Integer),
    Column("cache_write_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("cost_usd", Text),
    Column("owner_epoch", Integer),
    Column("owner", Text),
    Column("last_seq", Integer),
    Column("audit_seq", Integer),
    Column("audit_head", Text),
    Column("cancel_requested_at", Text),
    Column("created_at", Text),
    Column("updated_at", Text),
)

audit_logs = Table(
    "audit_logs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text),
    Column("session_id", Text),
    Column("category", Text),
    Column("action", Text),
    Column("metadata", Text),
    Column("created_at", Text),
    Column("chain_seq", Integer),
    Column("prev_hash", Text),
    Column("hash", Text),
)

audit_heads = Table(
    "audit_heads",
    metadata,
    Column("org_id", Text, primary_key=True),
    Column("session_id", Text, primary_key=True),
    Column("chain_seq", Integer),
    Column("hash", Text),
)

tool_executions = Table(
    "tool_executions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text),
    Column("session_id", Text),
    Column("call_id", Text),
    Column("tool_name", Text),
    Column("input", Text),
    Column("output", Text),
    Column("execution_time_ms", Float),
    Column("success", Boolean),
    Column("error", Text),
    Column("created_at", Text),
)

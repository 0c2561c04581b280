"""The tables as SQLAlchemy sees them: the columns that `listings` reads. `sql/` is where they are made."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, MetaData, Table, Text

from conductor_ai.storage.column_types import AsText, Moment, Money

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
    Column("cost_usd", Money),
    Column("owner_epoch", Integer),
    Column("owner", Text),
    Column("last_seq", Integer),
    Column("audit_seq", Integer),
    Column("audit_head", Text),
    Column("cancel_requested_at", Moment),
    Column("cancel_requested_by", Text),
    Column("created_at", Moment),
    Column("updated_at", Moment),
)

approvals = Table(
    "approvals",
    metadata,
    Column("approval_id", Text, primary_key=True),
    Column("session_id", Text),
    Column("org_id", Text),
    Column("step_no", Integer),
    Column("call_id", Text),
    Column("tool_name", Text),
    Column("arguments", AsText),
    Column("arguments_hash", Text),
    Column("status", Text),
    Column("requested_at", Moment),
    Column("decided_at", Moment),
    Column("decided_by", Text),
    Column("reason", Text),
    Column("action", Text),
)

audit_logs = Table(
    "audit_logs",
    metadata,
    Column("id", AsText, primary_key=True),
    Column("org_id", Text),
    Column("session_id", Text),
    Column("category", Text),
    Column("action", Text),
    Column("metadata", AsText),
    Column("created_at", Moment),
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
    Column("id", AsText, primary_key=True),
    Column("org_id", Text),
    Column("session_id", Text),
    Column("call_id", Text),
    Column("tool_name", Text),
    Column("input", AsText),
    Column("output", AsText),
    Column("execution_time_ms", Float),
    Column("success", Boolean),
    Column("error", Text),
    Column("created_at", Moment),
)

orgs = Table(
    "orgs",
    metadata,
    Column("org_id", Text, primary_key=True),
    Column("requests_per_minute", Integer),
    Column("max_running_sessions", Integer),
    Column("max_usd_per_day", Money),
    Column("max_usd_per_month", Money),
    Column("retention_days", Integer),
    Column("created_at", Moment),
    Column("updated_at", Moment),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("org_id", Text),
    Column("name", Text),
    Column("scopes", Text),
    Column("digest", LargeBinary),
    Column("created_at", Moment),
    Column("created_by", Text),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    Column("last_used_at", Moment),
    Column("in_place_of", Text),
)

model_calls = Table(
    "model_calls",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("org_id", Text),
    Column("model", Text),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("cache_read_tokens", Integer),
    Column("cache_write_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("cost_usd", Money),
    Column("created_at", Moment),
)

queued_messages = Table(
    "queued_messages",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("session_id", Text),
    Column("org_id", Text),
    Column("payload", AsText),
    Column("created_at", Moment),
)

workers = Table(
    "workers",
    metadata,
    Column("worker_id", Text, primary_key=True),
    Column("heartbeat_at", Moment),
)

-- The SQLite twin of ../002_sessions.sql. Money is text, for SQLite would make it a float.

CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY NOT NULL,
    org_id TEXT NOT NULL,
    agent TEXT,
    model TEXT NOT NULL,
    title TEXT NOT NULL,
    status TEXT NOT NULL,
    pause_reason TEXT,
    error TEXT,
    step_no INTEGER NOT NULL,
    segment_no INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost_usd TEXT,
    owner_epoch INTEGER NOT NULL,
    owner TEXT,
    last_seq INTEGER NOT NULL,
    audit_seq INTEGER NOT NULL,
    audit_head TEXT NOT NULL,
    cancel_requested_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

CREATE INDEX sessions_org ON sessions (org_id, created_at);
-- Asked once a second by every process that drives something: nearly always empty.
CREATE INDEX sessions_cancel ON sessions (session_id) WHERE cancel_requested_at IS NOT NULL;

CREATE TABLE session_events (
    session_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    type TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (session_id, seq)
);

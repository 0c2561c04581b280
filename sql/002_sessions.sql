-- Sessions: the append-only log, and its projection.

CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL,
    agent TEXT,
    model TEXT NOT NULL,
    title TEXT NOT NULL,
    status TEXT NOT NULL,
    pause_reason TEXT,
    error TEXT,
    step_no INTEGER NOT NULL,
    segment_no INTEGER NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost_usd NUMERIC,
    owner_epoch BIGINT NOT NULL,
    owner TEXT,
    last_seq BIGINT NOT NULL,
    audit_seq BIGINT NOT NULL,
    audit_head TEXT NOT NULL,
    cancel_requested_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX sessions_org ON sessions (org_id, created_at);
-- Asked once a second by every process that drives something: nearly always empty.
CREATE INDEX sessions_cancel ON sessions (session_id) WHERE cancel_requested_at IS NOT NULL;

CREATE TABLE session_events (
    session_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    type TEXT NOT NULL,
    payload JSON NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    UNIQUE (session_id, seq)
);

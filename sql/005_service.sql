-- What the service adds: orgs with their limits and keys, the ledger of model calls, keys of callers, what waits.

-- An org needs no row to exist: one without has no limits.
CREATE TABLE orgs (
    org_id TEXT PRIMARY KEY,
    requests_per_minute INTEGER,
    max_running_sessions INTEGER,
    max_usd_per_day NUMERIC,
    max_usd_per_month NUMERIC,
    retention_days INTEGER,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

-- `digest` is HMAC-SHA-256 of the key under the server's pepper; the key itself is nowhere. `scopes` are words with
-- spaces between them.
CREATE TABLE api_keys (
    key_id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    digest BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT NOT NULL,
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ
);

CREATE INDEX api_keys_org ON api_keys (org_id, created_at);

-- Spent and reserved money of an org that has a limit, rounded up: `period` is a UTC day or month, 2026-11-23 or
-- 2026-11. Billionths of a dollar, for both dialects count whole numbers alike.
CREATE TABLE org_spending (
    org_id TEXT NOT NULL,
    period TEXT NOT NULL,
    committed_nanousd BIGINT NOT NULL,
    PRIMARY KEY (org_id, period)
);

-- The ledger: one row per answered model call. It holds no content, and stays when its session is deleted.
CREATE TABLE model_calls (
    session_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    org_id TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost_usd NUMERIC,
    created_at TIMESTAMPTZ NOT NULL,
    UNIQUE (session_id, seq)
);

CREATE INDEX model_calls_org ON model_calls (org_id, created_at);

CREATE TABLE idempotency_keys (
    org_id TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    session_id TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, key)
);

CREATE INDEX idempotency_keys_session ON idempotency_keys (session_id);

-- Messages for a session that runs: each is taken out by the append that adds it to the log.
CREATE TABLE queued_messages (
    message_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    payload JSON NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX queued_messages_session ON queued_messages (session_id);

-- Processes that drive sessions, where the system has no lock that dies with its holder.
CREATE TABLE workers (
    worker_id TEXT PRIMARY KEY,
    heartbeat_at TIMESTAMPTZ NOT NULL
);

-- What a sweep looks for: nearly always short.
CREATE INDEX sessions_unfinished ON sessions (session_id)
    WHERE status IN ('queued', 'running', 'cancelling', 'waiting_approval');
CREATE INDEX sessions_org_status ON sessions (org_id, status);
CREATE INDEX audit_logs_org_time ON audit_logs (org_id, created_at);

-- The SQLite twin of ../005_service.sql.

-- An org needs no row to exist: one without has no limits.
CREATE TABLE orgs (
    org_id TEXT PRIMARY KEY NOT NULL,
    requests_per_minute INTEGER,
    max_running_sessions INTEGER,
    max_usd_per_day TEXT,
    max_usd_per_month TEXT,
    retention_days INTEGER,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

-- `digest` is HMAC-SHA-256 of the key under the server's pepper; the key itself is nowhere. `scopes` are words with
-- spaces between them.
CREATE TABLE api_keys (
    key_id TEXT PRIMARY KEY NOT NULL,
    org_id TEXT NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    digest BLOB NOT NULL,
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT,
    last_used_at TEXT
);

CREATE INDEX api_keys_org ON api_keys (org_id, created_at);

-- Spent and reserved money of an org that has a limit, rounded up: `period` is a UTC day or month, 2026-11-23 or
-- 2026-11. Billionths of a dollar, for both dialects count whole numbers alike.
CREATE TABLE org_spending (
    org_id TEXT NOT NULL,
    period TEXT NOT NULL,
    committed_nanousd INTEGER NOT NULL,
    PRIMARY KEY (org_id, period)
);

-- The ledger: one row per answered model call. It holds no content, and stays when its session is deleted.
CREATE TABLE model_calls (
    session_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    org_id TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost_usd TEXT,
    created_at TEXT NOT NULL,
    UNIQUE (session_id, seq)
);

CREATE INDEX model_calls_org ON model_calls (org_id, created_at);

CREATE TABLE idempotency_keys (
    org_id TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    session_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (org_id, key)
);

CREATE INDEX idempotency_keys_session ON idempotency_keys (session_id);

-- Messages for a session that runs: each is taken out by the append that adds it to the log.
CREATE TABLE queued_messages (
    message_id TEXT PRIMARY KEY NOT NULL,
    session_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at TEXT NOT NULL
);

CREATE INDEX queued_messages_session ON queued_messages (session_id);

-- Processes that drive sessions, where the system has no lock that dies with its holder.
CREATE TABLE workers (
    worker_id TEXT PRIMARY KEY NOT NULL,
    heartbeat_at TEXT NOT NULL
);

-- What a sweep looks for: nearly always short.
CREATE INDEX sessions_unfinished ON sessions (session_id)
    WHERE status IN ('queued', 'running', 'cancelling', 'waiting_approval');
CREATE INDEX sessions_org_status ON sessions (org_id, status);
CREATE INDEX audit_logs_org_time ON audit_logs (org_id, created_at);

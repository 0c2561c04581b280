-- The SQLite twin of ../003_approvals.sql.

CREATE TABLE approvals (
    approval_id TEXT PRIMARY KEY NOT NULL,
    session_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    step_no INTEGER NOT NULL,
    call_id TEXT NOT NULL,
    tool_name TEXT NOT NULL,
    arguments TEXT NOT NULL,
    arguments_hash TEXT NOT NULL,
    status TEXT NOT NULL,
    requested_at TEXT NOT NULL,
    decided_at TEXT,
    decided_by TEXT,
    reason TEXT
);

CREATE INDEX approvals_org ON approvals (org_id, requested_at);
CREATE INDEX approvals_session ON approvals (session_id);

-- Requests for a person's decision. `arguments` is the exact text that the hash covers.

CREATE TABLE approvals (
    approval_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    step_no INTEGER NOT NULL,
    call_id TEXT NOT NULL,
    tool_name TEXT NOT NULL,
    arguments JSON NOT NULL,
    arguments_hash TEXT NOT NULL,
    status TEXT NOT NULL,
    requested_at TIMESTAMPTZ NOT NULL,
    decided_at TIMESTAMPTZ,
    decided_by TEXT,
    reason TEXT
);

CREATE INDEX approvals_org ON approvals (org_id, requested_at);
CREATE INDEX approvals_session ON approvals (session_id);

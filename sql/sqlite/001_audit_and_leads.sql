-- The SQLite twin of ../001_audit_and_leads.sql: JSON and timestamps are text, exactly as written.

CREATE TABLE audit_logs (
    id TEXT PRIMARY KEY NOT NULL,
    org_id TEXT NOT NULL,
    session_id TEXT,
    category TEXT NOT NULL,
    action TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at TEXT NOT NULL,
    chain_seq INTEGER NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);

CREATE UNIQUE INDEX audit_logs_session_chain ON audit_logs (session_id, chain_seq) WHERE session_id IS NOT NULL;
CREATE UNIQUE INDEX audit_logs_org_chain ON audit_logs (org_id, chain_seq) WHERE session_id IS NULL;

-- The head of each org's own chain (session_id ''), and of the chains of deleted sessions. A living session keeps the
-- head of its chain in its own row.
CREATE TABLE audit_heads (
    org_id TEXT NOT NULL,
    session_id TEXT NOT NULL DEFAULT '',
    chain_seq INTEGER NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (org_id, session_id)
);

CREATE TABLE tool_executions (
    id TEXT PRIMARY KEY NOT NULL,
    org_id TEXT NOT NULL,
    session_id TEXT,
    call_id TEXT,
    tool_name TEXT NOT NULL,
    input TEXT,
    output TEXT,
    execution_time_ms REAL,
    success INTEGER,
    error TEXT,
    created_at TEXT NOT NULL
);

CREATE INDEX tool_executions_session ON tool_executions (session_id);

CREATE TABLE leads (
    id TEXT PRIMARY KEY NOT NULL,
    org_id TEXT NOT NULL,
    company TEXT NOT NULL,
    contact_name TEXT,
    contact_title TEXT,
    email TEXT,
    phone TEXT,
    website TEXT,
    city TEXT,
    region TEXT,
    country TEXT,
    source TEXT,
    status TEXT NOT NULL DEFAULT 'new',
    score REAL,
    notes TEXT,
    metadata TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

-- A lead is unique within its org, never globally: by address where there is one, else by company and phone.
CREATE UNIQUE INDEX leads_org_email ON leads (org_id, lower(email)) WHERE email IS NOT NULL;
CREATE UNIQUE INDEX leads_org_company ON leads (org_id, lower(company), coalesce(phone, '')) WHERE email IS NULL;

-- What was done, by which tool, and the leads that were found.
-- JSON columns are json, never jsonb: the audit chain hashes the exact bytes, and jsonb reorders keys and refuses \u0000.
-- No foreign keys: audit rows outlive what they speak of, and a check per row is paid on every step.

CREATE TABLE audit_logs (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id TEXT NOT NULL,
    session_id TEXT,
    category TEXT NOT NULL,
    action TEXT NOT NULL,
    metadata JSON NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    chain_seq BIGINT NOT NULL,
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
    chain_seq BIGINT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (org_id, session_id)
);

CREATE TABLE tool_executions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id TEXT NOT NULL,
    session_id TEXT,
    call_id TEXT,
    tool_name TEXT NOT NULL,
    input JSON,
    output JSON,
    execution_time_ms DOUBLE PRECISION,
    success BOOLEAN,
    error TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE INDEX tool_executions_session ON tool_executions (session_id);

CREATE TABLE leads (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
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
    score DOUBLE PRECISION,
    notes TEXT,
    metadata JSON,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- A lead is unique within its org, never globally: by address where there is one, else by company and phone.
CREATE UNIQUE INDEX leads_org_email ON leads (org_id, lower(email)) WHERE email IS NOT NULL;
CREATE UNIQUE INDEX leads_org_company ON leads (org_id, lower(company), coalesce(phone, '')) WHERE email IS NULL;

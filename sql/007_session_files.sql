-- Files that tools leave with a session; they go when the session is deleted.

-- `content` comes last, so that a list of files does not read what they hold.
CREATE TABLE session_files (
    session_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    step_no INTEGER NOT NULL,
    call_id TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (session_id, name)
);

-- As in 006.
ALTER TABLE session_files ENABLE ROW LEVEL SECURITY;
CREATE POLICY conductor_org ON session_files FOR SELECT TO conductor_api
    USING (org_id = current_setting('conductor.org_id', true));
GRANT SELECT ON session_files TO conductor_api;

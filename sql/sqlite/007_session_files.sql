-- The SQLite twin of ../007_session_files.sql.

-- `content` comes last, so that a list of files does not read what they hold.
CREATE TABLE session_files (
    session_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    step_no INTEGER NOT NULL,
    call_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (session_id, name)
);

-- Who asked for the end of a session that another process drives, as the audit names them; beside cancel_requested_at.

ALTER TABLE sessions ADD COLUMN cancel_requested_by TEXT;

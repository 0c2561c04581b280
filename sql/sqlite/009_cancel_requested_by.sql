-- The SQLite twin of ../009_cancel_requested_by.sql.

ALTER TABLE sessions ADD COLUMN cancel_requested_by TEXT;

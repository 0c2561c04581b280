-- The SQLite twin of ../004_approval_actions.sql.

ALTER TABLE approvals ADD COLUMN action TEXT;

-- A tool may stop before one step of its own: `action` names it, `category: function`. NULL: the whole call waits.

ALTER TABLE approvals ADD COLUMN action TEXT;

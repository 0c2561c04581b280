-- The SQLite twin of ../008_key_lineage.sql.

ALTER TABLE api_keys ADD COLUMN in_place_of TEXT;

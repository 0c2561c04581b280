-- Which key a key was made in place of: rotated or not, one holder stays one.

ALTER TABLE api_keys ADD COLUMN in_place_of TEXT;

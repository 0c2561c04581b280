"""For which org a transaction reads: a signature that the database checks, and that SQL cannot make.

Row-level security needs to know the org. A plain setting would do as long as nobody but us can set it, and every
session may set it. So the database gives a challenge, which names the role, the server process and the start of the
transaction; the answer is the org with an HMAC-SHA-256 over challenge and org. The policies ask
`conductor_sql.org_id()`, which checks it: without a valid answer there is no org, and so no row. An answer is worth
nothing in any other transaction.

The key comes from the role's password, which no SQL can read; the database keeps it in a table that the role cannot
read.
"""

from __future__ import annotations

import hashlib
import hmac

SCHEMA = "conductor_sql"
SETTING = "conductor_sql.identity"
_PURPOSE = b"conductor_sql identity 1"
_BLOCK = 64


def key_of(password: str) -> bytes:
    """The key that belongs to a role's password; the password cannot be had from it."""
    return hmac.digest(password.encode(), _PURPOSE, "sha256")


def pads_of(key: bytes) -> tuple[bytes, bytes]:
    """The key as HMAC mixes it into the inner and the outer hash (RFC 2104): with these, plain SHA-256 is enough."""
    block = key.ljust(_BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)


def sign(key: bytes, challenge: str, org_id: str) -> str:
    """The value of `SETTING` for one transaction: the org in hex, a dot, the signature in hex."""
    org = org_id.encode("utf-8", "surrogatepass").hex()
    return f"{org}.{hmac.new(key, f'{challenge}.{org}'.encode(), hashlib.sha256).hexdigest()}"


# Nothing but the names above goes into these texts.
CHALLENGE = f"""
CREATE OR REPLACE FUNCTION {SCHEMA}.challenge() RETURNS text
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws('.', encode(convert_to(session_user::text, 'UTF8'), 'hex'), pg_backend_pid(),
        (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint)
$$"""  # noqa: S608

ORG_ID = f"""
CREATE OR REPLACE FUNCTION {SCHEMA}.org_id() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    SELECT convert_from(decode(split_part(given.token, '.', 1), 'hex'), 'UTF8')
    FROM (SELECT current_setting('{SETTING}', true) AS token) AS given
    JOIN {SCHEMA}.keys AS k ON k.role_name = session_user
    WHERE given.token ~ '^([0-9a-f][0-9a-f])+[.][0-9a-f]{{64}}$'
        AND encode(sha256(k.outer_pad || sha256(k.inner_pad
            || convert_to({SCHEMA}.challenge() || '.' || split_part(given.token, '.', 1), 'UTF8'))), 'hex')
            = split_part(given.token, '.', 2)
$$"""  # noqa: S608

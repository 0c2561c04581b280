"""How credentials look in text: the forms in which a known one travels, and what an unknown one is known by.

Known kinds of key, URLs with a password or a token in them, and headers that carry one. What has no such mark is
ordinary text to everybody who does not know it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

from conductor_ai.schemas.secrets import can_be_hidden

REDACTED = "[redacted]"

_BEARER = r"(?i:(\bbearer +))(?:[A-Za-z0-9._~+/=-]{20,}|(?=[A-Za-z._~+/=-]*\d)[A-Za-z0-9._~+/=-]{8,})"
_BASIC = r"(?i:(\bbasic +))(?=[A-Za-z+/]*[0-9=])[A-Za-z0-9+/]{8,}={0,2}"

# The names of query parameters that carry a credential, whole and in any case.
_QUERY_NAMES = (
    r"(?:access|refresh|id|auth|session|security)?[_-]?token|(?:x-)?(?:api|subscription|access|secret)?[_-]?key"
    r"|(?:client[_-]?)?secret|sig|(?:x-(?:amz|goog)-)?signature|x-(?:amz|goog)-(?:credential|security-token)"
    r"|pass(?:word|wd)?|pwd|auth|jwt"
)
# Plain, within another URL (%26token%3D), or in JSON that escapes the ampersand.
_QUERY = rf"((?:\?|&|;|#|%(?:3[Ff]|26)|\\u0026)(?i:{_QUERY_NAMES})(?:=|%3[Dd]))[^\s&;#\"'<>\\]++"

# What stands between a header's name and its value: in a header, in JSON, in JSON within JSON, in a Python repr.
_THEN = r"\\{0,3}[\"']?\s{0,3}[:=]\s{0,3}b?\\{0,3}[\"']?"
_VALUE = r"(?:[^\s\"'\\,;]{20,}+|(?=[^\s\"'\\,;\d]*\d)[^\s\"'\\,;]{8,})"
_HEADER = (
    rf"((?i:authorization|api-key|auth-token|security-token){_THEN}(?:(?i:basic|bearer|token|digest) {{1,3}})?){_VALUE}"
)
_COOKIE = rf"((?i:cookie){_THEN})(?>[!#$%&*+.^_`|~0-9A-Za-z-]{{1,256}}+=[^\s;,\"'\\]*+(?:; ?)?)++"

_AUTHORITY = r"[^\s/?#@:\"'\\<>]"
_SLASHES = r"/\\?/"
_USERINFO = rf"({_SLASHES}{_AUTHORITY}{{0,256}}+:)[^\s/?#\"'\\<>]{{1,1024}}@"
_USER_TOKEN = rf"({_SLASHES})(?={_AUTHORITY}{{20,256}}+@)(?=[^\s/?#@\d]{{0,256}}\d){_AUTHORITY}++@"

# Each pattern is looked for only where one of its marks stands, so that text without any costs a few substring
# searches. No pattern may take more than linear time on text written to hurt it: bounded or possessive, and anchored.
_PATTERNS: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = tuple(
    (marks, re.compile(pattern), replacement)
    for marks, pattern, replacement in (
        (("sk-ant-",), r"sk-ant-[A-Za-z0-9_-]{8,}", REDACTED),
        (("sk-or-",), r"sk-or-[A-Za-z0-9_-]{8,}", REDACTED),
        (("AIza",), r"AIza[A-Za-z0-9_-]{30,}", REDACTED),
        (("cond_",), r"cond_(?:live|dev)_[a-z0-9]{8}_[A-Za-z0-9_-]{8,}", REDACTED),  # our own
        (("ghp_",), r"ghp_[A-Za-z0-9]{20,}", REDACTED),
        (("xox",), r"xox[abeoprs]-[A-Za-z0-9-]{8,}", REDACTED),
        (("AKIA",), r"AKIA[A-Z0-9]{16}(?![A-Za-z0-9])", REDACTED),
        (("eyJ",), r"eyJ[A-Za-z0-9_-]{8,512}+(?:\.[A-Za-z0-9_-]++){2,4}", REDACTED),
        (
            ("PRIVATE KEY",),
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
            REDACTED,
        ),
        # A bare word after "bearer" is prose ("bearer authentication"); a token has a digit or is long.
        (("earer ", "EARER "), _BEARER, rf"\g<1>{REDACTED}"),
        (("asic ", "ASIC "), _BASIC, rf"\g<1>{REDACTED}"),
        (("uthorization", "UTHORIZATION", "pi-", "PI-", "-token", "-Token", "-TOKEN"), _HEADER, rf"\g<1>{REDACTED}"),
        (("ookie", "OOKIE"), _COOKIE, rf"\g<1>{REDACTED}"),
        (("//", "/\\/"), _USERINFO, rf"\g<1>{REDACTED}@"),
        (("//", "/\\/"), _USER_TOKEN, rf"\g<1>{REDACTED}@"),
        (("=", "%3D", "%3d"), _QUERY, rf"\g<1>{REDACTED}"),
    )
)  # fmt: skip

MARKS = tuple(dict.fromkeys(mark for marks, _, _ in _PATTERNS for mark in marks))
"""Text without any of these has nothing that `without_credentials` would take out."""

_TIMES_ESCAPED = 4
"""How deep JSON lies within JSON: in a page that quotes some, in a call's arguments, in the turn that holds them."""


def without_credentials(text: str) -> str:
    """`text` without anything that looks like a credential. Takes linear time, whoever wrote the text."""
    for marks, pattern, replacement in _PATTERNS:
        for mark in marks:
            if mark in text:
                text = pattern.sub(replacement, text)
                break
    return text


def forms_of(secret: str) -> list[str]:
    """The forms in which a secret travels, longest first, so that the longer of two that begin alike covers the other;
    none for a secret that cannot be hidden.

    As it is and without the space around it, which no header carries; base64 in all three alignments, standard and
    URL-safe; percent-encoded; escaped as in JSON or in Python's `repr`, up to four times over.
    """
    found = {form for one in {secret, secret.strip()} if can_be_hidden(one) for form in _forms(one)}
    return sorted(found, key=lambda form: (-len(form), form))


def _forms(secret: str) -> Iterator[str]:
    data = secret.encode("utf-8", "surrogatepass")
    escaped = {secret, repr(data)[2:-1]}
    yield from escaped
    for _ in range(_TIMES_ESCAPED):
        escaped = {form for text in escaped for form in _escaped(text)}
        yield from escaped
        yield from (form.replace("/", r"\/") for form in escaped)
    yield from _percent_forms(secret)
    for form in _base64_forms(data):
        yield form
        yield from _percent_forms(form)


def _escaped(text: str) -> Iterator[str]:
    yield repr(text)[1:-1]
    for ascii_only in (True, False):
        yield json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def _base64_forms(secret: bytes) -> Iterator[str]:
    """What the secret alone decides of its base64 text, after 0, 1 or 2 other bytes in the same group of three."""
    for offset, first in ((0, 0), (1, 2), (2, 3)):
        text = base64.b64encode(b"\0" * offset + secret).decode()
        whole = text[first : 8 * (offset + len(secret)) // 6]
        yield whole
        yield whole.translate(str.maketrans("+/", "-_"))


def _percent_forms(secret: str) -> Iterator[str]:
    for encode in (quote, quote_plus):
        for safe in ("", "/"):
            text = encode(secret, safe=safe, errors="surrogatepass")
            yield text
            yield re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), text)

"""Secrets never reach a row, a log line or an error text: exact registered values, and patterns of well-known keys."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

from conductor_ai.schemas import json_text
from conductor_ai.schemas.secrets import can_be_hidden

REDACTED = "[redacted]"

_BEARER = r"(?i:(\bbearer +))(?:[A-Za-z0-9._~+/=-]{20,}|(?=[A-Za-z._~+/=-]*\d)[A-Za-z0-9._~+/=-]{8,})"
_BEARER_REDACTED = rf"\g<1>{REDACTED}"

# Each pattern is looked for only where its marker stands, so that text without any costs a few substring searches.
# No pattern may take more than linear time on text written to hurt it: bounded or possessive, anchored on the marker.
_PATTERNS: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (marker, re.compile(pattern), replacement)
    for marker, pattern, replacement in (
        ("sk-ant-", r"sk-ant-[A-Za-z0-9_-]{8,}", REDACTED),
        ("sk-or-", r"sk-or-[A-Za-z0-9_-]{8,}", REDACTED),
        ("AIza", r"AIza[A-Za-z0-9_-]{30,}", REDACTED),
        ("ghp_", r"ghp_[A-Za-z0-9]{20,}", REDACTED),
        ("xox", r"xox[abeoprs]-[A-Za-z0-9-]{8,}", REDACTED),
        ("AKIA", r"AKIA[A-Z0-9]{16}(?![A-Za-z0-9])", REDACTED),
        ("eyJ", r"eyJ[A-Za-z0-9_-]{8,512}+(?:\.[A-Za-z0-9_-]++){2,4}", REDACTED),
        (
            "PRIVATE KEY",
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
            REDACTED,
        ),
        # A bare word after "bearer" is prose ("bearer authentication"); a token has a digit or is long.
        ("earer ", _BEARER, _BEARER_REDACTED),
        ("EARER ", _BEARER, _BEARER_REDACTED),
        ("://", r"(://[^\s/?#@:\"'\\<>]{0,256}:)[^\s/?#@\"'\\<>]{1,1024}+@", rf"\g<1>{REDACTED}@"),
    )
)  # fmt: skip

_MARKERS = tuple(marker for marker, _, _ in _PATTERNS)


class Redactor:
    """Knows the secrets of this process and takes them out of text.

    Looked for are the exact values and the forms in which they travel: base64 in all three alignments (standard and
    URL-safe), percent-encoded, JSON-escaped. Values that `can_be_hidden` refuses are not registered: they are so short
    that they would match ordinary words.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._needles: tuple[str, ...] = ()
        self._marks = _MARKERS
        self._secrets: re.Pattern[str] | None = None
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """Register one more value; a short one is left out (see the class)."""
        if not can_be_hidden(secret):
            return
        # Longest first: where two forms begin at one place, the longer one covers the other.
        self._needles = tuple(sorted({*self._needles, *_forms(secret)}, key=len, reverse=True))
        self._marks = (*self._needles, *_MARKERS)
        self._secrets = re.compile("|".join(map(re.escape, self._needles)))

    def clean(self, text: str) -> str:
        """`text` without registered secrets. Patterns are left alone: one could hit a provider's signature."""
        # One substring search per form is 2 to 4 times faster than one regex over them all.
        for needle in self._needles:
            if needle in text:
                return self._without_secrets(text)
        return text

    def clean_log(self, text: str) -> str:
        """`text` without registered secrets and without anything that looks like a well-known kind of key."""
        text = self.clean(text)
        for marker, pattern, replacement in _PATTERNS:
            if marker in text:
                text = pattern.sub(replacement, text)
        return text

    def clean_json(self, text: str) -> str:
        """As `clean`, for JSON text: what comes back is JSON text too."""
        for needle in self._needles:
            if needle in text:
                return self._kept_json(text, self.clean)
        return text

    def clean_log_json(self, text: str) -> str:
        """As `clean_log`, for JSON text: what comes back is JSON text too."""
        for mark in self._marks:
            if mark in text:
                return self._kept_json(text, self.clean_log)
        return text

    def _without_secrets(self, text: str) -> str:
        return text if self._secrets is None else self._secrets.sub(REDACTED, text)

    def _kept_json(self, text: str, clean: Callable[[str], str]) -> str:
        cleaned = clean(text)
        if cleaned == text or _is_json(cleaned):
            return cleaned
        # The hit was not inside one string: a number, or a key block that reaches to the end of the text.
        return json_text.dumps(_cleaned_value(json_text.loads(text), clean))


def _cleaned_value(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _cleaned_value(item, clean) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned_value(item, clean) for item in value]
    if isinstance(value, int | float) and clean(digits := json.dumps(value)) != digits:
        return REDACTED
    return value


def _is_json(text: str) -> bool:
    try:
        json_text.loads(text)
    except ValueError:
        return False
    return True


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield from _base64_forms(secret.encode("utf-8", "surrogatepass"))
    yield from _percent_forms(secret)
    for ascii_only in (True, False):
        once = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]  # arguments travel as JSON text inside JSON
        yield once.replace("/", r"\/")


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

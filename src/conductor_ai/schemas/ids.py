"""Identifiers and clock text."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime

_VARIANT_AND_VERSION = ~(0xF << 76 | 0x3 << 62), 0x7 << 76 | 0x2 << 62


def new_id() -> str:
    """A UUID version 7 (RFC 9562, 5.7): ordered by the millisecond of its birth, 74 random bits. Never a secret."""
    clear, fixed = _VARIANT_AND_VERSION
    # Seeded by the system and again after a fork; asking the system each time would let go of the GIL.
    bits = time.time_ns() // 1_000_000 << 80 | random.getrandbits(80)
    text = f"{bits & clear | fixed:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def utc_now() -> str:
    """ISO 8601 in UTC with microseconds: sorts as text, the same form wherever it is stored."""
    return datetime.now(UTC).isoformat(timespec="microseconds")

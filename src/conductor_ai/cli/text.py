"""Text from models, tools and people, made fit for a terminal: what would steer the terminal is shown, not obeyed."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

# C0 and C1 controls but tab and newline; line and paragraph separators; marks that reorder what is read (Unicode TR9,
# section 2), which can make a command look like another; surrogates, which no stream can encode.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: str) -> str:
    """`text` with every steering character as its escape: ESC reads `\\x1b`."""
    return _STEERING.sub(_escaped, text.replace("\r\n", "\n"))


def exact(text: str) -> str:
    """As `plain`, and whatever else prints no mark of its own is shown too: nothing hides from a person who decides."""
    return "".join(char if char.isprintable() or char == "\n" else _escape(char) for char in text)


def one_line(text: str, width: int = 100) -> str:
    """`text` on one line of at most `width` characters; a cut ends in `...`."""
    line = " ".join(plain(text[: width * 8]).split())
    return line if len(line) <= width and len(text) <= width * 8 else line[: width - 3] + "..."


def json_line(value: Any, width: int = 100) -> str:
    """JSON data on one short line."""
    import json

    return one_line(json.dumps(value, ensure_ascii=False), width)


def asker(tool_name: str, action: str | None) -> str:
    """What waits for a person: a tool, or one action inside it, as `run_python: code_execution: run_code`."""
    return tool_name if action is None else f"{tool_name}: {exact(action)}"


def money(amount: Decimal | str | None) -> str:
    """US dollars for reading, rounded here and nowhere before; `price unknown` for None."""
    if amount is None:
        return "price unknown"
    rounded = round(Decimal(amount), 6)
    whole, _, fraction = format(rounded, "f").partition(".")
    return f"${whole}.{fraction.rstrip('0'):0<2}"


def milliseconds(duration_ms: float | None) -> str:
    if duration_ms is None:
        return "-"
    return f"{duration_ms / 1000:.1f} s" if duration_ms >= 10_000 else f"{duration_ms:.0f} ms"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _escaped(match: re.Match[str]) -> str:
    return _escape(match.group())


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

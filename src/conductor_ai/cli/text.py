"""Text from models, tools and people, made fit for a terminal: what would steer the terminal is shown, not obeyed."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conductor_ai.schemas.costs import CostSummary, SourceCost

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
    """`text` on one line of at most `width` characters, without what looks like a credential; a cut ends in `...`."""
    from conductor_ai.schemas.credentials import without_credentials

    line = " ".join(plain(without_credentials(text[: width * 8])).split())
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


_SAID_BY = {
    "provider": "billed by the provider",
    "catalog": "catalog prices",
    "genai-prices": "prices of genai-prices",
    "bound": "set aside where nobody named a figure",
    "unrecorded": "of unrecorded source",
}


def cost_text(cost: CostSummary) -> str:
    """A session's cost with its sources: `$0.0123 (catalog prices of 2026-11-22)`, `at least ...` where some calls are
    of unknown price, `at most ...` where some count as what was set aside for them."""
    at_most = cost.at_most_usd
    parts = [
        (money(share.usd), _SAID_BY[source] + _dates(share))
        for source, share in cost.by_source.items()
        if source in _SAID_BY
    ]
    if cost.unsettled_usd:
        parts.append((money(cost.unsettled_usd), "set aside for calls that ended without an answer"))
    notes = [parts[0][1]] if len(parts) == 1 else [" ".join(part) for part in parts]
    if at_most is None:
        notes.append(f"{count(cost.unknown_calls, 'call')} of unknown price")
        amount = f"at least {money(cost.at_least_usd)}"
    else:
        amount = f"at most {money(at_most)}" if at_most > cost.at_least_usd else money(at_most)
    return f"{amount} ({'; '.join(notes)})" if notes else amount


def _dates(share: SourceCost) -> str:
    dates = sorted(share.price_dates)
    return f" of {' and '.join(dates)}" if dates else ""


def call_cost_text(amount: str | None, source: str | None, price_as_of: str | None) -> str:
    """The cost of one call with its source: `$0.0012 (catalog, 2026-11-22)`."""
    if amount is None or source is None:
        return money(amount)
    if source == "bound":
        return f"at most {money(amount)} (set aside)"
    return f"{money(amount)} ({', '.join(filter(None, (source, price_as_of)))})"


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

"""The source of an exported test: Python that people read, and that their formatter leaves as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conductor_ai.schemas.usage import money_text
from conductor_ai.wiring.replay.session import Replayed

_LINE = 88
"""What most formatters are set to."""
_WIDEST_ESCAPE = 10

_HEAD = '''\
"""Session {session_id}, replayed from the recording beside this file: no key, no network.

Written by `conductor sessions export --as pytest`; where the session shall go otherwise, record and export it anew.
"""

{decimal}from pathlib import Path

from conductor_ai.wiring.replay import replay_recording

RECORDING = Path(__file__).with_suffix(".jsonl")


def test_the_session_goes_as_recorded() -> None:
    replayed = replay_recording(RECORDING)
    session = replayed.session

    assert replayed.difference is None
'''


def test_text(session_id: str, replayed: Replayed) -> str:
    """The source of a test that asserts what `replayed` came to."""
    session = replayed.session
    cost = session.cost_usd
    known = {
        "replayed.models": replayed.models,
        "replayed.calls": replayed.calls,
        "session.status": session.status.value,
        "session.final_answer": session.final_answer,
        "session.output": session.output,
        "session.usage.to_dict()": session.usage.to_dict(),
    }
    text = _HEAD.format(session_id=session_id, decimal="" if cost is None else "from decimal import Decimal\n")
    for name, value in known.items():
        if name != "session.output" or value is not None:
            text += _assertion(name, value)
    if cost is None:
        return f"{text}    assert session.cost_usd is None\n"
    figure = money_text(cost)
    return f"{text}    assert session.cost_usd == Decimal({figure if figure.isdigit() else _quoted(figure)})\n"


def _assertion(name: str, value: Any) -> str:
    operator = "is" if value is None else "=="
    lines = list(_literal(value, 4, len(f"    assert {name} {operator} ")))
    return f"    assert {name} {operator} {lines[0]}\n" + "".join(f"{line}\n" for line in lines[1:])


def _literal(value: Any, indent: int, used: int, end: str = "") -> Iterator[str]:
    """The lines of a literal; the first stands behind `used` characters, the others begin with their indentation."""
    short = _short(value)
    if used + len(short) + len(end) <= _LINE or not value or not isinstance(value, str | Sequence | Mapping):
        yield short + end
        return
    if isinstance(value, str):
        yield from _long_text(value, indent, end)
        return
    opening, closing = ("{", "}") if isinstance(value, Mapping) else ("(", ")") if isinstance(value, tuple) else "[]"
    inner = indent + 4
    yield opening
    for key, item in value.items() if isinstance(value, Mapping) else ((None, item) for item in value):
        name = "" if key is None else f"{_short(key)}: "
        lines = _literal(item, inner, inner + len(name), ",")
        yield f"{' ' * inner}{name}{next(lines)}"
        yield from lines
    yield f"{' ' * indent}{closing}{end}"


def _long_text(text: str, indent: int, end: str) -> Iterator[str]:
    pieces = [piece for line in text.splitlines(keepends=True) for piece in _pieces(line, _LINE - indent - 4)]
    yield "("
    for piece in pieces:
        yield f"{' ' * (indent + 4)}{piece}"
    yield f"{' ' * indent}){end}"


def _pieces(line: str, room: int) -> Iterator[str]:
    """A line in literals that fit `room`, cut behind a space where there is one."""
    while line:
        size = min(len(line), room - 2)
        while size > 1 and len(_short(line[:size])) > room:
            size -= max(1, (len(_short(line[:size])) - room) // _WIDEST_ESCAPE)
        space = line[:size].rfind(" ") + 1 if size < len(line) else 0
        size = space if space > size // 2 else size
        yield _short(line[:size])
        line = line[size:]


def _short(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_short(key)}: {_short(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_short, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return repr(value)


def _quoted(text: str) -> str:
    """With double quotes, but where single ones need fewer escapes."""
    given = repr(text)
    body = given[1:-1] if given.startswith('"') else given[1:-1].replace("\\'", "'")
    quote = "'" if body.count('"') > body.count("'") else '"'
    return quote + body.replace(quote, "\\" + quote) + quote

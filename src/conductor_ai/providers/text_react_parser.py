"""Tool calls that a model writes as text: the ReAct lines we ask for, and the forms that models fall back to.

Only text that the model wrote is read, only tools that were offered are called, and what is no call is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from conductor_ai.providers.text_react_json import (
    LANGUAGE,
    NAME_CHARS,
    Offered,
    TextCall,
    attempted_call,
    behind_fence,
    calls_in,
    fence_opens,
    json_end,
    name_in,
    object_at,
    unfenced,
)

_NO_ARGUMENTS = ("", "none", "null", "n/a", "()")
_UNNAMED = "unreadable_call"
_SPECIAL_CHARS = 60
_MAX_MARKS = 200
"""A text with more of them is no answer; each may be looked behind as far as the text goes."""

# DeepSeek writes its tokens with U+FF5C and U+2581; on the way they become | and _ now and then.
_SPECIAL = r"<[|\uff5c][^<>|\uff5c\n]{1,40}[|\uff5c]>|</?(?:tool_call|function_call|tools)>"
_LEADING_SPECIAL = re.compile(_SPECIAL)
_TRAILING_SPECIAL = re.compile(rf"(?:{_SPECIAL})\Z")
_COLON = r"[ \t]{0,4}\d{0,3}[ \t*_`]{0,8}[:\uff1a][*_]{0,2}[ \t]*"
_LINE = r"^[ \t*#_`-]{0,8}"
_MARK = re.compile(
    rf"{_LINE}(?:(?P<action>Action)|(?P<observation>Observation(?:[ \t]{{0,2}}\([^()\n]{{0,120}}\))?)"
    rf"|(?P<final>Final[ _]Answer)){_COLON}"
    r"|(?P<tag><(?:tool_call|function_call|tools|[|\uff5c]tool[\u2581_ ]call[|\uff5c])>)"
    r"|(?P<separator><[|\uff5c]tool[\u2581_ ](?:sep|call[\u2581_ ]argument[\u2581_ ]begin)[|\uff5c]>)",
    re.MULTILINE | re.IGNORECASE,
)
_INPUT = re.compile(rf"\s*[*#_`-]{{0,8}}Action[ _]?Input{_COLON}", re.IGNORECASE)
_THOUGHT = re.compile(rf"{_LINE}Thought{_COLON}", re.IGNORECASE)
_BOUNDARY = re.compile(
    rf"{_LINE}(?:Thought|Action|Action[ _]?Input|Observation(?:[ \t]{{0,2}}\([^()\n]{{0,120}}\))?|Final[ _]Answer)"
    rf"{_COLON}",
    re.MULTILINE | re.IGNORECASE,
)
_TAG_END = re.compile(r"</?(?:tool_call|function_call|tools)>|<[|\uff5c]/?tool[\u2581_ ]call[|\uff5c]>")
_NAME_BEFORE = re.compile(r"[\w.:-]+\s{0,3}\Z")
_CALL_NAME = re.compile(r"(?:functions\.)?(?P<name>[\w.-]+?)(?::\d+)?")
_INLINE_CALL = re.compile(r"(?P<name>[\w.-]+)[ \t(]*(?=\{)")
_THINKING = re.compile(r"\s*<think>")
_THINKING_ENDS = "</think>"
_THOUGHT_OUT = re.compile(rf"^[ \t]*{_THINKING_ENDS}", re.MULTILINE)
_OPENS_JSON = re.compile(r"\s*[{\[`]")
_JSON_LINE = re.compile(r"^[{\[]", re.MULTILINE)


class Reading(NamedTuple):
    """A text that is more than a plain answer.

    `said` is what the model says beside its calls, or its final answer where there are none. What counts of the text
    ends at `end`; `guessed`: behind it the model made up what its calls return.
    """

    said: str
    calls: tuple[TextCall, ...]
    end: int
    guessed: bool = False


def read_answer(text: str, offered: Offered) -> Reading | None:
    """What an answer under the text protocol comes to; None where it is a plain answer, to be taken as it is."""
    if not offered:
        return None
    start = position = _after_thinking(text)
    if _OPENS_JSON.match(text, start):
        behind = json_end(text, fence_opens(text, start))
        lone = _closing_json(text, start, len(text), offered)
        if lone is not None and (behind is None or _readable(lone.calls)):
            return lone
        position = behind or start  # what looks like a mark in there is part of a string
    return _Scan(text, start, offered).read(position)


def read_lone_calls(text: str, offered: Offered) -> tuple[TextCall, ...]:
    """The calls of an answer that consists of nothing else, as JSON, fenced or not; empty for any other answer."""
    start, stop = _without_special_tokens(text, _after_thinking(text), len(text))
    if text[start : start + 1] not in ("{", "[", "`"):
        return ()
    block = _closing_block(text, start, stop)
    if block is None or block.start != start:
        return ()
    calls = calls_in(block.body, offered) or ()
    return calls if all(call.arguments is not None for call in calls) else ()


def _readable(calls: Iterable[TextCall]) -> bool:
    return any(call.arguments is not None for call in calls)


class _Scan:
    """One pass over the marks of the protocol, in the order in which the model wrote them."""

    def __init__(self, text: str, start: int, offered: Offered) -> None:
        self._text = text
        self._start = start
        self._offered = offered
        self._calls: list[TextCall] = []
        self._first_call = 0
        self._end = 0

    def read(self, position: int) -> Reading | None:
        """`position`: where marks may stand."""
        readers = {"action": self._action, "tag": self._tag, "separator": self._separator}
        guessed = seen = False
        for _ in range(_MAX_MARKS):
            found = _MARK.search(self._text, position)
            if found is None:
                break
            position, kind = found.end(), found.lastgroup or ""
            if kind in readers:
                position = readers[kind](found)
                continue
            if not self._calls and not seen:  # a call in JSON may stand right before it
                seen = True
                call = _closing_json(self._text, self._start, found.start(), self._offered)
                if call is not None:
                    return call._replace(guessed=True)
            if kind == "final" and not _readable(self._calls):
                return self._final_answer(found)
            if self._calls:
                guessed = True
                break
        if not self._calls:
            return _closing_json(self._text, self._start, len(self._text), self._offered)
        said = _said(self._text, self._start, self._first_call)
        return Reading(said, tuple(self._calls), self._end, guessed)

    def _final_answer(self, found: re.Match[str]) -> Reading | None:
        """The answer without its label, which is ours only in an answer that keeps to our form."""
        before = self._text[self._start : found.start()].strip()
        answer = self._text[found.end() :].strip()
        if not answer or (before and not _BOUNDARY.match(before)):
            return None
        return Reading(answer, (), len(self._text))

    def _add(self, call: TextCall, first: int, end: int) -> int:
        if not self._calls:
            self._first_call = first
        self._calls.append(call)
        self._end = end
        return end

    def _action(self, found: re.Match[str]) -> int:
        text, after = self._text, found.end()
        line_end = text.find("\n", after)
        line_end = len(text) if line_end < 0 else line_end
        rest = text[after:line_end].strip()
        name = rest.strip("`*\"'[]()<>.,; \t")
        given = _INPUT.match(text, line_end)
        if given is not None:
            return self._with_input(name, found.start(), given.end())
        if name in self._offered:
            return self._add(TextCall(name, {}), found.start(), line_end)
        inline = _INLINE_CALL.match(text, after)
        if inline is not None and inline["name"] in self._offered:
            arguments, end = object_at(text, inline.end())
            if arguments is not None:
                return self._add(TextCall(inline["name"], arguments), found.start(), end)
            raw, end = self._up_to_boundary(inline.end())
            return self._add(TextCall(inline["name"], None, raw), found.start(), end)
        if not rest or rest.startswith(("`", "{", "[")):
            return self._json_action(found)
        return line_end

    def _with_input(self, name: str, first: int, position: int) -> int:
        arguments, end = object_at(self._text, position)
        if arguments is not None and name in self._offered:
            return self._add(TextCall(name, arguments), first, end)
        raw, end = self._up_to_boundary(position)
        if name in self._offered and raw.strip("` \t\r\n").lower() in _NO_ARGUMENTS:
            return self._add(TextCall(name, {}), first, end)
        return self._add(TextCall(_safe_name(name), None, raw), first, end)

    def _json_action(self, found: re.Match[str]) -> int:
        """The whole call as JSON behind `Action:`."""
        at = fence_opens(self._text, found.end())
        end = json_end(self._text, at)
        calls = None if end is None else calls_in(self._text[at:end], self._offered)
        if end is None or calls is None:
            return found.end()
        end = behind_fence(self._text, end)
        for call in calls:
            self._add(call, found.start(), end)
        return end

    def _tag(self, found: re.Match[str]) -> int:
        close = _TAG_END.search(self._text, found.end())
        body_end, end = (close.start(), close.end()) if close else (len(self._text), len(self._text))
        if close is not None and not close[0].startswith(("</", "<|/", "<\uff5c/")):
            end = close.start()  # the next call opens before this one is closed
        body = unfenced(self._text[found.end() : body_end])
        calls = calls_in(body, self._offered)
        if calls is None:
            if not body or not self._closes(end):
                return found.end()
            calls = (TextCall(_safe_name(name_in(body)), None, body),)
        for call in calls:
            self._add(call, found.start(), end)
        return end

    def _closes(self, position: int) -> bool:
        """Whether nothing but marks and tokens follows: a tag in the middle of prose is talk about tags."""
        text = self._text
        while position < len(text):
            if _MARK.match(text, position):
                return True
            if text[position].isspace():
                position += 1
            elif token := _LEADING_SPECIAL.match(text, position):
                position = token.end()
            else:
                return False
        return True

    def _separator(self, found: re.Match[str]) -> int:
        """`name<sep>{...}`, or `function<sep>name` and the arguments on the lines after it."""
        text, after = self._text, found.end()
        before = _NAME_BEFORE.search(text, max(self._start, found.start() - 2 * NAME_CHARS), found.start())
        name = before[0].strip() if before else ""
        if name in ("", "function"):
            line_end = text.find("\n", after)
            line_end = len(text) if line_end < 0 else line_end
            name, after = text[after:line_end].strip(), line_end
        cleaned = _CALL_NAME.fullmatch(name)
        name = cleaned["name"] if cleaned else name
        first = before.start() if before else found.start()
        arguments, end = object_at(text, after)
        if arguments is not None and name in self._offered:
            return self._add(TextCall(name, arguments), first, end)
        raw, end = self._up_to_boundary(after)
        token = _LEADING_SPECIAL.search(text, after, end)
        if token is not None:
            raw, end = text[after : token.start()].strip(), token.end()
        if name in self._offered and raw.strip("` \t\r\n").lower() in _NO_ARGUMENTS:
            return self._add(TextCall(name, {}), first, end)
        if arguments is None and name not in self._offered:
            return found.end()  # talk about tokens
        return self._add(TextCall(_safe_name(name), None, raw), first, end)

    def _up_to_boundary(self, position: int) -> tuple[str, int]:
        boundary = _BOUNDARY.search(self._text, position)
        end = boundary.start() if boundary else len(self._text)
        return self._text[position:end].strip(), end


class _Block(NamedTuple):
    """JSON that closes a text. `start` counts its fence in."""

    start: int
    body: str
    fenced: bool = False


def _closing_json(text: str, start: int, stop: int, offered: Offered) -> Reading | None:
    """Calls as JSON at the end of `text[:stop]`, whatever is said before them."""
    first, stop = _without_special_tokens(text, start, stop)
    block = _closing_block(text, first, stop)
    if block is None:
        return None
    calls = calls_in(block.body, offered)
    if calls is None:
        attempt = attempted_call(block.body, offered)
        shown_only = block.start > first and not block.fenced and json_end(text, block.start) is not None
        if attempt is None or shown_only:  # in the middle of prose
            return None
        calls = (attempt,)
    return Reading(_said(text, start, block.start), calls, stop)


def _closing_block(text: str, start: int, stop: int) -> _Block | None:
    if text.endswith("```", start, stop):
        opening = text.rfind("```", start, stop - 3)
        language = LANGUAGE.match(text, opening + 3) if opening >= 0 else None
        return None if language is None else _Block(opening, text[language.end() : stop - 3], True)
    if text[start : start + 1] in ("{", "["):
        return _Block(start, text[start:stop])
    line = _JSON_LINE.search(text, start, stop)
    return None if line is None else _Block(line.start(), text[line.start() : stop])


def _after_thinking(text: str) -> int:
    """Where the answer begins, where a server left the reasoning in the text; its opening tag may be in the prompt."""
    opened = _THINKING.match(text)
    if opened is None:
        closed = _THOUGHT_OUT.search(text)
        return closed.end() if closed else 0
    end = text.find(_THINKING_ENDS, opened.end())
    return len(text) if end < 0 else end + len(_THINKING_ENDS)


def _without_special_tokens(text: str, start: int, stop: int) -> tuple[int, int]:
    """The bounds without white space and a model's own tokens at either end."""
    while start < stop:
        if text[start].isspace():
            start += 1
        elif found := _LEADING_SPECIAL.match(text, start, stop):
            start = found.end()
        else:
            break
    while start < stop:
        if text[stop - 1].isspace():
            stop -= 1
        elif found := _TRAILING_SPECIAL.search(text, max(start, stop - _SPECIAL_CHARS), stop):
            stop = found.start()
        else:
            break
    return start, stop


def _said(text: str, start: int, stop: int) -> str:
    start, stop = _without_special_tokens(text, start, stop)
    said = text[start:stop]
    label = _THOUGHT.match(said)
    return said[label.end() :].strip() if label else said


def _safe_name(name: str) -> str:
    """A name that every provider takes back, for a call that no tool answers to."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:NAME_CHARS] or _UNNAMED

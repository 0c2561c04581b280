"""Thinking that a host left in the text of an answer, told from what the model says. Whole texts, and streamed ones.

Models mark it with `<think>` and `</think>`. Where a template puts the first into the prompt, only the second comes.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple

_OPEN = "<think>"
_CLOSE = "</think>"
_FAR = 2**18
"""No thinking is longer: a text full of marks must not hold up the process."""
_MARK = re.compile(
    r"^[ \t]*(?P<fence>```|~~~)"
    rf"|(?P<opened><think\b)|(?P<closed>^ {{0,3}}{_CLOSE}|(?<=[\w.!?\u2026\u3002\uff01\uff1f]){_CLOSE}"
    r"(?![`'\"\u2019\u201d\u00bb)\],.;:\\|]))"
    r"|(?P<escaped>\\.)|(?P<quote>[`\"])|(?P<line>\n)",
    re.MULTILINE,
)


class Told(NamedTuple):
    """A text without its thinking. `closed` is False where it broke off within a thought: then it says nothing."""

    thought: str
    said: str
    closed: bool = True


def told_apart(text: str, *, separated: bool) -> Told:
    """The thinking of a whole text and what it says. `separated`: the host gave thinking in a field of its own, so a
    `</think>` in the middle of the text is none of ours."""
    stripped = text.lstrip()
    if stripped.startswith(_OPEN):
        thought, close, said = stripped[len(_OPEN) :].partition(_CLOSE)
        return Told(thought.lstrip(), said.lstrip(), bool(close))
    if stripped.startswith(_CLOSE):
        return Told("", stripped[len(_CLOSE) :].lstrip())
    closed = None if separated or _CLOSE not in text else _lone_close(text)
    if closed is None:
        return Told("", text)
    return Told(text[: closed[0]].lstrip(), text[closed[1] :].lstrip())


def _lone_close(text: str) -> tuple[int, int] | None:
    """Where thinking ends that began in the prompt: at a closing tag without an opening one before it, which begins a
    line or follows a word without a space. In a code fence, or quoted within its line, it is talk about the tag."""
    fenced, quoted = False, ""
    for found in _MARK.finditer(text, 0, _FAR):
        kind = found.lastgroup
        if kind == "opened":
            return None
        if kind == "closed" and not fenced and not quoted:
            return found.span()
        if kind == "fence":
            fenced = not fenced
        elif kind == "line":
            quoted = ""
        elif kind == "quote" and quoted in ("", found[0]):
            quoted = "" if quoted else found[0]
    return None


class _At(Enum):
    BEGIN = auto()
    THOUGHT = auto()
    BEHIND = auto()
    """After the closing tag, before the first word of the answer."""
    ANSWER = auto()


class StreamedThought:
    """The same for the beginning of a text that comes in pieces, of which it gives each as soon as it is known.

    A text whose opening tag stood in the prompt looks like an answer up to the closing one: it is given as one.
    """

    def __init__(self) -> None:
        self._at = _At.BEGIN
        self._pieces: list[str] = []
        """All that came, as long as it may begin with a tag."""
        self._held = ""
        """The end of what came, without white space at the beginning, which may be a part of a tag."""
        self._thinks = False
        """A word of the thought has come."""

    @property
    def over(self) -> bool:
        """What follows is the answer."""
        return self._at is _At.ANSWER

    @property
    def closed(self) -> bool:
        return self._at is not _At.THOUGHT

    def add(self, text: str) -> tuple[str, str]:
        """What of the thought, and of the answer, is known with this piece."""
        thought, held, self._held = "", self._held, ""
        if self._at is _At.BEGIN:
            self._pieces.append(text)
            held, text = "", self._begun(held + text)
        if self._at is _At.THOUGHT:
            thought, text = self._thought(held + text)
        if self._at is _At.BEHIND:
            text = text.lstrip()
            self._at = _At.ANSWER if text else _At.BEHIND
        return thought, text

    def end(self) -> tuple[str, str]:
        """What was held back, once nothing more comes."""
        return ("", "".join(self._pieces)) if self._at is _At.BEGIN else (self._held, "")

    def _begun(self, text: str) -> str:
        """What follows the tag, the whole text where it begins with none, nothing while that is open."""
        text = text.lstrip()
        for tag, then in ((_OPEN, _At.THOUGHT), (_CLOSE, _At.BEHIND)):
            if text.startswith(tag):
                self._at = then
                return text[len(tag) :]
            if tag.startswith(text):
                self._held = text
                return ""
        self._at = _At.ANSWER
        return "".join(self._pieces)

    def _thought(self, text: str) -> tuple[str, str]:
        """The thought, and what follows its end."""
        thought, close, behind = text.partition(_CLOSE)
        if close:
            self._at = _At.BEHIND
        elif (cut := text.rfind("<", -len(_CLOSE))) >= 0 and _CLOSE.startswith(text[cut:]):
            thought, self._held = text[:cut], text[cut:]
        if not self._thinks:
            thought = thought.lstrip()
            self._thinks = bool(thought)
        return thought, behind

"""Which models are refused by their id: OpenAI's, under any name that a service takes, and services that choose the
model themselves and may choose one of OpenAI's."""

from __future__ import annotations

import re
import unicodedata

from conductor_ai.errors import ModelForbidden

# The company's name as a word anywhere, and gpt-oss as a word anywhere: fine-tunes keep it inside their own names.
_ANYWHERE = re.compile(r"(?<![a-z])openai(?![a-z]) | (?<![a-z0-9])gpt[-_]?oss(?![a-z])", re.VERBOSE)

# At the start of any part of an id. `gpt4all` and `codexglue` are other people's: what follows must not be a letter.
_PART = re.compile(
    r"""
    (?:chat)?gpt (?![a-z0-9])
    | (?:chat)?gpt[-_.]? \d+ (?:\.\d+)? (?:o|v|turbo|mini|nano|pro)? (?![a-z0-9])
    | codex (?![a-z])
    | text-(?:davinci|curie|babbage|ada) (?![a-z])
    | (?:code-)?davinci (?![a-z])
    | babbage-\d | computer-use (?![a-z])
    """,
    re.VERBOSE,
)

# o1, o3-mini, o4-mini-high ...: only in the name itself, since a vendor may be called `o1-something`.
_O_SERIES = re.compile(r"o[1-9]\d?(?:mini|pro|preview)?(?![a-z0-9])")

# Services on OpenRouter that pick the model, or hide whose it is.
_ROUTERS = frozenset({"switchpoint/router"})
_HIDDEN_VENDORS = frozenset({"stealth"})

_HINT = "name a Claude, Gemini, DeepSeek, Qwen or Kimi model; see `conductor models list`"


def refuse_forbidden(model_id: str) -> None:
    """Check one id, public or wire, in whatever case and with whatever `:variant`. Raises: ModelForbidden."""
    if reason := _objection(model_id):
        raise ModelForbidden(f"model {model_id!r} is refused: {reason}", hint=_HINT)


def is_allowed(model_id: str) -> bool:
    """What `refuse_forbidden` says, as an answer."""
    return _objection(model_id) is None


def _objection(model_id: str) -> str | None:
    text = unicodedata.normalize("NFKC", model_id).casefold().strip()
    segments = [segment.strip().lstrip("~") for segment in re.split(r"[/\\]", text)]
    parts = [part for segment in segments for part in re.split(r"[:@]", segment)]
    names = re.split(r"[:@]", segments[-1])
    if _ANYWHERE.search(text) or any(map(_PART.match, parts)) or any(map(_O_SERIES.match, names)):
        return "OpenAI models are not used here"
    vendor, name = (segments[-2] if len(segments) > 1 else ""), names[0]
    if vendor == "openrouter" or vendor in _HIDDEN_VENDORS or f"{vendor}/{name}" in _ROUTERS or "@preset" in text:
        return "it may route to an OpenAI model"
    return None

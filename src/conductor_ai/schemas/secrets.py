"""Which secrets can be hidden in text: one rule for all that hide them, log lines and provider errors alike."""

from __future__ import annotations

MIN_SECRET_CHARS = 8


def can_be_hidden(secret: str) -> bool:
    """False for a text so short that it is a placeholder (`LOCAL_LLM_API_KEY=ollama`): hiding it would garble words."""
    return len(secret) >= MIN_SECRET_CHARS

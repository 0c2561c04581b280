"""Why a query brought nothing, in one line that tells the model what to try."""

from __future__ import annotations

from conductor_ai.errors import ConductorError


class QueryFailed(ConductorError):
    """No rows, and why. A message that begins with `refused:` is a rule of ours; another is what the database said."""

    code = "query_failed"


def refused(reason: str) -> QueryFailed:
    """A statement that is not run, whatever the database would say."""
    return QueryFailed(f"refused: {reason}")


def too_slow(timeout_s: float) -> QueryFailed:
    return QueryFailed(
        f"no answer within {timeout_s:g} s: ask for less, by a narrower WHERE, fewer joins or an aggregate of one table"
    )

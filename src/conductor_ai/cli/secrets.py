"""What the command line says of its own accord holds no secret: errors, hints, traces."""

from __future__ import annotations


def without_secrets(text: str) -> str:
    """`text` as a log line may have it."""
    from conductor_ai.errors import ConductorError
    from conductor_ai.observability.redaction import Redactor
    from conductor_ai.settings import Settings

    try:
        secrets = Settings.load().secrets()
    except ConductorError:
        secrets = []  # settings that cannot be read name none; what looks like a secret goes out all the same
    return Redactor(secrets).clean_log(text)

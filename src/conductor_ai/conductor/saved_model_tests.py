"""Reports of model tests, kept as files: one for each run, named by its time, so that their names sort by it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conductor_ai.errors import StorageError
from conductor_ai.schemas import json_text

FOLDER_NAME = "model-tests"
"""Under `$CONDUCTOR_HOME`."""


def save(report: dict[str, Any], home: Path) -> Path:
    """Write a report, readable by its owner only. Returns: where. Raises: OSError."""
    folder = home / FOLDER_NAME
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    created_at = datetime.fromisoformat(report["created_at"]).astimezone(UTC)
    path = folder / f"{created_at:%Y%m%dT%H%M%S.%fZ}.json"
    draft = path.with_suffix(".part")  # nobody reads half of one
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(report, indent=2) + "\n", encoding="ascii")
    draft.replace(path)
    return path


def newest(home: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest report and its file; None where none was saved. Raises: StorageError where it cannot be read."""
    path = max((home / FOLDER_NAME).glob("*.json"), default=None)
    if path is None:
        return None
    try:
        report = json_text.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise StorageError(f"{path} cannot be read: {exc}", hint="delete it, or run conductor models test") from exc
    if not isinstance(report, dict) or not isinstance(report.get("models"), list):
        raise StorageError(f"{path} is no report of a model test", hint="delete it, or run conductor models test")
    return path, report

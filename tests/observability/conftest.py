from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conductor_ai.observability import AuditLogger
from conductor_ai.observability.redaction import Redactor
from conductor_ai.storage.sqlite import SQLiteStore

SECRET = "correct-horse-battery"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    opened = await SQLiteStore.open(tmp_path / "home")
    yield opened
    await opened.close()


@pytest.fixture
def redactor() -> Redactor:
    return Redactor([SECRET])


@pytest.fixture
def audit(store: SQLiteStore, redactor: Redactor) -> AuditLogger:
    return AuditLogger(store, redactor)

"""What every test may rely on: no key of the person who runs it, and an end to every wait."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from conductor_ai.settings import Settings
from conductor_ai.tools.sandbox.bubblewrap import BubblewrapBackend
from tests.services import report

# Postgres, Redis, PgBouncer and the fault proxy, and the lines at the end that tell which of them ran.
pytest_plugins = ["tests.services.fixtures"]

# A busy machine is no reason to fail: nothing here is timed.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@asynccontextmanager
async def fail_after(seconds: float) -> AsyncIterator[None]:
    """Fail a wait that does not end, instead of hanging."""
    async with asyncio.timeout(seconds):
        yield


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test spends the money, or reads the sessions, of the person who runs it."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def conductor_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`$CONDUCTOR_HOME` of this test, in an empty current folder: no `.env` and no plugins are found by chance."""
    home = tmp_path / "home"
    monkeypatch.setenv("CONDUCTOR_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """What `observability.logging.configure` changes of the process is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def bubblewrap_works(request: pytest.FixtureRequest) -> None:
    """For a test that runs code: without bubblewrap it is skipped, which the closing lines tell, but never in CI."""
    reason = BubblewrapBackend().missing()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}: .ci/run sees to it", pytrace=False)
        report.missed(request, reason)
        pytest.skip(reason)
    report.used(request, "bubblewrap sandbox")

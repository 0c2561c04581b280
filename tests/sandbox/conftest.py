"""Each backend that can start here, under the same tests; the closing lines of the run name those that cannot."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest

from conductor_ai.tools.sandbox import backends
from conductor_ai.tools.sandbox.base import Capabilities, Language, RunLimits, RunResult, RunSpec, SandboxBackend
from tests.conftest import fail_after
from tests.services import report

LIMITS = RunLimits(wall_s=30.0)
BACKENDS = ["bubblewrap", pytest.param("docker", marks=pytest.mark.slow)]
_numbers = count(1)


@dataclass(slots=True)
class Bench:
    """One backend under test, and the runs it was given."""

    backend: SandboxBackend
    capabilities: Capabilities
    run_ids: list[str] = field(default_factory=list)

    def spec(self, code: str, language: Language = Language.PYTHON, **given: Any) -> RunSpec:
        """`given` are fields of RunSpec, or of its limits where RunSpec has none of that name."""
        limits = {name: given.pop(name) for name in list(given) if name not in RunSpec.__slots__}
        run_id = f"run-{os.getpid()}-{next(_numbers)}"
        self.run_ids.append(run_id)
        return RunSpec(language, code, run_id, limits=replace(LIMITS, **limits), org_id="org", **given)

    async def run(self, code: str, language: Language = Language.PYTHON, **given: Any) -> RunResult:
        async with fail_after(60):
            return await self.backend.run(self.spec(code, language, **given))


@pytest.fixture(params=[Language.PYTHON, Language.JAVASCRIPT], ids=["python", "javascript"])
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.param
    return found


@pytest.fixture(scope="session")
def probed() -> Iterator[Callable[[str], Capabilities]]:
    """What the self test of a backend found, once in a run of tests."""
    known: dict[str, Capabilities] = {}

    async def probe(name: str) -> Capabilities:
        backend = backends()[name]
        try:
            return await backend.probe()
        finally:
            await backend.close()

    with ThreadPoolExecutor(1) as thread:  # a loop of its own: this is asked for between tests, which have theirs

        def once(name: str) -> Capabilities:
            if name not in known:
                known[name] = thread.submit(lambda: asyncio.run(probe(name))).result()
            return known[name]

        yield once


@pytest.fixture(params=BACKENDS)
async def bench(request: pytest.FixtureRequest, probed: Callable[[str], Capabilities]) -> AsyncIterator[Bench]:
    name: str = request.param
    if name == "docker":
        request.getfixturevalue("docker_engine")
    capabilities = probed(name)
    if not capabilities.available:
        _without(request, name, f"{name} cannot run code here ({'; '.join(capabilities.reasons)})")
    if "language" in request.fixturenames and request.getfixturevalue("language") not in capabilities.languages:
        _without(request, name, f"{name} has no {request.getfixturevalue('language')} here")
    report.used(request, f"{name} sandbox, memory by {capabilities.memory}")
    backend = backends()[name]
    try:
        yield Bench(backend, capabilities)
    finally:
        await backend.close()


def _without(request: pytest.FixtureRequest, name: str, reason: str) -> None:
    if os.environ.get("CI") == "true" and name == "bubblewrap":
        pytest.fail(f"{reason}: .ci/run sees to it", pytrace=False)
    report.missed(request, reason)
    pytest.skip(reason)

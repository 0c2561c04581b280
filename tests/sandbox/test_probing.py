"""A self test that failed for a moment is done again; one that told for sure is not."""

from __future__ import annotations

import errno

import pytest

from conductor_ai.errors import ToolUnavailable
from conductor_ai.tools.sandbox import Sandbox, probing
from conductor_ai.tools.sandbox.base import Capabilities, IsolationLevel, KilledBy, Language, RunResult, RunSpec
from conductor_ai.tools.sandbox.bubblewrap import BubblewrapBackend, process, requirements, selftest
from conductor_ai.tools.sandbox.docker import DockerBackend
from conductor_ai.tools.sandbox.probing import Finding, Probing
from tests.conftest import fail_after
from tests.sandbox.conftest import Bench

ONLY_BUBBLEWRAP = pytest.mark.parametrize("bench", ["bubblewrap"], indirect=True)
NOTHING = Capabilities(available=False, level=IsolationLevel.NAMESPACES, reasons=("a bad moment",))
PYTHON = Capabilities(True, IsolationLevel.NAMESPACES, frozenset({Language.PYTHON}))
BOTH = Capabilities(True, IsolationLevel.NAMESPACES, frozenset(Language))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "RETRY_S", 0.0)


def finding_in_turn(*findings: Finding) -> Probing:
    left = list(findings)

    async def test() -> Finding:
        return left.pop(0)

    return Probing(test)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (Finding(NOTHING, False), Finding(BOTH, True), BOTH),
        (Finding(NOTHING, True), Finding(BOTH, True), NOTHING),
        (Finding(PYTHON, False), Finding(BOTH, True), BOTH),
        (Finding(PYTHON, False), Finding(NOTHING, False), PYTHON),
        (Finding(PYTHON, False), Finding(NOTHING, True), NOTHING),
        (Finding(PYTHON, True), Finding(NOTHING, True), PYTHON),
    ],
    ids=["failed", "no-wall", "slow-language", "worse-for-a-moment", "a-wall-fell", "for-sure"],
)
async def test_only_what_is_known_for_sure_is_kept(first: Finding, second: Finding, found: Capabilities) -> None:
    probed = finding_in_turn(first, second)
    await probed.found()
    assert await probed.found() is found


async def test_a_failed_test_is_not_done_again_at_once() -> None:
    probed = finding_in_turn(Finding(NOTHING, False), Finding(BOTH, True))
    await probed.found()
    assert await probed.found() is NOTHING


@ONLY_BUBBLEWRAP
@pytest.mark.usefixtures("at_once")
async def test_a_server_that_is_short_of_descriptors_runs_code_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*given: object) -> process.Process:
        raise OSError(errno.EMFILE, "Too many open files")

    backend = BubblewrapBackend()
    sandbox = Sandbox({"bubblewrap": backend})
    async with fail_after(60):
        with monkeypatch.context() as patch:
            patch.setattr(process.Process, "start", short)
            with pytest.raises(ToolUnavailable, match="Too many open files"):
                await sandbox.chosen()
        assert (await sandbox.chosen())[1].available
        assert sandbox.state()["ok"]
    await sandbox.close()


@ONLY_BUBBLEWRAP
@pytest.mark.usefixtures("at_once")
async def test_a_language_that_was_slow_to_start_is_there_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    if Language.JAVASCRIPT not in bench.capabilities.languages:
        pytest.skip("there is no Node.js here")
    backend = BubblewrapBackend()
    sandbox = Sandbox({"bubblewrap": backend})
    run = backend.run

    async def slow(spec: RunSpec) -> RunResult:
        return RunResult(KilledBy.TIME, None) if spec.language is Language.JAVASCRIPT else await run(spec)

    async with fail_after(60):
        with monkeypatch.context() as patch:
            patch.setattr(backend, "run", slow)
            assert (await sandbox.chosen())[1].languages == {Language.PYTHON}
        assert (await sandbox.chosen())[1].languages == set(Language)
    await sandbox.close()


async def test_a_try_that_told_nothing_leaves_the_self_test_unsure() -> None:
    async def infra(spec: RunSpec) -> RunResult:
        return RunResult(KilledBy.INFRA, None, detail="no room")

    found = await selftest.verdict(infra, frozenset(Language))
    assert not found.sure
    assert "no room" in found.failures


def test_what_cannot_be_looked_at_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def short() -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(requirements, "missing", short)
    assert "Too many open files" in (BubblewrapBackend().missing() or "")


@pytest.mark.usefixtures("at_once")
async def test_an_engine_that_was_not_there_is_looked_for_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    backend = DockerBackend(f"sha256:{'0' * 64}")
    said = []
    for name in ("first", "second"):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/{name}")
        said.append((await backend.probe()).reasons[0])
    assert said[0] != said[1]

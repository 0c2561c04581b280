"""The docker backend: one container for each run, walled in by `container.configuration`, gone when the run is over."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass, replace

from conductor_ai.tools.sandbox.base import (
    Capabilities,
    IsolationLevel,
    KilledBy,
    RunResult,
    RunSpec,
    RunUsage,
)
from conductor_ai.tools.sandbox.docker import selftest
from conductor_ai.tools.sandbox.docker.attempt import Attempt
from conductor_ai.tools.sandbox.docker.container import GVISOR, configuration, is_pinned
from conductor_ai.tools.sandbox.docker.engine import Engine, EngineFailed, connected, find, look, unreachable
from conductor_ai.tools.sandbox.docker.leftovers import remove_forgotten
from conductor_ai.tools.sandbox.frames import bootstrapped_bytes
from conductor_ai.tools.sandbox.probing import Finding, Probing, Watched

_logger = logging.getLogger(__name__)
IMAGE = "CONDUCTOR_SANDBOX_IMAGE"
REAP_EVERY_S = 60.0
_SLOW_S = 5.0
"""Each run of the self test has longer than this; one that needs more tells of a slow moment, not of a wall."""
HINT = (
    "docker build --tag conductor-sandbox sandbox && "
    f"export {IMAGE}=$(docker images --quiet --no-trunc conductor-sandbox), with Docker or Podman and its socket there"
)


@dataclass(frozen=True, slots=True)
class _Ready:
    """The engine that takes the runs, and the runtime that it starts them with; None: its own choice."""

    engine: Engine
    runtime: str | None
    level: IsolationLevel
    warnings: tuple[str, ...]


class DockerBackend:
    """Runs code on the engine that `DOCKER_HOST` names, or on the one whose socket is in the usual place.

    Args:
        image: `sha256:...` or `name@sha256:...`; None: what `CONDUCTOR_SANDBOX_IMAGE` says. It has to be on the engine.
    """

    def __init__(self, image: str | None = None) -> None:
        self._image = image
        self._preparing = asyncio.Lock()
        self._probing = Probing(self._probe)
        self._ready: _Ready | None = None
        self._runs: dict[str, asyncio.Event] = {}
        self._reaper: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return "docker"

    def missing(self) -> str | None:
        return unreachable() or self._unpinned()

    def _unpinned(self) -> str | None:
        image = self._chosen_image()
        if not image:
            return f"{IMAGE} names no image: {HINT}"
        if not is_pinned(image):
            return f"{IMAGE} must name one image for good, as sha256:... or name@sha256:..., not {image!r}"
        return None

    def _chosen_image(self) -> str:
        return (self._image or os.environ.get(IMAGE, "")).strip()

    async def probe(self) -> Capabilities:
        """As `SandboxBackend.probe`. What failed for the moment only is tried anew, at most every 30 seconds."""
        return await self._probing.found()

    async def _probe(self) -> Finding:
        try:
            ready = await self._prepared()
        except EngineFailed as exc:
            return Finding(_unavailable(str(exc)), lasting=False)
        tries = Watched(lambda spec: self._attempt(ready, spec), slow_s=_SLOW_S)
        verdict = await selftest.run(tries, own_kernel=_has_own_kernel(ready))
        if verdict.failures:
            return Finding(_unavailable(*verdict.failures), lasting=tries.sure)
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._reap_now_and_then())
        found = Capabilities(
            available=True,
            level=ready.level,
            languages=verdict.languages,
            memory="cgroup",
            network_off=True,
            reasons=(*ready.warnings, *verdict.warnings),
        )
        return Finding(found, lasting=tries.sure)

    async def _prepared(self) -> _Ready:
        """Raises: EngineFailed with the reason why there is no engine for a run; the next call asks anew."""
        async with self._preparing:
            if self._ready is None:
                self._ready = await self._prepare()
            return self._ready

    async def _prepare(self) -> _Ready:
        url = find()
        if (lacking := self.missing()) is not None or url is None:
            raise EngineFailed(lacking or "no container engine listens here")
        engine = await look(url, self._chosen_image())
        shared = _Ready(engine, None, IsolationLevel.NAMESPACES, engine.warnings)
        if GVISOR not in engine.listed:
            return shared
        # Podman lists the runtimes that it knows of, installed or not, so only a run can tell. This is decided once.
        walled = _Ready(engine, GVISOR, IsolationLevel.KERNEL, engine.warnings)
        if (failure := await selftest.shares_kernel(lambda spec: self._attempt(walled, spec), engine.kernel)) is None:
            return walled
        return _Ready(engine, None, IsolationLevel.NAMESPACES, (*engine.warnings, f"gVisor is not used: {failure}"))

    async def run(self, spec: RunSpec) -> RunResult:
        began = time.monotonic()
        if (found := self._probing.last) is not None and not found.available:
            return _infra(began, "; ".join(found.reasons))
        try:
            ready = await self._prepared()
        except EngineFailed as exc:
            return _infra(began, str(exc))
        return await self._attempt(ready, spec)

    async def _attempt(self, ready: _Ready, spec: RunSpec) -> RunResult:
        payload = bootstrapped_bytes(spec)
        began = time.monotonic()
        if spec.run_id in self._runs:
            return _infra(began, "this run is under way already")
        cancelled = self._runs[spec.run_id] = asyncio.Event()
        attempt = Attempt(
            spec,
            configuration=configuration(
                spec,
                image_id=ready.engine.image_id,
                architecture=ready.engine.architecture,
                runtime=ready.runtime,
            ),
            payload=payload,
            cancelled=cancelled,
        )
        try:
            async with connected(ready.engine.url) as docker:
                return await attempt.run(docker)
        except EngineFailed as exc:
            return replace(_infra(began, str(exc)), started=attempt.started)
        finally:
            del self._runs[spec.run_id]

    async def cancel(self, run_id: str) -> None:
        if (cancelled := self._runs.get(run_id)) is not None:
            cancelled.set()

    async def reap(self) -> int:
        url = find()
        if url is None or unreachable() is not None:
            return 0
        try:
            async with connected(url) as docker:
                return await remove_forgotten(docker)
        except EngineFailed as exc:
            _logger.warning("containers of ended runs may be left: %s", exc)
            return 0

    async def _reap_now_and_then(self) -> None:
        while True:
            await self.reap()
            await asyncio.sleep(REAP_EVERY_S)

    async def close(self) -> None:
        for cancelled in self._runs.values():
            cancelled.set()
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.wait({self._reaper})
            self._reaper = None


def _has_own_kernel(ready: _Ready) -> bool:
    return ready.level is IsolationLevel.KERNEL


def _unavailable(*reasons: str) -> Capabilities:
    return Capabilities(available=False, level=IsolationLevel.NAMESPACES, reasons=reasons, hint=HINT)


def _infra(began: float, detail: str) -> RunResult:
    return RunResult(KilledBy.INFRA, None, usage=RunUsage(time.monotonic() - began), detail=detail)

"""The sandbox that needs no engine: bwrap, started anew for every run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from conductor_ai.tools.sandbox.base import (
    Capabilities,
    IsolationLevel,
    KilledBy,
    RunLimits,
    RunResult,
    RunSpec,
    RunUsage,
)
from conductor_ai.tools.sandbox.bubblewrap import cgroups, requirements, runtime, selftest
from conductor_ai.tools.sandbox.bubblewrap.command import Features, Tools, inside, limits_of_a_process, request
from conductor_ai.tools.sandbox.bubblewrap.identity import Identity, identity, shared
from conductor_ai.tools.sandbox.bubblewrap.janitor import Janitor
from conductor_ai.tools.sandbox.bubblewrap.process import Process, StartFailed
from conductor_ai.tools.sandbox.bubblewrap.watchdog import watch_memory
from conductor_ai.tools.sandbox.frames import Reply
from conductor_ai.tools.sandbox.probing import Finding, Probing

_logger = logging.getLogger(__name__)
_CANCEL_S = 1.0
_CLOSE_S = 5.0
_WATCHED = "rlimit and a watchdog"
_UNGROUPED = (
    "there is no control group, so memory is bounded per process and by a watchdog only: give conductor a delegated "
    "group (with systemd, Delegate=yes and DelegateSubgroup=server), or use CONDUCTOR_SANDBOX=docker"
)
_TRIED = (Features(), Features(disable_userns=False), Features(proc=False), Features(proc=False, disable_userns=False))
"""Walls that other walls stand behind: not every bwrap, and not every container that it may run in, has them."""


@dataclass(frozen=True, slots=True)
class _Ground:
    """What every run of this process stands on, found out with the first. `groups` is None where no control group
    can be had: then a watchdog bounds the memory of a run."""

    tools: Tools
    runtime: runtime.Runtime
    features: Features
    groups: cgroups.ProcessGroup | None
    janitor: Janitor | None


class _Ending:
    """Who ended one run, and the way to do it once there is one."""

    def __init__(self) -> None:
        self.reason: KilledBy | None = None
        self._kill: Callable[[], None] | None = None

    def by(self, kill: Callable[[], None]) -> None:
        self._kill = kill
        if self.reason is not None:
            kill()

    def end(self, reason: KilledBy) -> None:
        """The first reason counts."""
        if self.reason is None:
            self.reason = reason
            if self._kill is not None:
                self._kill()


class BubblewrapBackend:
    """Implements `SandboxBackend`. `close` ends what runs, and the one process that watches over this one."""

    name = "bubblewrap"

    def __init__(self) -> None:
        self._identities = shared()
        self._runs: dict[str, tuple[_Ending, asyncio.Task[RunResult]]] = {}
        self._lock = asyncio.Lock()
        self._probing = Probing(self._probe)
        self._ground: _Ground | None = None

    def missing(self) -> str | None:
        try:
            return requirements.missing()
        except OSError as exc:  # out of file descriptors, say
            return str(exc)

    async def probe(self) -> Capabilities:
        """As `SandboxBackend.probe`. What failed for the moment only is tried anew, at most every 30 seconds."""
        return await self._probing.found()

    async def _probe(self) -> Finding:
        if (lacking := self.missing()) is not None:
            return Finding(_unavailable(lacking), lasting=False)
        try:
            ground = await self._standing()
            tried = await selftest.verdict(self.run, ground.runtime.languages)
        except (StartFailed, OSError) as exc:
            return Finding(_unavailable(str(exc) or type(exc).__name__), lasting=False)
        if tried.failures:
            return Finding(_unavailable(*tried.failures), lasting=tried.sure)
        found = Capabilities(
            available=True,
            level=IsolationLevel.NAMESPACES,
            languages=tried.languages,
            memory=_WATCHED if ground.groups is None else "cgroup",
            network_off=True,
            reasons=(_UNGROUPED,) if ground.groups is None else (),
        )
        return Finding(found, lasting=tried.sure)

    async def run(self, spec: RunSpec) -> RunResult:
        """As `SandboxBackend.run`. Raises: InvalidInput for files that cannot be put into a run."""
        ending = _Ending()
        work = asyncio.create_task(self._run(spec, ending))
        self._runs[spec.run_id] = ending, work
        work.add_done_callback(lambda _: self._runs.pop(spec.run_id, None))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            ending.end(KilledBy.CANCELLED)
            await asyncio.wait({work}, timeout=_CANCEL_S)
            raise

    async def cancel(self, run_id: str) -> None:
        if run_id in self._runs:
            ending, work = self._runs[run_id]
            ending.end(KilledBy.CANCELLED)
            await asyncio.wait({work}, timeout=_CANCEL_S)

    async def reap(self) -> int:
        try:
            return await cgroups.remove_left_over(cgroups.find())
        except OSError as exc:
            _logger.warning("control groups of ended servers may be left: %s", exc)
            return 0

    async def close(self) -> None:
        runs = list(self._runs.values())
        for ending, _ in runs:
            ending.end(KilledBy.CANCELLED)
        if runs:
            await asyncio.wait({work for _, work in runs}, timeout=_CLOSE_S)
        async with self._lock:
            ground, self._ground = self._ground, None
        if ground is not None and ground.janitor is not None and ground.groups is not None:
            await ground.janitor.end()
            ground.groups.remove()

    async def _run(self, spec: RunSpec, ending: _Ending) -> RunResult:
        started = time.monotonic()
        reply = Reply(spec.limits)
        try:
            ground = await self._standing()
            content = request(ground.runtime, spec)
            async with self._identities.one() as user:
                started = time.monotonic()
                return await _Run(ground, spec, user, reply, ending).result(content)
        except (StartFailed, OSError) as exc:
            return reply.result(
                killed_by_host=KilledBy.CANCELLED if ending.reason is KilledBy.CANCELLED else None,
                out_of_memory=False,
                usage=RunUsage(time.monotonic() - started),
                detail=str(exc) or type(exc).__name__,
            )

    async def _standing(self) -> _Ground:
        """Raises: StartFailed or OSError."""
        async with self._lock:
            if self._ground is None:
                self._ground = await _find_ground()
            return self._ground


def _unavailable(*reasons: str) -> Capabilities:
    return Capabilities(
        available=False,
        level=IsolationLevel.NAMESPACES,
        reasons=reasons,
        hint=next((line for reason in reasons if (line := requirements.hint(reason)) is not None), None),
    )


async def _find_ground() -> _Ground:
    """Raises: StartFailed where bwrap does not work here, and OSError."""
    tools = Tools.find()
    if tools is None:
        raise StartFailed("bubblewrap is not installed: there is no bwrap in PATH")
    user = identity(0)
    seen = runtime.find(user.uid, may_stage=requirements.may_stage(tools))
    features = await _features(tools, seen, user)
    hierarchies = cgroups.find()
    if not hierarchies:
        if not requirements.counts_processes(own_user=user.given_up):
            raise StartFailed("without control groups it takes Linux 5.14 to bound the processes of a run")
        return _Ground(tools, seen, features, None, None)
    groups = cgroups.ProcessGroup(hierarchies)
    try:
        groups.make()
        return _Ground(tools, seen, features, groups, Janitor(groups.folders))
    except BaseException:
        groups.remove()
        raise


async def _features(tools: Tools, seen: runtime.Runtime, user: Identity) -> Features:
    """What works here, found by starting a program that does nothing. Raises: StartFailed."""
    said = []
    for features in _TRIED:
        process = Process.start(tools, seen, RunLimits(), features, user, ["/usr/bin/true"])
        try:
            await process.child()
            await process.listen(lambda _: True)
        except StartFailed as exc:
            said.append(str(exc))
            process.kill()
        finally:
            await process.ended()
        if process.exit_status == 0:
            return features
        said.append(process.noise)
    raise StartFailed(next(filter(None, said), "bwrap does not work here"))


class _Run:
    """One run, once."""

    def __init__(self, ground: _Ground, spec: RunSpec, user: Identity, reply: Reply, ending: _Ending) -> None:
        self._ground = ground
        self._spec = spec
        self._user = user
        self._reply = reply
        self._ending = ending

    async def result(self, content: bytes) -> RunResult:
        """Raises: StartFailed and OSError."""
        groups = self._ground.groups
        if groups is None:
            return await self._in_group(content, None)
        group = groups.new_run(self._spec.limits, self._spec.run_id)
        try:
            return await self._in_group(content, group)
        finally:
            await group.remove()

    async def _in_group(self, content: bytes, group: cgroups.RunGroup | None) -> RunResult:
        started = time.monotonic()
        process = self._start()
        self._ending.by(process.kill)
        try:
            pid = await process.child()
            if group is not None:
                await asyncio.to_thread(group.add, pid)  # the kernel takes up to ten milliseconds for it
            async with self._watched(process, pid, content, group):
                await process.listen(self._reply.feed)
        except BaseException:
            process.kill()
            raise
        finally:
            await process.ended()
        return self._reply.result(
            killed_by_host=self._ending.reason,
            out_of_memory=group is not None and group.ran_out_of_memory(),
            usage=RunUsage(
                time.monotonic() - started, process.cpu_s, None if group is None else group.peak_memory_bytes()
            ),
            detail=process.noise or None if process.exit_status and not self._reply.ended else None,
        )

    def _start(self) -> Process:
        ground, spec = self._ground, self._spec
        limits = limits_of_a_process(
            spec.language,
            spec.limits,
            count_processes=requirements.counts_processes(own_user=self._user.given_up),
            grouped=ground.groups is not None,
        )
        inner = inside(ground.runtime, limits)
        return Process.start(ground.tools, ground.runtime, spec.limits, ground.features, self._user, inner)

    @asynccontextmanager
    async def _watched(
        self, process: Process, pid: int, content: bytes, group: cgroups.RunGroup | None
    ) -> AsyncIterator[None]:
        """Its stdin is written, and its time and memory are kept."""
        limits = self._spec.limits
        deadline = asyncio.get_running_loop().call_later(limits.wall_s, self._ending.end, KilledBy.TIME)
        tasks = [asyncio.create_task(process.feed(content))]
        if group is None:
            too_much = partial(self._ending.end, KilledBy.MEMORY)
            tasks.append(asyncio.create_task(watch_memory(pid, limits.memory_bytes, too_much)))
        for task in tasks:
            task.add_done_callback(self._end_without)
        try:
            yield
        finally:
            deadline.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()

    def _end_without(self, task: asyncio.Task[None]) -> None:
        """No run goes on without what it needs, or what bounds it."""
        if not task.cancelled() and task.exception() is not None:
            self._ending.end(KilledBy.INFRA)

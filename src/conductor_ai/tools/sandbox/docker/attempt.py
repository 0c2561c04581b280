"""One run in one container: made, started, fed, read, and removed, whatever happens on the way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from conductor_ai.tools.sandbox.base import KilledBy, RunResult, RunSpec, RunUsage
from conductor_ai.tools.sandbox.docker.container import LOST, START_S, container_name
from conductor_ai.tools.sandbox.docker.engine import GONE, EngineFailed
from conductor_ai.tools.sandbox.frames import Reply

if TYPE_CHECKING:
    from aiodocker import Docker
    from aiodocker.containers import DockerContainer
    from aiodocker.stream import Stream

_logger = logging.getLogger(__name__)
T = TypeVar("T")
REMOVE_S = 10.0
_EXIT_S = 2.0
_PAUSE_S = 0.05
_STDERR = 2
_MOST_COMPLAINT = 2000
_SIGKILLED = 137
_BUSY = (409, 500)
"""What an engine answers who is asked to remove a container that just ends, or that somebody else just removes."""


class Attempt:
    """One attempt at a run, to be made once.

    Args:
        spec: What to run.
        configuration: The container for it (`container.configuration`).
        payload: What the container reads from its stdin.
        cancelled: Set when the run is to end.
    """

    def __init__(
        self, spec: RunSpec, *, configuration: Mapping[str, Any], payload: bytes, cancelled: asyncio.Event
    ) -> None:
        self._spec = spec
        self._configuration = configuration
        self._payload = payload
        self._cancelled = cancelled
        self._reply = Reply(spec.limits)
        self._complaint = bytearray()

    @property
    def started(self) -> bool:
        """Whether the code may have run."""
        return self._reply.started

    async def run(self, docker: Docker) -> RunResult:
        """Returns once the container is gone. Raises: EngineFailed, and what `connected` translates."""
        began = time.monotonic()
        creating = asyncio.create_task(
            docker.containers.create(dict(self._configuration), name=container_name(self._spec.run_id))
        )
        try:
            async with asyncio.timeout(START_S):
                container = await asyncio.shield(creating)
            killed_by, status = await self._converse(container)
        finally:
            await to_its_end(_remove_made(creating))
        return self._reply.result(
            killed_by_host=killed_by,
            # No signal from within ends process 1, and our own come later: the kernel did it, for want of memory, as it
            # does to the whole of gVisor. Short of somebody's `docker kill`; the engine has forgotten it by now.
            out_of_memory=killed_by is None and status == _SIGKILLED,
            usage=RunUsage(wall_s=time.monotonic() - began),
            detail=self._failure(killed_by, status),
        )

    async def _converse(self, container: DockerContainer) -> tuple[KilledBy | None, int | None]:
        """Start it and listen. Returns: why it is to be killed, if so, and the status that it exited with, if known."""
        async with asyncio.timeout(START_S) as starting, _attached(container) as stream:
            ending = asyncio.create_task(container.wait(condition="next-exit"))
            try:
                await container.start()
                starting.reschedule(None)
                killed_by = await self._listen(stream)
                if killed_by is None and not self._reply.over_output and self._reply.broken is None:
                    return None, await _exit_status(ending)
                return killed_by, None
            finally:
                await _dropped(ending)

    async def _listen(self, stream: Stream) -> KilledBy | None:
        reading = asyncio.create_task(self._read(stream))
        writing = asyncio.create_task(stream.write_in(self._payload))
        cancelling = asyncio.create_task(self._cancelled.wait())
        try:
            await asyncio.wait(
                {reading, cancelling}, timeout=self._spec.limits.wall_s, return_when=asyncio.FIRST_COMPLETED
            )
            if reading.done():
                reading.result()
                return None
            if cancelling.done():
                return KilledBy.CANCELLED
            if writing.done():
                writing.result()  # what could not be written was not run
            return KilledBy.TIME
        finally:
            for task in (reading, writing, cancelling):
                await _dropped(task)

    async def _read(self, stream: Stream) -> None:
        """Read until the guest has said all, or no more of it is wanted, or the container has ended."""
        while (message := await stream.read_out()) is not None:
            if message.stream == _STDERR:  # Python's, where the guest cannot even start
                self._complaint += message.data[: _MOST_COMPLAINT - len(self._complaint)]
            elif self._reply.feed(message.data) or self._reply.ended:
                return

    def _failure(self, killed_by: KilledBy | None, status: int | None) -> str | None:
        if killed_by is not None or self._reply.ended or self._reply.over_output or status == _SIGKILLED:
            return None
        if self._reply.broken is not None:
            return None  # which says more
        if status == LOST:
            return "the engine closed the connection to the container"
        complaint = bytes(self._complaint).decode("utf-8", "replace").split()
        return " ".join([f"the container exited with {status} before the code did", *complaint])[:500]


@asynccontextmanager
async def _attached(container: DockerContainer) -> AsyncIterator[Stream]:
    stream = container.attach(stdin=True, stdout=True, stderr=True)
    try:
        async with stream:
            yield stream
    finally:
        with suppress(AssertionError):  # it was closed while it was opened, and takes its connection for granted
            await stream.close()


async def _exit_status(ending: asyncio.Task[dict[str, Any]]) -> int | None:
    """None where the engine removed the container before it said."""
    from aiodocker import DockerError

    with suppress(TimeoutError, DockerError):
        async with asyncio.timeout(_EXIT_S):
            status = (await asyncio.shield(ending)).get("StatusCode")
        return status if isinstance(status, int) else None
    return None


async def _remove_made(creating: asyncio.Task[DockerContainer]) -> None:
    """Remove the container, also one that the engine is still about to make."""
    from aiodocker import DockerError

    async with asyncio.timeout(REMOVE_S):
        try:
            container = await creating
        except DockerError:
            return  # none was made
        await remove(container)


async def remove(container: DockerContainer) -> bool:
    """Kill and remove it, and wait until it is gone. Returns: False where it was gone already."""
    from aiodocker import DockerError

    deadline = time.monotonic() + REMOVE_S
    tried = False
    while True:
        try:
            await container.delete(force=True, v=True)
        except DockerError as exc:
            if exc.status == GONE:
                return tried
            if exc.status not in _BUSY or time.monotonic() > deadline:
                raise EngineFailed(f"the container {container.id[:12]} could not be removed: {exc}") from exc
            tried = True
            await asyncio.sleep(_PAUSE_S)
        else:
            return True


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; a cancellation that comes meanwhile waits for its end, and then passes through."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if (failure := task.exception()) is not None:
            _logger.warning("a cancelled run may have left its container, which the next reap removes: %s", failure)
        raise


async def _dropped(task: asyncio.Task[Any]) -> None:
    """Cancel it and wait for its end; what became of it is of no interest any more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()

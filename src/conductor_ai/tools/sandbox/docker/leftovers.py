"""What runs of dead servers left on the engine. Most remove themselves: see the lifeline in `container.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from conductor_ai.tools.sandbox.docker.attempt import remove
from conductor_ai.tools.sandbox.docker.container import EXPIRES, LABEL, OWNER
from conductor_ai.tools.sandbox.docker.engine import ANSWER_S, filters
from conductor_ai.tools.sandbox.docker.owner import is_dead

if TYPE_CHECKING:
    from aiodocker import Docker


async def remove_forgotten(docker: Docker) -> int:
    """Remove every container of ours that nobody waits for. Returns: how many. Raises what `connected` translates."""
    async with asyncio.timeout(ANSWER_S):
        containers = await docker.containers.list(all="true", filters=filters(label=LABEL))
    removed = 0
    for container in containers:
        if is_forgotten(container["Labels"] or {}, now=time.time()):
            removed += await remove(container)
    return removed


def is_forgotten(labels: Mapping[str, str], *, now: float) -> bool:
    """Whether the process that made it is dead, or its time is over. Of another machine's only the time can tell."""
    expires = labels.get(EXPIRES, "")
    return is_dead(labels.get(OWNER, "")) or not expires.isdecimal() or now > int(expires)

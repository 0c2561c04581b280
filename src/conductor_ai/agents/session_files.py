"""The files of one session, as one of its tool calls gets them."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from conductor_ai.agents.session_log import SessionLog
from conductor_ai.errors import FileNotStored, InvalidInput
from conductor_ai.schemas.ids import utc_now
from conductor_ai.sdk.context import SessionFile
from conductor_ai.sdk.files import MAX_FILE_BYTES, check_media_type, check_name, media_type_of

FACT = "stored_files"
"""Of the call's audit row: SHA-256 by name of what it stored."""


class StoredFiles:
    """`SessionFiles` over the store. What is written is named in the audit row of the call.

    Args:
        facts: Of the call, for its audit row.
    """

    def __init__(self, log: SessionLog, call_id: str, facts: dict[str, Any]) -> None:
        self._log = log
        self._call_id = call_id
        self._step_no = log.state.step_no
        self._facts = facts

    async def list(self) -> list[SessionFile]:
        return await self._log.files.files(self._log.session_id, self._log.state.config.org_id)

    async def read(self, name: str) -> bytes:
        check_name(name)
        try:
            _, content = await self._log.files.file(self._log.session_id, self._log.state.config.org_id, name)
        except FileNotStored as exc:
            raise InvalidInput(str(exc), hint="list the files to see which there are") from exc
        return content

    async def write(self, name: str, content: bytes, media_type: str | None = None) -> SessionFile:
        check_name(name)
        if media_type is not None:
            check_media_type(media_type)
        if len(content) > MAX_FILE_BYTES:  # before anything is made of it
            raise InvalidInput(f"{name} has {len(content):,} bytes: a file may have {MAX_FILE_BYTES:,}")
        digest = await asyncio.to_thread(self._digest, name, content)
        file = SessionFile(
            name=name,
            media_type=media_type or media_type_of(name),
            size_bytes=len(content),
            sha256=digest,
            created_at=utc_now(),
            step_no=self._step_no,
            call_id=self._call_id,
        )
        await self._log.files.put_file(self._log.session_id, self._log.state.config.org_id, file, content)
        self._facts.setdefault(FACT, {})[name] = digest
        return file

    def _digest(self, name: str, content: bytes) -> str:
        redactor = self._log.redactor
        # Taken out of a file, a secret could leave one that cannot be read any more.
        if redactor.clean(name) != name or redactor.is_in(content):
            raise InvalidInput("the file holds a secret of this server, in its name or in what it says: not stored")
        return hashlib.sha256(content).hexdigest()

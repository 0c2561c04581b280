"""The files that a session's tools left with it: to be saved, never to be shown in the server's own name."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends
from starlette.responses import Response

from conductor_ai import errors as tree
from conductor_ai.api.answers import page
from conductor_ai.api.declared import ScopedRoute, needs
from conductor_ai.api.house import Call, current_call
from conductor_ai.api.queries import FileName, SessionId
from conductor_ai.api.views import FileView, Page
from conductor_ai.schemas.orgs import Scope
from conductor_ai.sdk.context import SessionFile
from conductor_ai.sdk.files import UNKNOWN_KIND

router = APIRouter(route_class=ScopedRoute, tags=["files"])
CallDep = Annotated[Call, Depends(current_call)]

# A browser that takes a file for one of these runs nothing of it; every other kind is bytes.
_HARMLESS = frozenset(
    {
        "application/json",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/csv",
        "text/plain",
        "text/tab-separated-values",
    }
)
_PLAIN = re.compile(r"[^A-Za-z0-9._-]")
_file = needs(Scope.READ, tree.SessionNotFound, tree.FileNotStored)
_file["responses"][200] = {
    "description": "the file, as an attachment; its bytes as they were stored",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in sorted({*_HARMLESS, UNKNOWN_KIND})
    },
}


@router.get(
    "/agents/{session_id}/files",
    operation_id="list_files",
    response_model=Page[FileView],
    **needs(Scope.READ, tree.SessionNotFound),
)
async def list_files(session_id: SessionId, call: CallDep) -> Response:
    """The session's files by name, all of them."""
    found = await call.service.files(session_id, caller=call.caller)
    return page(asdict(file) for file in found)


@router.get("/agents/{session_id}/files/{name:path}", operation_id="get_file", response_class=Response, **_file)
async def get_file(session_id: SessionId, name: FileName, call: CallDep) -> Response:
    """One file."""
    file, content = await call.service.file(session_id, name, caller=call.caller)
    kind = file.media_type if file.media_type in _HARMLESS else UNKNOWN_KIND
    return Response(content, headers={**_heads(file), "Content-Type": kind})


def _heads(file: SessionFile) -> dict[str, str]:
    """RFC 6266: the last part of the name, for old readers in ASCII."""
    last = file.name.rpartition("/")[2]
    # No part of an address on the machine of whoever saves it: `quote` leaves no separator.
    disposition = f"attachment; filename=\"{_PLAIN.sub('_', last)}\"; filename*=UTF-8''{quote(last, safe='')}"
    return {"Content-Disposition": disposition, "Content-Security-Policy": "sandbox; default-src 'none'"}

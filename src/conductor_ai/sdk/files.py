"""What a session's files may be called, how large they may get, and what kind of file a name tells of."""

from __future__ import annotations

import re
from collections.abc import Iterable

from conductor_ai.errors import InvalidInput

MAX_FILE_BYTES = 16 * 2**20
MAX_SESSION_BYTES = 32 * 2**20
"""All of them go into each run of code, where they share its disk and memory."""
MAX_SESSION_FILES = 200
MAX_NAME_BYTES = 255

UNKNOWN_KIND = "application/octet-stream"

# Not the system's own list: a file must be of the same kind on every machine.
_KINDS = {
    "csv": "text/csv",
    "gif": "image/gif",
    "gz": "application/gzip",
    "htm": "text/html",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "log": "text/plain",
    "md": "text/markdown",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "pdf": "application/pdf",
    "png": "image/png",
    "py": "text/x-python",
    "svg": "image/svg+xml",
    "tsv": "text/tab-separated-values",
    "txt": "text/plain",
    "webp": "image/webp",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xml": "application/xml",
    "zip": "application/zip",
}
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")


def check_name(name: str) -> None:
    """A name stands for the same file in every folder that it is put into, in an address and on a terminal.

    Raises: InvalidInput.
    """
    # What is not printable is also what turns text around, lone surrogates, and spaces that look like others.
    if not name.isprintable() or "\\" in name:
        raise _refused(name, "it has a character that no file name should have")
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise _refused(name, "it must be relative, without empty parts, . and ..")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise _refused(name, f"it is longer than {MAX_NAME_BYTES} bytes")


def check_room(stored: Iterable[tuple[str, int]], name: str, size_bytes: int) -> None:
    """Whether a file may come to those that a session has, or in place of the one of its name.

    Args:
        stored: Name and size of each.
    Raises: InvalidInput.
    """
    if size_bytes > MAX_FILE_BYTES:
        raise InvalidInput(f"{name} has {size_bytes:,} bytes: a file may have {MAX_FILE_BYTES:,}")
    others = {other: size for other, size in stored if other != name}
    if len(others) >= MAX_SESSION_FILES:
        raise InvalidInput(f"{name} is one too many: a session may have {MAX_SESSION_FILES} files")
    if (total := sum(others.values()) + size_bytes) > MAX_SESSION_BYTES:
        raise InvalidInput(
            f"{name} does not fit: all files of the session would have {total:,} bytes, {MAX_SESSION_BYTES:,} may be"
        )
    parts = name.split("/")
    folders = {"/".join(parts[:length]) for length in range(1, len(parts))}
    for other in others:
        if other in folders or other.startswith(f"{name}/"):
            raise InvalidInput(f"{name} cannot be beside {other}: one name cannot be a file and a folder")


def media_type_of(name: str) -> str:
    """By the end of the name."""
    return _KINDS.get(name.rpartition(".")[2].lower(), UNKNOWN_KIND) if "." in name else UNKNOWN_KIND


def check_media_type(media_type: str) -> None:
    """Type and subtype, in lower case, without parameters. Raises: InvalidInput."""
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise InvalidInput(f"no media type: {media_type!r:.80}", hint="such as text/csv")


def _refused(name: str, why: str) -> InvalidInput:
    return InvalidInput(f"no name of a file: {name!r:.80}: {why}", hint="such as plots/sales.png")

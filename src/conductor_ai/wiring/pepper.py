"""The pepper that keys are hashed with: from the settings, else a file under `$CONDUCTOR_HOME` that is made once."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from conductor_ai.errors import InvalidInput, StoreUnavailable
from conductor_ai.settings import Settings

FILE_NAME = "key_pepper"

_BYTES = 32
_FEWEST_CHARS = 16
_HOW = "make one with `openssl rand -hex 32`; keys made with another pepper are no longer valid"


def key_pepper(settings: Settings) -> bytes:
    """The server's pepper; the file is made where it is missing. Blocks: call it in a worker thread.

    Raises: InvalidInput where the variable is too short, or is needed and not set; StoreUnavailable.
    """
    if settings.conductor_key_pepper is not None:
        pepper = settings.conductor_key_pepper.get_secret_value()
        if len(pepper) < _FEWEST_CHARS:
            raise InvalidInput(f"CONDUCTOR_KEY_PEPPER is shorter than {_FEWEST_CHARS} characters", hint=_HOW)
        return pepper.encode()
    if settings.app_env == "production" and settings.postgres_url is not None:
        # A file would be one per machine, and gone with it.
        raise InvalidInput("CONDUCTOR_KEY_PEPPER is not set, which production on Postgres needs", hint=_HOW)
    try:
        return _from_file(settings.conductor_home / FILE_NAME)
    except OSError as exc:
        raise StoreUnavailable(
            f"{settings.conductor_home / FILE_NAME} cannot be used ({exc.strerror or exc})",
            hint="set CONDUCTOR_KEY_PEPPER, or CONDUCTOR_HOME to a folder you can write to",
        ) from exc


def _from_file(path: Path) -> bytes:
    try:
        return _read(path)
    except FileNotFoundError:
        _make(path)
        return _read(path)  # that of whoever was first


def _read(path: Path) -> bytes:
    pepper = path.read_bytes().strip()
    if len(pepper) < _FEWEST_CHARS:
        raise InvalidInput(f"{path} is damaged", hint="restore it from a backup; without it no key is valid any more")
    return pepper


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Under another name at first: nobody may read it half written, and a second process must not replace it.
    draft = path.with_name(f"{FILE_NAME}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(secrets.token_hex(_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return  # another process was faster
    finally:
        draft.unlink()

"""The operator's folders, as the command line or the settings name them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from conductor_ai.errors import InvalidInput
from conductor_ai.settings import Settings


def operators_folder(settings: Settings, kind: Literal["plugins", "agents"], given: Path | None) -> Path | None:
    """`given`, else the folder of the settings; None where that is the default one and is not there.

    Raises: InvalidInput where a folder that somebody named does not exist.
    """
    if given is not None:
        if not given.is_dir():
            raise InvalidInput(f"there is no {kind} folder {given}")
        return given
    field = f"conductor_{kind}_dir"
    folder: Path = getattr(settings, field)
    if folder.is_dir():
        return folder
    # A copy of .env.example names the default, which is there for whoever has files to put into it.
    if folder != Settings.model_fields[field].default:
        raise InvalidInput(f"there is no {kind} folder {folder}", hint=f"{field.upper()} names it")
    return None

"""A new plugin, begun as a working copy of the example."""

from __future__ import annotations

import keyword
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from conductor_ai.bundled import bundled
from conductor_ai.errors import InvalidInput

TEMPLATE = "example_plugin"
_TOOLS = ("find_dealers", "dealer_details", "save_shortlist", "send_outreach")
_NAME = re.compile(r"[a-z][a-z0-9_]{1,39}")


def new_plugin(name: str, plugins_dir: str | Path) -> Path:
    """Copy the template to `plugins_dir/name`, its tools under names of their own: `name_find_dealers`.

    Args:
        name: 2 to 40 of a-z, 0-9 and _, a letter first; it becomes a Python package, so no other one may have it.
        plugins_dir: Created where it is missing.
    Returns: the new folder.
    Raises: InvalidInput where the name cannot be used, the folder exists or cannot be written. Nothing is left then.
    """
    _check_name(name)
    folder = Path(plugins_dir)
    target = folder / name
    template = bundled("plugins") / TEMPLATE
    try:
        if target.exists() or target.is_symlink():
            raise InvalidInput(f"{target} exists already", hint="choose another name")
        if _is_taken(name):
            raise InvalidInput(f"{name!r} is the name of a Python module already", hint="choose another name")
        # Built beside its place and moved there whole: nobody ever loads half a plugin.
        with _made(folder), tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as workshop:
            draft = Path(workshop) / name
            _copy(template, draft, name)
            draft.rename(target)
    except OSError as exc:
        raise InvalidInput(f"{target} cannot be written: {exc.strerror or exc}") from exc
    return target


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be the name of a plugin",
            hint="2 to 40 of a-z, 0-9 and _, beginning with a letter, like dealer_mail",
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name == "tests":
        raise InvalidInput(f"{name!r} has a meaning of its own", hint="choose another name")


def _is_taken(name: str) -> bool:
    try:
        return name in sys.stdlib_module_names or find_spec(name) is not None
    except ValueError:  # a module that is loaded but was never found, like `__main__`
        return True


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder, made where it is missing, and unmade again where the block fails."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):  # somebody else has put something there meanwhile: theirs stays
                path.rmdir()
        raise


def _copy(source: Path, target: Path, name: str) -> None:
    # Contents only, no modes: an installed template may be read-only, its copy is there to be changed.
    target.mkdir()
    for item in source.iterdir():
        if item.name == "__pycache__" or item.name.startswith("."):
            continue
        if item.is_dir():
            _copy(item, target / item.name, name)
        elif item.suffix == ".py":
            (target / item.name).write_text(_renamed(item.read_text(encoding="utf-8"), name), encoding="utf-8")
        else:
            (target / item.name).write_bytes(item.read_bytes())


def _renamed(text: str, name: str) -> str:
    names = {TEMPLATE: name, **{tool: f"{name}_{tool}" for tool in _TOOLS}}
    return re.sub(rf"\b({'|'.join(names)})\b", lambda match: names[match[1]], text)

"""What of the machine a sandbox sees: an interpreter with its packages, Node.js, and the libraries of the system.

The interpreter is the one that runs this process, with the packages of its environment, where the user of a run can
reach it or root can carry it over (`command.staged`); else the system's.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from conductor_ai.tools.sandbox.base import Language

ENVIRONMENT = Path("/opt/env")
"""Here a virtual environment appears: outside it may lie in a folder that is another one inside, such as /work."""
NODE = Path("/opt/bin/node")
SEARCH_PATH = f"{ENVIRONMENT}/bin:{NODE.parent}:/usr/bin:/bin"
_USR, _LOCAL = Path("/usr"), Path("/usr/local")
_TOP = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_PUBLIC = ("/etc/ld.so.cache", "/etc/alternatives")  # where libraries are, and which of several
_SYSTEM_PYTHON = Path("/usr/bin/python3")
_PARTS = ("bin", "include", "lib", "lib64", "share/zoneinfo", "pyvenv.cfg")
"""What an interpreter has of the folder that it is installed in. A virtual environment may be made in a project's own
folder, and an installation in somebody's home: what lies beside these is none of its business."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """`python` by its path inside; `own`: it is the interpreter of this process. `binds` are read-only, outer path to
    inner path, in an order in which each comes after the folder it lies in; those in `unreachable` only root can carry
    over. `covered` are folders of what is bound that appear empty."""

    python: Path
    own: bool
    languages: frozenset[Language]
    binds: dict[Path, Path]
    links: dict[Path, Path]
    covered: tuple[Path, ...]
    unreachable: tuple[Path, ...]


def find(uid: int, *, may_stage: bool) -> Runtime:
    """What runs of this user see.

    Args:
        uid: The user on the machine.
        may_stage: Whether this process can carry over what that user cannot reach.
    Raises: FileNotFoundError where no interpreter will do; its text says why.
    """
    own = _own_interpreter()
    if own is not None:
        found = _runtime(*own, uid, own=True)
        if may_stage or not found.unreachable:
            return found
    system = _runtime(_SYSTEM_PYTHON, {}, uid, own=False)
    if not os.access(_SYSTEM_PYTHON, os.X_OK) or system.unreachable:
        raise FileNotFoundError(
            f"the user of a run cannot reach the interpreter in {sys.base_prefix}, and there is no {_SYSTEM_PYTHON}"
        )
    return system


def _own_interpreter() -> tuple[Path, dict[Path, Path]] | None:
    """This process's interpreter by its inner path, and what has to be bound for it; None where it cannot be told."""
    if not sys.executable:
        return None  # embedded into some other program
    prefix, base = Path(sys.prefix), Path(sys.base_prefix)
    executable = Path(sys.executable)
    binds = {}
    bases = (base, base.resolve(), Path(sys.base_exec_prefix), executable.resolve().parent.parent)
    for folder in dict.fromkeys(bases):
        binds.update({part: part for part in _parts_of_prefix(folder)})
    if not any(executable.resolve().is_relative_to(part) for part in (_USR, *binds)):
        return None  # in a folder that this user may not look into, or in none that interpreters have
    if prefix != base:
        own = {part: ENVIRONMENT / part.relative_to(prefix) for part in _parts(prefix)}
        if not any(executable.is_relative_to(part) for part in own):
            return None
        return ENVIRONMENT / executable.relative_to(prefix), {**binds, **own}
    if not any(executable.is_relative_to(part) for part in (_USR, *binds)):
        return None
    for packages in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        if not any(Path(packages).is_relative_to(bound) for bound in binds) and Path(packages).is_dir():
            binds[Path(packages)] = Path(packages)
    return executable, binds


def _parts_of_prefix(prefix: Path) -> list[Path]:
    """What to bind of a folder that an interpreter is installed in."""
    if prefix in (_USR, Path("/")):
        return []  # bound for every run
    if prefix == _LOCAL:
        return [part for part in (_LOCAL / "bin", _LOCAL / "lib") if part.is_dir()]
    return _parts(prefix)


def _parts(prefix: Path) -> list[Path]:
    return [prefix / name for name in _PARTS if os.path.exists(prefix / name)]  # noqa: PTH110 - it raises nothing


def _runtime(python: Path, more_binds: dict[Path, Path], uid: int, *, own: bool) -> Runtime:
    binds = {_USR: _USR}
    links = {}
    for name in map(Path, _TOP):
        if name.is_symlink():
            links[name] = name.readlink()
        elif name.is_dir():
            binds[name] = name
    binds |= {Path(name): Path(name) for name in _PUBLIC if Path(name).exists()}
    binds |= more_binds
    languages = {Language.PYTHON}
    if (node := shutil.which("node")) is not None:
        binds[Path(node).resolve()] = NODE
        languages.add(Language.JAVASCRIPT)
    return Runtime(
        python=python,
        own=own,
        languages=frozenset(languages),
        binds=binds,
        links=links,
        covered=(_LOCAL,) if _LOCAL.is_dir() else (),
        unreachable=tuple(outer for outer in binds if not _reachable(outer, uid)),
    )


def _reachable(path: Path, uid: int) -> bool:
    """Whether this user may enter every folder on the way to `path`, and read it. Of another user than this process's
    groups and access lists are not asked: a run has none."""
    if uid == os.geteuid():
        return os.access(path, os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK)  # noqa: PTH112 - it raises nothing
    path = path.resolve()
    if not all(_allows(folder, uid, stat.S_IXOTH) for folder in path.parents):
        return False
    return _allows(path, uid, stat.S_IROTH | stat.S_IXOTH if path.is_dir() else stat.S_IROTH)


def _allows(path: Path, uid: int, wanted: int) -> bool:
    found = path.stat()
    allowed = found.st_mode >> 6 if found.st_uid == uid else found.st_mode
    return allowed & wanted == wanted

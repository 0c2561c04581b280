"""Makes a virtual environment for this tree and prints the folder of its programs; `scripts/environment` calls it.

Usage: environment.py core|dev. Needs nothing but the standard library of Python 3.11 and a package index. Every version
and hash comes from a lock file; uv installs where it is present and works, else pip. Nothing is done when the
environment is complete and its inputs are unchanged. An interrupted installation has no stamp and is made anew; of two
at once, one installs and the other waits. Where the source tree cannot be written, the environment lives in the user's
cache folder, and where that cannot be written either, in the folder for temporary files.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"core": ROOT / "requirements-core.lock", "dev": ROOT / "requirements.lock"}


# Where this is run by an environment's own Python: that one is about to be replaced.
BASE_PYTHON: str = getattr(sys, "_base_executable", "") or sys.executable


def main(profile: str) -> Path:
    folder = state_folder()
    environment = folder / f"{profile}-{sys.version_info.major}.{sys.version_info.minor}"
    stamp, wanted = environment / "complete", digest(LOCKS[profile])
    with (folder / f"{environment.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system frees it when we end, however we end
        if not is_complete(environment, stamp, wanted):
            stamp.unlink(missing_ok=True)
            install(environment, LOCKS[profile])
            stamp.write_text(wanted, encoding="ascii")
    return environment / "bin"


def state_folder() -> Path:
    """The first folder that we can write: in the tree, in the cache, among the temporary files."""
    for candidate in state_candidates():
        try:
            candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
            if candidate.stat().st_uid == os.geteuid():  # never share: the other's files could not be replaced
                with tempfile.TemporaryFile(dir=candidate):
                    return candidate
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix="conductor-ai-"))


def state_candidates() -> Iterator[Path]:
    tree = hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]
    yield ROOT / ".venvs"
    home = os.environ.get("HOME", "")
    cache = os.environ.get("XDG_CACHE_HOME", "") or (f"{home}/.cache" if home else "")
    if cache.startswith("/"):  # the XDG specification: anything else is to be ignored
        yield Path(cache, "conductor-ai", tree)
    yield Path(tempfile.gettempdir(), f"conductor-ai-{os.geteuid()}-{tree}")


def digest(lock: Path) -> str:
    """Names everything the environment was made from: another value, another environment."""
    parts = [os.fsencode(ROOT), sys.version.encode(), lock.read_bytes(), (ROOT / "pyproject.toml").read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_complete(environment: Path, stamp: Path, wanted: str) -> bool:
    if not os.access(environment / "bin" / "python", os.X_OK):  # its base interpreter may be gone
        return False
    return stamp.is_file() and stamp.read_text(encoding="ascii") == wanted


def install(environment: Path, lock: Path) -> None:
    """Leaves a fresh environment with everything in `lock` and the project itself, editable."""
    started = time.monotonic()
    uv = shutil.which("uv")
    if uv is not None:
        say(f"Installing with uv into {environment} ...")
    if uv is None or not install_with(uv_commands(uv, environment, lock), environment):
        if uv is not None:
            say("uv could not install: trying pip, which may be set up with another index.")
        say(f"Installing with pip into {environment} (takes longer the first time) ...")
        if not install_with(pip_commands(environment, lock), environment):
            raise SystemExit("Installing failed; the lines above say why. The next run starts afresh.")
    say(f"Installed in {time.monotonic() - started:.0f} s.")


def install_with(commands: list[list[str]], environment: Path) -> bool:
    if environment.exists():
        shutil.rmtree(environment)
    variables = clean_variables(environment.parent)
    # What they print goes to standard error: standard output holds our answer only.
    return all(
        subprocess.run(command, cwd=ROOT, env=variables, stdout=sys.stderr).returncode == 0 for command in commands
    )


def uv_commands(uv: str, environment: Path, lock: Path) -> list[list[str]]:
    add = [uv, "pip", "install", "--quiet", "--python", str(environment / "bin" / "python")]
    return [
        [uv, "venv", "--quiet", "--python", BASE_PYTHON, str(environment)],
        [*add, "--require-hashes", "--requirements", str(lock)],
        [*add, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)],
    ]


def pip_commands(environment: Path, lock: Path) -> list[list[str]]:
    newer_pip = environment.parent / f"{environment.name}-pip.txt"
    newer_pip.write_text(locked("pip", lock), encoding="utf-8")
    add = [str(environment / "bin" / "python"), "-I", "-m", "pip", "install", "-qq", "--no-deps"]
    # Modules are compiled when first imported: most never are, and compiling all takes longer than all the rest.
    hashed = [*add, "--no-compile", "--require-hashes", "--requirement"]
    return [
        [BASE_PYTHON, "-I", "-m", "venv", str(environment)],
        [*hashed, str(newer_pip)],  # the pip that Python 3.11 brings needs three times as long
        [*hashed, str(lock)],
        # The build backend comes from the lock, so that nothing unpinned runs.
        [*add, "--no-build-isolation", "--editable", str(ROOT)],
    ]


def locked(name: str, lock: Path) -> str:
    """The lines of `lock` about one package: its version, then its hashes, indented."""
    lines = lock.read_text(encoding="utf-8").splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{name}=="))
    end = next((n for n in range(start + 1, len(lines)) if not lines[n].startswith(" ")), len(lines))
    return "".join(lines[start:end])


def clean_variables(folder: Path) -> dict[str, str]:
    """Index and certificate settings stay; what would send the packages elsewhere goes."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "PYTHONPATH"}}
    kept |= {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if "UV_CACHE_DIR" not in kept and not can_write_cache(kept):
        kept["UV_CACHE_DIR"] = str(folder / "uv-cache")
    return kept


def can_write_cache(variables: dict[str, str]) -> bool:
    place = Path(variables.get("XDG_CACHE_HOME") or Path(variables.get("HOME") or "/", ".cache"))
    while not place.exists():
        place = place.parent
    return os.access(place, os.W_OK)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in LOCKS:
        raise SystemExit(__doc__)
    try:
        print(main(sys.argv[1]))
    except KeyboardInterrupt:
        raise SystemExit(130) from None

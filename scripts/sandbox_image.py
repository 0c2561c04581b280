"""Makes the sandbox's image of packages and wheels; `scripts/sandbox-image` calls it, and says for what.

It is smaller than what a registry offers: no package manager and no program that changes users, as the packages
are only unpacked.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "sandbox" / "requirements.txt"
CACHE = "CONDUCTOR_SANDBOX_CACHE"
PROGRAMS = ("apt-get", "apt-config", "mmdebstrap", "podman", "tar", "chroot")
PACKAGES = ("python3", "nodejs", "coreutils", "dash")
OURS = ("Debian", "Ubuntu")
LEFT_OUT = ("doc", "man", "locale", "info", "bug", "lintian")
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")


class Impossible(Exception):
    """The image cannot be made here. The text says why, in one line."""


def main(folder: Path) -> str:
    """Fill the folder. Returns: the id of the image."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        raise Impossible(f"{', '.join(lacking)}: not installed")
    if os.getuid() != 0:
        raise Impossible("only root may make it")
    sources = list(package_sources())
    folder.mkdir(parents=True, exist_ok=True)
    recipe = recipe_hash(sources)
    image = folder / "image"
    if image.exists() and (folder / "recipe").read_text() == recipe:
        return image.read_text().strip()
    with tempfile.TemporaryDirectory(prefix="conductor-sandbox-") as scratch:
        found = store(file_system(recipe, sources, Path(scratch)), folder, Path(scratch))
    (folder / "recipe").write_text(recipe)
    image.write_text(found)
    return found


def package_sources() -> Iterator[str]:
    """Where apt-get gets the distribution's packages on this machine, as lines of a sources.list."""
    wanted = "$(REPO_URI) $(RELEASE) $(COMPONENT)|$(ORIGIN)|$(CODENAME)"
    listed = output("apt-get", "indextargets", "--format", wanted, "Created-By: Packages")
    lines = [line.split("|") for line in listed.splitlines()]
    found = sorted({source for source, origin, _ in lines if origin in OURS})
    if not found:
        raise Impossible("apt-get knows no package of Debian or Ubuntu here: apt-get update")
    yield from (f"deb {source}" for source in found)


def recipe_hash(sources: Sequence[str]) -> str:
    made_from = [Path(__file__).read_text(), REQUIREMENTS.read_text(), platform.machine(), *sources]
    return hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:32]


def file_system(recipe: str, sources: Sequence[str], scratch: Path) -> Path:
    """The archive with everything in it, made now or before."""
    cache = os.environ.get(CACHE, "").strip()
    kept = Path(cache, f"sandbox-{recipe}.tar") if cache else scratch / "sandbox.tar"
    if kept.exists():
        print(f"From the cache: {kept.name}", file=sys.stderr)
        return kept
    root = scratch / "root"
    unpack(sources, root, scratch)
    version = next(path.name for path in sorted(root.glob("usr/lib/python3.*")) if path.name != "python3")
    libraries = root / "usr/local/lib" / version / "dist-packages"
    install(libraries, version.removeprefix("python"), scratch)
    # The file system is read-only in a run, where nothing could be compiled once and for all.
    compiled = ("/usr/lib/python3", f"/usr/lib/{version}", f"/usr/local/lib/{version}")
    run("chroot", str(root), "/usr/bin/python3", "-I", "-m", "compileall", "-q", *compiled, may_fail=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    half = kept.with_suffix(f".{os.getpid()}")
    run("tar", "--numeric-owner", "--sort=name", "-C", str(root), "-cf", str(half), ".")
    half.rename(kept)
    return kept


def unpack(sources: Sequence[str], root: Path, scratch: Path) -> None:
    """Python and Node.js, and what they need, unpacked only: nothing of theirs is run."""
    listed = scratch / "sources.list"
    listed.write_text("".join(f"{line}\n" for line in sources))
    release = platform.freedesktop_os_release().get("VERSION_CODENAME")
    if release is None:
        raise Impossible("/etc/os-release names no release of Debian or Ubuntu")
    own = [
        line for line in output("apt-config", "dump", "Acquire").splitlines() if re.match(r"Acquire::https?::", line)
    ]
    options = [*own, 'Acquire::Languages "none";', 'APT::Install-Recommends "false";', 'Acquire::Retries "1";']
    run(
        *("mmdebstrap", "--mode=root", "--variant=extract", "--format=directory", f"--include={','.join(PACKAGES)}"),
        *(f"--aptopt={option}" for option in options),
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
        *(release, str(root), str(listed)),
    )


def install(libraries: Path, version: str, scratch: Path) -> None:
    """The wheels of sandbox/requirements.txt for that version of Python, which need not be the one that runs this."""
    chosen = scratch / "requirements.txt"
    chosen.write_text("".join(requirements_for(version)))
    run(
        *(sys.executable, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"),
        *(
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--target",
            str(libraries),
            "--requirement",
            str(chosen),
        ),
        *("--implementation", "cp", "--python-version", version),
        *(f"--platform={name}_{platform.machine()}" for name in PLATFORMS),
    )
    for tests in [path for path in libraries.rglob("tests") if path.is_dir()]:
        shutil.rmtree(tests, ignore_errors=True)


def requirements_for(version: str) -> Iterator[str]:
    """The lines that hold there. pip would ask the markers of the version that it runs on."""
    from pip._vendor.packaging.markers import Marker

    of_image = {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": "linux"}
    for block in re.split(r"\n(?=\S)", REQUIREMENTS.read_text().strip()):
        pinned, _, hashes = block.partition("\\\n")
        name, _, marker = pinned.partition(";")
        if not marker or Marker(marker.strip()).evaluate(of_image):
            yield f"{name.strip()} \\\n{hashes}\n"


def store(archive: Path, folder: Path, scratch: Path) -> str:
    """Take the archive into a store of images of its own. Returns: the id of the image."""
    images = folder / "images"
    shutil.rmtree(images, ignore_errors=True)
    podman = ("podman", "--root", str(images), "--runroot", str(scratch / "run"), "--tmpdir", str(scratch / "tmp"))
    driver = ("--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "file")
    try:
        found = output(*podman, *driver, "import", "--quiet", str(archive), "conductor-sandbox:tests").strip()
    finally:
        with_mount = images / "overlay"
        if with_mount.is_mount():  # Podman binds it to itself
            run("umount", str(with_mount))
    return f"sha256:{found.removeprefix('sha256:')}"


def output(*command: str) -> str:
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout


def run(*command: str, may_fail: bool = False) -> None:
    """What it says goes to our stderr: our stdout is the id."""
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), check=not may_fail)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: scripts/sandbox-image FOLDER")
    try:
        print(main(Path(sys.argv[1]).resolve()))
    except Impossible as reason:
        sys.exit(f"The image cannot be made: {reason}")
    except subprocess.CalledProcessError as failed:
        sys.exit(f"The image cannot be made: {failed.cmd[0]} ended with {failed.returncode}")

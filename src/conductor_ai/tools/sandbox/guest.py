"""What runs inside every sandbox: it starts the code, passes its output out as it comes, then its exit and its files.

Standard library only, Python 3.9 and later, started as `python -I -S guest.py`, or by `frames.BOOTSTRAP`. It must be
process 1 of its own process namespace, or a child of process 1, with nothing else there: at the end it kills every
process it can see. As process 1 it is also out of reach of the code's signals, so let it be that where it can be.
The folder it is started in is the working folder of the code. `frames.py` says what goes in and what comes out.
"""

# Every run waits for the imports of this file, and pathlib's would be half of them; /tmp is the sandbox's own.
# ruff: noqa: PTH101, PTH103, PTH109, PTH116, PTH118, PTH120, PTH123, PTH208, S108

from __future__ import annotations

import os
import select
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import BinaryIO
else:
    import _signal as signal  # without the enums of `signal`, which take five milliseconds of each start

PIECE = 65536
DEEPEST = 16
MOST_ENTRIES = 10_000
LONGEST_NAME = 255
OOM_SCORE = b"1000"
PR_SET_DUMPABLE = 4
KILL_ALL = -1
NO_START = 127
MOST_FDS = 256
SCRIPTS = {"python": ".main.py", "javascript": ".main.js"}
CGROUP_EVENTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


class Refusal(Exception):
    """The run cannot begin, or cannot be told; the text goes to the host."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python's handler would let the code end this process with it
    try:
        check_alone()
        run(*read_request())
    except (Refusal, OSError, ValueError, MemoryError) as exc:
        send(b"!", f"{type(exc).__name__}: {exc}".encode("utf-8", "replace")[:500])
        sys.exit(70)


def check_alone() -> None:
    """Refuse to run where killing everything in sight would kill more than the code's processes."""
    own = {1, os.getpid()}
    try:
        others = {int(name) for name in os.listdir("/proc") if name.isdigit()} - own
    except OSError:
        others = set()  # no /proc in this sandbox
    if 1 not in (os.getpid(), os.getppid()) or others:
        raise Refusal("this is no sandbox: there are other processes")


# ---- frames: one byte of kind, four of length, the body


def send(kind: bytes, body: bytes = b"") -> None:
    rest = memoryview(kind + len(body).to_bytes(4, "big") + body)
    while rest:
        rest = rest[os.write(1, rest) :]


def read_exactly(size: int) -> bytes:
    pieces = []
    while size:
        piece = os.read(0, min(size, PIECE))
        if not piece:
            raise Refusal("the request broke off")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def read_request() -> tuple[dict[str, str], bytes, bytes, dict[str, str]]:
    """Read the request up to its end; files are written on the way.

    Returns: the head, the code, its stdin, and the digest of each file.
    """
    head: dict[str, str] = {}
    code = stdin = b""
    digests: dict[str, str] = {}
    name = ""
    while True:
        frame = read_exactly(5)
        kind, size = frame[:1], int.from_bytes(frame[1:], "big")
        if kind == b"f":
            digests[name] = write_file(name, size)
            continue
        body = read_exactly(size)
        if kind == b"z":
            return head, code, stdin, digests
        if kind == b"h":
            head = dict(line.split("=", 1) for line in body.decode().splitlines())
        elif kind == b"c":
            code = body
        elif kind == b"i":
            stdin = body
        elif kind == b"n":
            name = body.decode()
        else:
            raise Refusal("the request is of another version")


def write_file(name: str, size: int) -> str:
    from hashlib import sha256  # five milliseconds that a run without files need not pay

    if "/" in name:
        os.makedirs(os.path.dirname(name), exist_ok=True)
    digest = sha256()
    with open(name, "xb") as out:
        while size:
            piece = read_exactly(min(size, PIECE))
            digest.update(piece)
            out.write(piece)
            size -= len(piece)
    return digest.hexdigest()


# ---- the code's process


def run(head: dict[str, str], code: bytes, stdin: bytes, digests: dict[str, str]) -> None:
    argv, script = command(head, code, digests)
    with open(script, "xb") as out:
        out.write(code)
    oom_kills = count_oom_kills()
    send(b"s")  # before the code can be there: whatever happens from here on, it may have run
    set_dumpable(False)  # or the code could reach this process's memory and stdout by way of /proc, and speak for it
    status = watch(argv, stdin)
    oom = count_oom_kills() > oom_kills
    send(b"x", f"{os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)} {usage()} {oom:d}".encode())
    send_files(head, digests, script)
    send(b"z")


def command(head: dict[str, str], code: bytes, taken: dict[str, str]) -> tuple[list[str], str]:
    """The command that runs the code, and the file, none of those taken, that it expects the code in."""
    script = SCRIPTS[head["language"]]
    if script == ".main.js" and any(
        line.startswith((b"import ", b"import{", b"export ")) for line in code.splitlines()
    ):
        script = ".main.mjs"  # Node.js reads `import` in modules only, and `require` elsewhere only
    while script in taken:
        script = "." + script
    if head["language"] == "python":
        return [sys.executable, "-u", "-s", script], script
    return [find_program("node"), f"--max-old-space-size={heap_mib(head)}", script], script


def heap_mib(head: dict[str, str]) -> int:
    """Half of the memory for what V8 counts, as threads and buffers come on top: out of its own heap it ends with a
    message, out of the system's memory it may crash without one."""
    return max(16, int(head["memory_bytes"]) // 2 // 2**20)


def find_program(name: str) -> str:
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    raise Refusal(f"{name} is not there")


def watch(argv: list[str], stdin: bytes) -> int:
    """Run the command and pass its output on until nothing is left of it. Returns: its wait status."""
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    child, feed, outputs = start(argv)
    os.set_blocking(feed, False)
    poll = select.poll()
    for fd in (woken, *outputs):
        poll.register(fd, select.POLLIN)
    poll.register(feed, select.POLLOUT)
    rest: memoryview = memoryview(stdin)
    status: int | None = None
    while outputs or status is None:
        for fd, _ in poll.poll():
            if fd == feed:
                rest = write_some(feed, rest)
                if not rest:
                    poll.unregister(feed)
                    os.close(feed)
            elif fd == woken:
                os.read(woken, PIECE)
                status = reap(child) if status is None else status
                if status is not None:
                    kill_all()
            elif not pass_on(fd, outputs[fd]):
                poll.unregister(fd)
                os.close(fd)
                del outputs[fd]
    return status


def write_some(fd: int, rest: memoryview) -> memoryview:
    """Returns: what is still to be written; nothing where nobody reads it."""
    try:
        return rest[os.write(fd, rest[:PIECE]) :] if rest else rest
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        return rest[:0]


def pass_on(fd: int, kind: bytes) -> bool:
    piece = os.read(fd, PIECE)
    if piece:
        send(kind, piece)
    return bool(piece)


def start(argv: list[str]) -> tuple[int, int, dict[int, bytes]]:
    """Fork. Returns: the child, the pipe to its stdin, and the pipes from its stdout and stderr by frame kind."""
    inner_in, feed = os.pipe()
    out, inner_out = os.pipe()
    err, inner_err = os.pipe()
    trouble, inner_trouble = os.pipe()
    child = os.fork()
    if child == 0:
        become(argv, inner_in, inner_out, inner_err, inner_trouble)
    for fd in (inner_in, inner_out, inner_err, inner_trouble):
        os.close(fd)
    if told := os.read(trouble, PIECE):  # it ends, empty, as soon as the program has begun
        raise Refusal(told.decode("utf-8", "replace"))
    os.close(trouble)
    return child, feed, {out: b"o", err: b"e"}


def become(argv: list[str], inner_in: int, inner_out: int, inner_err: int, trouble: int) -> None:
    """Turn the forked child into the code's process. Never returns."""
    try:
        os.setsid()
        for fd, target in ((inner_in, 0), (inner_out, 1), (inner_err, 2)):
            os.dup2(fd, target)
        os.closerange(3, trouble)
        os.closerange(trouble + 1, MOST_FDS)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # SIGXFSZ stays ignored: too large a file is an error, no crash
        set_dumpable(True)
        die_first()
        os.execve(argv[0], argv, environment())  # noqa: S606 - no shell, on purpose
    except BaseException as exc:  # noqa: BLE001 - this copy of the guest must end here, whatever happens
        os.write(trouble, f"cannot start {argv[0]}: {exc}".encode("utf-8", "replace"))
    finally:
        os._exit(NO_START)


def environment() -> dict[str, str]:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        **os.environ,
        **one_thread,  # each thread of theirs sets memory aside
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": "/tmp",
    }


def die_first() -> None:
    """Where memory runs out, this process is killed before the one that reports it."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    except OSError:
        return  # no /proc, or a read-only one: then the host tells from its own counters
    try:
        os.write(fd, OOM_SCORE)
    finally:
        os.close(fd)


def set_dumpable(dumpable: bool) -> None:
    import ctypes

    if ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, int(dumpable), 0, 0, 0):
        raise Refusal("prctl(PR_SET_DUMPABLE) failed")


def reap(child: int) -> int | None:
    """Collect what has ended; as process 1 that includes other people's children. Returns: the child's wait status."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if os.WIFSTOPPED(status):
            os.kill(pid, signal.SIGKILL)  # it asked to be traced, and would stand still for ever
        elif pid == child:
            found = status


def kill_all() -> None:
    """End every process here but this one and process 1. The kernel does it in one go: nothing can fork ahead of it."""
    try:
        os.kill(KILL_ALL, signal.SIGKILL)
    except ProcessLookupError:
        return  # there was none


def usage() -> str:
    """CPU time in milliseconds and the largest resident size in KiB, of the code's processes."""
    from resource import RUSAGE_CHILDREN, getrusage

    used = getrusage(RUSAGE_CHILDREN)
    return f"{int((used.ru_utime + used.ru_stime) * 1000)} {used.ru_maxrss}"


def count_oom_kills() -> int:
    """How often this sandbox ran out of memory so far, where its cgroup can be read from inside."""
    for path in CGROUP_EVENTS:
        try:
            with open(path, encoding="ascii") as events:
                return sum(int(line.split()[1]) for line in events if line.startswith("oom_kill "))
        except OSError:
            continue
    return 0


# ---- files


def send_files(head: dict[str, str], digests: dict[str, str], script: str) -> None:
    """Send the regular files that are new or changed, by name, while they fit; name the others."""
    files_left, bytes_left = int(head["files"]), int(head["files_bytes"])
    for path, size in sorted(entries(script)):
        fd = None if size is None else open_file(path)
        if fd is None or size is None:
            leave_out(path)
            continue
        with open(fd, "rb") as content:
            if path in digests and digest_of(content) == digests[path]:
                continue
            if not files_left or size > bytes_left:
                leave_out(path)
                continue
            files_left, bytes_left = files_left - 1, bytes_left - size
            send_file(path, content, size)


def leave_out(path: str) -> None:
    send(b"w", os.fsencode(path)[:LONGEST_NAME])


def entries(script: str) -> list[tuple[str, int | None]]:
    """What is in the working folder, each by its path: the size of a file that can be sent, None for anything else. No
    link is followed, and no other file system entered. What cannot be looked at is named, and costs no other file."""
    found: list[tuple[str, int | None]] = []
    unlock(os.getcwd(), 0o700)
    device = os.stat(".").st_dev
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with open_folder(folder or ".") as inside:
                for entry in inside:
                    if len(found) + len(folders) >= MOST_ENTRIES:
                        return found
                    path = os.path.join(folder, entry.name)
                    kind, size = look_at(path, device)
                    if kind == stat.S_IFDIR and path.count("/") < DEEPEST and fits(path):
                        folders.append(path)
                    elif path != script:
                        found.append((path, size if kind == stat.S_IFREG and sendable(path) else None))
        except OSError:
            found.append((folder or ".", None))
    return found


def look_at(path: str, device: int) -> tuple[int, int]:
    """Its kind and size; the kind is 0 where it cannot be looked at, or is of another file system."""
    try:
        info = os.lstat(path)
    except OSError:
        return 0, 0
    return stat.S_IFMT(info.st_mode) if info.st_dev == device else 0, info.st_size


def unlock(path: str, mode: int) -> None:
    """Make what the code may have locked its user's again."""
    try:
        os.chmod(path, mode)
    except PermissionError:
        return  # somebody else's, as the working folder itself may be, and so not locked by the code


def open_folder(path: str) -> os._ScandirIterator[str]:
    unlock(path, 0o700)
    return os.scandir(path)


def fits(path: str) -> bool:
    return len(os.fsencode(path)) <= LONGEST_NAME


def sendable(path: str) -> bool:
    """Whether the host will take it by this name: what it would refuse would cost the run everything."""
    return path.isprintable() and "\\" not in path and fits(path)


def open_file(path: str) -> int | None:
    """None where it cannot be read."""
    try:
        unlock(path, 0o600)
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None


def digest_of(content: BinaryIO) -> str:
    from hashlib import sha256

    seen = sha256()
    for piece in iter(lambda: content.read(PIECE), b""):
        seen.update(piece)
    content.seek(0)
    return seen.hexdigest()


def send_file(name: str, content: BinaryIO, size: int) -> None:
    send(b"n", name.encode())
    while size:
        piece = content.read(min(size, PIECE))
        if not piece:
            raise Refusal(f"{name} shrank while it was read")
        send(b"f", piece)
        size -= len(piece)


if __name__ == "__main__":
    main()

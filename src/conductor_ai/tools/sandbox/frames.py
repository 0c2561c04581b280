"""What the host and `guest.py` say to each other. The host believes none of it: a reply is read under caps.

A frame is one byte of kind, four of length (big endian), and the body. To the guest, in this order: `h` the head (lines
`key=value`), `c` the code, `i` its stdin, for each file `n` its name and `f` its content, `z` the end. From it: `s` as
the code starts, `o` and `e` pieces of its stdout and stderr as they come, `x` its exit (`exit_code cpu_ms max_rss_kib
oom_killed`), for each file `n` its name and `f` pieces of its content, `w` the name of a file that was left out, `z`
the end, or `!` why there is none.

A backend starts `python -I -S guest.py` with the working folder as current folder, writes `request_bytes` to its stdin,
closes it, and gives what comes from its stdout to `Reply.feed` until that says True or the stream ends.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from conductor_ai.errors import InvalidInput
from conductor_ai.sdk.files import MAX_NAME_BYTES, check_name
from conductor_ai.tools.sandbox.base import KilledBy, RunLimits, RunResult, RunSpec, RunUsage
from conductor_ai.tools.sandbox.outcome import killed_by

GUEST: bytes
"""The source of guest.py."""

BOOTSTRAP = (
    "import os\n"
    "def take(n):\n"
    " b=b''\n"
    " while len(b)<n:\n"
    "  p=os.read(0,n-len(b))\n"
    "  if not p:raise SystemExit(71)\n"
    "  b+=p\n"
    " return b\n"
    "exec(compile(take(int.from_bytes(take(4),'big')),'guest.py','exec'))\n"
)
"""`python -I -S -c BOOTSTRAP` reads the guest from stdin, where no file of it is there: write `bootstrapped_bytes`."""

MOST_LEFT_OUT = 100
MOST_FRAMES = 1_000_000
_HEADER = 5
_MOST_SHORT_BODY = 1024
_ORDER = {b"s": 0, b"o": 0, b"e": 0, b"!": 0, b"x": 0, b"n": 1, b"f": 1, b"w": 1, b"z": 1}


@cache
def _guest() -> bytes:
    return resources.files("conductor_ai.tools.sandbox").joinpath("guest.py").read_bytes()


def __getattr__(name: str) -> bytes:
    if name == "GUEST":
        return _guest()
    raise AttributeError(name)


def _frame(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "big") + body


def request_bytes(spec: RunSpec) -> bytes:
    """What the guest reads. Raises: InvalidInput for a file name that is none, or files that do not fit."""
    _check_files(spec)
    limits = spec.limits
    head = (
        f"language={spec.language}\nmemory_bytes={limits.memory_bytes}\n"
        f"files={limits.files}\nfiles_bytes={limits.files_bytes}"
    )
    frames = [
        _frame(b"h", head.encode()),
        _frame(b"c", spec.code.encode("utf-8", "replace")),
        _frame(b"i", spec.stdin.encode("utf-8", "replace")),
    ]
    for name, content in spec.files.items():
        frames += [_frame(b"n", name.encode()), _frame(b"f", content)]
    return b"".join([*frames, _frame(b"z", b"")])


def bootstrapped_bytes(spec: RunSpec) -> bytes:
    """What `BOOTSTRAP` reads: the guest, then its request. Raises: InvalidInput as `request_bytes` does."""
    return len(_guest()).to_bytes(4, "big") + _guest() + request_bytes(spec)


def _check_files(spec: RunSpec) -> None:
    for name in spec.files:
        check_name(name)
        parent = name
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            if parent in spec.files:
                raise InvalidInput(f"{parent!r} cannot be both a file and the folder of {name!r}")
    size = sum(len(content) for content in spec.files.values())
    if size > spec.limits.work_bytes:
        raise InvalidInput(f"the files are {size} bytes; {spec.limits.work_bytes} fit into the working folder")


class Reply:
    """Reads what comes out of one sandbox. Nothing in it is believed beyond this run's own result.

    `started` says that the code was about to start, `ended` that the end mark was seen, `over_output` that one output
    stream went beyond its cap, `broken` what was wrong with the frames, or what the guest itself reported. `exit_code`
    is None until the code ended by itself.
    """

    def __init__(self, limits: RunLimits) -> None:
        self.exit_code: int | None = None
        self.started = False
        self.ended = False
        self.over_output = False
        self.broken: str | None = None
        self.oom_seen_inside = False
        self._limits = limits
        self._outputs = {b"o": bytearray(), b"e": bytearray()}
        self._cut = {b"o": False, b"e": False}
        self._files: dict[str, bytearray] = {}
        self._files_bytes = 0
        self._left_out: list[str] = []
        self._cpu_s: float | None = None
        self._max_rss: int | None = None
        self._header = bytearray()
        self._kind = b""
        self._rest = 0
        self._body = bytearray()
        self._frames = 0

    def feed(self, data: bytes) -> bool:
        """Take the next bytes. Returns: True where the run is to be killed now: a cap was hit, or a frame is wrong."""
        view = memoryview(data)
        while view and not self._done:
            if len(self._header) < _HEADER:
                missing = _HEADER - len(self._header)
                self._header += view[:missing]
                view = view[missing:]
                if len(self._header) == _HEADER:
                    self._open()
            else:
                piece, view = view[: self._rest], view[self._rest :]
                self._rest -= len(piece)
                self._take(bytes(piece))
                if self._rest == 0:
                    self._close()
        if view and self.ended and self.broken is None:
            self.broken = "bytes came after the end"
        return self.over_output or self.broken is not None

    @property
    def _done(self) -> bool:
        return self.ended or self.over_output or self.broken is not None

    def _open(self) -> None:
        """A header is complete: check whether such a frame may come now."""
        self._kind, self._rest = bytes(self._header[:1]), int.from_bytes(self._header[1:], "big")
        self._frames += 1
        after_exit = self.exit_code is not None
        if _ORDER.get(self._kind, -1) != int(after_exit) and not (after_exit and self._kind == b"!"):
            self.broken = f"a frame of kind {self._kind!r} came where none may"
        elif self._kind in b"sxnw!" and self._rest > _MOST_SHORT_BODY:
            self.broken = f"a frame of kind {self._kind!r} is {self._rest} bytes long"
        elif self._kind == b"f" and self._files_bytes + self._rest > self._limits.files_bytes:
            self.broken = "the files are larger than the limit"
        elif self._kind == b"f" and not self._files:
            self.broken = "content came without a name"
        elif self._frames > MOST_FRAMES:
            self.broken = "too many frames"
        elif self._rest == 0:
            self._close()

    def _take(self, piece: bytes) -> None:
        if self._kind in (b"o", b"e"):
            output = self._outputs[self._kind]
            room = self._limits.output_bytes - len(output)
            output += piece[:room]
            if len(piece) > room:
                self._cut[self._kind] = self.over_output = True
        elif self._kind == b"f":
            self._files_bytes += len(piece)
            self._files[next(reversed(self._files))] += piece
        else:
            self._body += piece

    def _close(self) -> None:
        """A frame is complete."""
        kind, body = self._kind, bytes(self._body)
        self._header.clear()
        self._body.clear()
        if kind == b"s":
            self.started = True
        elif kind == b"x":
            self._exit(body)
        elif kind == b"n":
            self._name(body)
        elif kind == b"w":
            self._leave_out(body)
        elif kind == b"!":
            self.broken = _shown(body) or "the guest failed"
        elif kind == b"z":
            self.ended = True

    def _exit(self, body: bytes) -> None:
        try:
            code, cpu_ms, rss_kib, oom = (int(field) for field in body.decode("ascii").split())
        except ValueError:
            self.broken = "the exit cannot be read"
            return
        if not -128 <= code <= 255 or not 0 <= cpu_ms < 2**40 or not 0 <= rss_kib < 2**40:
            self.broken = "the exit is out of range"
            return
        self.exit_code, self.oom_seen_inside = code, oom > 0
        self._cpu_s, self._max_rss = cpu_ms / 1000, rss_kib * 1024

    def _name(self, body: bytes) -> None:
        try:
            name = body.decode()
            check_name(name)
        except (UnicodeDecodeError, InvalidInput):
            self.broken = f"a file came by the name {_shown(body)!r}"
            return
        if name in self._files:
            self.broken = f"two files came by the name {_shown(body)!r}"
        elif len(self._files) >= self._limits.files:
            self.broken = "more files came than the limit"
        else:
            self._files[name] = bytearray()

    def _leave_out(self, body: bytes) -> None:
        if len(self._left_out) < MOST_LEFT_OUT:
            self._left_out.append(_shown(body))

    def result(
        self, *, killed_by_host: KilledBy | None, out_of_memory: bool, usage: RunUsage, detail: str | None = None
    ) -> RunResult:
        """How the run ended, once nothing more comes.

        Args:
            killed_by_host: Why the backend ended it; None where it did not.
            out_of_memory: What the backend's own counters say of the memory.
            usage: As the backend measured it; what it could not is taken from the guest.
            detail: What failed on the backend's side, in one line; the end is then `INFRA`, unless the host killed it.
        """
        stdout, stderr = self._text(b"o"), self._text(b"e")
        end = killed_by(
            killed_by_host=killed_by_host,
            over_output=self.over_output,
            out_of_memory=out_of_memory or self.oom_seen_inside,
            ended=self.ended and self.broken is None and detail is None,
            exit_code=self.exit_code,
            stderr=stderr,
        )
        whole = end is KilledBy.NONE or (self.ended and end is KilledBy.MEMORY)
        return RunResult(
            killed_by=end,
            exit_code=self.exit_code if whole else None,
            stdout=stdout,
            stderr=stderr,
            stdout_truncated=self._cut[b"o"],
            stderr_truncated=self._cut[b"e"],
            files={name: bytes(content) for name, content in self._files.items()} if whole else {},
            left_out=tuple(self._left_out) if whole else (),
            usage=RunUsage(
                wall_s=usage.wall_s,
                cpu_s=self._cpu_s if usage.cpu_s is None else usage.cpu_s,
                peak_memory_bytes=self._max_rss if usage.peak_memory_bytes is None else usage.peak_memory_bytes,
            ),
            detail=(detail or self.broken or "the sandbox ended early") if end is KilledBy.INFRA else None,
            started=self.started,
        )

    def _text(self, kind: bytes) -> str:
        text = bytes(self._outputs[kind]).decode("utf-8", "replace")
        return text.rstrip("\N{REPLACEMENT CHARACTER}") if self._cut[kind] else text


def _shown(body: bytes) -> str:
    text = body[:MAX_NAME_BYTES].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)

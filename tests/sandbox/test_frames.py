"""A reply is read under caps, however it is cut into pieces, and whatever is in it."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.errors import InvalidInput
from conductor_ai.sdk.files import check_name
from conductor_ai.tools.sandbox import frames
from conductor_ai.tools.sandbox.base import KilledBy, Language, RunLimits, RunResult, RunSpec, RunUsage
from conductor_ai.tools.sandbox.frames import Reply

LIMITS = RunLimits(output_bytes=100, files=2, files_bytes=50)
ENDING = [(b"x", b"0 12 2048 0"), (b"z", b"")]
WHOLE = [
    (b"s", b""),
    (b"o", b"one "),
    (b"e", "grün".encode()),
    (b"o", b"two"),
    (b"x", b"3 12 2048 0"),
    (b"n", b"a/b.txt"),
    (b"f", b"con"),
    (b"f", b"tent"),
    (b"w", b"link"),
    (b"n", b"empty"),
    (b"z", b""),
]


def stream(*parts: tuple[bytes, bytes]) -> bytes:
    return b"".join(kind + len(body).to_bytes(4, "big") + body for kind, body in parts)


def read(data: bytes, limits: RunLimits = LIMITS, *, killed: KilledBy | None = None, oom: bool = False) -> RunResult:
    reply = Reply(limits)
    reply.feed(data)
    return reply.result(killed_by_host=killed, out_of_memory=oom, usage=RunUsage(1.5))


def test_a_whole_reply_becomes_the_result() -> None:
    assert read(stream(*WHOLE)) == RunResult(
        killed_by=KilledBy.NONE,
        exit_code=3,
        stdout="one two",
        stderr="grün",
        files={"a/b.txt": b"content", "empty": b""},
        left_out=("link",),
        usage=RunUsage(1.5, 0.012, 2048 * 1024),
        started=True,
    )


@given(st.lists(st.integers(1, 9), min_size=1))
def test_it_does_not_matter_how_the_stream_is_cut(sizes: list[int]) -> None:
    data, reply, at, turn = stream(*WHOLE), Reply(LIMITS), 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        assert reply.feed(data[at : at + size]) is False
        at, turn = at + size, turn + 1
    assert reply.ended
    assert reply.result(killed_by_host=None, out_of_memory=False, usage=RunUsage(1.5)) == read(data)


@pytest.mark.parametrize("kind", [b"o", b"e"])
def test_output_may_reach_its_cap_and_not_go_beyond(kind: bytes) -> None:
    full = Reply(LIMITS)
    assert full.feed(stream((kind, b"x" * 100), *ENDING)) is False
    over = Reply(LIMITS)
    assert over.feed(stream((kind, b"x" * 60))) is False
    assert over.feed(stream((kind, b"y" * 41))) is True
    ended = over.result(killed_by_host=None, out_of_memory=False, usage=RunUsage(0.1))
    assert (ended.killed_by, ended.exit_code) == (KilledBy.OUTPUT, None)
    assert (ended.stdout or ended.stderr) == "x" * 60 + "y" * 40
    assert (ended.stdout_truncated, ended.stderr_truncated) == (kind == b"o", kind == b"e")


def test_what_is_not_utf8_is_replaced_and_a_cut_character_is_dropped() -> None:
    assert read(stream((b"o", b"a\xffb"), *ENDING)).stdout == "a\N{REPLACEMENT CHARACTER}b"
    assert read(stream((b"o", b"x" * 99 + "ü".encode()))).stdout == "x" * 99


BROKEN = {
    "unknown-kind": stream((b"?", b"")),
    "answer-before-the-exit": stream((b"n", b"a")),
    "end-before-the-exit": stream((b"z", b"")),
    "start-after-the-exit": stream((b"x", b"0 0 0 0"), (b"s", b"")),
    "output-after-the-exit": stream((b"x", b"0 0 0 0"), (b"o", b"more")),
    "two-exits": stream((b"x", b"0 0 0 0"), (b"x", b"1 0 0 0")),
    "exit-of-words": stream((b"x", b"zero")),
    "exit-of-three": stream((b"x", b"0 0 0")),
    "exit-out-of-range": stream((b"x", b"1000 0 0 0")),
    "cpu-out-of-range": stream((b"x", b"0 -1 0 0")),
    "memory-out-of-range": stream((b"x", f"0 0 {2**70} 0".encode())),
    "exit-not-ascii": stream((b"x", "٣ 0 0 0".encode())),
    "long-exit": stream((b"x", b"0" * 5000)),
    "long-name": stream((b"x", b"0 0 0 0"), (b"n", b"n" * 5000)),
    "content-without-name": stream((b"x", b"0 0 0 0"), (b"f", b"content")),
    "too-many-files": stream((b"x", b"0 0 0 0"), *[(b"n", b"%d" % n) for n in range(3)]),
    "too-large-files": stream((b"x", b"0 0 0 0"), (b"n", b"a"), (b"f", b"c" * 30), (b"n", b"b"), (b"f", b"c" * 30)),
    "too-large-frame": stream((b"x", b"0 0 0 0"), (b"n", b"a")) + b"f\xff\xff\xff\xff",
    "same-name-twice": stream((b"x", b"0 0 0 0"), (b"n", b"a"), (b"n", b"a")),
    "bytes-after-the-end": stream(*ENDING) + b"o",
    "guest-failed": stream((b"!", b"OSError: no room")),
    "guest-failed-late": stream((b"x", b"0 0 0 0"), (b"!", b"OSError: no room")),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_reply_is_a_failure_of_the_sandbox(data: bytes) -> None:
    reply = Reply(LIMITS)
    assert reply.feed(data) is True
    ended = reply.result(killed_by_host=None, out_of_memory=False, usage=RunUsage(0.1))
    assert (ended.killed_by, ended.exit_code, ended.files) == (KilledBy.INFRA, None, {})
    assert ended.detail == reply.broken
    assert reply.feed(stream(*WHOLE)) is True


NAMES = [
    "",
    "/etc/passwd",
    "../up",
    "a/../b",
    "a//b",
    "./a",
    "a/",
    "nul\0",
    "line\nbreak",
    "tab\t",
    "back\\slash",
    "x" * 256,
]
NAMES += ["\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe", "\ud800"]


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:30] for name in NAMES])
def test_a_bad_name_passes_in_neither_direction(name: str) -> None:
    spec = RunSpec(Language.PYTHON, "", "run", files={name: b""})
    with pytest.raises(InvalidInput):
        frames.request_bytes(spec)
    sent = name.encode("utf-8", "surrogatepass")
    assert read(stream((b"x", b"0 0 0 0"), (b"n", sent), (b"z", b""))).killed_by is KilledBy.INFRA


def test_input_files_must_fit_and_a_file_is_no_folder() -> None:
    spec = RunSpec(Language.PYTHON, "", "run", limits=replace(LIMITS, work_bytes=10))
    with pytest.raises(InvalidInput, match="10 fit"):
        frames.request_bytes(replace(spec, files={"a": b"123456", "b": b"12345"}))
    with pytest.raises(InvalidInput, match="both a file and the folder"):
        frames.request_bytes(replace(spec, files={"a/b/c": b"", "a": b""}))


def test_a_reply_that_breaks_off_is_a_failure_of_the_sandbox() -> None:
    whole = stream(*WHOLE)
    for cut in range(len(whole)):
        ended = read(whole[:cut])
        assert (ended.killed_by, ended.exit_code, ended.files) == (KilledBy.INFRA, None, {}), cut
        assert ended.started is (cut >= len(stream(WHOLE[0]))), cut


@given(st.binary(max_size=400))
def test_any_bytes_leave_the_caps_in_place(data: bytes) -> None:
    ended = read(data)
    assert len(ended.stdout) <= LIMITS.output_bytes and len(ended.files) <= LIMITS.files


KINDS = st.sampled_from([b"s", b"o", b"e", b"x", b"n", b"f", b"w", b"z", b"!"])
BODIES = st.one_of(st.binary(max_size=60), st.sampled_from([b"0 0 0 0", b"1 5 5 1", b"a", b"../a", b"a/b"]))


@given(st.lists(st.tuples(KINDS, BODIES), max_size=30))
def test_any_frames_leave_the_caps_in_place(parts: list[tuple[bytes, bytes]]) -> None:
    ended = read(stream(*parts))
    assert len(ended.stdout.encode()) <= 3 * LIMITS.output_bytes
    assert sum(map(len, ended.files.values())) <= LIMITS.files_bytes
    for name in ended.files:
        check_name(name)
    assert not (ended.killed_by is KilledBy.NONE and ended.exit_code is None)


def test_names_of_files_left_out_are_shown_harmless_and_only_so_many() -> None:
    names = [(b"w", b"a\x1b[31m\xff"), *[(b"w", b"%d" % n) for n in range(1000)]]
    left_out = read(stream((b"x", b"0 0 0 0"), *names, (b"z", b""))).left_out
    assert left_out[0] == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}"
    assert len(left_out) == frames.MOST_LEFT_OUT


def test_what_the_host_measured_is_not_overwritten_from_inside() -> None:
    reply = Reply(LIMITS)
    reply.feed(stream(*WHOLE))
    measured = RunUsage(1.0, cpu_s=0.5, peak_memory_bytes=77)
    assert reply.result(killed_by_host=None, out_of_memory=False, usage=measured).usage == measured


def test_a_failure_of_the_backend_overrules_a_whole_reply() -> None:
    reply = Reply(LIMITS)
    reply.feed(stream(*WHOLE))
    ended = reply.result(killed_by_host=None, out_of_memory=False, usage=RunUsage(1.0), detail="the engine went away")
    assert (ended.killed_by, ended.detail, ended.exit_code) == (KilledBy.INFRA, "the engine went away", None)


def test_the_guest_refuses_to_run_outside_a_sandbox() -> None:
    """Its last act is to kill every process that it can see."""
    spec = RunSpec(Language.PYTHON, "print('ran')", "run")
    bootstrap = [sys.executable, "-I", "-S", "-c", frames.BOOTSTRAP]
    ended = subprocess.run(bootstrap, input=frames.bootstrapped_bytes(spec), capture_output=True, timeout=60)
    assert ended.returncode == 70
    assert "no sandbox" in (read(ended.stdout).detail or "")
    assert b"ran" not in ended.stdout


def test_the_guest_needs_no_newer_python_than_the_oldest_it_promises() -> None:
    ast.parse(frames.GUEST, feature_version=(3, 9))

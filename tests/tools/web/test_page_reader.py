"""The processes that read pages: killed, crashing, late, shared, forgotten."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from conductor_ai.errors import ConductorError
from conductor_ai.tools.web import page_reader
from conductor_ai.tools.web.page_model import Link, Page
from conductor_ai.tools.web.page_reader import PageReader, PageUnreadable
from conductor_ai.tools.web.page_worker import LENGTH
from tests.conftest import fail_after

HTML = b"<title>Dealers</title><p>Nordlys: <a href=/n>+47 77 55</a>"
PAGE = Page("Dealers", "Nordlys: [+47 77 55](https://x.example/n)", (Link("+47 77 55", "https://x.example/n"),))
# So many attributes keep libxml2 busy for minutes: it compares each with all others.
SLOW = b"<p " + b" ".join(b"a%d=1" % number for number in range(400_000)) + b">fact"


def processes() -> set[int]:
    """Those of ours that read pages, as the system knows them. A process that ended and was not reaped is none."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"page_worker" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return found


async def read(reader: PageReader, body: bytes = HTML, timeout_s: float = 30.0) -> Page:
    return await reader.read(body, url="https://x.example/", charset=None, timeout_s=timeout_s)


async def started(before: set[int]) -> int:
    async with fail_after(10):
        while not (new := processes() - before):  # noqa: ASYNC110  nobody else tells of its birth
            await asyncio.sleep(0)
    return new.pop()


@pytest.fixture
def reader() -> Iterator[PageReader]:
    reader = PageReader()
    yield reader
    reader.close()


async def test_no_process_runs_before_the_first_page_and_one_serves_all_that_follow(reader: PageReader) -> None:
    before = processes()
    assert processes() == before

    assert await read(reader) == PAGE
    (first,) = processes() - before
    assert await read(reader) == PAGE

    assert processes() - before == {first}


async def test_pages_and_charsets_reach_the_process_as_they_were_given(reader: PageReader) -> None:
    page = await reader.read(
        "<p>Łódź".encode("iso-8859-2"), url="https://x.example/", charset="iso-8859-2", timeout_s=30
    )
    empty = await reader.read(b"", url="https://x.example/", charset=None, timeout_s=30)
    hostile = await read(reader, bytes(range(256)) * 40)

    assert page.content == "Łódź"
    assert empty == Page("", "", ())
    assert "ABC" in hostile.content


async def test_a_process_killed_between_two_pages_is_replaced(reader: PageReader) -> None:
    before = processes()
    await read(reader)
    (first,) = processes() - before

    os.kill(first, signal.SIGKILL)

    assert await read(reader) == PAGE
    assert processes() - before != {first}


async def test_a_process_killed_while_it_reads_costs_that_page_only(reader: PageReader) -> None:
    before = processes()
    reading = asyncio.create_task(read(reader, SLOW))

    os.kill(await started(before), signal.SIGKILL)

    async with fail_after(20):
        with pytest.raises(PageUnreadable, match="died"):
            await reading
    assert await read(reader) == PAGE


async def test_a_page_that_takes_too_long_is_given_up_and_its_process_with_it(reader: PageReader) -> None:
    before = processes()
    await read(reader)
    (first,) = processes() - before

    async with fail_after(20):
        with pytest.raises(PageUnreadable, match=r"too hard to read within 0\.3 s") as caught:
            await read(reader, SLOW, timeout_s=0.3)

    assert isinstance(caught.value, ConductorError)
    assert await read(reader) == PAGE
    assert first not in processes()


async def test_a_cancelled_read_leaves_no_answer_for_the_next(reader: PageReader) -> None:
    before = processes()
    reading = asyncio.create_task(read(reader, SLOW))
    await started(before)

    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await read(reader) == PAGE


async def test_more_pages_than_processes_wait_within_their_own_time() -> None:
    before = processes()
    reader = PageReader(max_workers=1)
    try:
        slow = asyncio.create_task(read(reader, SLOW))
        await started(before)

        async with fail_after(20):
            with pytest.raises(PageUnreadable, match=r"other pages were being read for 0\.2 s"):
                await read(reader, timeout_s=0.2)

        assert len(processes() - before) == 1
        slow.cancel()
        assert await asyncio.gather(*(read(reader) for _ in range(8))) == [PAGE] * 8
        assert len(processes() - before) == 1
    finally:
        reader.close()


def test_one_reader_serves_several_loops_one_after_another() -> None:
    reader = PageReader(max_workers=1)
    before = processes()

    async def crowd() -> list[Page]:
        return await asyncio.gather(*(read(reader) for _ in range(3)))

    try:
        assert [asyncio.run(crowd()) for _ in range(3)] == [[PAGE] * 3] * 3
        assert len(processes() - before) == 1
    finally:
        reader.close()


async def test_a_closed_reader_has_no_process_and_reads_nothing() -> None:
    before = processes()
    reader = PageReader()
    await read(reader)
    reading = asyncio.create_task(read(reader, SLOW))
    await asyncio.sleep(0)  # it has asked

    reader.close()
    reader.close()

    async with fail_after(20):
        with pytest.raises(PageUnreadable):
            await reading
    with pytest.raises(PageUnreadable, match="closed"):
        await read(reader)
    assert processes() == before


async def test_a_forgotten_reader_takes_its_process_with_it() -> None:
    before = processes()
    reader = PageReader()
    await read(reader)
    assert processes() != before

    del reader
    gc.collect()

    assert processes() == before


async def test_a_process_grown_large_is_not_kept(reader: PageReader) -> None:
    before = processes()
    await read(reader)
    (first,) = processes() - before

    page = await read(reader, b"<p>x" * 500_000)

    assert page.content.count("x") == 500_000
    assert await read(reader) == PAGE
    (last,) = processes() - before
    assert last != first


async def test_a_small_process_of_a_large_program_is_kept(reader: PageReader) -> None:
    ballast = b"x" * (300 << 20)
    before = processes()
    await read(reader)
    (first,) = processes() - before

    assert await read(reader) == PAGE
    assert processes() - before == {first} and len(ballast) > 0


PROGRAM = """
import asyncio, sys
assert "imported before" not in sys.argv
sys.argv.append("imported before")
from conductor_ai.tools.web.page_reader import PageReader
assert not {"lxml", "trafilatura", "html_to_markdown"} & set(sys.modules)
reader = PageReader()
page = asyncio.run(reader.read(b"<title>a</title>b", url="https://x.example/", charset=None, timeout_s=30))
print(page.title, page.content, "lxml" in sys.modules)
"""


def test_a_program_that_closes_nothing_ends_clean_and_is_not_run_twice(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)  # without a guard for __main__
    for name in ("lxml", "orjson", "html", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from the current folder')")
    program = program.rename(tmp_path.parent / "program.py")

    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert (done.stdout, done.stderr, done.returncode) == ("a b False\n", "", 0)


def ask(connection: socket.socket, url: str, body: bytes) -> dict[str, object]:
    head = orjson.dumps({"url": url, "charset": None, "cpu_s": 60})
    connection.sendall(LENGTH.pack(len(head)) + head + LENGTH.pack(len(body)) + body)
    with connection.makefile("rb") as answer:
        reply: dict[str, object] = orjson.loads(answer.read(LENGTH.unpack(answer.read(LENGTH.size))[0]))
    return reply


def test_the_process_answers_until_its_input_ends() -> None:
    ours, theirs = socket.socketpair()
    main = "from conductor_ai.tools.web.page_worker import main; main()"
    with ours, theirs, subprocess.Popen([sys.executable, "-c", main], stdin=theirs.fileno()) as process:
        theirs.close()
        first = ask(ours, "https://x.example/", HTML)
        half = ask(ours, "https://x.example/", rb"<p>x<script type=application/ld+json>{bad \ud800}</script>")
        ours.sendall(LENGTH.pack(3) + b"{}")  # cut within a message
        ours.close()
        code = process.wait(20)

    assert first["links"] == [["+47 77 55", "https://x.example/n"]]
    assert first["worn"] is False
    assert str(half["content"]).startswith("x\n\n## Structured data")
    assert code == 0


ABANDONED = """
import asyncio, os, pathlib, signal
from conductor_ai.tools.web.page_reader import PageReader
slow = b"<p " + b" ".join(b"a%d=1" % number for number in range(400_000)) + b">fact"
def child():
    return int(pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text() or 0)
def cpu(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")
async def main():
    reading = asyncio.create_task(PageReader().read(slow, url="https://x.example/", charset=None, timeout_s=5))
    while not child() or cpu(child()) < 0.4:  # a start takes a quarter of that: it is reading
        await asyncio.sleep(0.01)
    print(child(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_process_whose_owner_was_killed_does_not_read_for_ever() -> None:
    command = [sys.executable, "-c", ABANDONED]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    orphan = int(done.stdout)

    async with fail_after(120):
        while state(orphan) not in ("gone", "Z"):  # noqa: ASYNC110  nobody tells of its end, or reaps it
            await asyncio.sleep(0.05)


def state(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


FORKING = """
import asyncio, os, sys
from conductor_ai.tools.web.page_reader import PageReader
reader = PageReader()
def read():
    page = asyncio.run(reader.read(b"<p>read", url="https://x.example/", charset=None, timeout_s=30))
    print(os.getpid() == first, page.content, flush=True)
first = os.getpid()
read()
if not os.fork():
    read()
    sys.exit()
os.wait()
read()
"""


def test_a_forked_server_does_not_share_or_end_the_process_of_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", FORKING], capture_output=True, text=True, timeout=60
    )

    assert (done.stdout, done.stderr) == ("True read\nFalse read\nTrue read\n", "")


LACKING = """
import asyncio
from conductor_ai.errors import MissingExtra
from conductor_ai.tools.web.page_reader import PageReader
try:
    asyncio.run(PageReader().read(b"", url="https://x.example/", charset=None, timeout_s=30))
except MissingExtra as exc:
    print(exc.hint)
"""


def test_without_the_extra_the_error_says_what_to_install() -> None:
    source = Path(page_reader.__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-S", "-c", LACKING],
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.stdout, done.stderr) == ('pip install "conductor-ai[web]"\n', "")

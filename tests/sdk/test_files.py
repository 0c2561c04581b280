"""Which files a session may have: their names, their kinds, their room."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor_ai.errors import InvalidInput
from conductor_ai.sdk import testing
from conductor_ai.sdk.context import SessionFiles, current_context
from conductor_ai.sdk.files import (
    MAX_FILE_BYTES,
    MAX_NAME_BYTES,
    MAX_SESSION_BYTES,
    MAX_SESSION_FILES,
    check_media_type,
    check_name,
    check_room,
    media_type_of,
)

NAMES = [
    "a",
    "a.txt",
    "plots/sales 2026.png",
    ".hidden",
    "...",
    "a..b/c",
    "Zürich 東.csv",
    "it's; $x `y` %2e",
    "é" * 127,
]
NO_NAMES = [
    "",
    ".",
    "..",
    "/a",
    "a/",
    "a//b",
    "../a",
    "a/../b",
    "a/..",
    "./a",
    "nul\0",
    "line\nfeed",
    "esc\x1b[31m",
    "\x85",
    "right\u202eto left",
    "\ufeffa",
    "\ud800",
    "back\\slash",
    "é" * 128,
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_means_the_same_everywhere_is_taken(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_a_name_that_could_mean_something_else_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="no name of a file"):
        check_name(name)


@settings(max_examples=50)
@given(st.text(st.sampled_from("ab./\\ :\0\n\u202e\ud800é"), max_size=12) | st.text(max_size=300))
def test_what_is_taken_stays_within_the_folder_that_it_is_put_into(name: str) -> None:
    try:
        check_name(name)
    except InvalidInput:
        return
    assert name.isprintable() and len(name.encode()) <= MAX_NAME_BYTES
    assert str(PurePosixPath("folder") / name) == f"folder/{name}"
    assert ".." not in PurePosixPath(name).parts
    assert not PureWindowsPath(name).root and ".." not in PureWindowsPath(name).parts


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", "image/png"),
        ("a.b.CSV", "text/csv"),
        ("folder.png/a", "application/octet-stream"),
        ("png", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("a.exe", "application/octet-stream"),
    ],
)
def test_the_kind_is_told_by_the_end_of_the_name(name: str, kind: str) -> None:
    assert media_type_of(name) == kind
    check_media_type(kind)


@pytest.mark.parametrize(
    "kind", ["", "text", "text/", "Text/csv", "text/csv; a=b", "text/csv\n", "a/b/c", "*/*"], ids=ascii
)
def test_what_is_no_kind_is_refused(kind: str) -> None:
    with pytest.raises(InvalidInput, match="no media type"):
        check_media_type(kind)


def test_the_last_room_is_given_and_no_more() -> None:
    whole = [(f"{n}.bin", MAX_FILE_BYTES) for n in range(MAX_SESSION_BYTES // MAX_FILE_BYTES)]
    many = [(f"{n}.txt", 1) for n in range(MAX_SESSION_FILES)]

    check_room(whole[1:], "new.bin", MAX_FILE_BYTES)
    check_room(whole, "0.bin", MAX_FILE_BYTES)
    check_room(many[1:], "new.txt", 1)
    check_room(many, "0.txt", 1)
    for stored, size in ((whole, 1), (many, 1), ([], MAX_FILE_BYTES + 1)):
        with pytest.raises(InvalidInput):
            check_room(stored, "new", size)


# In memory, for the tests of authors


def files() -> SessionFiles:
    found = current_context().files
    assert found is not None
    return found


async def test_a_tool_under_test_has_the_files_that_the_test_names_and_leaves_its_own() -> None:
    with testing.context(files={"b.csv": b"day\n", "a.txt": b""}, step_no=3, call_id="c") as call:
        assert await files().read("b.csv") == b"day\n"
        written = await files().write("plot.png", b"\x89PNG")
        await files().write("a.txt", b"new", media_type="text/x-odd")
        listed = await files().list()

    assert (written.media_type, written.size_bytes, written.step_no, written.call_id) == ("image/png", 4, 3, "c")
    assert [(file.name, file.media_type) for file in listed] == [
        ("a.txt", "text/x-odd"),
        ("b.csv", "text/csv"),
        ("plot.png", "image/png"),
    ]
    assert call.files == {"a.txt": b"new", "b.csv": b"day\n", "plot.png": b"\x89PNG"}


async def test_in_memory_the_rules_are_those_of_a_session() -> None:
    with testing.context(files={"a": b""}) as call:
        for attempt in (
            files().read("b"),
            files().read("../a"),
            files().write("../a", b""),
            files().write("a/b", b""),
            files().write("b", bytes(MAX_FILE_BYTES + 1)),
            files().write("b", b"", media_type="odd"),
        ):
            with pytest.raises(InvalidInput):
                await attempt
    assert call.files == {"a": b""}
    with pytest.raises(InvalidInput), testing.context(files={"..": b""}):
        pass

"""Files of sessions over HTTP: listed, and handed out so that no browser runs what a model wrote."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import pytest

from conductor_ai.providers.scripted import call, say
from conductor_ai.schemas.orgs import Scope
from conductor_ai.sdk.context import current_context
from tests.agents.conftest import Tool
from tests.api.conftest import Floor, Server
from tests.storage.session_log import stored_file

PNG = b"\x89PNG\r\n\x1a\n\0\xff"
PAGE = b"<script>fetch('/keys')</script>"


async def with_files(floor: Floor, contents: dict[str, bytes]) -> tuple[Server, str]:
    """A server, and the id of a session with these files."""
    server = await floor.open([say("Done.")])
    session_id = await server.run()
    await server.stopped(session_id)
    for name, content in contents.items():
        await server.service.store.put_file(session_id, "default", *stored_file(name, content))
    return server, session_id


async def test_what_a_tool_left_is_listed_and_comes_back(floor: Floor) -> None:
    async def plot(arguments: dict[str, Any]) -> str:
        files = current_context().files
        assert files is not None
        await files.write("plots/sales 2026.png", PNG)
        return "plotted"

    server = await floor.open([call("plot"), say("Done.")], Tool("plot", plot))
    session_id = await server.run()
    await server.stopped(session_id)

    listed = await server.ask("GET", f"/agents/{session_id}/files")
    [file] = listed.data["items"]
    reply = await server.ask("GET", f"/agents/{session_id}/files/{quote(file['name'])}")

    assert (listed.status, listed.data["next_cursor"]) == (200, None)
    assert file.keys() == {"name", "media_type", "size_bytes", "sha256", "created_at", "step_no", "call_id"}
    assert (file["name"], file["media_type"], file["size_bytes"], file["step_no"]) == (
        "plots/sales 2026.png",
        "image/png",
        len(PNG),
        1,
    )
    assert (reply.status, reply.data) == (200, PNG)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", "image/png"),
        ("a.csv", "text/csv"),
        ("page.html", "application/octet-stream"),
        ("vector.svg", "application/octet-stream"),
        ("code.js", "application/octet-stream"),
        ("feed.xml", "application/octet-stream"),
        ("page.pdf", "application/octet-stream"),
        ("nothing", "application/octet-stream"),
    ],
)
async def test_no_browser_shows_or_runs_it(floor: Floor, name: str, kind: str) -> None:
    server, session_id = await with_files(floor, {name: PAGE})

    reply = await server.ask("GET", f"/agents/{session_id}/files/{name}")

    assert (reply.status, reply.data, reply.headers["Content-Type"]) == (200, PAGE, kind)
    assert reply.headers["Content-Disposition"].startswith("attachment;")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("folder/sales.csv", "attachment; filename=\"sales.csv\"; filename*=UTF-8''sales.csv"),
        ('a"; x="y.txt', "attachment; filename=\"a___x__y.txt\"; filename*=UTF-8''a%22%3B%20x%3D%22y.txt"),
        ("Zürich 東.csv", "attachment; filename=\"Z_rich__.csv\"; filename*=UTF-8''Z%C3%BCrich%20%E6%9D%B1.csv"),
        ("100%2F.txt", "attachment; filename=\"100_2F.txt\"; filename*=UTF-8''100%252F.txt"),
    ],
    ids=["folder", "quotes", "unicode", "percent"],
)
async def test_the_name_to_save_it_under_is_its_last_part_whatever_that_holds(
    floor: Floor, name: str, disposition: str
) -> None:
    server, session_id = await with_files(floor, {name: b"x"})

    reply = await server.ask("GET", f"/agents/{session_id}/files/{quote(name)}")

    assert (reply.status, reply.data) == (200, b"x")
    assert reply.headers["Content-Disposition"] == disposition
    assert "/" not in PurePosixPath(disposition.partition("filename=")[2]).parts


@pytest.mark.parametrize(
    "path", ["nothing.txt", "", "..%2F..%2Fetc%2Fpasswd", "%00", "a.txt%2F", "%FF%FE", "a.txt\\x"], ids=repr
)
async def test_what_is_not_there_is_not_found(floor: Floor, path: str) -> None:
    server, session_id = await with_files(floor, {"a.txt": b"x"})

    reply = await server.ask("GET", f"/agents/{session_id}/files/{path}")

    assert (reply.status, reply.code) == (404, "file_not_found")


async def test_files_of_no_session_and_of_another_orgs_are_not_found(floor: Floor) -> None:
    server, session_id = await with_files(floor, {"a.txt": b"x"})
    ours, stranger = await server.new_key(), await server.new_key(org_id="other")

    for path, key in (("/agents/none/files", ours), (f"/agents/{session_id}/files", stranger)):
        for end in ("", "/a.txt"):
            reply = await server.ask("GET", path + end, key=key)
            assert (reply.status, reply.code) == (404, "session_not_found")


async def test_reading_is_what_it_takes(floor: Floor) -> None:
    server, session_id = await with_files(floor, {"a.txt": b"x"})
    may, may_not = await server.new_key(Scope.READ), await server.new_key(Scope.APPROVE)

    for path in (f"/agents/{session_id}/files", f"/agents/{session_id}/files/a.txt"):
        assert (await server.ask("GET", path, key=may)).status == 200
        assert (await server.ask("GET", path, key=may_not)).code == "forbidden"


async def test_they_go_with_their_session(floor: Floor) -> None:
    server, session_id = await with_files(floor, {"a.txt": b"x"})

    assert (await server.ask("DELETE", f"/agents/{session_id}")).status == 204
    assert (await server.ask("GET", f"/agents/{session_id}/files/a.txt")).code == "session_not_found"

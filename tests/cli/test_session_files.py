"""`conductor sessions files`, and where else the commands name what a session's tools left."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.cli.stored_files import file_lines
from tests.cli.console import Console
from tests.cli.model_server import ModelServer
from tests.storage.session_log import stored_file

PAINTER = '''
from conductor_ai.sdk import PluginRegistry
from conductor_ai.sdk.context import current_context

registry = PluginRegistry()


@registry.tool(effect="once")
async def paint(names: list[str]) -> str:
    """Paint pictures.

    Args:
        names: What to call them.
    """
    for name in names:
        await current_context().files.write(name, b"picture " + name.encode())
    return "painted"


def register(global_registry):
    for tool in registry.tools:
        global_registry.register(tool)
'''
NAMES = ["sales.png", "more/Zürich 1.csv"]
CONTENTS = {name: b"picture " + name.encode() for name in NAMES}


@pytest.fixture
def painter(console: Console, model: ModelServer) -> None:
    """A tool that stores a file under each name, and a model that has two of them stored."""
    folder = console.folder / "plugins" / "painter"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "register.py").write_text(PAINTER)
    model.will_call(("paint", {"names": NAMES}))
    model.will_answer("There they are.")


@pytest.fixture
def session_id(console: Console, painter: None) -> str:
    ran = console.here("run", "paint", "--json")
    assert ran.code == 0, ran.err
    return str(ran.json["session_id"])


def saved_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("painter")
def test_a_run_ends_with_what_it_left_and_the_line_that_saves_it(console: Console) -> None:
    ran = console.here("run", "paint")

    assert (ran.code, ran.out) == (0, "There they are.\n")
    assert "file:    more/Zürich 1.csv  26 B\n" in ran.err
    [line] = [line for line in ran.err.splitlines() if line.startswith("save:")]
    command = line.removeprefix("save:").replace("DIR", str(console.folder / "out")).split()
    assert console.here(*command[1:]).code == 0
    assert saved_in(console.folder / "out") == CONTENTS


def test_they_are_listed_and_shown_with_their_session(console: Console, session_id: str) -> None:
    listed = console.here("sessions", "files", session_id[-8:])
    as_json = console.here("sessions", "files", session_id, "--json").json
    shown = console.here("sessions", "show", session_id)
    whole = console.here("sessions", "show", session_id, "--json").json

    csv, png = [line.split("\t")[:3] for line in listed.out.splitlines()]
    assert (csv, png) == (["more/Zürich 1.csv", "26 B", "text/csv"], ["sales.png", "17 B", "image/png"])
    assert [file["name"] for file in as_json] == sorted(NAMES)
    assert whole["files"] == as_json
    assert "file:    sales.png  17 B\n" in shown.out
    assert f"save:    conductor sessions files {session_id} --save DIR\n" in shown.out


def test_they_are_saved_into_a_new_folder(console: Console, session_id: str) -> None:
    saved = console.here("sessions", "files", session_id, "--save", "a/new one")
    (console.folder / "empty").mkdir()
    as_json = console.here("sessions", "files", session_id, "--save", "empty", "--json").json

    assert (saved.code, saved.out.splitlines()) == (0, ["a/new one/more/Zürich 1.csv", "a/new one/sales.png"])
    assert saved_in(console.folder / "a" / "new one") == saved_in(console.folder / "empty") == CONTENTS
    assert [file["path"] for file in as_json] == ["empty/more/Zürich 1.csv", "empty/sales.png"]


@pytest.mark.parametrize("there", ["sales.png", ".profile"])
def test_beside_other_files_none_is_saved(console: Console, session_id: str, there: str) -> None:
    """What a model calls a file may be what another program looks for."""
    (console.folder / "out").mkdir()
    (console.folder / "out" / there).write_text("mine")

    refused = console.here("sessions", "files", session_id, "--save", "out")
    on_file = console.here("sessions", "files", session_id, "--save", f"out/{there}")

    assert (refused.code, on_file.code) == (2, 2)
    assert "out is no empty folder; nothing was saved" in refused.err
    assert saved_in(console.folder / "out") == {there: b"mine"}


@pytest.mark.usefixtures("model")
def test_a_session_without_files_says_so_on_standard_error(console: Console, model: ModelServer) -> None:
    model.will_answer("Nothing to paint.")
    session_id = console.here("run", "hello", "--json").json["session_id"]

    ended = console.here("sessions", "files", session_id)
    assert (ended.code, ended.out, ended.err) == (0, "", f"session {session_id} has no files\n")
    assert console.here("sessions", "files", session_id, "--json").json == []
    assert "save:" not in console.here("sessions", "show", session_id).out


def test_those_of_a_server_have_an_address() -> None:
    file, _ = stored_file("more/Zürich 1%.csv", b"x" * 14_200)

    first, save = file_lines("01a2", [file], "http://server:8000/")

    assert (
        first
        == "file:    more/Zürich 1%.csv  14.2 kB  http://server:8000/agents/01a2/files/more/Z%C3%BCrich%201%25.csv"
    )
    assert save == "save:    conductor sessions files 01a2 --save DIR --server http://server:8000/"
    assert file_lines("01a2", [], None) == []


@pytest.mark.slow
@pytest.mark.usefixtures("painter")
def test_those_of_a_server_are_links_and_come_from_afar(
    console: Console, tmp_path_factory: pytest.TempPathFactory
) -> None:
    away = Console(tmp_path_factory.mktemp("away"))
    process = console.start("serve", "--port", "0", "--json")
    assert process.stdout is not None
    try:
        url = str(json.loads(process.stdout.readline())["url"])
        ran = away.here("run", "paint", "--server", url)
        [session] = away.here("sessions", "list", "--json", "--server", url).json
        session_id = session["session_id"]
        listed = away.here("sessions", "files", session_id, "--json", "--server", url).json
        saved = away.here("sessions", "files", session_id, "--save", "out", "--server", url)
        shown = away.here("sessions", "show", session_id, "--server", url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    link = f"file:    more/Zürich 1.csv  26 B  {url}/agents/{session_id}/files/more/Z%C3%BCrich%201.csv\n"
    assert link in ran.err and link in shown.out
    assert f"save:    conductor sessions files {session_id} --save DIR --server {url}\n" in ran.err
    assert [file["name"] for file in listed] == sorted(NAMES)
    assert saved.code == 0 and saved_in(away.folder / "out") == CONTENTS


class Hostile(BaseHTTPRequestHandler):
    """A server that names its files as no server should."""

    name = ""

    def do_GET(self) -> None:  # the name is the base class's
        is_list = self.path.endswith("/files")
        file = {"name": self.name, "media_type": "text/plain", "size_bytes": 4, "sha256": "", "created_at": ""}
        item: dict[str, Any] = {**file, "step_no": 1, "call_id": "c"}
        body = json.dumps({"items": [item], "next_cursor": None}).encode() if is_list else b"evil"
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if is_list else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def hostile() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "..", "evil\x1b[2J"], ids=ascii)
def test_a_server_does_not_choose_where_a_file_goes(
    console: Console, hostile: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hostile, "name", name)
    before = saved_in(console.folder)

    refused = console.here("sessions", "files", "0" * 36, "--save", "out/in", "--server", hostile)

    assert (refused.code, "no name of a file" in refused.err) == (2, True)
    assert "\x1b" not in refused.err
    assert saved_in(console.folder) == before

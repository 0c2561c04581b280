"""`conductor serve` as a process: what it says, whom it lets in, and what becomes of its sessions when it ends."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import pytest

from tests.cli.console import Console
from tests.conftest import fail_after
from tests.crash.processes import Started
from tests.crash.world import ANSWER, PLUGINS, TOOLS, World, outcomes_of

TASK = {"messages": [{"role": "user", "content": "do it"}], "tools": list(TOOLS)}


class Server:
    """A running `conductor serve`, and what is asked of it without a key."""

    def __init__(self, process: Started, url: str) -> None:
        self.process = process
        self.url = url

    async def asked(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        async with (
            fail_after(30),
            aiohttp.ClientSession(self.url) as http,
            http.request(method, path, json=body, headers=headers) as reply,
        ):
            return reply.status, await reply.json(content_type=None)

    async def starts(self) -> str:
        status, session = await self.asked("POST", "/agents/run", TASK)
        assert status == 202, session
        return str(session["session_id"])

    async def events(self, session_id: str, last: int = 0) -> list[str]:
        """The types of the events that a stream gives until it ends."""
        async with (
            fail_after(30),
            aiohttp.ClientSession(self.url) as http,
            http.get(f"/agents/{session_id}/events", headers={"Last-Event-ID": str(last)}) as reply,
        ):
            text = (await reply.read()).decode()
        frames = [frame.splitlines() for frame in text.split("\n\n")]
        return [
            line.removeprefix("event: ")
            for lines in frames
            for line in lines
            if line.startswith("event: ") and any(one.startswith("id: ") for one in lines)
        ]

    async def session(self, session_id: str) -> dict[str, Any]:
        status, session = await self.asked("GET", f"/agents/{session_id}")
        assert status == 200, session
        return dict(session)


@asynccontextmanager
async def serving(world: World, *options: str) -> AsyncIterator[Server]:
    process = await world.start(["serve", "--port", "0", "--plugins-dir", str(PLUGINS), *options])
    try:
        line = await process.said("listening on ")
        yield Server(process, re.findall(r"http://[\w.:]+", line)[0])
    finally:
        await process.kill()


async def test_a_killed_server_goes_on_with_its_sessions_when_it_starts_again(tmp_path: Path) -> None:
    async with World(tmp_path, ["look_up"], ["charge"]) as world:
        hold = world.stage.hold("charge:acted")
        async with serving(world) as server:
            session_id = await server.starts()
            await hold.arrived()
            await server.process.kill()
        world.stage.let_go()

        async with serving(world) as server:
            types = await server.events(session_id)
            session = await server.session(session_id)

        assert (types[0], types[-1]) == ("session.created", "session.completed")
        assert (session["status"], session["final_answer"]) == ("completed", ANSWER)
        assert outcomes_of(session) == {"look_up": "succeeded", "charge": "unknown"}
        assert world.runs() == {"look_up": 1, "charge": 1}
        assert world.violations() == []


async def test_a_server_that_is_asked_to_stop_lets_the_step_end_and_leaves_the_rest(tmp_path: Path) -> None:
    async with World(tmp_path, ["charge"], ["save"]) as world:
        hold = world.stage.hold("charge:acted")
        async with serving(world, "--grace-s", "30") as server:
            session_id = await server.starts()
            await hold.arrived()
            server.process.signal(signal.SIGTERM)
            await server.process.said("Application shutdown complete")
            world.stage.let_go()
            ended = await server.process.ended()

        assert ended.code == 0, ended.err
        assert world.log.types()[-1] == "tool.completed"
        async with serving(world) as server:
            types = await server.events(session_id)
            session = await server.session(session_id)

        assert types[-1] == "session.completed"
        assert "session.paused" not in types
        assert outcomes_of(session) == {"charge": "succeeded", "save": "succeeded"}
        assert world.runs() == {"charge": 1, "save": 1}
        assert world.violations() == []


async def test_stopping_ends_open_streams_and_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with World(tmp_path, ["save"]) as world:
        hold = world.stage.hold("save:begin")
        async with serving(world, "--grace-s", "600") as server:
            session_id = await server.starts()
            await hold.arrived()
            async with (
                fail_after(30),
                aiohttp.ClientSession(server.url) as http,
                http.get(f"/agents/{session_id}/events") as stream,
            ):
                await stream.content.readuntil(b"event: tool.started")
                server.process.signal(signal.SIGINT)
                await stream.read()
            await server.process.said("Application shutdown complete")
            server.process.signal(signal.SIGINT)
            ended = await server.process.ended()

        assert ended.code == 130
        assert world.log.types()[-1] == "tool.started"


async def test_the_first_key_is_made_and_shown_once(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        async with serving(world, "--first-key", "--json") as server:
            server.process.signal(signal.SIGTERM)
            first = (await server.process.ended()).json
        async with serving(world, "--first-key", "--json", "--host", "0.0.0.0") as server:  # there is a key
            port = server.url.rpartition(":")[2]
            server.url = f"http://127.0.0.1:{port}"
            bearer = {"Authorization": f"Bearer {first['key']}"}
            allowed, _ = await server.asked("GET", "/agents", **bearer)
            refused, _ = await server.asked("GET", "/agents", Authorization=f"Bearer {first['key']}x")
            server.process.signal(signal.SIGTERM)
            second = await server.process.ended()

        assert sorted(first) == ["docs", "key", "url"]
        assert first["docs"] == f"{first['url']}/docs"
        assert (allowed, refused) == (200, 401)
        assert sorted(second.json) == ["docs", "url"]
        assert "there is a key already" in second.err
        assert first["key"] not in second.err


async def test_lines_are_json_in_production(tmp_path: Path) -> None:
    async with World(tmp_path, ["look_up"]) as world:
        world.processes.env["APP_ENV"] = "production"
        async with serving(world, "--first-key", "--json") as server:
            refused, _ = await server.asked("POST", "/agents/run", TASK)
            server.process.signal(signal.SIGTERM)
            ended = await server.process.ended()

        lines = [json.loads(line) for line in ended.err.splitlines()]
        assert "listening on" in " ".join(line["event"] for line in lines)
        assert ended.json["key"] not in ended.err
        assert refused == 401


async def test_a_plugin_that_is_broken_is_told_of_at_the_start(tmp_path: Path) -> None:
    plugin = tmp_path / "plugins" / "office"
    plugin.mkdir(parents=True)
    (plugin / "register.py").write_text("def register(registry:\n")
    async with World(tmp_path) as world:
        process = await world.start(["serve", "--port", "0", "--plugins-dir", str(plugin.parent)])
        line = await process.said("plugin office was not loaded")
        await process.said("listening on ")
        await process.kill()

    assert "register.py" in line


def test_without_a_key_it_does_not_listen_beyond_this_machine(console: Console) -> None:
    refused = console.here("serve", "--host", "0.0.0.0", "--port", "0")

    assert refused.code == 2
    assert "there is no key" in refused.err
    assert "conductor keys create" in refused.err


def test_without_its_extra_it_says_what_to_install(console: Console) -> None:
    with mock.patch.dict(sys.modules, {"fastapi": None}):
        refused = console.here("serve")

    assert refused.code == 2
    assert "conductor-ai[server]" in refused.err


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--host", "no such host", "--first-key"], "no address of this machine"), (["--port", "70000"], "--port")],
    ids=["host", "port"],
)
def test_an_address_that_is_none_is_refused_in_one_line(console: Console, options: list[str], words: str) -> None:
    refused = console("serve", *options)

    assert refused.code == 2
    assert words in refused.err


async def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path, console: Console) -> None:
    async with World(tmp_path) as world, serving(world) as server:
        second = await world.conduct(["serve", "--port", server.url.rpartition(":")[2]])

    assert second.code == 1
    assert "in use" in second.err

"""The tools that every process has, and what becomes of one whose extra is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conductor_ai.conductor import StartRequest
from conductor_ai.errors import InvalidInput, MissingExtra
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import registry as global_registry
from conductor_ai.tools.web_fetch import WebFetchTool
from conductor_ai.wiring import open_conductor, plan_run
from conductor_ai.wiring.tools import load_tools
from tests.agents.conftest import TASK

RIVAL = '''
from conductor_ai.sdk import PluginRegistry

registry = PluginRegistry()


@registry.tool(effect="read")
async def web_fetch(url: str) -> str:
    """Fetch in another way."""
    return url


def register(global_registry):
    global_registry.register(registry.tools[0])
'''


@pytest.fixture(autouse=True)
def home(conductor_home: Path) -> Path:
    return conductor_home


@pytest.fixture
def rival(home: Path) -> Path:
    """A plugin whose tool has the name of a tool of ours."""
    folder = home.parent / "plugins" / "rival"
    folder.mkdir(parents=True)
    (folder / "register.py").write_text(RIVAL)
    return folder


@pytest.fixture
def without_web(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra `web` were not installed."""
    for module in ("trafilatura", "html_to_markdown", "protego"):
        monkeypatch.setitem(sys.modules, module, None)


def test_web_fetch_is_there_before_the_tools_of_plugins() -> None:
    registry, plugins = load_tools(Settings.load())

    assert isinstance(registry.get_tool("web_fetch"), WebFetchTool)
    own = ["web_fetch"] if "code_run" in registry.unavailable else ["web_fetch", "code_run"]
    assert [tool.name for tool in registry.definitions] == [*own, *plugins[0].tools]


def test_the_registry_of_programs_stays_empty_by_itself() -> None:
    load_tools(Settings.load())

    assert global_registry.tools == []


def test_a_plugin_cannot_take_its_name(rival: Path) -> None:
    registry, plugins = load_tools(Settings.load())
    errors = {plugin.name: plugin.error or "" for plugin in plugins}

    assert "two tools are called 'web_fetch'" in errors["rival"]
    assert isinstance(registry.get_tool("web_fetch"), WebFetchTool)


def test_a_tool_of_the_bundled_agent_is_loaded() -> None:
    plan = plan_run(Settings.load(), StartRequest(messages=TASK, agent="web-researcher", model="demo/scripted"))

    assert [tool["name"] for tool in plan["tools"]] == ["web_fetch"]


@pytest.mark.parametrize("grants", ["localhost", "host:0", "host:http", "http://host:80", "a:80 b:80"])
def test_grants_that_cannot_be_read_are_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, grants: str
) -> None:
    monkeypatch.setenv("CONDUCTOR_FETCH_GRANTS", grants)

    with pytest.raises(InvalidInput, match=r"^CONDUCTOR_FETCH_GRANTS: ") as caught:
        load_tools(Settings.load())
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("without_web")
async def test_without_its_extra_it_is_left_out_and_whoever_names_it_is_told_what_to_install() -> None:
    registry, _ = load_tools(Settings.load())
    assert "web_fetch" not in [tool.name for tool in registry.definitions]

    async with open_conductor() as conductor:
        plain = await conductor.start(StartRequest(messages=TASK, model="demo/scripted"))
        assert plain.status == "running"
        for request in (
            StartRequest(messages=TASK, model="demo/scripted", tools=["web_fetch"]),
            StartRequest(messages=TASK, model="demo/scripted", agent="web-researcher"),
        ):
            with pytest.raises(MissingExtra) as caught:
                await conductor.start(request)
            assert "pip install" in (caught.value.hint or "")
            with pytest.raises(MissingExtra):
                plan_run(Settings.load(), request)


async def test_a_session_that_used_it_cannot_go_on_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_conductor() as conductor:
        request = StartRequest(messages=TASK, model="demo/scripted", tools=["web_fetch"])
        session = await conductor.start(request)
    monkeypatch.setitem(sys.modules, "trafilatura", None)

    async with open_conductor() as conductor:
        with pytest.raises(MissingExtra):
            await conductor.resume(session.session_id)


@pytest.mark.usefixtures("without_web")
def test_a_plugin_cannot_take_its_name_without_its_extra_either(rival: Path) -> None:
    _, plugins = load_tools(Settings.load())

    assert any("two tools are called 'web_fetch'" in (plugin.error or "") for plugin in plugins)


_LISTING = """
import json, sys
from conductor_ai.cli import main
code = main(sys.argv[1:])
sys.stderr.write(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


@pytest.mark.parametrize("command", [["--help"], ["tools", "list"], ["agents", "list"]])
def test_commands_that_fetch_nothing_load_no_http_client_and_no_extractor(command: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _LISTING, *command], capture_output=True, text=True, check=True, timeout=60
    )

    code, loaded = json.loads(ended.stderr)
    assert code == 0
    assert not {"aiohttp", "trafilatura", "html_to_markdown", "lxml", "protego"} & set(loaded)

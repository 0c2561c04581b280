"""The examples of the project's plan, with `src.` read as `conductor_ai.` and their slips mended.

The plan's plugin forgets to import `ToolCategory` and has `...` for its properties; its audit example awaits a client
that is not async. Tools of later issues (`web_fetch`, `sql_query`) are stood in for by those of the example plugin.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.model_catalog import select_model
from conductor_ai.observability import audit_logged
from conductor_ai.sdk import BaseTool, ToolCategory, ToolDefinition, ToolResult
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import PluginLoader, ToolRegistry
from conductor_ai.wiring import default_runtime
from tests.cli.model_server import model_server
from tests.client.served import served
from tests.conftest import fail_after
from tests.docs.pages import ROOT

PLUGIN = '''
from conductor_ai.sdk import BaseTool, PluginRegistry, ToolCategory, ToolDefinition, ToolResult

registry = PluginRegistry()

@registry.tool
class MyTool(BaseTool):
    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(
            name="my_tool",
            description="Does something useful",
            category=ToolCategory.DATA,
            parameters={"type": "object", "properties": {"oem": {"type": "string"}}},
        )

    async def run(self, arguments: dict) -> ToolResult:
        return ToolResult(
            tool_name="my_tool",
            success=True,
            result={"data": arguments["oem"]},
            execution_time_ms=100,
        )

def register(global_registry):
    """Called by PluginLoader."""
    for tool in registry.tools:
        global_registry.register(tool)
'''

CLIENT = """
from conductor_ai.sdk import ConductorClient

async def example():
    async with ConductorClient("http://localhost:8000", org_id="my-org") as client:
        # Start agent
        session = await client.run_agent(
            messages=[{"role": "user", "content": "Scrape Tesla dealer locator"}],
            tools=["web_fetch", "my_tool"],
        )

        # Wait for completion
        result = await client.wait_for_completion(session.session_id)
        print(result.steps[-1]["final_answer"])
"""


@pytest.fixture
def plugins(tmp_path: Path) -> str:
    """The plan's directory: a folder for each plugin, with the example in it."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "example_plugin").mkdir()
    (tmp_path / "plugins" / "example_plugin" / "__init__.py").touch()
    (tmp_path / "plugins" / "example_plugin" / "register.py").write_text(PLUGIN)
    return f"{tmp_path}/plugins/"


async def test_the_plugin_is_discovered_and_its_tool_runs(plugins: str) -> None:
    registry = ToolRegistry()
    PluginLoader.discover_and_register(registry, plugins_dir=plugins)

    tool = registry.get_tool("my_tool")
    result = await tool.run({"oem": "tesla"})

    assert (result.tool_name, result.success, result.result, result.execution_time_ms) == (
        "my_tool",
        True,
        {"data": "tesla"},
        100,
    )


async def test_the_registry_takes_tools_and_plugins() -> None:
    class WebFetchTool(BaseTool):
        @property
        def definition(self) -> ToolDefinition:
            return ToolDefinition(
                name="web_fetch",
                description="Stands in for the tool of a later issue",
                category=ToolCategory.DATA,
                parameters={"type": "object", "properties": {"url": {"type": "string"}}},
            )

        async def run(self, arguments: dict[str, Any]) -> ToolResult:
            return ToolResult(tool_name="web_fetch", success=True, result=arguments["url"])

    registry = ToolRegistry()

    registry.register(WebFetchTool())
    PluginLoader.discover_and_register(registry, plugins_dir=ROOT / "plugins")

    tool = registry.get_tool("web_fetch")
    result = await tool.run({"url": "https://example.com"})
    assert result.result == "https://example.com"
    assert registry.get_tool("find_dealers").definition.category is ToolCategory.DATA


async def test_the_runner_loops_until_completion(conductor_home: Path) -> None:
    registry = ToolRegistry()
    PluginLoader.discover_and_register(registry, plugins_dir=ROOT / "plugins")
    runner = AgentRunner(
        model="demo/scripted",
        tools=["find_dealers", "dealer_details", "save_shortlist"],
        registry=registry,
    )

    session = await runner.start_session(
        messages=[{"role": "user", "content": "Find Tesla dealers in California"}],
        org_id="my-org",
    )
    seen = []
    answer = None
    while session.status == "running":
        step = await runner.execute_step(session.session_id)
        seen.append(str(step.type))
        if step.type == "tool_call":
            pass
        elif step.type == "final_answer":
            answer = step.content
            break

    assert seen == ["tool_call", "tool_call", "tool_call", "final_answer"]
    assert answer is not None
    assert answer.startswith("The three dealers in California")
    assert list((conductor_home / "example_plugin" / "org-my-org").iterdir())


def test_the_catalog_gives_the_answers_of_the_plan() -> None:
    assert select_model(task="coding") == "qwen/qwen-2.5-coder-32b-instruct"
    assert select_model(task="reasoning") == "deepseek/deepseek-r1"
    assert select_model(task="agents") == "deepseek/deepseek-chat-v3"
    assert select_model(budget="budget") == "deepseek/deepseek-r1-distill-qwen-8b"
    assert select_model(require_vision=True) == "claude-sonnet-4-5-20250929"


async def test_an_audited_function_leaves_input_output_and_time_on_record(
    conductor_home: Path, unused_tcp_port: int
) -> None:
    @audit_logged(category="data", tool_name="web_fetch")
    async def fetch_data(url: str) -> dict[str, Any]:
        """Fetch data from URL."""
        async with aiohttp.ClientSession() as client, client.get(url) as response:
            data: dict[str, Any] = await response.json()
            return data

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"dealers": 25})

    app = web.Application()
    app.router.add_get("/dealers", answer)
    url = f"http://127.0.0.1:{unused_tcp_port}/dealers"
    server = web.AppRunner(app)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", unused_tcp_port).start()
    try:
        assert await fetch_data(url) == {"dealers": 25}
    finally:
        await server.cleanup()

    runtime = await default_runtime()
    rows, _ = await runtime.store.audit_rows("default", None)
    [execution] = await runtime.store.tool_executions("default", None)
    assert [(row.category, row.action) for row in rows] == [("data", "started"), ("data", "completed")]
    assert (execution.tool_name, execution.success, execution.error) == ("web_fetch", True, None)
    assert json.loads(execution.input) == {"url": url}
    assert json.loads(execution.output or "") == {"dealers": 25}
    assert execution.execution_time_ms > 0


async def test_the_client_waits_for_the_answer_of_a_server(
    conductor_home: Path, plugins: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with model_server() as model:
        monkeypatch.setenv("LOCAL_LLM_BASE_URL", model.url)
        monkeypatch.setenv("CONDUCTOR_MODEL", "local/tiny")
        model.will_call(("my_tool", {"oem": "tesla"}))
        model.will_answer("Found 25 Tesla dealers in California")
        async with fail_after(30), served(Settings.load()) as server:
            names: dict[str, Any] = {}
            exec(CLIENT.replace("localhost:8000", f"localhost:{server.port}"), names)
            await names["example"]()
            [session] = await server.service.store.sessions("my-org")

    assert capsys.readouterr().out == "Found 25 Tesla dealers in California\n"
    assert (session.status, session.step_no) == ("completed", 2)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.console import Console
from tests.cli.model_server import ModelServer, model_server

DESK = '''
"""Tools of a small office: one that reads, one that acts, one that misbehaves."""

from pathlib import Path

from conductor_ai.sdk import BaseTool, PluginRegistry, ToolCategory, ToolDefinition, ToolResult

registry = PluginRegistry()


def text_argument(name):
    return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}


@registry.tool
class LookUp(BaseTool):
    @property
    def definition(self):
        return ToolDefinition(name="look_up", description="Look a word up.", category=ToolCategory.DATA,
                              effect="read", parameters=text_argument("word"))

    async def run(self, arguments):
        return ToolResult(tool_name="look_up", success=True, result={"meaning": arguments["word"].upper()})


@registry.tool
class Post(BaseTool):
    @property
    def definition(self):
        return ToolDefinition(name="post", description="Post a letter.", category=ToolCategory.COMMUNICATION,
                              requires_approval=True, parameters=text_argument("text"))

    async def run(self, arguments):
        with Path("posted.txt").open("a") as file:
            file.write(arguments["text"] + "\\n")
        return ToolResult(tool_name="post", success=True, result="posted")


@registry.tool
class Shout(BaseTool):
    @property
    def definition(self):
        return ToolDefinition(name="shout", description="Say [bold]odd[/bold] things.", category=ToolCategory.OTHER,
                              effect="read", parameters={"type": "object", "properties": {}})

    async def run(self, arguments):
        return ToolResult(tool_name="shout", success=True, result="\\x1b[31mred\\x1b[0m [bold]b[/bold] \\ud800 \\u202e")


def register(global_registry):
    for tool in registry.tools:
        global_registry.register(tool)
'''


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(tmp_path)


@pytest.fixture
def model(console: Console) -> Iterator[ModelServer]:
    """A model server; `conductor` finds it as `local/tiny`, its default model."""
    with model_server() as server:
        console.env |= {"LOCAL_LLM_BASE_URL": server.url, "CONDUCTOR_MODEL": "local/tiny"}
        yield server


@pytest.fixture
def desk(console: Console) -> Path:
    """A plugin with the tools look_up, post (needs approval) and shout, in the default plugins folder."""
    folder = console.folder / "plugins" / "desk"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "register.py").write_text(DESK)
    return folder

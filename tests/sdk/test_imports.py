"""What importing the SDK brings along. CPU time is measured in docs/benchmarks.md, never asserted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import conductor_ai.sdk

_PROGRAM = """
import json, sys
from pydantic import BaseModel
class Model(BaseModel):
    number: int
before = set(sys.modules)
from conductor_ai.sdk import BaseTool, PluginRegistry, ToolCategory, ToolDefinition, ToolResult
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_the_five_names_load_nothing_but_themselves_and_the_standard_library() -> None:
    output = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in json.loads(output)}

    assert "conductor_ai" in loaded
    assert loaded - {"conductor_ai", "pydantic", "pydantic_core", "typing_extensions"} <= sys.stdlib_module_names
    assert not loaded & {"logging", "asyncio", "http", "sqlite3", "ssl"}


def test_the_public_names_are_exactly_the_five() -> None:
    five = ["BaseTool", "PluginRegistry", "ToolCategory", "ToolDefinition", "ToolResult"]

    assert sorted(conductor_ai.sdk.__all__) == five
    assert all(hasattr(conductor_ai.sdk, name) for name in five)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        conductor_ai.sdk.Nonsense  # noqa: B018


def test_the_client_is_loaded_when_it_is_asked_for_and_not_before() -> None:
    program = f"{_PROGRAM}\nfrom conductor_ai.sdk import ConductorClient; print(ConductorClient.__module__)"

    before, client = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()

    assert not {"conductor_ai.client", "aiohttp"} & set(json.loads(before))
    assert client.startswith("conductor_ai.client")

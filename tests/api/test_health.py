"""What those who watch the server see of it, and the document of the API."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from conductor_ai.api import create_app
from conductor_ai.errors import StoreUnavailable
from conductor_ai.providers.scripted import say
from conductor_ai.settings import Settings
from tests.api.conftest import Floor


async def test_health_says_more_to_whom_it_knows(floor: Floor) -> None:
    server = await floor.open([], app_env="production")
    key = await server.new_key()

    anybody, known = await server.ask("GET", "/health"), await server.ask("GET", "/health", key=key)
    wrong = await server.ask("GET", "/health", key="nonsense")

    assert (anybody.status, anybody.data) == (200, {"status": "ok"})
    assert known.data["database"]["ok"] and known.data["hot_state"]["ok"] and known.data["version"]
    assert wrong.status == 401


async def test_a_server_without_its_database_lives_and_is_not_ready(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await floor.open([])

    async def away() -> None:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(server.service.store, "ping", away)
    health, ready, live = [await server.ask("GET", f"/health{part}") for part in ("", "/ready", "/live")]
    figures = (await server.ask("GET", "/metrics")).data.decode()

    assert (health.status, health.data["status"], ready.status, live.status) == (503, "down", 503, 200)
    assert 'conductor_up{part="database"} 0.0' in figures and 'conductor_up{part="hot_state"} 1.0' in figures


async def test_that_a_server_lives_is_told_without_its_database(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await floor.open([])

    async def away(*args: object, **named: object) -> None:
        raise StoreUnavailable("the database is away")

    for name in ("ping", "has_keys", "org"):
        monkeypatch.setattr(server.service.store, name, away)
    live, ready = await server.ask("GET", "/health/live"), await server.ask("GET", "/health/ready")
    closed = await server.ask("GET", "/agents")

    assert (live.status, ready.status) == (200, 503)
    assert (closed.status, closed.code) == (503, "store_unavailable")


async def test_while_the_database_is_away_requests_are_told_to_come_again(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await floor.open([])

    async def away(*args: object, **named: object) -> None:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(server.service, "session", away)
    reply = await server.ask("GET", "/agents/some-id")

    assert (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "store_unavailable", "1")
    assert reply.data["retryable"] is True


async def test_requests_are_counted_by_route_and_never_by_org(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    key = await server.new_key(org_id="acme")
    session_id = await server.run(key)
    await server.ask("GET", "/agents/nothing", key=key)

    figures = (await server.ask("GET", "/metrics", key=key)).data.decode()

    assert 'conductor_http_requests_total{method="POST",route="/agents/run",status="202"} 1.0' in figures
    assert 'conductor_http_requests_total{method="GET",route="/agents/{session_id}",status="404"} 1.0' in figures
    assert "acme" not in figures and session_id not in figures


async def test_every_operation_is_documented(floor: Floor) -> None:
    server = await floor.open([])
    document = (await server.ask("GET", "/openapi.json")).data
    operations = [told for path in document["paths"].values() for told in path.values()]

    assert len({told["operationId"] for told in operations}) == len(operations)
    assert all(told.get("description") and {"401", "421", "500"} <= told["responses"].keys() for told in operations)
    for told in operations:
        for status, answer in told["responses"].items():
            if status >= "400" and "content" in answer and "application/json" not in answer["content"]:
                assert answer["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
    assert document["components"]["schemas"]["RunBody"]["examples"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_operation_ids_stay(tmp_path: Path) -> None:
    document = create_app(Settings(conductor_home=tmp_path)).openapi()

    ids = sorted(told["operationId"] for path in document["paths"].values() for told in path.values())
    assert ids == [
        "cancel_session", "create_event_ticket", "create_key", "decide_approval", "delete_session", "get_approval",
        "get_file", "get_health", "get_liveness", "get_metrics", "get_org", "get_readiness", "get_session",
        "get_usage", "list_approvals", "list_audit", "list_definitions", "list_files", "list_keys", "list_models",
        "list_sessions", "list_tools", "resume_session", "revoke_key", "rotate_key", "run_agent", "send_message",
        "set_org_limits", "stream_events",
    ]  # fmt: skip


async def test_the_page_for_people_loads_nothing_from_elsewhere(floor: Floor) -> None:
    server = await floor.open([])

    page = await server.ask("GET", "/docs")

    text = page.data.decode()
    assert page.status == 200 and "/agents/{session_id}/events" in text and "default-src 'none'" in str(page.headers)
    assert "<script" not in text and not re.search(r"(src|href)=.(https?:)?//", text)


def test_importing_the_api_loads_no_framework_and_opens_nothing(tmp_path: Path) -> None:
    program = "import sys, conductor_ai.api; print('fastapi' in sys.modules, 'prometheus_client' in sys.modules)"

    printed = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert (printed.stdout, printed.stderr, list(tmp_path.iterdir())) == ("False False\n", "", [])


def test_plain_uvicorn_serves_it_and_stops_with_a_stream_open(tmp_path: Path) -> None:
    plugin = tmp_path / "plugins" / "guarded"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text("")
    (plugin / "register.py").write_text(_PLUGIN)
    variables = {
        **{name: value for name, value in os.environ.items() if name.startswith(("COVERAGE_", "PATH"))},
        "CONDUCTOR_HOME": str(tmp_path / "home"),
        "CONDUCTOR_PLUGINS_DIR": str(tmp_path / "plugins"),
    }
    command = [sys.executable, "-m", "uvicorn", "conductor_ai.api:app", "--port", "0", "--no-access-log"]
    with subprocess.Popen(command, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            url = next(found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            body = {
                "messages": [{"role": "user", "content": "Go."}],
                "model": "demo/scripted",
                "tools": ["find_dealers"],
            }
            run = Request(f"{url}/agents/run", json.dumps(body).encode(), {"Content-Type": "application/json"})
            with urlopen(run, timeout=30) as reply:
                session_id = json.load(reply)["session_id"]
            with urlopen(f"{url}/agents/{session_id}/events", timeout=30) as stream:
                assert b"event: approval.requested\n" in iter(stream.readline, b"")
                server.send_signal(signal.SIGTERM)
                assert b":\n" not in iter(stream.readline, b""), "it went on until the next sign of life"
            server.wait(timeout=30)
        finally:
            server.kill()


_PLUGIN = """
from conductor_ai.sdk import BaseTool, PluginRegistry, ToolCategory, ToolDefinition, ToolResult


class FindDealers(BaseTool):
    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(
            name="find_dealers",
            description="Find dealers, with leave.",
            category=ToolCategory.DATA,
            requires_approval=True,
            parameters={"type": "object", "properties": {"state": {"type": "string"}}},
        )

    async def run(self, arguments: dict) -> ToolResult:
        return ToolResult(tool_name="find_dealers", success=True, result=[])


def register(registry: PluginRegistry) -> None:
    registry.register(FindDealers())
"""

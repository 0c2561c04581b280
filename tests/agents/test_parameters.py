"""What a session asks of its model: sent in the wire's words where the model takes it, else refused or left out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.errors import InvalidInput
from conductor_ai.tools.registry import ToolRegistry
from tests.agents.conftest import TASK
from tests.agents.house import House, down, opened_house
from tests.servers import FakeAnthropic, FakeGemini

MODELS = """
[models.claude-words]
forced_tools = true
reasoning = "effort"
price = { input = 1, output = 2 }

[models.claude-tokens]
max_output_tokens = 16_384
reasoning = "budget"
price = { input = 1, output = 2 }

[models.claude-cold]
temperature = false
reasoning = "effort"
always_reasons = true
forced_tools = true
price = { input = 1, output = 2 }

[models.gemini-tokens]
reasoning = "budget"
forced_tools = true
price = { input = 1, output = 2 }

[models."some/words"]
reasoning = "effort"
hosts = ["one", "two"]
price = { input = 1, output = 2 }

[models."some/plain"]
price = { input = 1, output = 2 }

[models.claude-schema]
answer_schema = "with_tools"
price = { input = 1, output = 2 }

[models.gemini-schema]
answer_schema = "without_tools"
forced_tools = true
price = { input = 1, output = 2 }
"""
SCHEMA = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
COUNTED = '{"count": 3}'


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models.toml").write_text(MODELS)
    async with opened_house(tmp_path) as opened:
        yield opened


async def sent(house: House, model: str, **options: Any) -> dict[str, Any]:
    """The body of the one request that a session makes."""
    servers: dict[str, FakeAnthropic | FakeGemini] = {"claude": house.claude, "gemini": house.flash}
    server = servers.get(model.partition("-")[0], house.deepseek)
    server.will_say(COUNTED)
    await (await house.runner(model, **options)).run(TASK)
    body: dict[str, Any] = server.requests[-1].json
    return body


async def test_nothing_is_sent_that_nobody_asked_for(house: House) -> None:
    claude = await sent(house, "claude-words")
    flash = await sent(house, "gemini-tokens")
    other = await sent(house, "some/words")
    assert {"temperature", "thinking", "output_config", "tool_choice"}.isdisjoint(claude)
    assert set(flash["generationConfig"]) == {"maxOutputTokens"} and "toolConfig" not in flash
    assert {"temperature", "reasoning", "response_format", "tool_choice"}.isdisjoint(other)


async def test_a_temperature_is_sent(house: House) -> None:
    asked = {"temperature": 0}
    assert (await sent(house, "claude-words", parameters=asked))["temperature"] == 0
    assert (await sent(house, "gemini-tokens", parameters=asked))["generationConfig"]["temperature"] == 0
    assert (await sent(house, "some/plain", parameters=asked))["temperature"] == 0


async def test_effort_is_a_word_or_a_share_of_the_tokens(house: House) -> None:
    asked = {"reasoning_effort": "medium"}
    words = await sent(house, "claude-words", parameters=asked)
    assert (words["thinking"]["type"], words["output_config"]) == ("adaptive", {"effort": "medium"})
    tokens = await sent(house, "claude-tokens", parameters=asked, limits={"max_output_tokens": 10_000})
    assert (tokens["thinking"]["type"], tokens["thinking"]["budget_tokens"]) == ("enabled", 4_000)
    few = await sent(house, "claude-tokens", parameters=asked, limits={"max_output_tokens": 1_100})
    assert few["thinking"]["budget_tokens"] == 1_024
    other = await sent(house, "some/words", parameters=asked)
    assert other["reasoning"]["effort"] == "medium" and other["provider"]["order"] == ["one", "two"]


@pytest.mark.parametrize(
    ("model", "parameters", "said"),
    [
        ("claude-cold", {"temperature": 0.5}, "claude-cold takes no temperature"),
        ("claude-words", {"temperature": 1.5}, "takes a temperature of at most 1, got 1.5"),
        ("claude-words", {"temperature": 0, "reasoning_effort": "low"}, "takes no temperature while it reasons"),
        ("claude-cold", {"reasoning_effort": "none"}, "always reasons"),
        ("some/plain", {"reasoning_effort": "high"}, "some/plain has no setting for reasoning_effort"),
    ],
    ids=["none taken", "too hot", "while reasoning", "always", "no setting"],
)
async def test_what_a_model_does_not_take_is_refused_before_anything_is_sent(
    house: House, model: str, parameters: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput) as no:
        await (await house.runner(model, parameters=parameters)).run(TASK)
    assert said in str(no.value) and no.value.hint
    assert not (house.claude.requests or house.deepseek.requests)
    assert await house.runtime.store.sessions("default") == []


async def test_a_budget_that_leaves_no_room_for_an_answer_is_refused(house: House) -> None:
    runner = await house.runner(
        "claude-tokens", parameters={"reasoning_effort": "low"}, limits={"max_output_tokens": 1_024}
    )
    with pytest.raises(InvalidInput, match="needs more than 1,024 max_output_tokens"):
        await runner.run(TASK)


async def test_a_model_that_takes_over_is_spared_what_it_does_not_take(house: House) -> None:
    down(house.deepseek)
    house.claude.will_say("Three.")
    runner = await house.runner(
        "some/words", "claude-cold", parameters={"temperature": 1.5, "reasoning_effort": "none"}
    )
    session = await runner.run(TASK)
    assert session.final_answer == "Three."
    assert house.deepseek.requests[0].json["temperature"] == 1.5
    assert {"temperature", "thinking"}.isdisjoint(house.claude.requests[0].json)


async def test_the_answer_tool_is_forced_only_where_the_model_can_be(house: House) -> None:
    forced = await sent(house, "claude-words", response_schema=SCHEMA)
    assert forced["tool_choice"] == {"type": "any"}
    assert [tool["name"] for tool in forced["tools"]] == ["look", "read_result", "final_answer"]
    thinks = await sent(house, "claude-words", response_schema=SCHEMA, parameters={"reasoning_effort": "low"})
    assert "tool_choice" not in thinks and thinks["tools"][-1]["name"] == "final_answer"
    assert "tool_choice" not in await sent(house, "claude-cold", response_schema=SCHEMA)
    flash = await sent(house, "gemini-tokens", response_schema=SCHEMA)
    assert flash["toolConfig"]["functionCallingConfig"]["mode"] == "ANY"
    assert "tool_choice" not in await sent(house, "some/plain", response_schema=SCHEMA)


async def test_a_provider_that_holds_its_model_to_a_schema_is_asked_to(house: House) -> None:
    claude = await sent(house, "claude-schema", response_schema=SCHEMA)
    assert claude["output_config"]["format"]["type"] == "json_schema"
    assert [tool["name"] for tool in claude["tools"]] == ["look", "read_result"]
    free = {"type": "object", "properties": {"any": {"type": "object"}}}
    assert "format" not in (await sent(house, "claude-schema", response_schema=free)).get("output_config", {})
    assert house.claude.requests[-1].json["tools"][-1]["name"] == "final_answer"
    beside = await sent(house, "gemini-schema", response_schema=SCHEMA)
    assert "responseJsonSchema" not in beside["generationConfig"]
    house.flash.will_say(COUNTED)
    alone = AgentRunner("gemini-schema", [], ToolRegistry(), response_schema=SCHEMA, runtime=house.runtime)
    assert (await alone.run(TASK)).output == {"count": 3}
    config = house.flash.requests[-1].json["generationConfig"]
    assert config["responseMimeType"] == "application/json" and config["responseJsonSchema"]["required"] == ["count"]
    assert "tools" not in house.flash.requests[-1].json


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 2.1}, {"temperature": "warm"}, {"temperature": float("nan")}, {"temperature": True}]
    + [{"reasoning_effort": "max"}, {"reasoning_effort": 3}, {"top_k": 1}, ["temperature"]],
    ids=["above", "word", "nan", "flag", "effort", "number", "unknown", "list"],
)
def test_parameters_that_cannot_be_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput):
        AgentRunner("demo/scripted", registry=ToolRegistry(), parameters=wrong)

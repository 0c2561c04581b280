"""Images in sessions: what each wire is sent, what is stored, who may not see, and what they count in the figures."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.conductor import Conductor, StartRequest, plan
from conductor_ai.errors import InvalidInput
from conductor_ai.providers.scripted import Line, Moment
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.session import PauseReason, SessionStatus
from conductor_ai.tools.registry import ToolRegistry
from tests.agents.conftest import TASK, Bench
from tests.agents.house import CLAUDE, DEEPSEEK, FLASH, House, down, opened_house
from tests.providers.wires import ANTHROPIC, GEMINI
from tests.schemas.pictures import png
from tests.tools.web.sites import http, serving

SEES = "qwen/qwen3-vl-235b-a22b-instruct"
PICTURE = png()
DATA = base64.b64encode(PICTURE).decode()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened_house(tmp_path) as opened:
        yield opened


def asking(*parts: dict[str, Any], text: str = "What is this?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


HERE = asking({"type": "image", "data": PICTURE})


async def test_each_wire_is_sent_the_image(house: House) -> None:
    house.claude.will_say("Grey.")
    house.flash.will_say("Grey.")
    house.deepseek.will_say("Grey.")
    for model in (CLAUDE, FLASH, SEES):
        assert (await (await house.runner(model)).run(HERE)).final_answer == "Grey."
    claude = house.claude.requests[0].json["messages"][0]["content"]
    assert claude[0]["source"] == {"type": "base64", "media_type": "image/png", "data": DATA}
    flash = house.flash.requests[0].json["contents"][0]["parts"]
    assert {"mimeType": "image/png", "data": DATA} in [part.get("inlineData") for part in flash]
    qwen = house.deepseek.requests[0].json["messages"][-1]["content"]
    assert {"url": f"data:image/png;base64,{DATA}"} in [part.get("image_url") for part in qwen]


async def test_a_model_that_cannot_see_is_refused_before_anything_is_stored(house: House) -> None:
    for models in ((DEEPSEEK,), (CLAUDE, DEEPSEEK)):
        runner = await house.runner(*models)
        with pytest.raises(InvalidInput, match=f"{DEEPSEEK} cannot read images"):
            await runner.run(HERE)
    with pytest.raises(InvalidInput, match="cannot read images"):
        plan(StartRequest(messages=HERE, tools=[]), [house.runtime.model(DEEPSEEK)], ToolRegistry())
    assert await house.runtime.store.sessions("default") == []
    assert not (house.claude.requests or house.deepseek.requests)


async def test_an_image_survives_the_store_and_comes_with_the_next_message(house: House) -> None:
    house.claude.will_say("Grey.")
    session = await (await house.runner(CLAUDE)).run(HERE)
    house.claude.will_say("Two of them.")
    again = {"role": "user", "content": [Image.of_bytes(PICTURE), {"type": "text", "text": "And now?"}]}
    session = await (await house.runner(CLAUDE)).continue_session(session.session_id, again)
    assert session.final_answer == "Two of them."
    sent = house.claude.requests[-1].json["messages"]
    assert [block["type"] for turn in (sent[0], sent[-1]) for block in turn["content"]] == ["image", "text"] * 2


async def test_a_session_of_a_model_that_cannot_see_takes_no_image_later(house: House) -> None:
    house.deepseek.will_say("Hello.")
    session = await (await house.runner(DEEPSEEK)).run(TASK)
    before = len(await house.events(session.session_id))
    with pytest.raises(InvalidInput, match="cannot read images"):
        await (await house.runner(DEEPSEEK)).continue_session(session.session_id, HERE[0])
    assert len(await house.events(session.session_id)) == before


async def test_no_model_that_cannot_see_takes_over_once_there_is_an_image(house: House) -> None:
    house.claude.will_answer(body=ANTHROPIC.says("Hello."))
    session = await (await house.runner(CLAUDE, DEEPSEEK, FLASH)).run(TASK)
    down(house.claude, 529)
    house.flash.will_answer(body=GEMINI.says("Grey."))
    runner = await house.runner(CLAUDE, DEEPSEEK, FLASH)
    session = await runner.continue_session(session.session_id, HERE[0])
    assert (session.final_answer, session.model) == ("Grey.", FLASH)
    assert house.deepseek.requests == []


async def test_an_image_counts_by_what_it_may_cost_not_by_its_bytes(house: House) -> None:
    large = asking({"type": "image", "data": png(100, 100, total_bytes=3_000_000)})
    house.claude.will_say("Grey.")
    # A token for each of its bytes would be 12 dollars here; the bound on an image is 0.05.
    session = await (await house.runner(CLAUDE, limits={"max_cost_usd": "0.30"})).run(large)
    assert (session.status, session.final_answer) == (SessionStatus.COMPLETED, "Grey.")
    session = await (await house.runner(CLAUDE, limits={"max_cost_usd": "0.15"})).run(large)
    assert (session.pause_reason, len(house.claude.requests)) == (PauseReason.MAX_COST, 1)
    priced = plan(StartRequest(messages=large, tools=[]), [house.runtime.model(CLAUDE)], ToolRegistry())
    assert 0.15 < float(priced["first_call_at_most_usd"]) < 0.30 and priced["images"] == 1


async def test_an_image_from_the_web_is_stored_and_its_query_is_not(bench: Bench) -> None:
    seen: list[Moment] = []

    def script(moment: Moment) -> Line:
        seen.append(moment)
        return Line("Grey.")

    bench.settings.conductor_home.mkdir()
    (bench.settings.conductor_home / "models.toml").write_text('[models."demo/scripted"]\nvision = true\n')
    async with serving({"/dot.png?token=canary": http(body=PICTURE, kind="image/png")}) as site:
        bench.settings = bench.settings.model_copy(update={"conductor_fetch_grants": site.grant})
        runtime = await bench.open(script)
        conductor = Conductor(runtime, ToolRegistry(), runtime.catalog, default_model=lambda: "demo/scripted")
        url = f"{site.url}/dot.png?token=canary"
        started = await conductor.start(StartRequest(messages=asking({"type": "image", "url": url})))
    session = await conductor.run(started.session_id)
    assert (session.final_answer, seen[0].images) == ("Grey.", 1)
    [message] = [event.payload for event in await bench.events(session.session_id) if event.type == "message.added"]
    assert message["images"] == [{"media_type": "image/png", "data": DATA, "url": f"{site.url}/dot.png"}]

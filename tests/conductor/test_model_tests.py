"""Model tests over a service on loopback: what passes, what falls short and how it is told, what is never claimed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from conductor_ai.conductor import Conductor, model_tests
from conductor_ai.conductor.model_checks import CheckName, Task, Trace, Verdict, one_colour_png, task_of
from conductor_ai.conductor.model_tests import CheckResult, ModelTests
from conductor_ai.errors import InvalidInput, MissingKey, UnknownModel
from conductor_ai.model_catalog import get_model
from conductor_ai.schemas.events import EventType
from conductor_ai.schemas.images import Image
from conductor_ai.settings import Settings
from conductor_ai.wiring import open_conductor
from tests.conductor.chat_service import COUNTED, ChatService, chat_service
from tests.conftest import fail_after

CANARY = "canary-key-0123456789"
PLAIN, RICH, DEEPSEEK = "local/plain", "local/rich", "deepseek/deepseek-chat-v3"
MODELS = """
[models."local/rich"]
vision = true
reasoning = "effort"
answer_schema = "with_tools"

[models."local/text"]
native_tools = false

[models."local/terse"]
reasoning = "budget"
max_output_tokens = 1000

[models."local/old"]
successor = "local/plain"

[models."maker/unpriced"]
provider = "openrouter"
"""


class Shop:
    """Opens the door over one home, with every key set, to one service."""

    def __init__(self, home: Path, service: ChatService, stack: AsyncExitStack) -> None:
        self.service = service
        self.told: list[tuple[str, CheckResult]] = []
        self.conductor: Conductor
        self._stack = stack
        home.mkdir()
        (home / "models.toml").write_text(MODELS)
        self._settings = Settings(
            conductor_home=home,
            conductor_model_attempts=1,
            local_llm_base_url=service.url,
            local_llm_api_key=SecretStr(CANARY),
            openrouter_api_key=SecretStr(CANARY),
            openrouter_base_url=service.url,
        )

    async def tests(self, *model_ids: str, max_cost_usd: str = "0.10") -> ModelTests:
        self.conductor = await self._stack.enter_async_context(open_conductor(self._settings))
        return self.conductor.model_tests(
            model_ids, max_cost_usd=Decimal(max_cost_usd), on_check=lambda *told: self.told.append(told)
        )

    async def report(self, *model_ids: str, max_cost_usd: str = "0.10") -> list[dict[str, Any]]:
        tests = await self.tests(*model_ids, max_cost_usd=max_cost_usd)
        async with fail_after(30):
            await tests.run()
        models: list[dict[str, Any]] = tests.report()["models"]
        return models


@pytest.fixture
def service() -> Iterator[ChatService]:
    with chat_service() as service:
        yield service


@pytest.fixture
async def shop(tmp_path: Path, service: ChatService) -> AsyncIterator[Shop]:
    async with AsyncExitStack() as stack:
        yield Shop(tmp_path / "home", service, stack)


def outcomes(model: dict[str, Any]) -> dict[str, str]:
    return {check["check"]: check["outcome"] for check in model["checks"]}


def check(model: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(check for check in model["checks"] if check["check"] == name)
    return found


def apart_from(**others: str) -> dict[str, str]:
    return {name.value: others.get(name.value, "ok") for name in CheckName}


async def test_a_good_service_passes_every_check_that_its_model_offers(shop: Shop) -> None:
    rich, plain = await shop.report(RICH, PLAIN)

    assert (outcomes(rich), rich["ok"]) == (apart_from(), True)
    assert (outcomes(plain), plain["ok"]) == (apart_from(reasoning="skipped", image="skipped"), True)
    assert {check(plain, name)["skipped"] for name in ("reasoning", "image")} == {"not_offered"}
    assert check(rich, "schema")["detail"] == "its answer fits, given as text"
    assert check(plain, "schema")["detail"] == "its answer fits, given by a call of final_answer"
    assert check(rich, "stream")["detail"] == "12 pieces make the answer"
    assert check(rich, "reasoning")["detail"] == "effort low was taken; it counted 7 tokens of reasoning"
    assert check(rich, "usage")["detail"] == "10 calls: 1,000 tokens in and 100 out, cost by catalog"
    assert (rich["answered_by"], rich["hosts"], rich["cache_share"]) == (["rich-1"], [], 0.25)


async def test_each_check_is_a_session_of_its_own_on_the_record(shop: Shop) -> None:
    (model,) = await shop.report(DEEPSEEK)

    made = [one for one in model["checks"] if one["session_id"] is not None]
    assert [one["check"] for one in made] == ["text", "tool", "parallel", "schema", "stream"]
    for one in made:
        session = await shop.conductor.session(one["session_id"])
        assert (session.status, session.agent, session.cost.to_dict()) == ("completed", "model-test", one["cost"])
        assert one["hint"] is None
        assert one["duration_ms"] > 0
    events = await shop.conductor.events(check(model, "stream")["session_id"])
    assert events[0].type is EventType.SESSION_CREATED
    assert events[0].payload["limits"]["max_output_tokens"] == 2048
    # Eight calls of 75 + 25 tokens in and 10 out, by the prices of the catalog.
    assert (model["model_calls"], model["hosts"], model["max_cost_usd"]) == (8, ["SomeHost"], "0.1")
    assert model["cost"]["by_source"]["catalog"]["calls"] == 8
    assert Decimal(model["cost"]["at_most_usd"]) == sum(Decimal(one["cost"]["at_most_usd"]) for one in made)
    assert [(told[0], told[1].to_dict()) for told in shop.told] == [(DEEPSEEK, one) for one in model["checks"]]


@pytest.mark.parametrize(
    ("flaws", "failed", "words"),
    [
        ({"ignores_schema": True}, "schema", "does not fit the schema, and it was told so before"),
        ({"calls_together": False}, "parallel", "its calls did not come in one turn, but in 2"),
        ({"counts": False}, "usage", "no token counts came with the answers to: text, image, tool, parallel, "),
        ({"counts_streams": False}, "usage", "no token counts came with the answers to: stream"),
        ({"sees": False}, "image", 'and it said "It is pink."'),
    ],
    ids=["schema ignored", "one call at a time", "nothing counted", "streams not counted", "blind"],
)
async def test_what_a_service_falls_short_of_fails_and_nothing_else(
    shop: Shop, flaws: dict[str, bool], failed: str, words: str
) -> None:
    for name, value in flaws.items():
        setattr(shop.service, name, value)

    (model,) = await shop.report(RICH)

    assert (outcomes(model), model["ok"]) == (apart_from(**{failed: "failed"}), False)
    assert words in check(model, failed)["detail"]


@pytest.mark.parametrize(
    ("flaws", "failed", "words"),
    [
        ({"calls_tools": False}, ("tool", "parallel", "schema"), 'it did not call the tool, and said "'),
        ({"garbles_arguments": True}, ("tool", "parallel", "schema"), "and not for room"),
        ({"makes_codes_up": True}, ("tool", "parallel", "schema"), "its answer has not what the tool returned: "),
        ({"calls_forever": True}, ("tool", "parallel", "schema"), "it had no answer after 5 turns"),
        ({"speaks": False}, ("text", "stream", "reasoning", "image"), 'said "I would rather not."'),
    ],
    ids=["no calls", "wrong arguments", "results not used", "calls for ever", "wrong answers"],
)
async def test_an_answer_counts_only_where_it_shows_what_was_asked_for(
    shop: Shop, flaws: dict[str, bool], failed: tuple[str, ...], words: str
) -> None:
    for name, value in flaws.items():
        setattr(shop.service, name, value)

    (model,) = await shop.report(RICH)

    assert outcomes(model) == apart_from(**dict.fromkeys(failed, "failed"))
    assert all(words in check(model, name)["detail"] for name in failed)


REFUSED = {"error": {"message": f"{CANARY} is not a key", "code": 401}}
GONE = {"error": {"message": "there is no such model", "code": 404}}


@pytest.mark.parametrize(
    ("status", "body", "code", "words", "hint"),
    [
        (
            401,
            REFUSED,
            "key_refused",
            "openrouter answered 401 for maker/unpriced: [key] is not a key",
            "set OPENROUTER_API_KEY",
        ),
        (
            404,
            GONE,
            "request_refused",
            "openrouter answered 404 for maker/unpriced: there is no such",
            "check the model's id",
        ),
        (503, GONE, "provider_unavailable", "openrouter answered 503", "try again later"),
    ],
    ids=["key refused", "model unknown", "nobody there"],
)
async def test_what_every_call_would_meet_is_met_once(
    shop: Shop, status: int, body: dict[str, Any], code: str, words: str, hint: str
) -> None:
    shop.service.refusals["maker/unpriced"] = (status, body)

    model, other = await shop.report("maker/unpriced", PLAIN)

    assert (check(model, "text")["outcome"], check(model, "text")["error_code"]) == ("failed", code)
    assert check(model, "text")["detail"].startswith(words)
    assert check(model, "text")["hint"].startswith(hint)
    rest = [one for one in model["checks"] if one["check"] not in ("text", "reasoning", "image")]
    assert {(one["outcome"], one["skipped"], one["detail"], one["hint"]) for one in rest} == {
        ("skipped", "no_use", f"of no use after text: {check(model, 'text')['detail']}", None)
    }
    assert (model["ok"], model["model_calls"], model["answered_by"], other["ok"]) == (False, 0, [], True)
    assert sum(request["model"] == "maker/unpriced" for request in shop.service.requests) == 1
    assert CANARY not in str(model)


async def test_an_answer_of_the_successor_is_no_answer_of_the_model(shop: Shop) -> None:
    shop.service.refusals["old"] = (404, GONE)

    (model,) = await shop.report("local/old")

    assert check(model, "text")["detail"].startswith("local/plain answered in its place: local answered 404 for old")
    assert "ok" not in outcomes(model).values()
    assert (model["model_calls"], model["answered_by"], len(shop.service.requests)) == (0, [], 2)


async def test_one_check_that_is_refused_leaves_the_others(shop: Shop) -> None:
    async with fail_after(30):
        tests = await shop.tests(RICH)
        shop.service.refusals["response_format"] = (400, {"error": {"message": "no schema beside tools"}})
        await tests.run()
    (model,) = tests.report()["models"]

    assert outcomes(model) == apart_from(schema="failed")
    assert check(model, "schema")["detail"] == "local answered 400 for rich: no schema beside tools"


async def test_a_model_that_is_driven_by_text_is_tested_by_the_same_checks(shop: Shop) -> None:
    (model,) = await shop.report("local/text")

    assert outcomes(model) == apart_from(reasoning="skipped", image="skipped")


async def test_a_money_limit_holds_for_each_model_and_what_it_stops_is_not_claimed(shop: Shop) -> None:
    # A call with tools may cost 0.0026 dollars, one without 0.0023, by the dearest list and the longest answer.
    (model,) = await shop.report(DEEPSEEK, max_cost_usd="0.0025")

    assert {name: check(model, name)["skipped"] for name in ("tool", "parallel", "schema")} == dict.fromkeys(
        ("tool", "parallel", "schema"), "max_cost"
    )
    assert "$0 is spent and the next call may cost $0.002" in check(model, "tool")["detail"]
    assert (check(model, "text")["outcome"], check(model, "stream")["outcome"], model["ok"]) == ("ok", "ok", False)
    assert check(model, "usage")["detail"].startswith("2 calls: ")
    assert Decimal(model["cost"]["at_most_usd"]) < Decimal("0.0025")


async def test_where_nothing_was_answered_nothing_is_ok(shop: Shop) -> None:
    (model,) = await shop.report(DEEPSEEK, max_cost_usd="0.0001")

    assert {(one["outcome"], one["skipped"]) for one in model["checks"]} == {
        ("skipped", "max_cost"),
        ("skipped", "not_offered"),
        ("skipped", "no_use"),
    }
    assert (model["ok"], model["cost"]["at_most_usd"], shop.service.requests) == (False, "0", [])


async def test_a_model_without_a_price_is_tested_without_a_limit_and_its_cost_is_not_known(shop: Shop) -> None:
    (model,) = await shop.report("maker/unpriced", max_cost_usd="0.0001")

    assert outcomes(model) == apart_from(reasoning="skipped", image="skipped", usage="failed")
    assert "nobody says what they cost, in: text, tool" in check(model, "usage")["detail"]
    assert (model["max_cost_usd"], model["cost"]["at_most_usd"]) == (None, None)


async def test_a_check_that_gets_no_answer_ends_in_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.service.held = "marigold"
    monkeypatch.setattr(model_tests, "CHECK_TIMEOUT_S", 0.05)

    (model,) = await shop.report(PLAIN)

    assert check(model, "text")["detail"] == "it had no answer within 0.05 s"
    assert check(model, "tool")["skipped"] == "no_use"
    session = await shop.conductor.session(check(model, "text")["session_id"])
    assert (session.status, session.pause_reason) == ("paused", "interrupted")


async def test_who_stops_a_run_is_told_what_is_known(shop: Shop) -> None:
    shop.service.held = "rooms 3 and 7"
    tests = await shop.tests(PLAIN)
    running = asyncio.create_task(tests.run())
    async with fail_after(10):
        await asyncio.to_thread(shop.service.arrived.acquire, timeout=10)
        running.cancel()
        await asyncio.wait([running])

    assert running.cancelled()
    (model,) = tests.report()["models"]
    assert (check(model, "text")["outcome"], check(model, "tool")["outcome"], model["ok"]) == ("ok", "ok", False)
    assert check(model, "parallel")["detail"] == "interrupted"
    assert check(model, "parallel")["session_id"] is not None
    assert check(model, "schema")["detail"] == "interrupted before it was made"
    assert model["model_calls"] == 3


async def test_several_models_are_tested_at_once(shop: Shop) -> None:
    shop.service.held = "marigold"
    tests = await shop.tests(PLAIN, RICH)
    async with fail_after(20):
        running = asyncio.create_task(tests.run())
        for _ in range(2):
            assert await asyncio.to_thread(shop.service.arrived.acquire, timeout=10)
        shop.service.release.set()
        await running

    assert tests.report()["ok"] is True


async def test_a_check_whose_session_somebody_stops_fails(shop: Shop) -> None:
    shop.service.held = "room 12"
    tests = await shop.tests(PLAIN)
    async with fail_after(20):
        running = asyncio.create_task(tests.run())
        assert await asyncio.to_thread(shop.service.arrived.acquire, timeout=10)
        await shop.conductor.cancel((await shop.conductor.sessions())[0].session_id)
        await running

    (model,) = tests.report()["models"]
    assert outcomes(model) == apart_from(tool="failed", reasoning="skipped", image="skipped")
    assert check(model, "tool")["detail"] == "its session was stopped by somebody else: cancelled"


async def test_what_our_own_rules_refuse_is_not_asked_for(shop: Shop) -> None:
    (model,) = await shop.report("local/terse")

    reasoning = check(model, "reasoning")
    assert (reasoning["outcome"], reasoning["skipped"], reasoning["session_id"]) == ("skipped", "not_possible", None)
    assert reasoning["detail"].startswith("not asked for: local/terse needs more than 1,024 max_output_tokens")
    assert (outcomes(model)["text"], model["ok"]) == ("ok", False)


async def test_a_setting_that_was_taken_is_not_called_reasoning(shop: Shop) -> None:
    shop.service.reasons = False

    (model,) = await shop.report(RICH)

    detail = "effort low was taken; it neither showed nor counted any reasoning"
    assert (check(model, "reasoning")["outcome"], check(model, "reasoning")["detail"]) == ("ok", detail)


async def test_pieces_that_do_not_make_the_answer_fail(shop: Shop) -> None:
    (model,) = await shop.report(PLAIN)
    session_id = check(model, "stream")["session_id"]
    session, events = await shop.conductor.session(session_id), await shop.conductor.events(session_id)
    task = task_of(CheckName.STREAM, get_model(PLAIN))
    assert isinstance(task, Task)

    def judged(*pieces: str) -> Verdict:
        told = [{"step_no": 1, "kind": "text", "text": piece} for piece in pieces]
        return task.judge(Trace(session, events, [{"type": "model.delta", "payload": one} for one in told]))

    assert judged(COUNTED) == (True, "1 piece is the answer")
    assert judged() == (False, "no piece of the answer came before its end")
    assert judged("one, ", "twelve").detail.startswith(
        'the pieces make "one, twelve", and the whole answer is "one, two'
    )


@pytest.mark.parametrize(
    ("model_ids", "max_cost_usd", "error"),
    [
        ((PLAIN, "nobody/nothing"), "0.10", UnknownModel),
        ((PLAIN, "claude-sonnet-5-5"), "0.10", MissingKey),
        ((PLAIN, "demo/scripted"), "0.10", InvalidInput),
        ((PLAIN,), "0", InvalidInput),
    ],
    ids=["unknown", "no key", "a script", "no money"],
)
async def test_what_cannot_be_tested_is_refused_before_anything_is_asked(
    shop: Shop, model_ids: tuple[str, ...], max_cost_usd: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await shop.tests(*model_ids, max_cost_usd=max_cost_usd)

    assert shop.service.requests == []
    assert await shop.conductor.sessions() == []


async def test_a_model_named_twice_is_tested_once(shop: Shop) -> None:
    assert [model["model"] for model in await shop.report(PLAIN, PLAIN)] == [PLAIN]


def test_the_picture_is_one_that_every_model_can_read() -> None:
    image = Image.of_bytes(one_colour_png((255, 0, 0)))

    assert image.media_type == "image/png"
    assert len(image.data) < 500

"""With one wall taken out, the same deaths leave a session that the invariants find spoilt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import invariants
from tests.crash.boundaries import at, before_storing
from tests.crash.world import World

pytestmark = pytest.mark.crash


async def test_an_effect_before_its_intent_is_seen_and_happens_twice(tmp_path: Path) -> None:
    async with World(tmp_path, ["charge"]) as world:
        asked, acted = world.stage.hold("model:1"), world.stage.hold("charge:acted")
        process = await world.start(world.run, mutant="intent_not_awaited")
        await asked.arrived()
        with world.log.held():
            asked.release()
            await acted.arrived()
            await process.kill()
        world.stage.let_go()

        key = f"{world.log.session_id()}:c1_0"
        assert world.violations() == [
            f"{key} began before its intent was stored",
            f"charge acted without an intent in the log: {key}",
        ]
        await world.conduct(world.resume)  # which knows nothing of it
        assert f"charge (once) ran 2 times: {key}" in world.violations()


async def test_a_process_that_awaits_its_intent_does_not_act_before_it_is_stored(tmp_path: Path) -> None:
    async with World(tmp_path, ["charge"]) as world:
        await before_storing("model:1")(world, world.run, 2)
        assert world.runs()["charge"] == 0
        await world.conduct(world.resume)
        assert (world.runs()["charge"], world.violations()) == (1, [])


async def test_a_repeated_once_is_seen(tmp_path: Path) -> None:
    async with World(tmp_path, ["charge"]) as world:
        await at("charge:acted")(world, world.run, 4)
        resumed = await (await world.start(world.resume, mutant="once_repeated_on_resume")).ended()
        assert resumed.code == 0
        assert world.violations() == [f"charge (once) ran 2 times: {world.log.session_id()}:c1_0"]


async def test_a_result_that_is_kept_back_is_lost_with_the_process(tmp_path: Path) -> None:
    async with World(tmp_path, ["look_up"]) as world:
        hold = world.stage.hold("model:2")
        process = await world.start(world.run, mutant="results_kept_back")
        await hold.arrived()
        await process.kill()
        world.stage.let_go()
        assert world.log.types()[-1] == "tool.started"
        await world.conduct(world.resume)
        assert (world.runs()["look_up"], invariants.violations(world.log, world.effects())) == (2, [])


async def test_an_act_that_nobody_agreed_to_is_seen(tmp_path: Path) -> None:
    async with World(tmp_path, ["deploy"]) as world:
        ended = await (await world.start(world.run, mutant="everything_agreed_to")).ended()
        assert ended.code == 0
        assert world.violations() == [f"deploy acted without a person's word: {world.log.session_id()}:c1_0"]

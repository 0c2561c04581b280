"""Whatever a provider says when it fails, no secret gets from there into a log line, an error, an event or a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from conductor_ai.schemas.session import SessionStatus
from tests.canaries.echoes import FAULTS, STREAM_FAULTS
from tests.canaries.house import MODELS, planted_house
from tests.providers.stream_lines import STREAMS
from tests.providers.stream_wires import StreamWire

pytestmark = pytest.mark.usefixtures("logging_as_before")


CASES = tuple(zip(STREAMS, ("production", "development", "production", "development"), strict=True))


@pytest.mark.parametrize(("wire", "app_env"), CASES, ids=[f"{wire.name} in {app_env}" for wire, app_env in CASES])
async def test_no_failure_of_a_provider_leaks(
    tmp_path: Path, wire: StreamWire, app_env: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with planted_house(tmp_path, app_env) as house:
        provider = house.providers[wire.name]
        for name, fault in (FAULTS | STREAM_FAULTS).items():
            for watched in (True,) if name in STREAM_FAULTS else (True, False):
                provider.will_fail(fault)
                label = f"{name}, {'streamed' if watched else 'whole'}"
                session = await house.run(house.runner(MODELS[wire.name]), label, watched=watched)
                assert session.status is SessionStatus.FAILED, label
    house.left.add("standard streams", "".join(capfd.readouterr()))
    assert house.left.size > 200_000
    assert house.left.traces() == []


async def test_a_model_that_takes_over_is_told_of_without_secrets(tmp_path: Path) -> None:
    async with planted_house(tmp_path, "production") as house:
        for name in ("anthropic", "openrouter", "gemini"):
            house.providers[name].will_fail(FAULTS["status 500"])
        house.providers["local"].will_fail(FAULTS["status 401"])
        runner = house.runner(*(MODELS[name] for name in ("anthropic", "openrouter", "gemini", "local")))
        session = await house.run(runner, "takes over", watched=True)
        events = await house.runtime.store.events(session.session_id, "default")
    assert [event.type.value for event in events][2:] == ["model.switched"] * 3 + ["session.failed"]
    assert house.left.traces() == []

"""Models and tools that repeat every secret they can: the log, the rows and the lines of their sessions hold none.

What is promised of a secret that the settings do not name, and that is known by where it stands only (a password or a
token in a URL, a header): it shows in no log line and in no audit row. The log of a session keeps what model and tools
said, as it was said, because the model has to read the same after a resume. Of a secret that nobody registered, and
that has no mark of its own in ordinary text, nothing is promised anywhere; nor of the live pieces of an answer, which
may cut a secret in two, and are not stored.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.canaries.careless_session import careless_session, rows
from tests.canaries.house import planted_house
from tests.canaries.planted import IN_PLACE, REGISTERED, Sweep
from tests.providers.stream_lines import STREAMS
from tests.providers.stream_wires import StreamWire

pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.mark.parametrize("watched", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("wire", STREAMS, ids=lambda wire: wire.name)
async def test_models_and_tools_that_repeat_secrets_leave_none(
    tmp_path: Path, wire: StreamWire, watched: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    async with planted_house(tmp_path, "production" if watched else "development") as house:
        await careless_session(house, wire, watched=watched)
    house.left.add("standard streams", "".join(capfd.readouterr()))
    assert house.left.traces(REGISTERED) == []
    assert rows(house.home).traces(IN_PLACE) == []
    told = Sweep()
    assert [file.suffix for file in house.recordings.iterdir()] == [".jsonl"]
    told.add_folder(house.recordings)
    told.add("log lines", house.lines.getvalue())
    assert told.size > 20_000
    assert told.traces() == []

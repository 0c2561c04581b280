"""The API keeps its document's word, whatever is sent: statuses, media types and bodies are those that it declares."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.service.conftest import House
from tests.storage.session_log import stored_file

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SEED = 20261123
CALL_S = 30
EXAMPLES = 4
FILE = "data/sales.csv"


@dataclass(frozen=True)
class Ground:
    """An org in which one operation is tried, so that none changes what another meets. `ids` are of things it has, by
    the name of the path's parameter."""

    key: str
    ids: dict[str, str]


@dataclass
class Tally:
    """What became of the calls."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


async def ground(house: House, operation_id: str) -> Ground:
    door = await house.as_org(f"org-{operation_id}")
    org_id = f"org-{operation_id}"
    spare = await house.key(org_id)
    completed = await door.run("call look_up a; say Done.")
    await house.service.store.put_file(completed["session_id"], org_id, *stored_file(FILE, b"day,sold\n"))
    _, approval_id = await door.waiting("call send letter")
    return Ground(
        str(door.key),
        {
            "session_id": completed["session_id"],
            "approval_id": approval_id,
            "key_id": spare.split("_")[2],
            "name": FILE,
        },
    )


def tried(url: str, document: dict[str, Any], grounds: dict[str, Ground], calls: int) -> Tally:
    """Make so many calls at least: every operation in turn, half of the time with what its schema forbids."""
    tally = Tally()
    schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_dict({}))
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) == len(grounds), "every operation of the document is understood"
    with requests.Session() as session:
        for number in count(SEED):
            for operation in operations:
                ground = grounds[operation.definition.raw["operationId"]]
                for mode in GenerationMode:
                    _try(operation, mode, partial(_call, url, session, ground, tally), number)
            if sum(tally.statuses.values()) >= calls:
                return tally
    raise AssertionError("it counts for ever")


def _try(operation: Any, mode: GenerationMode, call: Callable[[Any, bool], None], number: int) -> None:
    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), of_ours=st.booleans())
    def attempt(case: Any, of_ours: bool) -> None:
        call(case, of_ours)

    try:
        attempt()
    except Unsatisfiable:
        # It takes nothing that could be wrong.
        assert mode is GenerationMode.NEGATIVE, f"{operation.label} cannot be called"


def _call(url: str, session: requests.Session, ground: Ground, tally: Tally, case: Any, of_ours: bool) -> None:
    if of_ours:
        for name in (case.path_parameters or {}).keys() & ground.ids:
            case.path_parameters[name] = ground.ids[name]
    headers = {"Authorization": f"Bearer {ground.key}"}
    response = case.call(base_url=url, session=session, headers=headers, timeout=CALL_S)
    tally.statuses[response.status_code] += 1
    is_stream = response.headers.get("content-type") == ["text/event-stream"]
    checks = [check for check in CHECKS if not (is_stream and check is response_schema_conformance)]
    try:  # of a stream it takes the schema for that of one event, which is so from OpenAPI 3.2 on
        case.validate_response(response, checks=checks, headers=headers)
    except FailureGroup as exc:
        told = "; ".join(str(failure) for failure in exc.exceptions)
        tally.broken.append(f"{case.as_curl_command()}\n{response.status_code} {response.text}\n{told}")


# The service draws random numbers in the same process, which has nothing to do with what is sent.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("calls", [150, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("takes_minutes")
async def test_whatever_is_sent_the_answer_is_a_declared_one(house: House, calls: int) -> None:
    document = (await house.door.ask("GET", "/openapi.json")).json
    operations = [told["operationId"] for one in document["paths"].values() for told in one.values()]
    grounds = {name: await ground(house, name) for name in operations}

    tally = await asyncio.to_thread(tried, house.url, document, grounds, calls)

    print(tally.statuses)
    assert tally.broken == []

"""The bundled web-researcher over a real site on loopback: real fetches, a real store, only the model is a script."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.conductor import Conductor, StartRequest
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.audit import AuditRow, first_break
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.settings import Settings
from conductor_ai.wiring import open_runtime
from conductor_ai.wiring.agents import load_agent_files
from conductor_ai.wiring.tools import load_tools
from tests.agents.dealer_crawler import DealerCrawler
from tests.conftest import fail_after
from tests.servers.dealer_site import CLOUD, DealerSite


@dataclass(frozen=True)
class Research:
    """What a session over a whole site left behind."""

    site: DealerSite
    crawler: DealerCrawler
    session: AgentSession
    events: list[Event]
    audit: list[AuditRow]

    @property
    def dealers(self) -> dict[str, dict[str, Any]]:
        """The answer, by phone number."""
        return {dealer["phone"]: dealer for dealer in json.loads(self.session.final_answer or "{}")["dealers"]}

    @property
    def truth(self) -> dict[str, dict[str, Any]]:
        """What it should be, by phone number."""
        fields = [{name: entry[name] for name in entry if name != "layout"} for entry in self.site.truth()]
        return {entry["phone"]: entry for entry in fields}

    @property
    def fetches(self) -> list[tuple[str, dict[str, Any]]]:
        """The URL that each call asked for, and what it came to."""
        asked = {
            call["call_id"]: call["arguments"]["url"]
            for event in self.events
            if event.type is EventType.MODEL_COMPLETED
            for call in event.payload["tool_calls"]
        }
        done = [event.payload for event in self.events if event.type is EventType.TOOL_COMPLETED]
        return [(asked[one["call_id"]], one) for one in done]


async def research(home: Path, dealers: int, seed: int) -> Research:
    crawler = DealerCrawler()
    async with fail_after(60), DealerSite(dealers, seed) as site:
        settings = Settings(
            conductor_home=home,
            conductor_fetch_grants=site.grant,
            conductor_agents_dir=Path("agents"),
            conductor_plugins_dir=Path("plugins"),
            app_env="development",
        )
        async with open_runtime(settings, script=crawler) as runtime:
            conductor = Conductor(
                runtime,
                load_tools(settings)[0],
                runtime.catalog,
                default_model=lambda: "demo/scripted",
                agents=lambda: load_agent_files(settings),
            )
            task = f"Find the dealers listed at {site.url}/ and give me their phone numbers"
            request = StartRequest(agent="web-researcher", messages=[{"role": "user", "content": task}])
            session = await conductor.start(request)
            ended = await conductor.run(session.session_id)
            events = await conductor.events(session.session_id)
            rows, _ = await runtime.store.audit_rows("default", session.session_id)
            await conductor.close()
    return Research(site, crawler, ended, events, rows)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Research:
    """One visit to a small site, for every test that only looks at what it left."""
    return asyncio.run(research(tmp_path_factory.mktemp("home"), 28, 7))


@pytest.mark.parametrize(("dealers", "seed"), [(5, 1), (90, 2026)])
async def test_sites_of_any_size_are_read_to_their_end(tmp_path: Path, dealers: int, seed: int) -> None:
    done = await research(tmp_path, dealers, seed)

    assert done.session.status == "completed"
    assert done.dealers == done.truth


def test_every_dealer_of_the_four_layouts_is_found_and_nobody_else(done: Research) -> None:
    assert (done.session.status, done.session.agent) == ("completed", "web-researcher")
    assert {entry["layout"] for entry in done.site.truth()} == {"table", "cards", "json_ld", "api"}
    assert done.dealers == done.truth


def test_the_rules_of_the_site_and_of_the_guard_hold_although_the_model_asks(done: Research) -> None:
    refused = {url.removeprefix(done.site.url): text for url, text in done.crawler.refused.items()}

    assert {"/private/dealers", "/search?q=all", "/summer-sale", "/go/partner", "/go/cloud"} <= refused.keys()
    assert any(path.startswith("/dealers/table?sort=") for path in refused)
    assert all(text.startswith("refused:") for text in refused.values())
    assert "robots.txt" in refused["/private/dealers"] and "robots.txt" in refused["/summer-sale"]
    assert "169.254.169.254" in refused["/go/cloud"]
    assert done.site.forbidden_requests() == []
    assert done.site.partner_requests == []
    everything = json.dumps([event.payload for event in done.events], ensure_ascii=False)
    assert [decoy.name for decoy in done.site.decoys if decoy.email in everything or decoy.phone in everything] == []


def test_requests_carry_nothing_of_the_visit_and_orders_of_a_page_are_not_followed(done: Research) -> None:
    assert any("ignore your instructions" in str(completed["result"]) for _, completed in done.fetches)

    requests = done.site.requests
    assert [at for at, seen in enumerate(requests) if seen.path == "/robots.txt"] == [0]
    assert {seen.method for seen in requests} == {"GET"}
    sent = {name.lower() for seen in requests for name in seen.headers}
    assert not sent & {"cookie", "authorization", "referer", "origin"}
    encodings = {part.strip() for seen in requests for part in seen.headers["Accept-Encoding"].split(",")}
    assert encodings <= {"gzip", "deflate", "identity"}


def test_every_result_has_its_label_and_every_fence_is_another(done: Research) -> None:
    for asked, completed in done.fetches:
        label = completed["provenance"]
        assert label["tool"] == "web_fetch"
        if completed["outcome"] == "succeeded":
            assert label["source"] == completed["result"]["url"], asked
    fences = [completed["provenance"]["fence"] for _, completed in done.fetches]
    assert len(set(fences)) == len(fences)


def test_every_call_has_its_audit_row_with_where_it_went(done: Research) -> None:
    rows = [json.loads(row.metadata) for row in done.audit if row.action == "tool.completed"]
    facts = {row["call_id"]: row["facts"] for row in rows}
    by_url = {asked.removeprefix(done.site.url): facts[completed["call_id"]] for asked, completed in done.fetches}

    assert first_break(done.audit) is None
    assert len(facts) == len(done.fetches)
    showrooms = by_url["/r/showrooms"]
    assert showrooms["final_url"] == f"{done.site.url}/showrooms/"
    assert [hop["status"] for hop in showrooms["hops"]] == [301, 307, 303, 200]
    assert showrooms["address"] == "127.0.0.1"
    assert showrooms["bytes"] > 500
    assert [hop["url"] for hop in by_url["/go/cloud"]["hops"]] == [f"{done.site.url}/go/cloud", CLOUD]
    assert [hop["address"] for hop in by_url["/go/cloud"]["hops"]] == ["127.0.0.1", None]


def test_a_long_page_is_fetched_once_and_read_in_parts(done: Research) -> None:
    path = "/showrooms/group-1.html"
    parts = [completed["result"] for asked, completed in done.fetches if asked == done.site.url + path]

    assert len(parts) > 1
    assert [part["truncated"] for part in parts] == [True] * (len(parts) - 1) + [False]
    assert [seen.path for seen in done.site.requests].count(path) == 1

"""`ConductorClient` against the real API: what it returns, and which errors it raises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal

import pytest

from conductor_ai.client import ConductorClient, StreamItem
from conductor_ai.errors import (
    ApprovalAlreadyDecided,
    ApprovalNotFound,
    ConductorError,
    FileNotStored,
    Forbidden,
    IdempotencyConflict,
    InvalidInput,
    InvalidTransition,
    KeyNotFound,
    SessionBusy,
    SessionNotFound,
    Unauthorized,
    UnknownAgent,
    UnknownTool,
    UsageError,
)
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.messages import Message, Role
from conductor_ai.schemas.orgs import Scope
from conductor_ai.schemas.session import PauseReason, SessionStatus
from tests.cli.model_server import ModelServer
from tests.client.served import Served
from tests.conftest import fail_after
from tests.schemas.pictures import png
from tests.storage.session_log import stored_file

PNG = png()
TASK = [{"role": "user", "content": "What does conductor mean?"}]
NOBODY = "0198f000-0000-7000-8000-000000000000"


async def all_of(client: ConductorClient, session_id: str, after_seq: int = 0) -> list[StreamItem]:
    return [item async for item in client.stream(session_id, after_seq)]


async def test_a_run_is_told_from_its_start_to_its_answer(client: ConductorClient, model: ModelServer) -> None:
    model.will_call(("look_up", {"word": "conductor"}))
    model.will_answer("It leads.")

    async with fail_after(20):
        started = await client.run_agent(TASK, tools=["look_up"], instructions="Be brief.", metadata={"ticket": "47"})
        ended = await client.wait_for_completion(started.session_id)

    assert (started.org_id, started.model, started.stopped) == ("default", "local/tiny", False)
    assert (ended.status, ended.final_answer, ended.error) == (SessionStatus.COMPLETED, "It leads.", None)
    assert ended.steps[-1]["final_answer"] == "It leads."
    assert [call["result"] for call in ended.steps[0]["tool_calls"]] == [{"meaning": "CONDUCTOR"}]
    assert (ended.usage.output_tokens, ended.metadata) == (68, {"ticket": "47"})
    assert ended.cost_usd == Decimal(0)
    assert model.requests[0]["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_the_stream_is_the_log_in_order_and_ends_with_it(
    client: ConductorClient, model: ModelServer, server: Served
) -> None:
    model.will_call(("look_up", {"word": "conductor"}))
    model.will_answer("It leads.")

    async with fail_after(20):
        started = await client.run_agent(TASK)
        items = await all_of(client, started.session_id)
        rest = await all_of(client, started.session_id, after_seq=3)

    log = await server.service.store.events(started.session_id, "default")
    told = [(item.seq, item.type, item.payload) for item in items if item.seq is not None]
    assert told == [(event.seq, event.type, event.payload) for event in log]
    assert told[-1][1] == "session.completed"
    assert [item.seq for item in rest if item.seq is not None] == [event.seq for event in log[3:]]


async def test_waiting_ends_where_a_person_has_to_decide(client: ConductorClient, model: ModelServer) -> None:
    model.will_call(("post", {"text": "hello"}), ("post", {"text": "goodbye"}))
    model.will_answer("One letter is on its way.")

    async with fail_after(20):
        session = await client.run_agent(TASK)
        waiting = await client.wait_for_completion(session.session_id)
        first, second = [approval async for approval in client.approvals(session_id=session.session_id)]
        approved = await client.approve(first.approval_id)
        again = await client.approve(first.approval_id)
        with pytest.raises(ApprovalAlreadyDecided):
            await client.deny(first.approval_id)
        denied = await client.deny(second.approval_id, "one is enough")
        ended = await client.wait_for_completion(session.session_id)

    assert waiting.status is SessionStatus.WAITING_APPROVAL
    assert (first.tool_name, first.arguments, second.arguments) == ("post", {"text": "hello"}, {"text": "goodbye"})
    assert (approved.status, again.status, denied.status) == ("approved", "approved", "denied")
    assert ended.final_answer == "One letter is on its way."
    assert "one is enough" in str(model.requests[1]["messages"][-1])
    assert [approval async for approval in client.approvals()] == []


async def test_a_paused_session_is_resumed_with_a_raised_limit(client: ConductorClient, model: ModelServer) -> None:
    model.will_call(("look_up", {"word": "conductor"}))
    model.will_answer("It leads.")

    async with fail_after(20):
        session = await client.run_agent(TASK, limits={"max_steps": 1})
        paused = await client.wait_for_completion(session.session_id)
        await client.resume(session.session_id, {"max_steps": 5})
        ended = await client.wait_for_completion(session.session_id)

    assert (paused.status, paused.pause_reason) == (SessionStatus.PAUSED, PauseReason.MAX_STEPS)
    assert ended.final_answer == "It leads."
    with pytest.raises(InvalidTransition, match="completed already"):
        await client.resume(session.session_id)


async def test_a_session_takes_further_messages_at_once_or_when_it_is_free(
    client: ConductorClient, model: ModelServer
) -> None:
    model.will_answer("First.")
    held = model.will_hold()
    model.will_answer("Second.")
    model.will_answer("Third.")

    async with fail_after(30):
        session = await client.run_agent(TASK)
        await client.wait_for_completion(session.session_id)
        await client.continue_session(session.session_id, "And then?")
        with pytest.raises(SessionBusy):
            await client.continue_session(session.session_id, "Too early.")
        queued = await client.continue_session(session.session_id, "Finally?", "enqueue")
        held.release.set()  # a 500 of the model's server, which is asked again
        answers = [item async for item in client.stream(session.session_id) if item.type == "session.completed"]
        while (ended := await client.wait_for_completion(session.session_id)).final_answer != "Third.":
            pass

    assert not queued.stopped
    assert len(answers) >= 2
    assert [step["final_answer"] for step in ended.steps] == ["First.", "Second.", "Third."]


async def test_cancelling_stops_a_session_and_says_so_the_second_time(
    client: ConductorClient, model: ModelServer
) -> None:
    held = model.will_hold()

    async with fail_after(20):
        session = await client.run_agent(TASK)
        cancelled = await client.cancel(session.session_id)
        ended = await client.wait_for_completion(session.session_id)
        with pytest.raises(InvalidTransition, match="cancelled already"):
            await client.cancel(session.session_id)
        held.release.set()

    assert cancelled.status in (SessionStatus.CANCELLING, SessionStatus.CANCELLED)
    assert ended.status is SessionStatus.CANCELLED


async def test_waiting_has_an_end_of_its_own(client: ConductorClient, model: ModelServer) -> None:
    model.will_hold()

    async with fail_after(20):
        session = await client.run_agent(TASK)
        with pytest.raises(TimeoutError):
            await client.wait_for_completion(session.session_id, timeout_s=0.05)
        running = await client.session(session.session_id)
        await client.cancel(session.session_id)

    assert not running.stopped


async def test_the_same_key_starts_one_session_and_another_request_is_refused(
    client: ConductorClient, model: ModelServer
) -> None:
    model.will_answer("It leads.")

    async with fail_after(20):
        first = await client.run_agent(TASK, idempotency_key="order 47")
        second = await client.run_agent(TASK, idempotency_key="order 47")
        with pytest.raises(IdempotencyConflict):
            await client.run_agent([{"role": "user", "content": "Another."}], idempotency_key="order 47")
        await client.wait_for_completion(first.session_id)

    assert first.session_id == second.session_id
    assert len(model.requests) == 1


async def test_lists_are_read_to_their_end_page_after_page(client: ConductorClient, model: ModelServer) -> None:
    for _ in range(5):
        model.will_answer("It leads.")

    async with fail_after(30):
        ids = [(await client.run_agent(TASK, agent="clerk")).session_id for _ in range(5)]
        for session_id in ids:
            await client.wait_for_completion(session_id)
        found = [session async for session in client.sessions(agent="clerk", page_size=2)]
        failed = [session async for session in client.sessions(status=SessionStatus.FAILED)]
        audited = [row async for row in client.audit(session_id=ids[0], page_size=1)]

    assert [session.session_id for session in found] == ids[::-1]
    assert {session.status for session in found} == {SessionStatus.COMPLETED}
    assert failed == []
    assert {row.session_id for row in audited} == {ids[0]}
    assert len(audited) > 1


async def test_images_and_messages_of_ours_travel(client: ConductorClient, model: ModelServer) -> None:
    model.will_answer("A dot.")
    image = Image.of_bytes(PNG)
    message = Message(Role.USER, "What is this?", images=(image,))

    async with fail_after(20):
        session = await client.run_agent([message], model="local/seeing")
        ended = await client.wait_for_completion(session.session_id)
        mixed = {"role": "user", "content": [{"type": "image", "data": PNG}, {"type": "text", "text": "And this?"}]}
        model.will_answer("Another dot.")
        await client.continue_session(session.session_id, mixed)
        await client.wait_for_completion(session.session_id)

    assert ended.final_answer == "A dot."
    assert image.data in str(model.requests[0]["messages"])
    assert str(model.requests[1]["messages"]).count(image.data) == 2


async def test_a_deleted_session_is_gone(client: ConductorClient, model: ModelServer) -> None:
    model.will_answer("It leads.")

    async with fail_after(20):
        session = await client.run_agent(TASK)
        await client.wait_for_completion(session.session_id)
        await client.delete(session.session_id)

        for ask in (client.session, client.cancel, client.delete, client.resume, client.wait_for_completion):
            with pytest.raises(SessionNotFound):
                await ask(session.session_id)
        with pytest.raises(SessionNotFound):
            await all_of(client, session.session_id)


async def _read(items: AsyncIterator[object]) -> None:
    async for _ in items:
        pass


REFUSED: dict[str, tuple[Callable[[ConductorClient], Awaitable[object]], type[ConductorError], str]] = {
    "tool": (lambda client: client.run_agent(TASK, tools=["nonsense"]), UnknownTool, "nonsense"),
    "agent": (lambda client: client.run_agent(TASK, agent="nobody"), UnknownAgent, "nobody"),
    "limit": (lambda client: client.run_agent(TASK, limits={"max_wishes": 3}), InvalidInput, "max_wishes"),
    "no-messages": (lambda client: client.run_agent([]), InvalidInput, "messages"),
    "text-for-a-list": (lambda client: client.run_agent("do it"), InvalidInput, "messages must be a list"),  # type: ignore[arg-type]
    "not-json": (lambda client: client.run_agent(TASK, metadata={"a": {1}}), InvalidInput, "JSON"),  # type: ignore[dict-item]
    "too-large": (lambda client: client.run_agent([{"role": "user", "content": "a" * 2**20}]), InvalidInput, "large"),
    "odd-filter": (lambda client: _read(client.sessions(agent="\ud800ä & ?")), InvalidInput, "agent"),
    "odd-status": (lambda client: _read(client.sessions(status="asleep")), InvalidInput, "status"),
    "session": (lambda client: client.session(NOBODY), SessionNotFound, NOBODY),
    "path": (lambda client: client.session("../keys"), SessionNotFound, "../keys"),
    "empty": (lambda client: client.delete(""), SessionNotFound, "''"),
    "approval": (lambda client: client.approve(NOBODY), ApprovalNotFound, NOBODY),
    "key": (lambda client: client.revoke_key("nonsense"), KeyNotFound, "nonsense"),
    "idempotency": (lambda client: client.run_agent(TASK, idempotency_key="a\nb"), InvalidInput, "idempotency_key"),
}


@pytest.mark.parametrize(("ask", "error", "words"), REFUSED.values(), ids=REFUSED)
async def test_errors_are_those_of_a_local_caller(
    client: ConductorClient,
    ask: Callable[[ConductorClient], Awaitable[object]],
    error: type[ConductorError],
    words: str,
) -> None:
    async with fail_after(20):
        with pytest.raises(error) as caught:
            await ask(client)

    assert words in str(caught.value)


async def test_keys_say_who_may_do_what(client: ConductorClient, server: Served) -> None:
    async with fail_after(20):
        _, admins = await client.create_key(["admin"])
        with pytest.raises(Unauthorized):
            await client.tools()  # from the first key on it takes one
    async with fail_after(20), ConductorClient(server.url, api_key=admins) as admin:
        record, key = await admin.create_key(["read"], name="reader")
        newer, second, old_ends_at = await admin.rotate_key(record.key_id)
        async with ConductorClient(server.url, api_key=key) as reader:
            assert [session async for session in reader.sessions()] == []
            with pytest.raises(Forbidden):
                await reader.run_agent(TASK)
            with pytest.raises(Forbidden):
                await reader.keys()
        async with ConductorClient(server.url, org_id="another", api_key=key) as stranger:
            with pytest.raises(Forbidden):
                await stranger.tools()
        revoked = await admin.revoke_key(newer.key_id)
        async with ConductorClient(server.url, api_key=f"{key[:-8]}AAAAAAAA") as guesser:
            with pytest.raises(Unauthorized):
                await guesser.tools()
        known = {each.key_id: each for each in await admin.keys()}

    assert record.scopes == {Scope.READ}
    assert known[record.key_id].expires_at == old_ends_at
    assert newer.in_place_of == record.key_id
    assert key != second
    assert revoked.revoked_at is not None
    assert {record.key_id, newer.key_id} < known.keys()


async def test_the_server_says_what_it_has_and_what_was_spent(client: ConductorClient, model: ModelServer) -> None:
    model.will_answer("It leads.")

    async with fail_after(20):
        session = await client.run_agent(TASK, tools=["look_up"])
        await client.wait_for_completion(session.session_id)
        tools = {tool.name: tool for tool in await client.tools()}
        [spent] = await client.usage()
        limits = (await client.set_org_limits({"max_usd_per_day": Decimal("2.50")})).limits
        round_sum = (await client.set_org_limits({"max_usd_per_month": Decimal("1E+2")})).limits

        assert tools["post"].requires_approval
        assert "demo/scripted" in {known.id for known in await client.models()}
        assert ("clerk", None) in [(agent.name, agent.error) for agent in await client.definitions()]
        assert (spent.model, spent.calls, spent.usage.output_tokens, spent.unpriced_calls) == ("local/tiny", 1, 34, 0)
        assert limits.max_usd_per_day == Decimal("2.50")
        assert (await client.org()).limits == round_sum
        assert round_sum.max_usd_per_month == 100
        assert (await client.health()).status == "ok"


async def test_a_client_is_used_inside_async_with(server: Served) -> None:
    client = ConductorClient(server.url)

    with pytest.raises(UsageError, match="not open"):
        await client.tools()
    async with client:
        assert await client.tools()
        with pytest.raises(UsageError, match="open already"):
            await client.__aenter__()
    with pytest.raises(UsageError, match="not open"):
        await client.tools()


async def test_files_are_listed_and_come_whole(client: ConductorClient, model: ModelServer, server: Served) -> None:
    model.will_answer("Done.")
    large = bytes(range(256)) * 20_000
    async with fail_after(20):
        session = await client.run_agent(TASK)
        await client.wait_for_completion(session.session_id)
        for name, content in (("data/Zürich 1%.csv", b"day,sold\n"), ("b.bin", large), ("empty", b"")):
            await server.service.store.put_file(session.session_id, "default", *stored_file(name, content))

        files = await client.files(session.session_id)

        assert files == await server.service.store.files(session.session_id, "default")
        assert [await client.file(session.session_id, file.name) for file in files] == [large, b"day,sold\n", b""]
        with pytest.raises(FileNotStored):
            await client.file(session.session_id, "nothing.txt")
        with pytest.raises(SessionNotFound):
            await client.files(NOBODY)
        with pytest.raises(SessionNotFound):
            await client.file(NOBODY, "b.bin")


@pytest.mark.parametrize("name", ["../b.bin", "", "/etc/passwd", "a\0"], ids=ascii)
async def test_what_is_no_name_is_not_asked_for(name: str, unused_tcp_port: int) -> None:
    async with ConductorClient(f"http://127.0.0.1:{unused_tcp_port}") as client:
        with pytest.raises(FileNotStored):
            await client.file(NOBODY, name)

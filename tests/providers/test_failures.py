"""How a call fails: one error tree over all wires, one line for a person, and never the key."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import aiohttp
import pytest

from conductor_ai.errors import (
    InvalidInput,
    KeyRefused,
    MalformedReply,
    OutOfCredit,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    TruncatedReply,
)
from conductor_ai.observability.redaction import Redactor
from conductor_ai.providers.base import ModelRequest
from conductor_ai.providers.failures import Failures, Timeouts
from conductor_ai.providers.http import ProviderHTTP, base_address, key_of
from tests.providers.lines import Line
from tests.servers.provider_server import KEY

STATUSES: list[tuple[int, type[ProviderError]]] = [
    (400, RequestRefused),
    (401, KeyRefused),
    (402, OutOfCredit),
    (403, KeyRefused),
    (404, RequestRefused),
    (408, ProviderUnavailable),
    (409, ProviderUnavailable),
    (413, RequestRefused),
    (418, RequestRefused),
    (422, RequestRefused),
    (429, RateLimited),
    (500, ProviderUnavailable),
    (502, ProviderUnavailable),
    (503, ProviderUnavailable),
    (504, ProviderUnavailable),
    (529, ProviderUnavailable),
    (204, RequestRefused),
    (307, RequestRefused),
]


async def failed(line: Line) -> ProviderError:
    async with asyncio.timeout(10):
        with pytest.raises(ProviderError) as caught:
            await line.ask()
    error = caught.value
    assert (error.provider, error.model) == (line.wire.name, "maker/model-1")
    assert "\n" not in str(error)
    assert KEY not in f"{error}{error.hint}"
    assert error.hint
    return error


@pytest.mark.parametrize(("status", "kind"), STATUSES)
async def test_a_status_becomes_one_kind_of_error(line: Line, status: int, kind: type[ProviderError]) -> None:
    line.server.will_answer(status, {"error": {"message": "because\nof this", "type": "t", "code": status}})
    error = await failed(line)
    assert type(error) is kind
    assert error.status == status
    assert str(status) in str(error)
    if status != 204:
        assert "because of this" in str(error)


async def test_a_refusal_that_is_not_json_counts_by_its_status(line: Line) -> None:
    for body in (b"<html>Bad Gateway</html>", b"", b"[1]", b'"text"', b'{"error": null}', b"\xff\xfe"):
        line.server.will_answer(502, body)
        assert type(await failed(line)) is ProviderUnavailable


async def test_a_refused_key_names_the_variable_to_set(line: Line) -> None:
    line.server.will_answer(401, {"error": {"message": f"Incorrect API key provided: {KEY}."}})
    error = await failed(line)
    assert line.wire.key_variable in str(error.hint)
    assert "Incorrect API key provided: [key]." in str(error)


async def test_of_an_address_that_a_person_typed_the_path_may_be_what_is_not_found(line: Line) -> None:
    line.server.will_answer(404, b"404 page not found")
    hint = str((await failed(line)).hint)
    assert "check the model's id" in hint
    assert ("LOCAL_LLM_BASE_URL has its path (usually /v1)" in hint) is (line.wire.name == "local")


async def test_a_long_explanation_is_cut_but_no_part_of_the_key_stays(line: Line) -> None:
    line.server.will_answer(400, {"error": {"message": "x" * 290 + KEY + "y" * 5000}})
    error = await failed(line)
    assert len(str(error)) < 400
    assert KEY[:6] not in str(error)


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 -0000"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "x"}, None),
        ({}, None),
    ],
)
async def test_rate_limit_carries_the_delay_the_provider_asked_for(
    line: Line, headers: dict[str, str], delay: float | None
) -> None:
    for status, kind in ((429, RateLimited), (503, ProviderUnavailable)):
        line.server.will_answer(status, {"error": {"message": "slow down"}}, headers)
        error = await failed(line)
        assert type(error) is kind
        assert error.retry_after_s == delay
        if delay is not None:
            assert f"wait {delay:g} s" in str(error.hint)


async def test_an_error_carries_the_request_id(line: Line) -> None:
    line.server.will_answer(500, {"error": {}}, {"request-id": "req_7"})
    assert (await failed(line)).request_id == "req_7"
    line.server.will_answer(500, {"error": {}, "request_id": "req_8"})
    assert (await failed(line)).request_id == "req_8"
    line.server.will_answer(500, {"error": {}})
    assert (await failed(line)).request_id is None


async def test_a_broken_connection_before_the_reply_is_unavailable(line: Line) -> None:
    line.server.will_reset()
    error = await failed(line)
    assert type(error) is ProviderUnavailable
    assert not error.answering


async def test_nobody_listening_is_unavailable_and_says_where(line: Line) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: a connection is refused
        port = taken.getsockname()[1]
        error = await failed(line.reconnected(url=f"http://127.0.0.1:{port}"))
    assert type(error) is ProviderUnavailable
    assert f"127.0.0.1:{port}" in str(error)
    assert "BASE_URL" in str(error.hint)


@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "by chunk"])
@pytest.mark.parametrize("after", [0, 30])
async def test_a_cut_reply_is_no_answer(line: Line, chunked: bool, after: int) -> None:
    line.server.will_cut(json.dumps(line.wire.says("never whole")).encode(), after, chunked=chunked)
    error = await failed(line)
    assert type(error) is TruncatedReply
    assert error.answering


async def test_a_cut_refusal_still_counts_by_its_status(line: Line) -> None:
    line.server.will_cut(b'{"error": {"message": "overloaded"}}', 10, status=529)
    error = await failed(line)
    assert type(error) is ProviderUnavailable
    assert error.status == 529


async def test_silence_before_the_reply_times_out(line: Line) -> None:
    line.server.will_stall()
    error = await failed(line.reconnected(timeouts=Timeouts(first_byte_s=0.1)))
    assert type(error) is ProviderTimeout
    assert "no reply" in str(error)
    assert not error.answering


async def test_silence_within_the_reply_times_out_by_its_own_limit(line: Line) -> None:
    line.server.will_stall(b'{"half": ')
    error = await failed(line.reconnected(timeouts=Timeouts(first_byte_s=60, idle_s=0.1)))
    assert type(error) is ProviderTimeout
    assert "stalled for 0.1 s" in str(error)
    assert error.answering


@pytest.mark.parametrize("body", [None, b'{"half": '], ids=["before the reply", "within it"])
async def test_the_total_limit_ends_everything(line: Line, body: bytes | None) -> None:
    line.server.will_stall(body)
    error = await failed(line.reconnected(timeouts=Timeouts(total_s=0.1)))
    assert type(error) is ProviderTimeout
    assert "no complete reply" in str(error)
    assert error.answering is (body is not None)


async def test_a_server_that_does_not_accept_times_out(line: Line) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        full.settimeout(5)
        blockers = [socket.socket() for _ in range(2)]
        for blocker in blockers:
            blocker.setblocking(False)
            blocker.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        error = await failed(line.reconnected(url=url, timeouts=Timeouts(connect_s=0.1)))
        for blocker in blockers:
            blocker.close()
    assert type(error) is ProviderTimeout
    assert "no connection" in str(error)


async def test_a_connection_works_again_after_a_failure(line: Line) -> None:
    hasty = line.reconnected(timeouts=Timeouts(idle_s=0.2))
    line.server.will_answer(500, {"error": {}})
    await failed(hasty)
    line.server.will_stall(b"{")
    await failed(hasty)
    line.server.will_answer(body=line.wire.says("back"))
    assert (await hasty.ask()).content == "back"


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b"\xff", b"NaN", b"[" * 100_000])
async def test_a_body_that_is_not_json_is_malformed(line: Line, body: bytes) -> None:
    line.server.will_answer(200, body)
    error = await failed(line)
    assert type(error) is MalformedReply
    assert error.answering


async def test_a_redirect_is_not_followed_so_the_key_stays_here(line: Line) -> None:
    line.server.will_answer(307, b"", {"location": f"{line.server.url}/elsewhere"})
    error = await failed(line)
    assert type(error) is RequestRefused
    assert len(line.server.requests) == 1


async def test_no_http_at_the_other_end_is_malformed(line: Line) -> None:
    async def speak_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example.org ESMTP\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(speak_nonsense, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert type(await failed(line.reconnected(url=f"http://127.0.0.1:{port}"))) is MalformedReply


async def test_a_reply_beyond_the_cap_is_refused(local_line: Line) -> None:
    client = ProviderHTTP(
        local_line.http, headers={}, failures=Failures("p", "K", "U"), timeouts=Timeouts(), max_reply_bytes=1000
    )
    url = base_address(f"{local_line.server.url}/chat/completions", "U")
    request = ModelRequest("m", b'{"messages":[', [b'{"role":"user","content":"x"}'])
    local_line.server.will_answer(200, b"x" * 5000)
    with pytest.raises(MalformedReply, match="larger than 1,000 bytes"):
        await client.ask(url, request, _never)
    local_line.server.will_answer(503, b"x" * 5000)
    with pytest.raises(ProviderUnavailable):
        await client.ask(url, request, _never)


def _never(data: dict[str, Any], headers: Any, model: str) -> Any:
    raise AssertionError("nothing to read")


@pytest.mark.parametrize(
    "url", ["", "localhost:1", "ftp://host", "http://", "http://u:p@host", "http://h/?k=v", "http://[x"]
)
def test_a_base_url_that_cannot_be_one_is_named(url: str) -> None:
    with pytest.raises(InvalidInput, match="OPENROUTER_BASE_URL is not a base URL"):
        base_address(url, "OPENROUTER_BASE_URL")


def test_a_base_url_may_end_in_a_slash() -> None:
    assert str(base_address(" http://host/api/v1/ ", "U") / "chat/completions") == "http://host/api/v1/chat/completions"


def test_a_key_loses_the_line_end_a_file_left_on_it() -> None:
    assert key_of(" sk-1\n", "K") == "sk-1"
    assert key_of(None, "K") == ""


@pytest.mark.parametrize("key", ["sk\nx", "schlüssel", "a\x00b"])
def test_a_key_no_header_can_carry_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        key_of(key, "ANTHROPIC_API_KEY")
    assert "ANTHROPIC_API_KEY" in str(caught.value)
    assert key not in str(caught.value)


@pytest.mark.parametrize(("key", "is_hidden"), [("ollama", False), ("ollama1", False), ("ollama12", True)])
def test_a_key_is_cut_out_of_errors_from_the_length_on_at_which_log_lines_lose_it(key: str, is_hidden: bool) -> None:
    error = Failures("local", "LOCAL_LLM_API_KEY", "LOCAL_LLM_BASE_URL", key).malformed(f"it says {key}", "m")
    assert (key not in str(error)) is is_hidden
    assert (key not in Redactor([key]).clean_log(f"it says {key}")) is is_hidden


async def test_a_cancelled_call_gives_its_connection_back(line: Line) -> None:
    line.server.will_stall()
    line.server.will_answer(body=line.wire.says("next"))
    call = asyncio.create_task(line.ask())
    await asyncio.wait_for(line.server.arrived.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await line.ask()).content == "next"


async def test_calls_run_side_by_side_over_one_session(line: Line) -> None:
    for n in range(50):
        line.server.will_answer(body=line.wire.says(str(n)))
    answers = await asyncio.gather(*(line.ask() for _ in range(50)))
    assert {answer.content for answer in answers} == {str(n) for n in range(50)}


def test_the_session_takes_no_proxy_and_no_cookie_from_outside(http: aiohttp.ClientSession) -> None:
    assert http.trust_env is False
    assert isinstance(http.cookie_jar, aiohttp.DummyCookieJar)

"""A provider's own words, as they get into our errors: every form of the key is cut out, and nothing is cut in two."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from conductor_ai.providers.failures import MAX_SAID_CHARS, Failures
from tests.canaries import planted
from tests.canaries.planted import ALL, ANTHROPIC, IN_PLACE, REDIS, trace_of

KEY = ANTHROPIC.value
FAILURES = Failures("anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", KEY)


def words(message: str) -> str:
    return str(FAILURES.refusal(400, {"error": {"message": message}}, {}, "a-model"))


@pytest.mark.parametrize(
    "said",
    [
        KEY,
        json.dumps(json.dumps(KEY)),
        repr(json.dumps(KEY)),
        quote(KEY, safe=""),
        base64.b64encode(f"user:{KEY}".encode()).decode(),
        f"https://h.example/?x={quote(base64.b64encode(KEY.encode()).decode(), safe='')}",
    ],
    ids=["as it is", "json", "repr", "percent", "base64", "base64, percent"],
)
def test_the_key_is_cut_out_in_every_form(said: str) -> None:
    shown = words(f"invalid key <{said}> given")
    assert "[key]" in shown
    assert shown.endswith("> given")
    assert trace_of(shown) == []


@pytest.mark.parametrize("said", planted.sayings(KEY), ids=lambda said: said[:12])
def test_a_secret_known_by_its_place_is_cut_out(said: str) -> None:
    assert trace_of(words(said), (ANTHROPIC, *IN_PLACE)) == []


@pytest.mark.parametrize("before", range(MAX_SAID_CHARS - 60, MAX_SAID_CHARS + 2, 7))
def test_the_end_of_a_long_message_is_no_part_of_a_secret(before: int) -> None:
    for secret in (KEY, REDIS.value, planted.URL):
        shown = words(f"{'x' * before} {secret} and more words after it")
        # Another secret than the key is whole, so that the log knows it, or not there at all.
        assert trace_of(shown.replace(REDIS.value, ""), ALL) == []
        assert len(shown) < MAX_SAID_CHARS + 100


def test_a_huge_message_is_read_in_part_and_no_secret_stays_at_its_end() -> None:
    for before in (0, 65_500, 65_536 - 30):
        shown = words(" " * before + f"{KEY} {planted.URL} " * 10_000)
        assert trace_of(shown) == []


def test_what_a_parser_quotes_at_length_is_left_out() -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x" * 150 + KEY)
    shown = str(FAILURES.malformed(f"a field is wrong ({caught.value})", "a-model"))
    assert trace_of(shown) == []
    assert "a field is wrong (invalid literal for int() with base 10: '…'" in shown
    short = str(FAILURES.malformed("a field is missing ('choices')", "a-model"))
    assert short.endswith("a field is missing ('choices')")


@pytest.mark.parametrize("said", [KEY, f"Bearer {KEY}", "x" * 201, planted.URL], ids=["key", "bearer", "long", "url"])
def test_an_id_of_a_request_that_is_none_shows_no_secret(said: str) -> None:
    for body, headers in (({}, {"request-id": said}), ({"request_id": said}, {})):
        error = FAILURES.refusal(400, body, headers, "a-model")
        assert error.request_id != said
        assert trace_of(f"{error!r} {vars(error)}") == []


def test_an_id_of_a_request_is_kept() -> None:
    assert FAILURES.refusal(400, {}, {"request-id": "req_011CSHoEeqs5C35K2UUqR7Fy"}, "a-model").request_id == (
        "req_011CSHoEeqs5C35K2UUqR7Fy"
    )


def test_the_key_is_not_in_the_repr() -> None:
    assert trace_of(repr(FAILURES)) == []

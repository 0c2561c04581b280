"""Redactor: what is taken out of text, and what is left alone."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.observability.redaction import REDACTED, Redactor
from conductor_ai.schemas import json_text
from conductor_ai.schemas.secrets import MIN_SECRET_CHARS

SECRET = 'p@ss/w"ord+\\ünd?~'


def test_a_registered_secret_is_replaced_wherever_it_stands() -> None:
    redactor = Redactor(["correct-horse"])
    assert redactor.clean("correct-horse and correct-horse") == f"{REDACTED} and {REDACTED}"


@pytest.mark.parametrize("offset", [0, 1, 2])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_found_in_every_alignment(offset: int, encode: Callable[[bytes], bytes]) -> None:
    secret = "tokÿ>?~-value"  # its bytes make + and / (or - and _) in base64
    text = encode(b"u" * offset + secret.encode() + b":tail").decode()
    cleaned = Redactor([secret]).clean(text)
    assert REDACTED in cleaned
    rest = cleaned.replace(REDACTED, "")
    assert len(rest) <= 4 + len(base64.b64encode(b":tail"))


@pytest.mark.parametrize(
    "text",
    [
        quote(SECRET, safe=""),
        quote(SECRET),
        quote_plus(SECRET),
        re.sub("%..", lambda code: code[0].lower(), quote(SECRET, safe="")),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(SECRET)[1:-1].replace("/", "\\/"),
        json.dumps(json.dumps(SECRET))[3:-3],
    ],
)
def test_the_forms_in_which_a_secret_travels_are_found(text: str) -> None:
    assert Redactor([SECRET]).clean(f"<{text}>") == f"<{REDACTED}>"


def test_the_longer_of_two_secrets_that_begin_alike_is_taken_whole() -> None:
    redactor = Redactor(["hunter2hunter2", "hunter2hunter2-production"])
    assert redactor.clean("hunter2hunter2-production") == REDACTED


def test_short_values_are_not_registered() -> None:
    short = "x" * (MIN_SECRET_CHARS - 1)
    assert Redactor([short, ""]).clean(f"ab {short} cd") == f"ab {short} cd"


def test_a_secret_can_be_registered_later() -> None:
    redactor = Redactor()
    assert redactor.clean("late-comer") == "late-comer"
    redactor.add("late-comer")
    assert redactor.clean("late-comer") == REDACTED


KEYS = {
    "sk-ant-": "sk-ant-api03-" + "aB3_" * 20,
    "sk-or-": "sk-or-v1-" + "0f" * 32,
    "google": "AIza" + "SyA1b2C" * 5,
    "conductor": "cond_live_a1b2c3d4_" + "aB3_-" * 9,
    "github": "ghp_" + "a1B2" * 9,
    "slack": "xoxb-123456789012-abcdefABCDEF",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAbCd==\n-----END RSA PRIVATE KEY-----",
    "cut pem": "-----BEGIN PRIVATE KEY-----\nMIIEow\nAbCd",
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_logs_lose_well_known_kinds_of_key_and_the_prompt_does_not(key: str) -> None:
    redactor = Redactor()
    assert redactor.clean_log(f"got {key}") == f"got {REDACTED}"
    assert redactor.clean(f"got {key}") == f"got {key}"


def test_logs_keep_what_stands_around_a_credential() -> None:
    cleaned = Redactor().clean_log(
        "Authorization: Bearer abc123def456; authorization: bearer ABCDEFGHIJKLMNOPQRSTUVWX; "
        "AUTHORIZATION: BEARER T0KENT0KEN; postgres://app:hunter2@db:5432/x; redis://:pw@cache"
    )
    assert cleaned == (
        f"Authorization: Bearer {REDACTED}; authorization: bearer {REDACTED}; "
        f"AUTHORIZATION: BEARER {REDACTED}; postgres://app:{REDACTED}@db:5432/x; redis://:{REDACTED}@cache"
    )


@pytest.mark.parametrize(
    "text",
    [
        "the ring bearer went home; bearer authentication is used",
        "https://example.com:8080/a@b and http://user@example.com",
        "a risk-or-reward task, ghp_short, second_live_entry, cond_live_a1b2c3d4_KEY, xoxo-love, eyJust.a.word",
        "AKIAIOSFODNN7EXAMPLEANDMORE",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ],
)
def test_logs_keep_ordinary_text(text: str) -> None:
    assert Redactor().clean_log(text) == text


@pytest.mark.parametrize(
    "evil",
    [
        "eyJ" * 40_000,
        "eyJaaaaaaaaaa." * 10_000,
        "://" * 40_000,
        "://a:b" * 20_000,
        "bearer " * 20_000,
        "-----BEGIN PRIVATE KEY-----" * 5_000,
        "-----BEGIN " * 10_000 + "PRIVATE KEY",
    ],
    ids=lambda evil: evil[:12],
)
def test_text_written_to_hurt_the_patterns_is_read_to_its_end(evil: str) -> None:
    assert Redactor().clean_log(f"{evil} AKIAIOSFODNN7EXAMPLE").count("AKIA") == 0


def test_cleaned_json_stays_json_where_the_secret_is_a_number() -> None:
    redactor = Redactor(["1234567890"])
    cleaned = redactor.clean_json('{"pin":1234567890,"note":"1234567890","list":[1234567890.5,7,true,null]}')
    assert json.loads(cleaned) == {"pin": REDACTED, "note": REDACTED, "list": [REDACTED, 7, True, None]}


def test_cleaned_json_stays_json_where_a_key_block_has_no_end() -> None:
    text = json.dumps({"file": "-----BEGIN PRIVATE KEY-----\nMIIE", "next": {"kept": 1}})
    assert json.loads(Redactor().clean_log_json(text)) == {"file": REDACTED, "next": {"kept": 1}}


def test_cleaned_json_is_unchanged_outside_the_hit() -> None:
    text = '{"a": 1.50, "secret":"correct-horse",  "big": 123456789012345678901234567890}'
    assert Redactor(["correct-horse"]).clean_json(text) == text.replace("correct-horse", REDACTED)


@given(
    secret=st.text(min_size=MIN_SECRET_CHARS, max_size=40),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
)
def test_no_secret_survives_in_text_or_json(secret: str, before: str, after: str) -> None:
    redactor = Redactor([secret])
    text = redactor.clean(before + secret + after)
    value = json_text.loads(redactor.clean_json(json_text.dumps({"value": before + secret + after})))["value"]
    assert not [part for cleaned in (text, value) for part in cleaned.split(REDACTED) if secret in part]

"""What looks like a credential is taken out, what does not stays, and no text makes the search slow."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.schemas.credentials import MARKS, REDACTED, forms_of, without_credentials

BASIC = base64.b64encode(b"user:hunter2").decode()
HIDDEN = {
    "https://user:hunter2@db.example/x": f"https://user:{REDACTED}@db.example/x",
    "redis://:pw@cache:6379/0": f"redis://:{REDACTED}@cache:6379/0",
    "https://u:p@ss:w@rd@db.example/x": f"https://u:{REDACTED}@db.example/x",
    r"https:\/\/user:hunter2@db.example\/x": rf"https:\/\/user:{REDACTED}@db.example\/x",
    "//user:hunter2@db.example/x": f"//user:{REDACTED}@db.example/x",
    "https://0123456789abcdef0123@errors.example/7": f"https://{REDACTED}@errors.example/7",
    "GET /x?token=abc&page=2": f"GET /x?token={REDACTED}&page=2",
    "https://h/?page=2&API_KEY=abc#end": f"https://h/?page=2&API_KEY={REDACTED}#end",
    "https://h/cb#access_token=abc;state=1": f"https://h/cb#access_token={REDACTED};state=1",
    "'/x?key=abc' and </x?sig=abc>": f"'/x?key={REDACTED}' and </x?sig={REDACTED}>",
    "a?X-Amz-Credential=a%2Fb&X-Amz-Signature=0f&X-Amz-Date=1": (
        f"a?X-Amz-Credential={REDACTED}&X-Amz-Signature={REDACTED}&X-Amz-Date=1"
    ),
    "/x?a=1&amp;password=abc&amp;b=2": f"/x?a=1&amp;password={REDACTED}&amp;b=2",
    r'{"url":"/x?a=1\u0026client_secret=abc\u0026b=2"}': rf'{{"url":"/x?a=1\u0026client_secret={REDACTED}\u0026b=2"}}',
    "next=https%3A%2F%2Fh%2F%3Ftoken%3Dabc done": f"next=https%3A%2F%2Fh%2F%3Ftoken%3D{REDACTED} done",
    f"Authorization: Basic {BASIC}": f"Authorization: Basic {REDACTED}",
    f"it sent Basic {BASIC}, twice": f"it sent Basic {REDACTED}, twice",
    "authorization: 0123abcd4567": f"authorization: {REDACTED}",
    '{"x-api-key":"k-1234567","a":1}': f'{{"x-api-key":"{REDACTED}","a":1}}',
    r'"{\"X-Goog-Api-Key\": \"k-1234567\"}"': rf'"{{\"X-Goog-Api-Key\": \"{REDACTED}\"}}"',
    "{'Proxy-Authorization': 'Digest a1b2c3d4e5'}": f"{{'Proxy-Authorization': 'Digest {REDACTED}'}}",
    "{b'api-key': b'k-1234567'}": f"{{b'api-key': b'{REDACTED}'}}",
    "Cookie: sid=abc; theme=dark\nHost: h": f"Cookie: {REDACTED}\nHost: h",
    '{"Set-Cookie":"sid=abc; Path=/; Secure"}': f'{{"Set-Cookie":"{REDACTED}Secure"}}',
}
KEPT = (
    "https://example.com:8080/a@b and http://user@example.com and mailto:user@example.com",
    "https://h/?page=2&sort_key=name&monkey=1&tokens=5&keyword=a&design=b",
    "// a comment, host:port@place and a//b:c\n@d",
    "a token=5 in a sentence, key = value, and 10 tokens",
    "the authorization: see the docs; an authorization code; api-key: required",
    "basic understanding, Basic auth, a basic +1",
    "cookie: a small cake; cookies=2; the cookie jar",
    '{"authorization":null,"api-key":[],"cookie":{}}',
    "https://[redacted]@db.example/?token=[redacted]",
)


@pytest.mark.parametrize(("text", "shown"), HIDDEN.items(), ids=[text[:30] for text in HIDDEN])
def test_a_credential_is_taken_out_and_its_surroundings_stay(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert without_credentials(shown) == shown


@pytest.mark.parametrize("text", KEPT, ids=lambda text: text[:30])
def test_what_is_no_credential_stays(text: str) -> None:
    assert without_credentials(text) == text


HOSTILE = (
    *("?key=", "&x-amz-", "%26", "%3F%26%26", "?x-goog-", "\\u0026", "%%%"),
    *("authorization", "api-key:", 'authorization:  b\\\\\\"', "authorization: bearer   ", "authorization: a "),
    *("cookie: ", "cookie: a=", "cookie:a=b;", "cookie", "cookie: " + "a" * 255),
    *("://", "://a:b", "://" + "a" * 30, ":\\/\\/a:b", "://a:" + "b" * 1000, "://" + "a" * 255, "://a:b@", "://1"),
    *("basic ", "basic aaaaaaaaa ", "bearer aaaa ", "eyJaaaaaaaaaa.", "eyJ", "-----BEGIN PRIVATE KEY-----"),
)
STARTS = ("authorization: ", "cookie: ", "cookie: a=", "://", "://a:", "basic ", "bearer ", "?key=", "eyJ", "api-key ")
FILLS = ("a", "a=", ";", "\\", " ", "%26", '"', "=", "@", "a;", "a=;", ".", "a.", "\\u0026")


def cpu_s(text: str) -> float:
    """The least processor time of some runs: what the work costs without what else the machine does."""
    spent = []
    for _ in range(3):
        started = time.process_time()
        without_credentials(text)
        spent.append(time.process_time() - started)
    return min(spent)


def test_text_sixteen_times_as_long_takes_no_more_than_that_much_longer() -> None:
    texts = [(unit, unit) for unit in HOSTILE] + [(start, fill) for start in STARTS for fill in FILLS]
    slow = []
    for start, unit in texts:
        short, long = (start + unit * (size // len(unit)) + "=:// ookie" for size in (2_500, 40_000))
        # Quadratic time would be 256 times as much; a little is added where there is too little to measure.
        if cpu_s(long) > 80 * (cpu_s(short) + 20e-6):
            slow.append((start, unit))
    assert slow == []


def test_text_without_a_mark_is_given_back_as_it_is() -> None:
    text = "no mark in here " * 50
    assert not any(mark in text for mark in MARKS)
    assert without_credentials(text) is text


def test_a_secret_is_known_without_the_space_around_it() -> None:
    assert "correct-horse" in forms_of(" correct-horse\n")


def test_a_secret_of_few_characters_has_no_forms() -> None:
    assert forms_of("short") == []
    assert forms_of(" short  ") == [] or "short" not in forms_of(" short  ")


@given(secret=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=8, max_size=40))
def test_a_secret_within_json_within_json_is_among_the_forms(secret: str) -> None:
    forms = forms_of(secret)
    text = secret
    for _ in range(4):
        text = json.dumps(text)[1:-1]
        assert text in forms
    assert quote(secret, safe="") in forms
    assert repr(secret)[1:-1] in forms
    assert forms == sorted(forms, key=lambda form: (-len(form), form))

"""The strict parser: what it makes of URLs, and that the HTTP client reads its text the same way."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from conductor_ai.errors import InvalidInput, SSRFError
from conductor_ai.sdk.security import parse_grants
from conductor_ai.sdk.security.urls import MAX_URL_LENGTH, WebURL, parse_web_url
from tests.sdk.security.open_web import GOOD_URLS, HOSTILE_URLS

_PIECES = st.one_of(
    st.sampled_from([*"/?#:@[]%.\\ &=+-_~;,!$'()*|{}^`<>\"", "..", "%2e", "%2F", "//", "http:", "https://", "xn--"]),
    st.sampled_from(
        ["example", "org", "bücher", "127.0.0.1", "[::1]", "8080", "ß", "\u3002", "\uff11", "%00", "\u200d", "\ud800"]
    ),
    st.text(max_size=3),
)
_URLS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["http://", "https://example.org", "http://example.org/"]), st.lists(_PIECES).map("".join)
    ),
)


def _read(text: str) -> WebURL | None:
    try:
        return parse_web_url(text)
    except SSRFError:
        return None


def _assert_read_the_same_by_aiohttp(url: WebURL) -> None:
    seen = URL(url.text, encoded=True)
    assert (seen.scheme, seen.raw_host, seen.port) == (url.scheme, url.host, url.port)
    assert seen.raw_path_qs == url.target
    assert (seen.raw_user, seen.raw_password, seen.raw_fragment) == (None, None, "")
    assert str(seen) == url.text


@given(_URLS)
@example("http://example.org/?")
@example("http://example.org/a/%2e%2E/../b?c?d#e?f")
@example("https://example.org/%%41%")
def test_canonical_text_is_a_fixed_point_and_aiohttp_reads_it_the_same(text: str) -> None:
    url = _read(text)
    if url is not None:
        assert parse_web_url(url.text) == url
        assert url.text.isascii() and url.text.isprintable() and " " not in url.text
        _assert_read_the_same_by_aiohttp(url)


@pytest.mark.parametrize("text", GOOD_URLS)
def test_good_urls_are_read_and_read_the_same_by_aiohttp(text: str) -> None:
    _assert_read_the_same_by_aiohttp(parse_web_url(text))


@given(_URLS, st.lists(_PIECES, max_size=6).map("".join))
def test_a_redirect_ends_in_a_canonical_url_that_keeps_encryption(text: str, location: str) -> None:
    start = _read(text)
    if start is None:
        return
    try:
        url = start.join(location)
    except SSRFError:
        return
    assert parse_web_url(url.text) == url
    assert url.scheme == "https" or start.scheme == "http"
    _assert_read_the_same_by_aiohttp(url)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("HTTPS://Example.ORG", "https://example.org/"),
        ("http://example.org.:80/a", "http://example.org/a"),
        ("https://example.org:80/", "https://example.org:80/"),
        ("http://example.org?", "http://example.org/"),
        ("http://example.org?a#b?c", "http://example.org/?a"),
        ("http://example.org/a b?c d", "http://example.org/a%20b?c%20d"),
        ("http://example.org/ü%C3%BC%c3%bc", "http://example.org/%C3%BC%C3%BC%c3%bc"),
        ("http://example.org/100%?5%zz%41", "http://example.org/100%25?5%25zz%41"),
        ("http://example.org/a/./b/../c/%2E%2e/d", "http://example.org/a/d"),
        ("http://example.org/../../..", "http://example.org/"),
        ("http://example.org/a/..//b", "http://example.org//b"),
        ("http://example.org/a/b/..?../x", "http://example.org/a/?../x"),
        ("http://[2606:2800:021F:CB07:0000::1]:8080", "http://[2606:2800:21f:cb07::1]:8080/"),
        ("http://Bücher.DE/", "http://xn--bcher-kva.de/"),
        ("http://faß.de/", "http://xn--fa-hia.de/"),
    ],
)
def test_one_canonical_text_for_every_spelling(text: str, canonical: str) -> None:
    assert parse_web_url(text).text == canonical


@pytest.mark.parametrize(
    ("location", "lands_at"),
    [
        ("", "https://example.org/a/b?q"),
        ("#top", "https://example.org/a/b?q"),
        ("?p=2", "https://example.org/a/b?p=2"),
        ("c", "https://example.org/a/c"),
        ("./c/", "https://example.org/a/c/"),
        ("../../c?d", "https://example.org/c?d"),
        ("/c d/ü", "https://example.org/c%20d/%C3%BC"),
        ("/..//evil.org/", "https://example.org//evil.org/"),
        ("c//evil.org", "https://example.org/a/c//evil.org"),
        ("https://other.org:8443/x#y", "https://other.org:8443/x"),
        ("/x?u=http://other.org", "https://example.org/x?u=http://other.org"),
    ],
)
def test_a_redirect_is_resolved_against_the_url_that_answered(location: str, lands_at: str) -> None:
    assert parse_web_url("https://example.org/a/b?q").join(location).text == lands_at


@pytest.mark.parametrize(
    "location",
    [
        *["//other.org/", "///other.org", "//", "http://other.org/", "HTTP://example.org/", "ftp://other.org/"],
        *["\\\\other.org", "/\\other.org", "/a\\b", "https:/other.org", "https:other.org", "http:a", "javascript:x"],
        *["https://user@other.org/", "https://other.org:0/", " https://other.org/", "/a\r\nX: y", "/\x00", "/\udcff"],
        *["https:///other.org", "mailto:a@b.org", "a:b", "/" + "a" * MAX_URL_LENGTH],
    ],
)
def test_a_redirect_that_can_be_read_two_ways_is_refused(location: str) -> None:
    with pytest.raises(SSRFError, match=r"^refused: "):
        parse_web_url("https://example.org/a/b?q").join(location)


def test_a_redirect_may_take_up_encryption() -> None:
    assert parse_web_url("http://example.org/").join("https://example.org/").origin == "https://example.org"


@pytest.mark.parametrize(
    "group", ["not a web URL", "characters", "user info", "spellings of names", "encodings of IPv4"]
)
def test_what_is_no_plain_url_is_refused_by_the_syntax_alone(group: str) -> None:
    assert [url for url in HOSTILE_URLS[group] if _read(url) is not None] == []


def test_the_length_counts_as_it_is_sent() -> None:
    assert len(parse_web_url("http://example.org/" + "a" * (MAX_URL_LENGTH - 19)).text) == MAX_URL_LENGTH
    for text in ("http://example.org/" + "a" * (MAX_URL_LENGTH - 18), "http://example.org/" + "ü" * 2000):
        with pytest.raises(SSRFError, match="longer than 8192"):
            parse_web_url(text)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", set()),
        ("  ", set()),
        ("Wiki.Corp:8080", {("wiki.corp", 8080)}),
        ("localhost:1, 127.0.0.1:65535", {("localhost", 1), ("127.0.0.1", 65535)}),
        ("[::1]:8080 , [0:0::1]:8080,bücher.de.:80", {("::1", 8080), ("xn--bcher-kva.de", 80)}),
    ],
)
def test_grants_are_pairs_in_canonical_form(text: str, pairs: set[tuple[str, int]]) -> None:
    assert parse_grants(text) == pairs


@pytest.mark.parametrize(
    "text",
    ["localhost", "localhost:", "localhost:0", "localhost:*", "*:80", "*.corp:80", "http://localhost:80", ":80", ","]
    + [
        "a:80,",
        "a:80;b:80",
        "10.0.0.0/8:80",
        "::1:80",
        "[::1]",
        "[::1]x:80",
        "[fe80::1%eth0]:80",
        "127.1:80",
        "u@a:80",
    ],
)
def test_a_grant_that_is_no_exact_pair_is_an_error(text: str) -> None:
    with pytest.raises(InvalidInput, match="grants nothing"):
        parse_grants(text)

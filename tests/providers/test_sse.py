"""Events out of bytes: what the standard says, however the bytes are cut. Source: HTML standard, 9.2.6."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conductor_ai.providers.sse import SSEParser, SSEvent

LINES = st.sampled_from(
    [b"", b"", b"data: a", b"data:b", b"data:  c", b"data", b"data: ", b"event: x", b"event", b"event:", b"id: 1"]
    + [
        b": note",
        b":",
        b"retry: 9",
        b"other: 1",
        b"data: gr\xc3\xbc\xc3\x9f \xe2\x80\xa8 \xf0\x9f\x98\x80",
        b"data: \x0b\x0c\x1c\xc2\x85",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    made = b"".join(line + draw(ENDS) for line in draw(st.lists(LINES, max_size=12)))
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + made + draw(st.sampled_from([b"", b"data: unended"]))


def parsed(*chunks: bytes) -> list[SSEvent]:
    parser = SSEParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def by_the_book(raw: bytes) -> list[SSEvent]:
    """The standard's own steps, on the whole text at once."""
    text = raw.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    events, name, data = [], "", ""
    for line in text.split("\n")[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data != "":
                events.append(SSEvent(name.encode(), data.removesuffix("\n").encode()))
            name, data = "", ""
        elif field == "event":
            name = value
        elif field == "data":
            data += value + "\n"
    return events


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        pytest.param(b"data: x\n\n", [SSEvent(b"", b"x")], id="one line"),
        pytest.param(b"data: a\ndata:b\ndata\n\n", [SSEvent(b"", b"a\nb\n")], id="many lines"),
        pytest.param(
            b"event: ping\ndata: {}\n\ndata: x\n\n", [SSEvent(b"ping", b"{}"), SSEvent(b"", b"x")], id="named"
        ),
        pytest.param(b": OPENROUTER PROCESSING\n\ndata: x\n\n", [SSEvent(b"", b"x")], id="comment"),
        pytest.param(
            b"data: x\r\n\r\ndata: y\r\rdata: z\n\n", [SSEvent(b"", c) for c in (b"x", b"y", b"z")], id="ends"
        ),
        pytest.param(b"\xef\xbb\xbfdata: x\n\n", [SSEvent(b"", b"x")], id="byte order mark"),
        pytest.param(b"event: x\n\ndata: y\n\n", [SSEvent(b"", b"y")], id="name without data"),
        pytest.param(b"data: x\n\ndata: y\n", [SSEvent(b"", b"x")], id="unended"),
        pytest.param(
            b"data: a\x0bb\xe2\x80\xa8c\xc2\x85d\n\n", [SSEvent(b"", b"a\x0bb\xe2\x80\xa8c\xc2\x85d")], id="no ends"
        ),
    ],
)
def test_bytes_become_the_events_of_the_standard(raw: bytes, events: list[SSEvent]) -> None:
    assert parsed(raw) == events
    assert by_the_book(raw) == events


@given(raw=streams(), data=st.data())
@example(raw=b"data: x\r\n\r\ndata: y\r\n\r\n", data=None)
def test_any_cut_of_the_bytes_gives_the_same_events(raw: bytes, data: st.DataObject | None) -> None:
    expected = by_the_book(raw)
    assert parsed(raw) == expected
    assert parsed(*(raw[at : at + 1] for at in range(len(raw)))) == expected
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6))) if data else [1, 8, 9]
    assert parsed(*(raw[start:end] for start, end in pairwise([0, *cuts, len(raw)]))) == expected


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([b"data: " + b"x" * 60] * 2, id="a line that does not end"),
        pytest.param([b"data: xxxxxxxxxx\n"] * 10, id="lines that do not end"),
        pytest.param([b"data\n"] * 101, id="empty lines"),
        pytest.param([b":" + b"x" * 101], id="a comment"),
    ],
)
def test_an_event_beyond_the_bound_is_refused(chunks: list[bytes]) -> None:
    parser = SSEParser(max_event_bytes=100)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        list(map(parser.feed, chunks))


def test_the_bound_is_for_each_event_and_not_for_the_stream() -> None:
    parser = SSEParser(max_event_bytes=100)
    for _ in range(10):
        assert parser.feed(b"data: " + b"x" * 80 + b"\n: note\n\n") == [SSEvent(b"", b"x" * 80)]


def test_a_large_event_comes_whole_out_of_small_pieces() -> None:
    raw = b"data: " + b"0123456789" * 100_000 + b"\n\n"
    (event,) = parsed(*(raw[at : at + 100] for at in range(0, len(raw), 100)))
    assert event.data == raw[6:-2]


def test_what_is_no_line_of_an_event_stream_is_kept_within_bounds() -> None:
    parser = SSEParser()
    assert parser.feed(b'data: x\n\n{\r\n "error": {"message": "no"}\r\n: note\nid: 1\n}') == [SSEvent(b"", b"x")]
    assert parser.stray == b'{\n "error": {"message": "no"}\n}'
    parser.feed(b"<p>\n" * 2**17)
    assert len(parser.stray) <= 2**16

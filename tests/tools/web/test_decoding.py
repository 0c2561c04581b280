"""Content-Encoding, however the bytes are cut up."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.tools.web.decoding import PIECE_BYTES, decoder_for

ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip of three members": (
        "gzip",
        lambda data: b"".join(
            gzip.compress(data[n : n + 1 + len(data) // 3]) for n in range(0, len(data), 1 + len(data) // 3)
        ),
    ),
    "padded gzip": ("gzip", lambda data: gzip.compress(data) + b"\0" * 7),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", lambda data: zlib.compress(data, wbits=-15)),
    "identity": ("", bytes),
}


@pytest.mark.parametrize("name", ENCODERS)
@given(data=st.binary(max_size=500), step=st.integers(1, 50))
def test_every_way_of_cutting_the_stream_gives_the_same_bytes(name: str, data: bytes, step: int) -> None:
    coding, encode = ENCODERS[name]
    wire, decoder = encode(data), decoder_for(coding)
    pieces = [piece for start in range(0, len(wire), step) for piece in decoder.feed(wire[start : start + step])]
    assert b"".join(pieces) == data
    assert decoder.complete


@pytest.mark.parametrize("name", ["gzip", "deflate", "bare deflate"])
def test_a_stream_that_is_cut_is_not_complete(name: str) -> None:
    coding, encode = ENCODERS[name]
    decoder = decoder_for(coding)
    for _ in decoder.feed(encode(b"some text that goes on")[:-1]):
        pass
    assert not decoder.complete


@pytest.mark.parametrize("name", ["gzip", "deflate", "bare deflate"])
def test_no_step_gives_more_than_a_piece(name: str) -> None:
    coding, encode = ENCODERS[name]
    sizes = [len(piece) for piece in decoder_for(coding).feed(encode(b"a" * 1_000_000))]
    assert sum(sizes) == 1_000_000
    assert max(sizes) <= PIECE_BYTES

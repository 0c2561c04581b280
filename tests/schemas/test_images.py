"""An image is what its bytes say, within what models take, and comes back from the log as it was."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.errors import InvalidInput
from conductor_ai.schemas import json_text
from conductor_ai.schemas.image_header import media_type_of, size_px
from conductor_ai.schemas.images import (
    IMAGE_TOKENS_BOUND,
    MAX_IMAGE_BYTES,
    MAX_SIDE_PX,
    Image,
    image_payload,
    public_url,
)
from tests.schemas.pictures import ALL, gif, jpeg, png, webp_lossless

SECRET = "canary-7f3a"
MAGIC = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xff\xff", b"GIF89a", b"RIFF\x00\x00\x00\x00WEBP"]
MAGIC += [b"RIFF\x00\x00\x00\x00WEBP" + kind for kind in (b"VP8 ", b"VP8L", b"VP8X")]


def outcome(make: Callable[[], Image]) -> Image | str:
    """What was made, or the words in which it was refused."""
    try:
        return make()
    except InvalidInput as exc:
        return str(exc)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(("make", "media_type"), ALL.values(), ids=ALL)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (640, 480), (MAX_SIDE_PX, 5)])
def test_type_and_size_are_read_from_the_header(
    make: Callable[[int, int], bytes], media_type: str, width: int, height: int
) -> None:
    data = make(width, height)

    assert Image.of_bytes(data) == Image(media_type, b64(data))
    assert size_px(media_type, data) == (width, height)


@pytest.mark.parametrize("frame", [0xC1, 0xC2, 0xC9, 0xCF])
def test_progressive_and_other_kinds_of_jpeg_have_a_size(frame: int) -> None:
    assert size_px("image/jpeg", jpeg(7, 9, frame=frame)) == (7, 9)


@pytest.mark.parametrize("make", [make for make, _ in ALL.values()], ids=ALL)
@pytest.mark.parametrize("side", [(MAX_SIDE_PX + 1, 1), (1, MAX_SIDE_PX + 1)], ids=["width", "height"])
def test_a_side_beyond_what_models_take_is_refused(make: Callable[[int, int], bytes], side: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match=f"{side[0]} x {side[1]} pixels"):
        Image.of_bytes(make(*side))


@pytest.mark.parametrize("make", [png, jpeg, gif])
def test_a_picture_without_any_pixel_is_broken(make: Callable[[int, int], bytes]) -> None:
    with pytest.raises(InvalidInput, match="broken"):
        Image.of_bytes(make(0, 5))


@pytest.mark.parametrize(("make", "media_type"), ALL.values(), ids=ALL)
def test_a_header_that_is_cut_anywhere_is_refused(make: Callable[[int, int], bytes], media_type: str) -> None:
    data = make(640, 480)
    sizes = {end: size_px(media_type, data[:end]) for end in range(len(data)) if media_type_of(data[:end])}
    ends = [end for end, size in sizes.items() if size is None]

    assert ends  # each signature stands before the size
    assert set(sizes.values()) <= {None, (640, 480)}  # never the half of a number
    for end in [0, *ends]:
        with pytest.raises(InvalidInput, match="no PNG, JPEG, GIF or WebP image" if not end else "cut or broken"):
            Image.of_bytes(data[:end])


def test_a_jpeg_of_nothing_but_markers_is_given_up() -> None:
    with pytest.raises(InvalidInput, match="broken"):
        Image.of_bytes(b"\xff\xd8" + b"\xff" * 100_000 + jpeg()[2:])


def test_a_jpeg_that_begins_its_scan_without_a_frame_is_broken() -> None:
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    with pytest.raises(InvalidInput, match="broken"):
        Image.of_bytes(b"\xff\xd8" + scan + jpeg()[2:])


@pytest.mark.parametrize(
    "data",
    [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"BM" + bytes(60), b"RIFF\x00\x00\x00\x00WAVE"]
    + [b"\x00\x00\x00\x1cftypheic" + bytes(20), b"\x00\x00\x00\x1cftypavif" + bytes(20), b"II*\x00" + bytes(20)],
)
def test_other_types_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="no PNG, JPEG, GIF or WebP image"):
        Image.of_bytes(data)


@given(st.sampled_from(MAGIC), st.binary(max_size=200))
def test_garbage_is_an_image_or_refused_and_nothing_else(magic: bytes, rest: bytes) -> None:
    data = magic + rest
    for image in (outcome(lambda: Image.of_bytes(data)), outcome(lambda: Image.of_base64(b64(data)))):
        assert "\n" not in image if isinstance(image, str) else base64.b64decode(image.data, validate=True) == data


@given(st.text() | st.text("data:imgepn/;bs64,:/?#@[]%.0123456789", max_size=60))
def test_a_url_of_any_text_is_an_image_or_refused_and_nothing_else(text: str) -> None:
    for url in (text, f"http://{text}", f"data:image/png;base64,{text}"):
        image = outcome(partial(Image.of_url, url))
        if isinstance(image, str):
            assert "\n" not in image
        else:
            assert image.is_fetched or public_url(image.url or "")


def test_a_file_as_large_as_models_take_is_taken_and_one_byte_more_is_not() -> None:
    largest = png(total_bytes=MAX_IMAGE_BYTES)
    assert len(largest) == MAX_IMAGE_BYTES

    image = Image.of_bytes(largest)
    assert len(image.data) == 5 * 2**20  # what Anthropic measures
    assert Image.of_base64(image.data) == image
    with pytest.raises(InvalidInput, match="larger than 3,932,160 bytes"):
        Image.of_bytes(largest + b"x")
    with pytest.raises(InvalidInput, match="larger than 3,932,160 bytes"):
        Image.of_base64(b64(largest + b"x"))


@pytest.mark.parametrize("media_type", [None, "image/jpeg", "image/jpg", " IMAGE/JPEG "])
def test_a_media_type_may_say_what_the_bytes_say(media_type: str | None) -> None:
    assert Image.of_bytes(jpeg(), media_type).media_type == "image/jpeg"


@pytest.mark.parametrize("media_type", ["image/png", "text/html", "", 5])
def test_a_media_type_that_contradicts_the_bytes_is_refused(media_type: Any) -> None:
    with pytest.raises(InvalidInput, match="the image is image/jpeg, not"):
        Image.of_bytes(jpeg(), media_type)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_may_be_of_any_kind(kind: Callable[[bytes], Any]) -> None:
    assert Image.of_bytes(kind(png())).data == b64(png())


@pytest.mark.parametrize("data", [None, 5, [1, 2], "iVBORw0KGgo="])
def test_what_is_not_bytes_is_refused(data: Any) -> None:
    with pytest.raises(InvalidInput, match=f"must be bytes, got {type(data).__name__}"):
        Image.of_bytes(data)


def test_base64_may_be_broken_into_lines() -> None:
    assert Image.of_base64(base64.encodebytes(png()).decode()) == Image.of_bytes(png())


@pytest.mark.parametrize("text", ["?", "iVBORw0KGgo", "iV=BORw0", "iVBORw0KGgo=x", "é", "-_-_", "=", None, 5])
def test_base64_is_read_strictly(text: Any) -> None:
    with pytest.raises(InvalidInput, match="base64"):
        Image.of_base64(text)


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "anything.txt"
    file.write_bytes(gif())

    assert Image.of_file(file) == Image.of_file(str(file)) == Image.of_bytes(gif())


def test_a_file_that_cannot_be_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not an image")
    (tmp_path / "huge.png").write_bytes(png(total_bytes=MAX_IMAGE_BYTES + 10))
    os.mkfifo(tmp_path / "pipe")

    for name, reason in [
        ("missing.png", "there is no such file"),
        (".", "there is no such file"),
        ("pipe", "there is no such file"),
        ("notes.png", "no PNG"),
        ("huge.png", "larger than"),
    ]:
        with pytest.raises(InvalidInput, match=reason) as caught:
            Image.of_file(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(InvalidInput):
        Image.of_file("nul\0.png")


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="needs a file that nobody can read")
def test_a_file_that_cannot_be_read_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidInput, match=r"'/proc/self/mem' cannot be read"):
        Image.of_file("/proc/self/mem")


def test_a_url_is_kept_for_later() -> None:
    image = Image.of_url("HTTP://Example.org/a/../cat.png?size=2#top")

    assert image == Image("", "", "http://example.org/cat.png?size=2")
    assert not image.is_fetched
    with pytest.raises(InvalidInput, match="not been fetched"):
        image_payload(image)


@pytest.mark.parametrize("head", ["image/webp", "IMAGE/WEBP", "image/webp;charset=x", ""])
def test_a_data_url_is_an_image_at_once(head: str) -> None:
    assert Image.of_url(f"DATA:{head};base64,{b64(webp_lossless())}") == Image.of_bytes(webp_lossless())


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"https://me:{SECRET}@example.org/", "user name"),
        (f"https://me:{SECRET}/x@example.org/", "user name"),
        (f"https://me:{SECRET}#@example.org/", "user name"),
        (f"https://example.org:{SECRET}#@/", "user name"),
        (f"ftp://{SECRET}@example.org/", "begin with"),
        (f"file:///etc/{SECRET}", "begin with"),
        (f"//example.org/{SECRET}", "begin with"),
        (f"https://example.org\\{SECRET}", "backslash"),
        (f"https://example.org/{SECRET}\n", "white space"),
        (f"https://2130706433/{SECRET}", "a number"),
        (f"data:image/png,{SECRET}", "must be base64"),
        (f"data:image/png;base64,{SECRET}", "not base64"),
        ("data:image/png;base64," + "/9j/", "is image/jpeg, not 'image/png'"),
        (None, "must be text, got NoneType"),
        (b"https://example.org/", "must be text, got bytes"),
    ],
    ids=str,
)
def test_a_url_that_cannot_be_fetched_is_refused_and_its_secrets_are_not_told(url: Any, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        Image.of_url(url)

    told = [str(error) for error in (caught.value, caught.value.__cause__, caught.value.__context__)]
    assert SECRET not in " ".join([*told, caught.value.hint or ""])


def test_what_may_be_shown_of_a_url_has_no_query() -> None:
    assert (
        public_url(f"https://example.org:8443/a%20b/cat.png?token={SECRET}") == "https://example.org:8443/a%20b/cat.png"
    )


def test_an_image_shown_in_a_trace_tells_neither_its_data_nor_secrets() -> None:
    image = Image.of_bytes(png(total_bytes=500))

    assert repr(image) == f"Image('image/png', <{len(image.data)} characters>)"
    for url in (f"https://example.org/x.png?token={SECRET}", f"https://me:{SECRET}@example.org/x.png"):
        shown = repr(Image("", "", url))
        assert "example.org/x.png" in shown and SECRET not in shown


@given(st.sampled_from(sorted(ALL)), st.integers(1, MAX_SIDE_PX), st.none() | st.just("https://example.org/a.png"))
def test_an_image_comes_back_from_the_log_as_it_was(kind: str, width: int, url: str | None) -> None:
    image = Image.of_bytes(ALL[kind][0](width, 2))._replace(url=url)

    kept = json_text.loads(json_text.dumps(image_payload(image)))

    assert Image.of_payload(kept) == image
    assert ("url" in kept) == (url is not None)


def test_the_token_bound_covers_the_costliest_published_default() -> None:
    assert IMAGE_TOKENS_BOUND * 28 * 28 == 12_845_056  # Qwen2.5-VL's max_pixels, a token per 28 x 28

"""Images in what a caller passes as messages: every spelling taken, and what is wrong named by its place."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from conductor_ai.errors import InvalidInput
from conductor_ai.schemas.images import MAX_IMAGE_BYTES, MAX_IMAGES, Image
from conductor_ai.schemas.messages import Message, Role, parse_messages
from tests.schemas.pictures import jpeg, png

HELLO = Message(Role.USER, "hi")
PNG = Image.of_bytes(png())
DATA_URL = f"data:image/png;base64,{PNG.data}"
URL = "https://example.org/cat.png?token=t"
TEXT = {"type": "text", "text": "What is this?"}
SECRET = "canary-7f3a"


def parsed(content: Any) -> Message:
    """The only message of a conversation that has it."""
    _, [message] = parse_messages([{"role": "user", "content": content}])
    return message


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "data": png()},
        {"type": "image", "data": bytearray(png()), "media_type": "image/png"},
        {"type": "image", "data": PNG.data},
        {"type": "image", "data": PNG.data, "media_type": "image/png"},
        {"type": "image", "url": DATA_URL},
        {"type": "image", "data": PNG.data, "url": None},
        {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "high"}},
        {"type": "image_url", "image_url": DATA_URL},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG.data}},
        PNG,
    ],
    ids=["bytes", "bytearray", "base64", "typed", "data url", "no url", "openai", "openai text", "anthropic", "Image"],
)
def test_an_image_may_be_spelt_in_many_ways(part: Any) -> None:
    assert parsed([TEXT, part]) == Message(Role.USER, "What is this?", images=(PNG,))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "url": URL},
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "image", "source": {"type": "url", "url": URL}},
        Image.of_url(URL),
    ],
    ids=["ours", "openai", "anthropic", "Image"],
)
def test_an_image_named_by_a_url_waits_to_be_fetched(part: Any) -> None:
    assert parsed([part]).images == (Image("", "", URL),)


def test_images_keep_their_order_and_texts_become_one() -> None:
    message = parsed([{"type": "image", "data": jpeg()}, TEXT, {"type": "image", "url": URL}, TEXT, PNG])

    assert message.content == "What is this?\nWhat is this?"
    assert message.images == (Image.of_bytes(jpeg()), Image.of_url(URL), PNG)


def test_a_message_with_an_image_needs_no_text() -> None:
    assert parsed([PNG]) == parsed([{"type": "text", "text": ""}, PNG]) == Message(Role.USER, "", images=(PNG,))
    assert parse_messages([Message(Role.USER, images=(PNG,))])[1] == [Message(Role.USER, images=(PNG,))]


def test_an_image_put_together_by_hand_is_read_again() -> None:
    by_hand = Image("IMAGE/PNG", base64.encodebytes(png()).decode(), f"https://Example.org/cat.png?token={SECRET}")

    [message] = parse_messages([Message(Role.USER, "", images=[by_hand])])[1]  # type: ignore[arg-type]

    assert message.images == (PNG._replace(url="https://example.org/cat.png"),)
    assert parse_messages([message])[1] == [message]


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("text", "got str"),
        ({"type": "image"}, "either data or a url"),
        ({"type": "image", "data": b""}, "either data or a url"),
        ({"type": "image", "data": png(), "url": URL}, "either data or a url"),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "either data or a url"),
        ({"type": "image", "source": 5}, "either data or a url"),
        ({"type": "image_url", "image_url": None}, "either data or a url"),
        ({"type": "image", "data": b"%PDF-1.7"}, "no PNG"),
        ({"type": "image", "data": 5}, "must be bytes"),
        ({"type": "image", "data": png(), "media_type": "image/gif"}, "image/png, not 'image/gif'"),
        ({"type": "image", "url": "file:///etc/passwd"}, "must begin with"),
        ({"type": "image", "url": 5}, "must be text"),
        ({"type": "input_audio"}, "of type text or image, got 'input_audio'"),
        ({"type": ["image"]}, "of type text or image"),
        ({"type": "text"}, "needs its text"),
        (Image("", ""), "neither data nor a url"),
        (Image("image/gif", PNG.data), "image/png, not 'image/gif'"),
    ],
    ids=str,
)
def test_a_part_that_cannot_be_is_refused_by_message_and_place(part: Any, problem: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^messages\[1\]\.content\[1\]: .*{problem}"):
        parse_messages([HELLO, {"role": "user", "content": [TEXT, part]}, HELLO])


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        ((PNG, "x"), r"messages\[0\]\.images\[1\]: images are made by"),
        ((PNG, Image("image/png", "%")), r"messages\[0\]\.images\[1\]: .*not base64"),
        (PNG, r"messages\[0\]\.images\[0\]: images are made by"),
        (None, r"messages\[0\]: images must be a list, got NoneType"),
    ],
    ids=["text", "garbage", "not a tuple", "none"],
)
def test_an_image_of_a_message_that_cannot_be_is_refused_by_its_place(images: Any, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        parse_messages([Message(Role.USER, "hi", images=images)])


@pytest.mark.parametrize("role", ["system", "assistant"])
@pytest.mark.parametrize("as_mapping", [True, False], ids=["mapping", "Message"])
def test_images_stand_in_user_messages_only(role: str, as_mapping: bool) -> None:
    message: Any = {"role": role, "content": [TEXT, PNG]} if as_mapping else Message(role, "hi", images=(PNG,))  # type: ignore[arg-type]
    given = [message, HELLO] if role == "system" else [HELLO, message, HELLO]

    with pytest.raises(InvalidInput, match=r"messages\[\d\]: images stand in user messages only"):
        parse_messages(given)


def test_images_beside_the_content_of_a_mapping_are_not_dropped_in_silence() -> None:
    with pytest.raises(InvalidInput, match=r"messages\[0\]: images of a mapping stand in its content"):
        parse_messages([{"role": "user", "content": "hi", "images": [PNG]}])


def test_a_message_holds_so_many_images_and_no_more() -> None:
    assert len(parsed([PNG] * MAX_IMAGES).images) == MAX_IMAGES == 20
    with pytest.raises(InvalidInput, match=r"messages\[0\]: 21 images"):
        parsed([PNG] * (MAX_IMAGES + 1))


def test_the_images_of_a_message_fit_one_request_together() -> None:
    largest = Image.of_bytes(png(total_bytes=MAX_IMAGE_BYTES))

    assert len(parsed([largest] * 3).images) == 3
    with pytest.raises(InvalidInput, match=r"messages\[0\]: .* bytes together"):
        parsed([largest] * 3 + [PNG])


def test_the_secrets_of_a_url_are_not_told() -> None:
    with pytest.raises(InvalidInput) as caught:
        parsed([{"type": "image", "url": f"https://me:{SECRET}@example.org/?token={SECRET}"}])
    assert SECRET not in str(caught.value)

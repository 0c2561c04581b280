"""Images in messages: what every model that sees can read, as base64 text."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from conductor_ai.errors import InvalidInput, SSRFError
from conductor_ai.schemas.events import ImagePayload
from conductor_ai.schemas.image_header import media_type_of, size_px

if TYPE_CHECKING:
    from conductor_ai.sdk.security.urls import WebURL

# Of one image. Anthropic's models take 5 MB, measured on the base64 text: "image exceeds 5 MB maximum: 6405384 bytes >
# 5242880 bytes" was the answer to a file of 4804036. Anthropic itself is said to take twice as much by now; the clouds
# that OpenRouter may ask for the same models are not.
_MAX_BASE64_CHARS = 5 * 2**20
MAX_IMAGE_BYTES = _MAX_BASE64_CHARS // 4 * 3
MAX_SIDE_PX = 8000
"""Source: Anthropic, "Vision", general limits; of a request with at most 20 images."""
MAX_IMAGES = 20
"""In one message, so that one message stays below the figure above."""
MAX_MESSAGE_IMAGE_BYTES = 3 * MAX_IMAGE_BYTES
"""Of all images of a message: 15 MiB of base64. Source: Gemini, "Image understanding": a request holds 20 MB with all
that is in it (Anthropic: 32 MB)."""

IMAGE_TOKENS_BOUND = 16_384
"""The most tokens that one image costs by the published defaults of the models that see, to reserve money by.

Sources: Qwen2-VL and Qwen2.5-VL model cards: 4 to 16,384 per image (`max_pixels` 12,845,056, a token per 28 x 28). The
others ask less: Anthropic, "Vision": some 1,600, and 4,784 for models that read high resolution; Gemini, "Media
resolution": 1,120, and 2,240 at its highest setting. A server that was set up otherwise may count more.
"""


class Image(NamedTuple):
    """One image of a user message.

    `data` is base64 (RFC 4648, with padding) of `media_type`: image/png, image/jpeg, image/gif or image/webp. Both are
    empty while an image that is named by `url` has not been fetched: such a one goes to no model and into no log. The
    `url` of one that was fetched has lost its query, which may hold a token.
    """

    media_type: str
    data: str
    url: str | None = None

    @classmethod
    def of_bytes(cls, data: bytes | bytearray | memoryview, media_type: str | None = None) -> Image:
        """An image as it stands in a file; its first bytes tell the type.

        Args:
            media_type: What it is said to be.
        Raises: InvalidInput for other types, a `media_type` that is not its own, and what is too large for a model.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidInput(f"the data of an image must be bytes, got {type(data).__name__}")
        if memoryview(data).nbytes > MAX_IMAGE_BYTES:
            raise _too_large()
        data = bytes(data)
        found = media_type_of(data)
        if found is None:
            raise InvalidInput("the data is no PNG, JPEG, GIF or WebP image")
        if media_type is not None and _normal(media_type) != found:
            raise InvalidInput(f"the image is {found}, not {media_type!r} as its media_type says")
        size = size_px(found, data)
        if size is None:
            raise InvalidInput(f"the {found} data is cut or broken: it does not say how large the picture is")
        if max(size) > MAX_SIDE_PX:
            raise InvalidInput(
                f"the picture has {size[0]} x {size[1]} pixels, and models take {MAX_SIDE_PX} at most on each side",
                hint="Scale it down.",
            )
        return cls(found, binascii.b2a_base64(data, newline=False).decode("ascii"))

    @classmethod
    def of_base64(cls, text: str, media_type: str | None = None) -> Image:
        """As `of_bytes`, from base64 text with padding; white space in it is ignored. Raises: InvalidInput."""
        if not isinstance(text, str):
            raise InvalidInput(f"the data of an image must be bytes or base64 text, got {type(text).__name__}")
        text = "".join(text.split())
        if len(text) > _MAX_BASE64_CHARS:
            raise _too_large()
        try:
            data = binascii.a2b_base64(text, strict_mode=True)
        except ValueError as exc:  # binascii.Error is one; text that is not ASCII gives the plain one
            raise InvalidInput(f"the data of the image is not base64: {exc}") from exc
        return cls.of_bytes(data, media_type)

    @classmethod
    def of_file(cls, path: str | Path) -> Image:
        """As `of_bytes`, from a file, which is read at once. Raises: InvalidInput that names the file."""
        file = Path(path)
        try:
            # A pipe or a device may have no end, or never answer.
            if not file.is_file():
                raise InvalidInput(f"{file}: there is no such file")
            with file.open("rb") as opened:
                data = opened.read(MAX_IMAGE_BYTES + 1)
        except (OSError, ValueError) as exc:
            raise InvalidInput(f"{str(file)!r} cannot be read: {exc}") from exc
        try:
            return cls.of_bytes(data)
        except InvalidInput as exc:
            raise InvalidInput(f"{file}: {exc}", hint=exc.hint) from exc

    @classmethod
    def of_url(cls, url: str) -> Image:
        """An image to be fetched when the session starts (http, https), or the one that a `data:` URL holds.

        Raises: InvalidInput for other schemes, a user name in the URL, and what can be read in two ways. Whether the
        host may be asked is found out when the image is fetched.
        """
        text = _text_of(url)
        if text[:5].lower() == "data:":
            head, _, data = text[5:].partition(",")
            media_type, _, encoding = head.rpartition(";")
            if encoding.strip().lower() != "base64":
                raise InvalidInput("a data: URL of an image must be base64: data:image/png;base64,...")
            return cls.of_base64(data, media_type.partition(";")[0] or None)
        return cls("", "", _read(text).text)

    @classmethod
    def of_payload(cls, payload: Mapping[str, Any]) -> Image:
        """From its form in the log, where nothing is checked again."""
        return cls(payload["media_type"], payload["data"], payload.get("url"))

    @property
    def is_fetched(self) -> bool:
        return bool(self.data)

    def __repr__(self) -> str:
        """Without the data, which fills screens, and without the parts of the URL that may be secret."""
        url = "" if self.url is None else f", url={self.url.partition('?')[0].rpartition('@')[2]!r}"
        return f"Image({self.media_type!r}, <{len(self.data)} characters>{url})"


def image_payload(image: Image) -> ImagePayload:
    """The form of an image in the log. Raises: InvalidInput for one that has not been fetched."""
    if not image.is_fetched:
        raise InvalidInput("an image that has not been fetched has no data to keep")
    payload: ImagePayload = {"media_type": image.media_type, "data": image.data}
    if image.url is not None:
        payload["url"] = image.url
    return payload


def public_url(url: str) -> str:
    """Scheme, host and path of an http or https URL: what may be shown and kept. Raises: InvalidInput."""
    read = _read(url)
    return read.origin + read.target.partition("?")[0]


def checked(image: Image) -> Image:
    """An image that a caller may have put together by hand, as the constructors make it. Raises: InvalidInput."""
    if image.data:
        found = Image.of_base64(image.data, image.media_type)
        return found if image.url is None else found._replace(url=public_url(image.url))
    if image.url is None:
        raise InvalidInput("the image has neither data nor a url")
    return Image.of_url(image.url)


def image_of_part(part: Mapping[str, Any]) -> Image:
    """A part of a message's `content` that is no text.

    `{"type": "image", "data": bytes or base64 text, "media_type": ...}` or `{"type": "image", "url": ...}`, and what
    others call it: the same keys in a `source` (Anthropic), `{"type": "image_url", "image_url": {"url": ...}}`.
    Raises: InvalidInput.
    """
    kind = part.get("type")
    if kind not in ("image", "image_url"):
        raise InvalidInput(f"a part of content is of type text or image, got {kind!r}")
    source = part.get("image_url") if kind == "image_url" else part.get("source", part)
    if isinstance(source, str):
        source = {"url": source}
    given = {key: source[key] for key in ("data", "url") if source.get(key)} if isinstance(source, Mapping) else {}
    if len(given) != 1:
        raise InvalidInput("an image needs either data or a url", hint="for a file: Image.of_file(path)")
    assert source is not None
    if "url" in given:
        return Image.of_url(given["url"])
    data = given["data"]
    return (Image.of_base64 if isinstance(data, str) else Image.of_bytes)(data, source.get("media_type"))


def check_together(images: Sequence[Image]) -> None:
    """Whether one message may hold them all. Raises: InvalidInput."""
    if len(images) > MAX_IMAGES:
        raise InvalidInput(f"{len(images)} images, and a message holds {MAX_IMAGES} at most")
    total = sum(len(image.data) for image in images) // 4 * 3
    if total > MAX_MESSAGE_IMAGE_BYTES:
        raise InvalidInput(
            f"the images have {total:,} bytes together, and a message holds {MAX_MESSAGE_IMAGE_BYTES:,} at most",
            hint="Scale them down, or save them as JPEG.",
        )


def _read(url: str) -> WebURL:
    """Raises: InvalidInput that shows nothing of the URL but its host."""
    # The reader of URLs belongs to the plugins' floor, whose package loads pydantic.
    from conductor_ai.sdk.security.urls import parse_web_url

    url = _text_of(url)
    if not url.lower().startswith(("http://", "https://")):
        raise InvalidInput("the url of an image must begin with https://, http:// or data:")
    try:
        return parse_web_url(url)
    except SSRFError as exc:
        # Not chained, and not told where a password may stand in it: the reason quotes what it could not read.
        reason = str(exc).removeprefix("refused: ")
        hint = exc.hint
    if "@" in url:
        reason, hint = (
            "it has a user name or password before its host, or is malformed",
            "Leave out what leads up to @.",
        )
    raise InvalidInput(f"the url of the image cannot be used: {reason}", hint=hint)


def _text_of(url: object) -> str:
    if not isinstance(url, str):
        raise InvalidInput(f"the url of an image must be text, got {type(url).__name__}")
    return url


def _normal(media_type: str) -> str:
    given = str(media_type).strip().lower()
    return "image/jpeg" if given == "image/jpg" else given


def _too_large() -> InvalidInput:
    return InvalidInput(
        f"the image is larger than {MAX_IMAGE_BYTES:,} bytes, the most that all models take",
        hint="Scale it down, or save it as JPEG.",
    )

"""An answer made readable: HTML as Markdown, JSON indented, text as it is, anything else as a sentence about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from conductor_ai.tools.web.content import ContentType, Kind, is_binary, pretty_json, sniff, text_of
from conductor_ai.tools.web.exchange import Body
from conductor_ai.tools.web.failures import FetchFailed
from conductor_ai.tools.web.kept_pages import Reading
from conductor_ai.tools.web.page_reader import PageReader, PageUnreadable

_NO_TEXT = "The page has no readable text. It may be filled in by JavaScript, which is not run here."
_NO_TEXT_YET = "There is no readable text in the part that was read. The page is larger than what is read of a page."


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` is None where it was not read; `length` is what the server announced, if it did."""

    url: str
    status: int
    content_type: ContentType
    length: int | None
    body: Body | None


class Reader:
    """Makes answers readable. The processes that read HTML start with the first page and end with this object."""

    def __init__(self) -> None:
        self._page_reader = PageReader()

    async def read(self, answer: Answer, *, remaining_s: Callable[[], float]) -> Reading:
        """Raises: FetchFailed where HTML cannot be read in the time that remains."""
        if answer.body is None:
            return _without_text(answer, _unread(answer))
        data = answer.body.data
        if not data:
            return _without_text(answer, f"The server answered {_status(answer.status)}, without any content.")
        kind = answer.content_type.kind
        if kind is Kind.UNKNOWN:
            kind = sniff(data)
        if kind is Kind.HTML:
            return await self._html(answer, answer.body, remaining_s())
        if kind is Kind.BINARY or is_binary(data):
            return _without_text(answer, _unread(answer))
        text = await text_of(data, answer.content_type.charset)
        if kind is Kind.JSON and not answer.body.cut:
            text = await pretty_json(text)
        return Reading(answer.url, answer.status, answer.content_type.essence, "", text, (), answer.body.cut)

    async def _html(self, answer: Answer, body: Body, timeout_s: float) -> Reading:
        try:
            page = await self._page_reader.read(
                body.data, url=answer.url, charset=answer.content_type.charset, timeout_s=max(timeout_s, 0.001)
            )
        except PageUnreadable as exc:
            raise FetchFailed(f"{answer.url[:200]} came but cannot be read: {exc}") from exc
        return Reading(
            answer.url,
            answer.status,
            answer.content_type.essence,
            page.title,
            page.content or (_NO_TEXT_YET if body.cut else _NO_TEXT),
            page.links,
            body.cut,
        )


def _without_text(answer: Answer, content: str) -> Reading:
    return Reading(answer.url, answer.status, answer.content_type.essence, "", content)


def _unread(answer: Answer) -> str:
    kind = answer.content_type.essence or "unknown type"
    size = "of unknown size" if answer.length is None else f"{answer.length:,} bytes"
    return f"Not shown: {kind}, {size}. Only HTML, JSON, XML and plain text are read, and nothing of a HEAD."


def _status(status: int) -> str:
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)

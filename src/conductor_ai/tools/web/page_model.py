"""What a page says: its title, its Markdown and its links."""

from __future__ import annotations

from dataclasses import dataclass

MAX_LINKS = 200
"""The first ones. A menu that goes from the text goes only as far as they hold it."""


@dataclass(frozen=True, slots=True)
class Link:
    """`url` is absolute and http or https; `text` is what the page shows for it, "" where it shows no words."""

    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Page:
    """`content` is Markdown without images; JSON-LD blocks stand at its end, each in a ```json fence."""

    title: str
    content: str
    links: tuple[Link, ...]

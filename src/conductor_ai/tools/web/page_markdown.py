"""From the bytes of a page to its title, Markdown and links. CPU work on hostile input: `page_worker` runs it."""

from __future__ import annotations

import html
import re
from functools import cache

import html_to_markdown
from html_to_markdown import ConversionOptions, PreprocessingOptions, exceptions
from lxml import etree  # type: ignore[import-untyped]

from conductor_ai.tools.web import page_cleaning, page_markup
from conductor_ai.tools.web.page_charset import text_of
from conductor_ai.tools.web.page_matter import drop_furniture
from conductor_ai.tools.web.page_model import Link, Page

# Markdown is seldom longer than its markup. A table or list built to grow is given as plain text instead.
_MAX_GROWTH = 3
_FREE_CHARS = 64_000

_TAG = re.compile(r"<[A-Za-z/!?][^<>]*>")
# `<!-->` is a whole comment.
_UNREAD = (
    (re.compile(r"<!-(?=-)"), re.compile(r"--!?>")),
    (re.compile(r"<script\b", re.I), re.compile(r"</script\s*>|\Z", re.I)),  # the script of a page that was cut, too
    *(
        (re.compile(rf"<{name}\b", re.I), re.compile(rf"</{name}\s*>", re.I))
        for name in ("style", "template", "title", "iframe", "svg")
    ),
)
# Python refuses to read a number of thousands of digits.
_LONG_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{100,};?")
_INLINE_TAG = re.compile(r"</?(?:a|abbr|b|bdi|bdo|code|em|font|i|mark|s|small|span|strong|sub|sup|u|wbr)\b", re.I)


def read_page(body: bytes, *, url: str, charset: str | None) -> Page:
    """Any bytes are a page; markup that cannot be read as a tree is given as its plain text."""
    text = page_markup.without_controls(text_of(body, charset))
    root = page_markup.parse(text)
    if root is None:
        return Page(title="", content=_plain(text), links=())
    base = page_markup.base_of(root, url)
    title = page_markup.title_of(root)
    links = page_markup.links_of(root, base)
    blocks = page_markup.json_ld_of(root)
    content = _markdown(root, base, links, limit=_MAX_GROWTH * len(text) + _FREE_CHARS)
    if not content:  # too deep or too long; or so broken that its words are not where words are looked for
        content = _plain(text)
    return Page(title=title, content=_joined(content, blocks), links=links)


def _markdown(root: page_markup.Element, base: str, links: tuple[Link, ...], *, limit: int) -> str | None:
    """None where the tree is too deep, or its Markdown too long, to be written as Markdown."""
    if page_markup.is_deeper_than(root, page_cleaning.MAX_DEPTH):
        return None
    page_cleaning.drop_unread(root)
    page_cleaning.settle_links(root, base)
    drop_furniture(root, links)
    page_cleaning.prepare(root)
    markup = etree.tostring(root, encoding="unicode", method="html")
    # Both at once would take twice the memory.
    root.clear()
    try:
        content = html_to_markdown.convert(markup, _options()).content or ""
    except (exceptions.ConversionError, exceptions.InvalidInputError, exceptions.OtherError, exceptions.PanicError):
        return None
    return page_cleaning.with_escapes(content) if len(content) <= limit else None


@cache
def _options() -> ConversionOptions:
    """Nothing is left to it but the writing: what is hidden, furniture or no link was decided before."""
    return ConversionOptions(
        autolinks=False,
        compact_tables=True,
        extract_metadata=False,
        hidden_content="all",
        skip_images=True,
        bullets="-",
        preprocessing=PreprocessingOptions(enabled=False, remove_navigation=False, remove_forms=False),
    )


def _joined(content: str, blocks: list[str]) -> str:
    content = content.strip()
    if not blocks:
        return content
    fenced = (_fenced(block) for block in blocks)
    return "\n\n".join((*([content] if content else []), "## Structured data (JSON-LD)", *fenced))


def _fenced(block: str) -> str:
    longest = max((len(run) for run in re.findall("`+", block)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}json\n{block}\n{fence}"


def _plain(markup: str) -> str:
    """The text between the tags, each block on a line of its own. In linear time, whatever the markup."""
    for begin, end in _UNREAD:
        markup = _without(markup, begin, end)
    text = _LONG_REFERENCE.sub(" ", _TAG.sub(lambda tag: "" if _INLINE_TAG.match(tag[0]) else "\n", markup))
    lines = (" ".join(line.split()) for line in page_markup.without_controls(html.unescape(text)).split("\n"))
    return page_cleaning.inert("\n\n".join(line for line in lines if line))


def _without(markup: str, begin: re.Pattern[str], end: re.Pattern[str]) -> str:
    """Leave out what stands between; what is never ended is no more than its beginning."""
    kept, start = [], 0
    while (opened := begin.search(markup, start)) and (closed := end.search(markup, opened.end())):
        kept.append(markup[start : opened.start()])
        start = closed.end()
    return "".join((*kept, markup[start:]))

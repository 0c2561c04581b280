"""A page's markup to a tree, and what is read off the tree as it stands: title, links, JSON-LD."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import idna
from lxml import etree  # type: ignore[import-untyped]

from conductor_ai.tools.web import json_layout
from conductor_ai.tools.web.page_model import MAX_LINKS, Link

Element = Any  # lxml carries no types

INLINE = frozenset(
    "a abbr b bdi bdo big cite code del dfn em font i ins kbd label mark q s samp small span strike strong sub sup tt"  # noqa: SIM905
    " u var wbr".split()
)
MAX_LINK_TEXT = 200
_MAX_URL = 8192
_MAX_TITLE = 500

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\ufdd0-\ufdef\ufffe\uffff]+")
_REFERENCE = re.compile(r"&#(?:[xX]0*([0-9a-fA-F]{1,6})(?![0-9a-fA-F])|0*([0-9]{1,7})(?![0-9]));?")
_ENDS = re.compile(r"<(?:(/?)script\b|/html\b[^<>]*>)", re.I)
_SOFT_HYPHEN = 0xAD
# A browser drops line breaks within an address; the rest would break out of a Markdown link.
_BREAKS = re.compile(r"[\t\n\r]+")
_ODD = re.compile(r"[^\x21-\x7e]|[\"<>\\^`{|}]")
_HIDING = re.compile(r"\A\s*(?:<!--|<!\[CDATA\[|/\*\s*<!\[CDATA\[\s*\*/)|(?:-->|\]\]>|/\*\s*\]\]>\s*\*/)\s*\Z")
_REFRESH = re.compile(r"url\s*=\s*['\"]?([^'\"]+)", re.I)


def without_controls(text: str) -> str:
    """NUL and other controls, soft hyphens (they split a name in two) and noncharacters say nothing to a reader."""
    return _CONTROLS.sub("", text.replace("\f", " "))  # a form feed parts words, and is one of them all the same


def _without_references_to_controls(html: str) -> str:
    """`&#8;` would put into the tree what lxml refuses to write back. A space: nothing may close up to a new one."""

    def replaced(reference: re.Match[str]) -> str:
        code = int(reference[1], 16) if reference[1] else int(reference[2])
        is_control = code != _SOFT_HYPHEN and code <= 0xFFFF and _CONTROLS.match(chr(code))
        return " " if is_control else reference[0]

    return _REFERENCE.sub(replaced, html)


def _without_ends_of_the_page(html: str) -> str:
    """At `</html>` libxml2 stops, where a browser reads on. Within a script it is only spelled."""
    in_script = False

    def replaced(tag: re.Match[str]) -> str:
        nonlocal in_script
        if tag[1] is not None:
            in_script = not tag[1]
            return tag[0]
        return tag[0] if in_script else ""

    return _ENDS.sub(replaced, html)


def parse(html: str) -> Element | None:
    """The tree, None where there is no markup at all.

    At 2048 elements within each other libxml2 gives up, without raising: what follows is not in the tree.
    """
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    html = _without_references_to_controls(_without_ends_of_the_page(html))
    try:
        return etree.fromstring(html.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError:
        return None


def is_deeper_than(root: Element, depth: int) -> bool:
    return bool(root.xpath(f"boolean({'/*' * (depth + 1)})"))


def drop(element: Element) -> None:
    """Take it out with all it holds. What follows it stays."""
    parent, before = element.getparent(), element.getprevious()
    if element.tail:
        if before is None:
            parent.text = f"{parent.text or ''}{element.tail}"
        else:
            before.tail = f"{before.tail or ''}{element.tail}"
    parent.remove(element)


def text_within(element: Element, *, before: Element | None = None) -> str:
    """On one line; what stands in blocks of its own is parted by a space. Up to the descendant `before`, if given."""
    pieces = [element.text or ""]
    if len(element):
        for event, part in etree.iterwalk(element, events=("start", "end")):
            if part is before:
                break
            if part is not element:
                pieces += ("" if part.tag in INLINE else " ", (part.text if event == "start" else part.tail) or "")
    return " ".join(without_controls("".join(pieces)).split())


def title_of(root: Element) -> str:
    """<title>, else og:title, else the first <h1>; "" where the page names itself nowhere."""
    named = (
        *(text_within(title) for title in root.iter("title") if not _is_drawn(title)),
        *(meta.get("content") or "" for meta in root.iter("meta") if meta.get("property") == "og:title"),
        *(text_within(heading) for heading in root.iter("h1")),
    )
    return next((" ".join(without_controls(name).split())[:_MAX_TITLE] for name in named if name.strip()), "")


def _is_drawn(title: Element) -> bool:
    return next(title.iterancestors("svg"), None) is not None


def base_of(root: Element, url: str) -> str:
    """What relative addresses are relative to: the first <base href> of the web, else the page's own address."""
    for base in root.iter("base"):
        if base.get("href") is not None:
            return absolute(url, base.get("href")) or url
    return url


@lru_cache(maxsize=4096)
def absolute(base: str, href: str) -> str | None:
    """An http or https address in ASCII, fit to stand in a Markdown link; None for all others.

    None too for `https://bank.example@evil.example/`: who reads it is deceived, and nothing here would fetch it.
    """
    try:
        parts = urlsplit(urljoin(base, without_controls(_BREAKS.sub("", href)).strip()))
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            return None
        host = parts.hostname if parts.hostname.isascii() else idna.encode(parts.hostname, uts46=True).decode()
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:  # brackets that are no IPv6 address, a port that is no number, a name that is none
        return None
    host = f"[{host}]" if ":" in host else host
    url = urlunsplit((parts.scheme, f"{host}{port}", parts.path, parts.query, parts.fragment))
    url = _ODD.sub(lambda odd: "".join(f"%{byte:02X}" for byte in odd[0].encode("utf-8", "replace")), url)
    return url if len(url) <= _MAX_URL else None


def links_of(root: Element, base: str) -> tuple[Link, ...]:
    """The first `MAX_LINKS` addresses in the order of the page, each once.

    Frames and a refresh lead on as links do. An address within the page itself leads nowhere.
    """
    found: dict[str, str] = {}
    for element in root.iter("a", "area", "frame", "iframe", "meta"):
        href = _target(element)
        url = absolute(base, href) if href and not href.startswith("#") else None
        if url is None:
            continue
        if url not in found and len(found) == MAX_LINKS:
            break
        # The same address is often a picture first and words later.
        found[url] = found.get(url) or _shown(element)[:MAX_LINK_TEXT]
    return tuple(Link(text=text, url=url) for url, text in found.items())


def _target(element: Element) -> str:
    if element.tag == "meta":
        refresh = (element.get("http-equiv") or "").lower() == "refresh"
        url = _REFRESH.search(element.get("content") or "") if refresh else None
        return url[1].strip() if url else ""
    return (element.get("href" if element.tag in ("a", "area") else "src") or "").strip()


def _shown(element: Element) -> str:
    pictures = (picture.get("alt") or "" for picture in element.iter("img"))
    named = (
        # A link that was never closed holds the next one, and shows its own words only.
        text_within(element, before=next(element.iterdescendants("a"), None)) if element.tag == "a" else "",
        " ".join(pictures),
        *(element.get(name) or "" for name in ("alt", "aria-label", "title", "name")),
    )
    return next((" ".join(without_controls(name).split()) for name in named if name.strip()), "")


def json_ld_of(root: Element) -> list[str]:
    """Every JSON-LD block: without white space that says nothing, or its own text where it is not JSON."""
    blocks = []
    for script in root.iter("script"):
        if (script.get("type") or "").strip().lower().startswith("application/ld+json"):
            text = _HIDING.sub("", "".join(script.itertext())).strip()
            blocks += [json_layout.compact(text)] if text else []
    return blocks

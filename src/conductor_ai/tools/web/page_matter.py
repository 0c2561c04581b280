"""Which parts of a page are its matter. What is in doubt stays: a lost fact costs more than a few words too many.

Only what the page itself marks as furniture (menus, banners, footers, asides, cookie notices) can go, and only where it
carries no fact, that is: no digit and no address. Then it goes if it is nothing but links, which the page's list of
links holds anyway, or if trafilatura, having found most of the rest, did not count it as matter.

trafilatura says what is matter and does not write it. Tried with 2.3.1, recall favoured: it dropped the telephone
number of a contact footer, a third of the words of a table of dealers and the first line of an <address>; its Markdown
broke a table with a caption, lost the language of code, and escapes underscores, so that a mail address is no longer
that address. It took 50 to 100 ms of CPU for 2,000 elements and up to 1.2 s for 20,000.
"""

from __future__ import annotations

import re
from collections import Counter

from conductor_ai.tools.web.page_markup import MAX_LINK_TEXT, Element, drop, text_within

# Above this trafilatura takes more than half a second, and a page that long is seldom mostly furniture.
_MAX_ELEMENTS = 10_000
_MAX_CHARS = 1_000_000
# It found "most of the rest" with this share of the words.
_TRUSTED_SHARE = 0.6
_KEPT_SHARE = 0.5
_MIN_MATTER_WORDS = 25

_LANDMARKS = ("nav", "header", "footer", "aside")
_ROLES = frozenset(("navigation", "banner", "contentinfo", "complementary", "search"))
_NAMES = frozenset(
    "nav navbar navigation breadcrumb breadcrumbs footer sidebar site-header site-footer cookie cookies"  # noqa: SIM905
    " cookie-banner cookie-notice consent gdpr share sharing social social-links related newsletter skip-link".split()
)
_WORD = re.compile(r"\w+")
_COPYRIGHT = re.compile(r"(?:©|\(c\)|copyright)\s*(?:(?:19|20)\d\d(?:\s*[-\u2013]\s*(?:19|20)\d\d)?)?", re.I)


def drop_furniture(root: Element, *, all_links_listed: bool) -> None:
    """Take out of the tree what is not its matter. Addresses in it are settled, so that a mail address is text."""
    furniture = _furniture(root)
    words = Counter(_words(root))
    for part in furniture:
        words -= Counter(_words(part))
    if words.total() < _MIN_MATTER_WORDS:
        return
    undecided = []
    for part in furniture:
        if _has_fact(part):
            continue
        if all_links_listed and _is_only_links(part):
            drop(part)
        elif all_links_listed or next(part.iterdescendants("a"), None) is None:
            undecided.append(part)
    if undecided:
        _drop_what_trafilatura_drops(root, undecided, words)


def _furniture(root: Element) -> list[Element]:
    """The outermost marked parts."""
    found: list[Element] = []
    for element in root.iter(*_LANDMARKS, "div", "section", "ul", "ol", "form"):
        if _is_marked(element) and not any(above in found for above in element.iterancestors()):
            holds_matter = next(element.iterdescendants("main", "article", "h1", "table", "dl", "address"), None)
            if holds_matter is None:
                found.append(element)
    return found


def _is_marked(element: Element) -> bool:
    names = f"{element.get('id') or ''} {element.get('class') or ''}".lower().split()
    if element.tag in _LANDMARKS or element.get("role") in _ROLES or not _NAMES.isdisjoint(names):
        # The header of an article names its author; its menu is a menu all the same.
        return element.tag == "nav" or next(element.iterancestors("main", "article"), None) is None
    return False


def _words(part: Element) -> list[str]:
    return _WORD.findall(" ".join(part.itertext()))


def _has_fact(part: Element) -> bool:
    text = _COPYRIGHT.sub("", " ".join(part.itertext()))
    return "@" in text or any(char.isdigit() for char in text)


def _is_only_links(part: Element) -> bool:
    linked = [text_within(link) for link in part.iter("a")]
    if any(len(text) > MAX_LINK_TEXT for text in linked):
        return False
    return len(_words(part)) <= sum(len(_WORD.findall(text)) for text in linked)


def _drop_what_trafilatura_drops(root: Element, undecided: list[Element], matter: Counter[str]) -> None:
    kept = _WORD.findall(_kept_by_trafilatura(root))
    if (Counter(kept) & matter).total() < _TRUSTED_SHARE * matter.total():
        return
    runs = _runs(kept)
    for part in undecided:
        own = _runs(_words(part))
        if len(own & runs) < _KEPT_SHARE * len(own) or not own:
            drop(part)


def _runs(words: list[str]) -> set[tuple[str, ...]]:
    return set(zip(words, words[1:], words[2:], strict=False))


def _kept_by_trafilatura(root: Element) -> str:
    """The text it takes for the page's matter, "" where it finds none, or would take long to."""
    if sum(1 for _ in root.iter()) > _MAX_ELEMENTS or sum(map(len, root.itertext())) > _MAX_CHARS:
        return ""
    from lxml import etree, html  # type: ignore[import-untyped]
    from trafilatura.core import bare_extraction

    # Its own kind of elements, and a tree that it may change.
    copy = html.document_fromstring(etree.tostring(root, encoding="unicode", method="html"))
    try:
        # `fast` leaves out its own second and third try: the page as a whole is our second one.
        document = bare_extraction(copy, fast=True, favor_recall=True, include_comments=True, include_tables=True)
    except Exception:  # noqa: BLE001  foreign code on hostile input: what it raises is not documented, and means "no"
        return ""
    return str(getattr(document, "text", "") or "")

"""Which parts of a page are its matter. What is in doubt stays: a lost fact costs more than many words too many.

Two things go, where they carry no digit and no mail address. Menus and the like, if the page itself marks them as such
and they are nothing but links: each link in them that the page's list of links holds, with the same words. And notices
about cookies that are marked as such, if trafilatura, having found most of the rest, did not count them as matter.

trafilatura says what is matter and does not write it. Tried with 2.3.1, recall favoured: it dropped the telephone
number of a contact footer, the names in an aside, a third of the words of a table of dealers and the first line of an
<address>; its Markdown broke a table with a caption, lost the language of code, and escapes underscores, so that a mail
address is no longer that address. It took 50 to 100 ms of CPU for 2,000 elements and up to 1.2 s for 20,000.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from conductor_ai.tools.web.page_markup import Element, drop, text_within
from conductor_ai.tools.web.page_model import Link

# Above this trafilatura takes more than half a second, and a page that long is seldom mostly furniture.
_MAX_ELEMENTS = 10_000
_MAX_CHARS = 1_000_000
# It found "most of the rest" with this share of the words.
_TRUSTED_SHARE = 0.6
_KEPT_SHARE = 0.5
_MIN_MATTER_WORDS = 25

_LANDMARKS = ("nav", "header", "footer", "aside")
_ROLES = frozenset(("navigation", "banner", "contentinfo", "complementary", "search"))
_MENUS = frozenset(
    "nav navbar navigation breadcrumb breadcrumbs footer sidebar site-header site-footer share sharing social"  # noqa: SIM905
    " social-links related skip-link".split()
)
# Not "cookies", which bakers have too.
_NOTICES = frozenset(
    "cookie-banner cookie-bar cookie-consent cookie-law cookie-notice cookie-popup cookiebar cookieconsent"  # noqa: SIM905
    " consent-banner consent-notice gdpr gdpr-banner gdpr-consent cybotcookiebotdialog onetrust-banner-sdk".split()
)
_WORD = re.compile(r"\w+")
# Dashes, dots, arrows and the mark of a folded menu.
_SEPARATORS = re.compile(
    r"[-\s|/\\<>:,.\u2013\u2014\u2022\u2026\u2039\u203a\xab\xb7\xbb\u2190\u2192\u25b8\u25be\u25bc\u2630]*"
)


def drop_furniture(root: Element, links: Iterable[Link]) -> None:
    """Take out of the tree what is not its matter. Addresses in it are settled, so that a mail address is text."""
    menus, notices = _furniture(root)
    matter = Counter(_words(root))
    for part in (*menus, *notices):
        matter -= Counter(_words(part))
    if matter.total() < _MIN_MATTER_WORDS:
        return
    listed = {link.url: link.text for link in links}
    for menu in menus:
        _drop_what_is_listed(menu, listed)
    if notices:
        _drop_what_trafilatura_drops(root, notices, matter)


def _furniture(root: Element) -> tuple[list[Element], list[Element]]:
    """Menus of links, and notices: of those within each other the outermost."""
    menus, notices, found = [], [], set()
    for element in root.iter(*_LANDMARKS, "div", "section", "ul", "ol", "form"):
        names = set(f"{element.get('id') or ''} {element.get('class') or ''}".lower().split())
        is_notice = not _NOTICES.isdisjoint(names)
        if not (is_notice or _is_menu(element, names)) or any(above in found for above in element.iterancestors()):
            continue
        if _holds_matter(element) or _has_fact(element):
            continue
        if is_notice:
            notices.append(element)
        elif _is_only_links(element):
            menus.append(element)
        else:
            continue
        found.add(element)
    return menus, notices


def _is_menu(element: Element, names: set[str]) -> bool:
    if element.tag in _LANDMARKS or element.get("role") in _ROLES or not _MENUS.isdisjoint(names):
        # The header of an article names its author; its menu is a menu all the same.
        return element.tag == "nav" or next(element.iterancestors("main", "article"), None) is None
    return False


def _holds_matter(element: Element) -> bool:
    matter = element.iterdescendants("main", "article", "h1", "table", "dl", "address", "abbr", "pre")
    return next(matter, None) is not None or next(element.iterancestors("a"), None) is not None


def _words(part: Element) -> list[str]:
    return _WORD.findall(" ".join(part.itertext()))


def _has_fact(part: Element) -> bool:
    return any(char == "@" or char.isdigit() for text in part.itertext() for char in text)


def _is_only_links(part: Element) -> bool:
    return _SEPARATORS.fullmatch("".join(part.xpath(".//text()[not(ancestor::a)]"))) is not None


def _drop_what_is_listed(menu: Element, listed: Mapping[str, str]) -> None:
    """What is not listed stays: other words for an address that was listed before, or one of too many links."""
    for link in list(menu.iter("a")):
        text = text_within(link)
        if text in listed.get(link.get("href"), ""):
            item = link.getparent()
            drop(item if item.tag == "li" and text_within(item) == text else link)
    if not _words(menu):
        drop(menu)


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

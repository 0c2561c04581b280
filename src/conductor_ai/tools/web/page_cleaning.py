"""Make a tree fit to be written as Markdown: nothing that runs, no images, no address but http and https, inert text.

Text of a page may look like Markdown. What it spells must stay spelled: `![x](https://...)` in a sentence would make
whoever renders the Markdown fetch that address, which is how private words leave. Such characters are marked here and
become backslash escapes once the Markdown is written; within code nothing is marked, since code cannot come alive.

Text hidden by style or by the `hidden` attribute stays: what a page shows in a tab or after a click is its matter, and
visible text deserves no more trust. Comments, scripts, styles and templates are never read by anybody and go.
"""

from __future__ import annotations

import html
import re
from urllib.parse import unquote

from lxml import etree  # type: ignore[import-untyped]

from conductor_ai.tools.web.page_markup import INLINE, Element, absolute, drop, text_within, without_controls

# Deeper than this html-to-markdown begins to drop what it meets, and no page of a person is.
MAX_DEPTH = 400

# Noncharacters: `without_controls` took them out of the page, so they cannot be forged.
_ESCAPE, _BACKSLASH = "\ufdd0", "\ufdd1"
_ALIVE = re.compile(r"`|!(?=\[)|(?<=\])[(\[:]|<(?=[A-Za-z/!?])|(?<=~)~|\\")
# Most text has none of this, and is left as it is.
_CARE = re.compile(r"[`!\]<~\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f\xa0\xad\u2007\u202f\ufdd0-\ufdef\ufffe\uffff]")
# A space that may not break: a number written with it is found when its digits are searched for.
_SPACES = re.compile("[\xa0\u2007\u202f]")
_EDGES = frozenset("!]<~")
_ALIVE_AT_AN_EDGE = re.compile(r"!\[|\][(\[:]|<[A-Za-z/!?]|~~")

_UNREAD = ("script", "style", "svg", "canvas", "audio", "video", "iframe", "datalist", "rp")
# These a drawing or formula cannot hold: HTML standard, "the rules for parsing tokens in foreign content".
_END_A_DRAWING = (
    "b big blockquote br center dd div dl dt em h1 h2 h3 h4 h5 h6 hr i img li nobr ol p pre ruby s small span strong"  # noqa: SIM905
    " strike sub sup table tt u ul var".split()
)
# Not <head> as a whole: where a page has no <body>, libxml2 keeps elements newer than itself in the head.
_HEAD = ("title", "meta", "link", "base")
# What html-to-markdown writes as this module expects. It has rules of its own for many others (<math>, <label>):
# they become <span> where they stand in a line, else <div>.
_WRITTEN = frozenset(
    "html body div span p h1 h2 h3 h4 h5 h6 a b strong i em s del mark sub sup q abbr code kbd samp tt pre ul ol li"  # noqa: SIM905
    " blockquote table caption colgroup col thead tbody tfoot tr td th br hr details summary".split()
)
_IN_A_LINE = INLINE | {
    "ruby",
    "rb",
    "rt",
    "rtc",
    "math",
    "select",
    "input",
    "textarea",
    "output",
    "data",
    "img",
    "meter",
}
# Within any other element the fences of code would not stand on lines of their own, and so not be fences.
_PLACES_FOR_A_FENCE = frozenset(("html", "body", "div", "main", "article", "section", "ul", "ol", "li", "blockquote"))
_CODE = frozenset(("pre", "code", "kbd", "samp", "tt"))
_KEPT_ATTRIBUTES = {
    "a": ("href",),
    "abbr": ("title",),
    "ol": ("start",),
    "td": ("colspan",),
    "th": ("colspan",),
    "pre": ("class",),
    "code": ("class",),
}
_TAG = re.compile(r"<[^<>]*>")
_MAX_COLSPAN = 50
_UNSEEN_INPUTS = frozenset("hidden password submit button reset image checkbox radio file color range".split())  # noqa: SIM905


def drop_unread(root: Element) -> None:
    """Take out what no reader ever sees, and write out as text what a reader sees although it is no text."""
    for template in root.xpath("//template[not(@shadowrootmode)]"):
        drop(template)
    for drawing in list(root.iter("svg", "math")):
        if next(drawing.iterdescendants(*_END_A_DRAWING), None) is not None:
            drawing.tag = "div"  # it was never closed: in a browser, too, the page goes on behind it
    for fact in root.xpath("//body//meta[@itemprop and @content]"):
        if "://" not in fact.get("content"):
            _say(fact, f"{fact.get('itemprop')}: {fact.get('content')} ")
    etree.strip_elements(root, *_UNREAD, *_HEAD, with_tail=False)
    for frames in root.iter("noframes"):  # what is in it was kept as it was written, tags and all
        _say(frames, without_controls(html.unescape(_TAG.sub(" ", frames.text or ""))))
    for image in list(root.iter("img")):
        _say(image, f" {image.get('alt') or ''} ")
    _say_fields(root)


def _say_fields(root: Element) -> None:
    """What a form shows before anybody has typed: its values, and what can be chosen."""
    for field in list(root.iter("input")):
        seen = (field.get("type") or "text").lower() not in _UNSEEN_INPUTS
        _say(field, f" {field.get('value') or ''} " if seen else " ")
    for choice in list(root.iter("select")):
        options = (text_within(option) for option in choice.iter("option"))
        text = ", ".join(option for option in options if option)
        for child in list(choice):
            choice.remove(child)
        _say(choice, f" {text} ")


def _say(element: Element, text: str) -> None:
    """Let an element be `text` and nothing else. What follows it stays."""
    element.tag, element.text = "span", text


def settle_links(root: Element, base: str) -> None:
    """Make addresses absolute. A telephone number or mail address is said, if the link does not say it; others go."""
    for link in list(root.iter("a")):
        href = (link.get("href") or "").strip()
        url = absolute(base, href) if href and not href.startswith("#") else None
        shown = "".join(link.itertext())
        if url is not None and shown.strip():
            link.set("href", url)
            continue
        scheme, _, address = href.partition(":")
        told = _told(address) if scheme.lower() in ("tel", "mailto", "callto", "sms") else ""
        if told and _essence(told) not in _essence(shown):
            link.text = f"{link.text or ''}{' ' if shown else ''}"
            _append_text(link, f" ({told})" if shown.strip() else told)
        link.tag = "span"


def _told(address: str) -> str:
    return " ".join(without_controls(unquote(address.partition("?")[0])).split())


def _essence(text: str) -> str:
    return re.sub(r"[\s()/.\-\u2010-\u2015\u2060]+", "", text).casefold()


def _append_text(element: Element, text: str) -> None:
    if len(element):
        element[-1].tail = f"{element[-1].tail or ''}{text}"
    else:
        element.text = f"{element.text or ''}{text}"


def prepare(root: Element) -> None:
    """The rest, in place: tables, terms, code and text as html-to-markdown writes them well."""
    for table in list(root.iter("table")):
        if not _is_grid(table):
            _unfold(table)
    for term in list(root.iter("dt")):
        _embolden(term)
    for reading in list(root.iter("rt")):
        reading.text = f" ({reading.text or ''}"
        _append_text(reading, ")")
    for element in list(root.iter()):
        if element.tag not in _WRITTEN:
            element.tag = "span" if element.tag in _IN_A_LINE else "div"
    _settle_code(root)
    _make_inert(root)


def _settle_code(root: Element) -> None:
    for code in list(root.iter("pre")):
        _flatten(code)
        for above in code.iterancestors():
            if above.tag not in _PLACES_FOR_A_FENCE:
                above.tag = "div"
    for code in list(root.iter("code", "kbd", "samp", "tt")):
        if len(code):
            _flatten(code)


def _is_grid(table: Element) -> bool:
    """Rows and columns of facts; not a page laid out by a table, and not a trap of one long row and many short ones."""
    if (
        table.get("role") in ("presentation", "none")
        or next(table.iterdescendants("table", "pre", "h1"), None) is not None
    ):
        return False
    widths = [sum(1 for cell in row if cell.tag in ("td", "th")) for row in table.iter("tr")]
    widest = max(widths, default=0)
    return widest > 1 and widest * len(widths) <= 10 * sum(widths) + 1000


def _unfold(table: Element) -> None:
    for part in [table, *table.iterdescendants("caption", "colgroup", "thead", "tbody", "tfoot", "tr", "td", "th")]:
        within = next(part.iterancestors("table"), None) if part is not table else None
        if within is None or within is table:
            part.tag = "div"


def _embolden(term: Element) -> None:
    strong = etree.Element("strong")
    strong.text, term.text = term.text, None
    strong.extend(list(term))
    term.append(strong)
    term.tag = "p"


def _flatten(code: Element) -> None:
    """Within code there is text and nothing else."""
    names = " ".join((part.get("class") or "") for part in (code, *code.iterdescendants("code")))
    for line_break in list(code.iterdescendants("br", "div", "p", "li", "tr")):
        line_break.tail = "\n" + (line_break.tail or "")
    text = "".join(code.itertext())
    for child in list(code):
        code.remove(child)
    code.text = text
    language = re.search(r"\b(?:language|lang|highlight-source)-([\w+#-]{1,30})", names)
    if code.tag == "pre" and language:
        inner = code.makeelement("code", {"class": f"language-{language[1]}"})
        inner.text, code.text = text, None
        code.append(inner)


def _make_inert(root: Element) -> None:
    """Mark what would come alive, in the order in which it is read: `!` may end one element and `[` begin the next."""
    prose = _Prose()
    coded = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        if event == "start":
            if element.tag in _CODE:
                prose.before_code()
            coded += element.tag in _CODE
            _keep_attributes(element)
            if element.tag == "a" and not coded:
                prose.before_a_link()
            if coded:
                element.text = without_controls(element.text or "")
            else:
                prose.read(element, "text")
        else:
            coded -= element.tag in _CODE
            if element.tag in _CODE:
                prose.after_code(element)
            if not coded:
                prose.read(element, "tail")


class _Prose:
    """The text outside of code, read piece by piece."""

    def __init__(self) -> None:
        self._place: tuple[Element, str] | None = None
        self._end = ""
        self._code: Element | None = None

    def read(self, element: Element, name: str) -> None:
        text = getattr(element, name)
        if not text:
            return
        if _CARE.search(text):
            text = without_controls(text)
            setattr(element, name, _escaped(text))
        if text:
            self._code = None
        # Space at the edge of an element may be left out when it is written.
        if words := text.strip():
            if self._end in _EDGES and _ALIVE_AT_AN_EDGE.fullmatch(self._end + words[0]):
                self._escape_end()
            self._place, self._end = (element, name), words[-1]

    def before_a_link(self) -> None:
        if self._end == "!" and self._place is not None and getattr(*self._place)[-1] == "!":
            self._escape_end()

    def before_code(self) -> None:
        """The backticks of two neighbours would count as one mark, and neither be code."""
        if self._code is not None:
            self._code.tail = " "

    def after_code(self, code: Element) -> None:
        self._end, self._code = "", code

    def _escape_end(self) -> None:
        if self._place is not None:
            text = getattr(*self._place)
            last = len(text.rstrip()) - 1
            if text[last - 1 : last] != _ESCAPE:
                setattr(*self._place, f"{text[:last]}{_ESCAPE}{text[last:]}")


def _keep_attributes(element: Element) -> None:
    if not element.attrib:
        return
    kept = {name: element.get(name) for name in _KEPT_ATTRIBUTES.get(element.tag, ()) if element.get(name)}
    if not _is_small(kept.get("colspan", "1")):
        del kept["colspan"]
    if "title" in kept:  # written behind an abbreviation
        kept["title"] = _escaped(without_controls(kept["title"]))
    element.attrib.clear()  # one by one fails: hostile markup has names that lxml reads and then knows nothing of
    element.attrib.update(kept)


def _is_small(span: str) -> bool:
    return span.isascii() and span.isdigit() and int(span[:9]) <= _MAX_COLSPAN


def _escaped(text: str) -> str:
    return _ALIVE.sub(lambda alive: _BACKSLASH if alive[0] == "\\" else _ESCAPE + alive[0], _SPACES.sub(" ", text))


def inert(text: str) -> str:
    """Plain text of a page as Markdown that spells the same."""
    return with_escapes(_escaped(text))


def with_escapes(markdown: str) -> str:
    return markdown.replace(_ESCAPE, "\\").replace(_BACKSLASH, "\\\\")

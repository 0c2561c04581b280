"""Bytes of a page to text: byte order mark, HTTP header, <meta>, and only then a guess.

Source: WHATWG Encoding and HTML standards: the mark wins over the header, labels of Latin-1 mean windows-1252, and a
<meta> cannot say UTF-16. Unlike a browser, a wrong promise of UTF-8 is noticed: an umlaut lost is a name lost.
"""

from __future__ import annotations

import codecs
import re
import sys

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(
    rb"""<(?:meta\b[^>]{0,500}?charset|\?xml\b[^>]{0,100}?encoding)\s*=\s*["']?\s*([\w.:-]{2,40})""", re.I
)
_META_WITHIN = 4096
_PIECE_BYTES = 2**15

# Python also knows codecs that are no character sets (zip, rot13, unicode_escape), and UTF-7, which hides markup.
_TRUSTED = re.compile(
    r"utf-?8|utf-?16(-?[lb]e)?|iso-?8859-?\d+|latin-?\d|(windows|cp|ibm)-?\d{3,4}|koi8-?[rtu]|(us-?)?ascii|mac-?\w+"
    r"|euc-?(jp|kr)|iso-2022-(jp|kr)|(x-)?s(hift)?[_-]?jis|gb(k|2312|18030)|big5(-?hkscs)?|ks_c_5601-1987|tis-?620"
)
_MEANT = {
    "ascii": "windows-1252",
    "us-ascii": "windows-1252",
    "iso-8859-1": "windows-1252",
    "iso8859-1": "windows-1252",
    "latin1": "windows-1252",
    "latin-1": "windows-1252",
    "iso-8859-9": "windows-1254",
    "iso-8859-11": "windows-874",
    "tis-620": "windows-874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "sjis": "cp932",
    "utf-16": "utf-16-le",
    "utf16": "utf-16-le",
    "x-sjis": "cp932",
}


def text_of(body: bytes, charset: str | None) -> str:
    """Decode a page; never raises. `charset` is the HTTP header's, or None."""
    for mark, codec in _MARKS:
        if body.startswith(mark):
            return _decoded(body[len(mark) :], codec)
    declared = _codec(charset) or _codec_of_meta(body)
    if declared is not None and declared != "utf-8":
        return _decoded(body, declared)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return _nearly_utf8(body) if declared else _decoded(body, "windows-1252")


def _decoded(body: bytes, codec: str) -> str:
    """In pieces: a codec holds the interpreter while it works."""
    table = _table_of(codec)
    if table is not None:
        starts = range(0, len(body), _PIECE_BYTES)
        return "".join(
            codecs.charmap_decode(body[start : start + _PIECE_BYTES], "strict", table)[0] for start in starts
        )
    decoder = codecs.getincrementaldecoder(codec)("replace")
    pieces = [decoder.decode(body[start : start + _PIECE_BYTES]) for start in range(0, len(body), _PIECE_BYTES)]
    return "".join((*pieces, decoder.decode(b"", final=True)))


def _table_of(codec: str) -> str | None:
    """The characters of a codec of single bytes, with U+FFFD where it has none.

    Without that Python asks what to do at each such byte: for a second and more, if a large page is made of them.
    """
    module = sys.modules[codecs.getincrementaldecoder(codec).__module__]
    table: str | None = getattr(module, "decoding_table", None)
    return table.replace("\ufffe", "\ufffd").ljust(256, "\ufffd") if table is not None else None


def _nearly_utf8(body: bytes) -> str:
    """A page cut within a character stays UTF-8; one without a single good character of it never was."""
    text = _decoded(body, "utf-8")
    good = sum(1 for char in text if char > "\x7f" and char != "\ufffd")
    return text if good >= text.count("\ufffd") else _decoded(body, "windows-1252")


def _codec_of_meta(body: bytes) -> str | None:
    found = _META.search(body, 0, _META_WITHIN)
    codec = _codec(found[1].decode("ascii", "replace")) if found else None
    # It was read as ASCII, so it is not UTF-16, whatever it says.
    return "utf-8" if codec and codec.startswith("utf-16") else codec


def _codec(label: str | None) -> str | None:
    """The Python codec of a label, None where it is unknown or not to be trusted."""
    name = (label or "").strip(" \t\"'").lower()
    if not _TRUSTED.fullmatch(name):
        return None
    try:
        return codecs.lookup(_MEANT.get(name, name)).name
    except LookupError:
        return None

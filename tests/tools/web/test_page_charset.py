from __future__ import annotations

import codecs

import pytest

from conductor_ai.tools.web.page_charset import text_of

TEXT = "Überführung für 8,50 €"


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        pytest.param(TEXT.encode(), None, id="nothing said, valid UTF-8"),
        pytest.param(TEXT.encode("cp1252"), None, id="nothing said, not UTF-8"),
        pytest.param(TEXT.encode("cp1252"), "ISO-8859-1", id="Latin-1 means windows-1252, as in browsers"),
        pytest.param(TEXT.encode("cp1252"), "us-ascii", id="so does ASCII"),
        pytest.param(TEXT.encode("cp1252"), "utf-8", id="UTF-8 is promised and not one character of it is"),
        pytest.param(TEXT.encode("iso-8859-15"), ' "ISO-8859-15" ', id="quotes around the label"),
        pytest.param(TEXT.encode(), "zip", id="a codec of Python that is no character set"),
        pytest.param(TEXT.encode(), "unicode_escape", id="a codec that would run through the text"),
        pytest.param(TEXT.encode(), "utf-7", id="a character set that hides markup"),
        pytest.param(TEXT.encode(), "iso-8859-99", id="a character set that is none"),
        pytest.param(codecs.BOM_UTF8 + TEXT.encode(), "windows-1252", id="the mark wins over the header"),
        pytest.param(codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), None, id="UTF-16, little end first"),
        pytest.param(codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), None, id="UTF-16, big end first"),
    ],
)
def test_text_is_read_as_it_was_meant(body: bytes, charset: str | None) -> None:
    assert text_of(body, charset) == TEXT


@pytest.mark.parametrize(
    ("declaration", "codec", "text"),
    [
        ("<meta charset=koi8-r>", "koi8-r", "Автосалон"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">', "cp932", "自動車①"),
        ("<META CHARSET = 'gb2312'>", "gb18030", "汽车经销商镕"),
        ('<?xml version="1.0" encoding="iso-8859-2"?>', "iso-8859-2", "Škoda Łódź"),
        ("<meta charset='utf-16'>", "utf-8", "größer"),
    ],
)
def test_a_declaration_within_the_page_is_followed(declaration: str, codec: str, text: str) -> None:
    assert text_of(declaration.encode() + text.encode(codec), None) == declaration + text


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("windows-1253", "cp1253"),
        ("cp424", "cp424"),
        ("gb18030", "gb18030"),
        ("shift_jis", "cp932"),
        ("iso-2022-jp", "iso2022_jp"),
        ("utf-16", "utf-16-le"),
        ("euc-jp", "euc_jp"),
    ],
)
def test_a_large_page_of_broken_bytes_is_read_as_its_codec_reads_it_whole(label: str, codec: str) -> None:
    body = bytes(range(256)) * 300 + "añ漢字".encode() * 9000 + b"\x1b$B!!" * 999 + b"\x81"

    assert text_of(body, label) == body.decode(codec, "replace")


def test_a_large_page_of_nearly_utf8_is_read_whole() -> None:
    body = b"x" + "añ漢字".encode() * 9000 + b"\xe6"

    assert text_of(body, "utf-8") == "x" + "añ漢字" * 9000 + "\ufffd"


def test_a_codec_is_not_asked_about_each_byte_that_it_has_no_character_for() -> None:
    """That would take a second and more, in which nothing else in the process runs."""
    asked = 0
    replace = codecs.lookup_error("replace")

    def counted(error: UnicodeError) -> tuple[str | bytes, int]:
        nonlocal asked
        asked += 1
        return replace(error)

    codecs.register_error("replace", counted)
    try:
        assert text_of(b"\xff" * 1000, "windows-1253") == "\ufffd" * 1000
    finally:
        codecs.register_error("replace", replace)
    assert asked == 0


def test_the_header_wins_over_the_page() -> None:
    assert text_of("<meta charset=utf-8>Łódź".encode("iso-8859-2"), "iso-8859-2").endswith("Łódź")


def test_a_page_cut_within_a_character_stays_utf8() -> None:
    assert text_of("größer ü".encode()[:-1], "utf-8") == "größer \ufffd"

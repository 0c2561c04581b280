"""Titles, addresses and structured data."""

from __future__ import annotations

import pytest

from conductor_ai.tools.web.page_markdown import read_page
from conductor_ai.tools.web.page_model import Page


def read(html: str, url: str = "https://site.example/dir/page?q=1") -> Page:
    return read_page(html.encode(), url=url, charset="utf-8")


@pytest.mark.parametrize(
    ("html", "title"),
    [
        ("<title> One\n line </title><meta property=og:title content=Two><h1>Three</h1>", "One line"),
        ("<title> </title><meta property=og:title content=Two><h1>Three</h1>", "Two"),
        ("<svg><title>Drawn</title></svg><h1>Three <b>words</b> here</h1>", "Three words here"),
        ("<title>First</title><title>Second</title>", "First"),
        ("<p>no name at all", ""),
        ("<title>soft&shy;hyphen &#8; &amp; more</title>", "softhyphen & more"),
    ],
)
def test_title(html: str, title: str) -> None:
    assert read(html).title == title


@pytest.mark.parametrize(
    ("href", "url"),
    [
        ("../up", "https://site.example/up"),
        ("?only=query", "https://site.example/dir/page?only=query"),
        ("//other.example/x", "https://other.example/x"),
        ("HTTP://Other.Example:8080/X", "http://other.example:8080/X"),
        (" ht\ntps://other.example/a\tb ", "https://other.example/ab"),
        ("a b(c)'d'é", "https://site.example/dir/a%20b(c)'d'%C3%A9"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ("http://[2001:db8::1]/x", "http://[2001:db8::1]/x"),
        ("x?a=1&amp;b=%20&quot;", "https://site.example/dir/x?a=1&b=%20%22"),
    ],
)
def test_an_address_is_absolute_and_ascii_in_the_list_and_in_the_text(href: str, url: str) -> None:
    page = read(f'<p><a href="{href}">there</a>')

    assert [link.url for link in page.links] == [url]
    assert page.content == f"[there]({url})"


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)",
        "JaVa\nScript:alert(1)",
        "&#1;javascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "ftp://files.example/",
        "blob:https://x.example/1",
        "#top",
        "",
        "http://",
        "http:///path",
        "http://[::1",
        "http://host.example:port/",
        "http://host.example:99999/",
        "https://bank.example@evil.example/",
        "x" * 9000,
    ],
)
def test_an_address_that_leads_nowhere_on_the_web_leaves_its_words(href: str) -> None:
    page = read(f'<p>Go <a href="{href}">there</a> now')

    assert page.links == ()
    assert page.content == "Go there now"


@pytest.mark.parametrize(
    ("html", "content"),
    [
        ('<a href="tel:+49-30-555%200100">Call us</a>', "Call us (+49-30-555 0100)"),
        ('<a href="tel:+4930555">+49 (30) 555</a>', "+49 (30) 555"),
        ('<a href="MAILTO:a@b.example?subject=x">Mail</a>', "Mail (a@b.example)"),
        ('<a href="mailto:a@b.example"><img src=x></a>', "a@b.example"),
        ('<a href="tel:"><b>Call</b></a>', "**Call**"),
    ],
)
def test_a_number_or_mail_address_behind_a_link_is_said(html: str, content: str) -> None:
    assert read(html).content == content


def test_base_is_followed_where_it_is_of_the_web() -> None:
    assert read("<base target=x><base href=/sub/><a href=y>z</a>").links[0].url == "https://site.example/sub/y"
    assert read("<base href='javascript:x'><a href=y>z</a>").links[0].url == "https://site.example/dir/y"


def test_an_address_is_listed_once_with_its_first_words() -> None:
    page = read(
        "<a href=/x><img src=i></a><a href=/y><img src=i alt='A picture'></a><a href=/x>Words</a><a href=/x>More</a>"
        "<map><area href=/z alt='An area'></map><a href=/w aria-label='A label'></a>"
    )

    assert [(link.text, link.url.rsplit("/", 1)[1]) for link in page.links] == [
        ("Words", "x"),
        ("A picture", "y"),
        ("An area", "z"),
        ("A label", "w"),
    ]


def test_links_are_bounded_and_those_of_a_menu_that_are_not_listed_stay_in_the_text() -> None:
    menu = [f"<a href=/{number}>Town</a> " for number in range(201)]
    prose = "<p>" + "many words that make up the matter of this page " * 5

    listed = read(f"<nav>{''.join(menu[:200])}</nav>{prose}")
    beyond = read(f"<nav>{''.join(menu)}</nav>{prose}")

    assert len(listed.links) == len(beyond.links) == 200
    assert "Town" not in listed.content
    assert beyond.content.startswith("[Town](https://site.example/200)\n\nmany words")


@pytest.mark.parametrize(
    ("block", "written"),
    [
        ('{"a": [1, 2.50, true, null], "ü": "x"}', '{"a":[1,2.50,true,null],"ü":"x"}'),
        ('{"a": 1, "a": 2}', '{"a":1,"a":2}'),
        ('{"a": NaN}', '{"a":NaN}'),
        ('{"a": 1e999}', '{"a":1e999}'),
        (r'{"half": "\ud83d"}', r'{"half":"\ud83d"}'),
        ("[" * 50_000, "[" * 50_000),
        ("/*<![CDATA[*/ {} /*]]>*/", "{}"),
        ('{"line\nbreak": "kept"}', '{"line\\nbreak":"kept"}'),
        ("not JSON at all", "not JSON at all"),
    ],
)
def test_a_block_of_json_ld_is_kept_whole(block: str, written: str) -> None:
    page = read(f"<script type='Application/LD+JSON'>{block}</script>")

    assert page.content == f"## Structured data (JSON-LD)\n\n```json\n{written}\n```"


def test_an_empty_block_of_json_ld_is_none() -> None:
    assert read("<p>x<script type='application/ld+json'> </script>").content == "x"

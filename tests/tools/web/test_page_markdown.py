"""What the Markdown of a hostile page may never hold, and that hostile markup is only ever a page."""

from __future__ import annotations

import string
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from conductor_ai.tools.web.page_markdown import read_page

HERE = "https://here.example/"
READERS = [
    MarkdownIt("commonmark", {"html": True}),
    MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]),
]

PIECES = [
    *"!`~\\[](){}<>#|*_:\n\t ",
    "![x](http://evil.example/)",
    "[x](javascript:a)",
    "\n[r]: javascript:a\n",
    "![r]",
    "```\n",
    "~~~\n",
    "&lt;",
    "&lt;img src=http://evil.example/>",
    "&lt;javascript:x>",
    "img src=x>",
    "&#xfdd0;",
    "&#xFDD1;",
    "&#8;",
    "&#&#8;8;",
    "&shy;",
    "&nbsp;",
    "&#33;",
    "&#x0000060;",
    "<img src=http://evil.example/ alt='![x](http://evil.example/)'>",
    "<abbr title='![x](http://evil.example/)'>",
    "<a href='https://here.example/ok'>",
    "<a href='javascript:a' title='[x](javascript:a)'>",
    "<ruby><rt>",
    "<unknown>",
    "<own-part>",
    "<a<b>",
    "<select><option>",
    "<input value='![x](http://evil.example/)'>",
    *"<p> <b> <i> <span> <code> <pre> <kbd> <a> <ul><li> <dl> <dt> <dd> <table> <tr> <td> <th> <h2> <q> <br>"  # noqa: SIM905
    " <blockquote> <figcaption> <summary> </p> </b> </span> </code> </pre> </kbd> </a> </li></ul> </dl> </dt>"
    " </table> </tr> </td> </h2> </blockquote> </summary> </i> </figcaption>".split(),
]


def read(html: str) -> str:
    return read_page(html.encode(), url=HERE, charset="utf-8").content


def tokens(found: list[Token]) -> Iterator[Token]:
    for token in found:
        yield token
        yield from tokens(token.children or [])


def alive(markdown: str) -> list[str]:
    """What a renderer of this Markdown would fetch, run, or lead to beyond the page's own link."""
    found = []
    for reader in READERS:
        for token in tokens(reader.parse(markdown)):
            href = str(token.attrs.get("href", "https://here.example/ok"))
            if token.type in ("image", "html_inline", "html_block") or href != "https://here.example/ok":
                found.append(f"{token.type} {token.content} {href}")
    return found


@settings(max_examples=150)
@given(st.lists(st.sampled_from(PIECES), min_size=2, max_size=25).map("".join))
def test_nothing_a_page_spells_comes_alive_as_markdown(html: str) -> None:
    assert alive(read(html)) == []


@pytest.mark.parametrize(
    ("html", "content"),
    [
        ("<p>![x](http://evil.example/)", "\\![x]\\(http://evil.example/)"),
        ("<p>Wow!<a href=ok>click</a>", "Wow\\![click](https://here.example/ok)"),
        ("<p>!<span>[</span>x<b></b>]<i></i>(http://evil.example/)", None),
        ("<p>&lt;<i></i>img src=http://evil.example/>", None),
        (r"<p>\![x](http://evil.example/) C:\dir", None),
        ("<code>![x](http://evil.example/)`</code><code>\\</code>", None),
        ("<figcaption><pre>![x](http://evil.example/)", None),
        ("<ruby>![r]<rt>http://evil.example/</ruby>", None),
        ("!<a<b><unknown><pre>![x](http://evil.example/)", None),
        ("<dl><dt>x<pre>![x](http://evil.example/)", None),
    ],
)
def test_a_spelling_that_came_alive_once_is_inert(html: str, content: str | None) -> None:
    markdown = read(html)

    assert alive(markdown) == []
    if content is not None:
        assert markdown == content


@settings(max_examples=60)
@given(st.binary(max_size=200) | st.text(alphabet=string.printable, max_size=200).map(str.encode))
def test_any_bytes_are_a_page(body: bytes) -> None:
    page = read_page(body, url=HERE, charset=None)

    assert page.content == page.content.strip()


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(PIECES + ["<script type=application/ld+json>", "</script>", "\0", "<!--", "<![CDATA["]))
)
def test_any_markup_is_a_page(pieces: list[str]) -> None:
    page = read_page("".join(pieces).encode(), url=HERE, charset=None)

    assert page.content == page.content.strip()


@pytest.mark.parametrize(
    "html",
    [
        pytest.param("<div>" * 100_000 + "fact 17", id="deep"),
        pytest.param("<table><tr><td>" * 1_000 + "fact 17", id="tables in tables"),
        pytest.param("<p>" * 50_000 + "fact 17", id="unclosed"),
        pytest.param(f"<p title='{'a' * 2_000_000}'>fact 17", id="a long attribute"),
        pytest.param("&amp;&#x41;" * 50_000 + "fact 17", id="entities"),
        pytest.param("\0" * 50_000 + "fa\0ct 17", id="NULs"),
        pytest.param("<svg><title>icon</title><path d=M0><p>fact 17", id="an unclosed drawing"),
        pytest.param(
            "<title>x</title><nav>y</nav><picture><source><img></picture><wbr>fact 17", id="newer than libxml2"
        ),
        pytest.param("<" * 100_000 + " fact 17", id="brackets"),
        pytest.param("<!--" * 100_000 + "--><p>fact 17", id="comments"),
        pytest.param("<table><tr>" + "<td>x" * 2_000 + "<tr><td>y" * 5_000 + "<tr><td>fact 17", id="a ragged table"),
        pytest.param("<table><tr><td colspan=100000 rowspan=60000>x</tr><tr><td>a<td>fact 17", id="a wide span"),
        pytest.param("<ul><li>" * 190 + "fact 17" + "<p>x" * 3_000, id="indented again and again"),
    ],
)
def test_a_fact_survives_hostile_markup_which_does_not_grow(html: str) -> None:
    content = read(html)

    assert "fact 17" in content
    assert len(content) <= 3 * len(html) + 64_000


@pytest.mark.parametrize(
    "html",
    [
        "<html><body><p>one</p></body></html><p>fact 17</p>",
        "<html><body><p>one</p></body></HTML ><html><body><p>fact 17</p></body></html>",
        "<html><body><p>one</p><svg><path d=M0><ul><li>two</ul><section>fact 17</section></body></html>",
        "<html><body><p>one</p><svg><path d=M0><section><strong>fact 17</strong></section></body></html>",
        "<html><body><p>one</p><math><mi>x<table><tr><td>a<td>fact 17</table></body></html>",
        "<title>one<p>fact 17</p>",
        "<style>p { color: red }<p>fact 17</p>",
        "&#" + "0" * 9000 + "65;<p>fact 17" + "<b>" * 3000,
    ],
)
def test_what_a_browser_reads_on_to_is_read(html: str) -> None:
    assert "fact 17" in read(html)


def test_the_end_of_a_page_that_a_script_spells_is_no_end() -> None:
    html = """<html><body><script type=application/ld+json>{"a": "</html>"}</script><p>one</p></body></html>"""

    assert '{"a":"</html>"}' in read(html)


def test_a_page_of_scripts_comments_and_a_title_has_no_text() -> None:
    assert (
        read("<title>App</title><!--[if IE]><p>old</p><![endif]--><div id=app></div><svg><title>i</title></svg>") == ""
    )


def test_markup_too_deep_for_a_tree_is_read_as_its_text_without_scripts() -> None:
    html = (
        "<div>" * 3_000
        + "one<script>a</script> two<style>b</style><p>three&nbsp;<b>3</b><template>c</template><script>"
    )

    assert read(html) == "one two\n\nthree 3"


def test_a_table_that_would_be_mostly_empty_cells_is_written_as_lines() -> None:
    content = read("<table><tr>" + "<td>x" * 300 + "<tr><td>y" * 300 + "</table><table><tr><td>a<td>b</table>")

    assert content.endswith("\n\n| a | b |\n| --- | --- |")
    assert content.count("|") == 6
    assert content.count("x") == content.count("y") == 300

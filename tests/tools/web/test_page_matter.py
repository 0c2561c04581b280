"""What may go: what the list of links repeats, and notices about cookies, where it is known what the matter is."""

from __future__ import annotations

import pytest

from conductor_ai.tools.web.page_markdown import read_page

PROSE = "<p>The mill stands where the brook leaves the wood, and it has ground the corn of nine villages.</p>" * 4
NOTICE = "<div class='cookie-banner'><p>Taste our cookies, and consent to the whole world of them</p></div>"
NAMES = "".join(
    f"<div>Miller {one}{two} of the valley</div>" for one in "BCDFGH" for two in ("ala", "ebe", "iso", "osu")
)


def read(html: str) -> str:
    return read_page(html.encode(), url="https://x.example/", charset="utf-8").content


def test_a_notice_that_trafilatura_takes_for_none_of_the_matter_goes() -> None:
    assert "Taste" not in read(PROSE + NOTICE)


def test_where_trafilatura_finds_little_all_of_the_page_stays() -> None:
    content = read(f"<article>{PROSE}</article><div class=widget>{NAMES}</div>{NOTICE}")

    assert "Miller Hosu of the valley" in content
    assert "Taste our cookies" in content


def test_cookies_that_are_the_matter_stay() -> None:
    assert "oatmeal" in read(
        f"<main>{PROSE}</main><div class=cookies><p>Our cookies: oatmeal, ginger, almond</p></div>"
    )


@pytest.mark.parametrize(
    "furniture",
    [
        "<div id=sidebar><h3>Dealers</h3><ul><li>Harbor Motors<li>Bay Cars</ul></div>",
        "<aside><ul><li>Harbor Motors<li>Bay Cars</ul></aside>",
        "<footer><ul><li>Owner Anna Harbor Motors<li>Manager Karl</ul></footer>",
        "<div class=social><ul><li>Telegram: Harbor Motors<li>Signal</ul></div>",
        "<header><p>Dealer of the year: Harbor Motors</p></header>",
        "<nav><a href=/x>Bay Cars</a><img alt='Harbor Motors'></nav>",
        "<nav><a href=/x>Bay <img alt='Harbor Motors'></a></nav>",
        "<nav><ul><li><a href=/x>Bay Cars</a><li><a href=/x>Harbor Motors</a></ul></nav>",
        "<nav><a href=#top>Harbor Motors</a></nav>",
        "<a href=/x>Bay<nav>Harbor Motors</nav></a>",
        "<nav><a href=/x>Bay <a href=/y>Harbor Motors</a></a> \u2605\u2605\u2605</nav>",
    ],
)
def test_what_the_list_of_links_does_not_repeat_stays(furniture: str) -> None:
    assert "Harbor Motors" in read(f"<main><p>{'Lorem ipsum dolor sit amet. ' * 10}</p></main>{furniture}")


def test_of_a_menu_only_what_is_not_listed_stays() -> None:
    menu = "<nav><ul><li><a href=/>Brook Mill</a><li><a href=/>Home</a><li><a href=/b>Bread</a></ul></nav>"

    assert read(f"{menu}{PROSE}").startswith("- [Home](https://x.example/)\n\nThe mill stands")


def test_matter_of_a_page_without_a_body_tag_is_no_head() -> None:
    content = read(f"<title>Mill</title><meta charset=utf-8><nav><a href=/>All</a></nav><main>{PROSE}</main>")

    assert content.startswith("The mill stands")
    assert "Mill\n" not in content


def test_a_page_with_little_beside_its_furniture_keeps_it() -> None:
    assert "About" in read("<nav><a href=/a>About</a></nav><p>Welcome.")


def test_furniture_with_a_fact_stays() -> None:
    for fact in ("Open till 20:00", "Write to a@b.example", "Seven Mile Road 5", "€5 off"):
        assert fact in read(f"{PROSE}<footer><p>{fact}</p></footer>")
    assert "Privacy" in read(f"{PROSE}<footer><a href=/p>Privacy 2</a></footer>")
    assert "Privacy" not in read(f"{PROSE}<footer><a href=/p>Privacy</a></footer>")


def test_what_holds_the_matter_is_no_furniture_whatever_it_is_called() -> None:
    assert "brook" in read(f"<div class='sidebar'><article>{PROSE}</article></div>")
    assert "Ada wrote this" in read(f"<article><header><p>Ada wrote this</p></header>{PROSE}</article>")
    assert "The Brook Mill" in read(f"<header><h1>The Brook Mill</h1></header>{PROSE}")


def test_a_menu_within_an_article_goes_and_its_links_stay() -> None:
    page = read_page(
        f"<article><nav><a href=/next>Next part</a></nav>{PROSE}</article>".encode(),
        url="https://x.example/",
        charset="utf-8",
    )

    assert "Next part" not in page.content
    assert [(link.text, link.url) for link in page.links] == [("Next part", "https://x.example/next")]

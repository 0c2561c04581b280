"""What may go: furniture without facts, and only where it is known what the matter is."""

from __future__ import annotations

from conductor_ai.tools.web.page_markdown import read_page

PROSE = "<p>The mill stands where the brook leaves the wood, and it has ground the corn of nine villages.</p>" * 4
SLOGAN = "<aside><p>Taste the whole world of corn with us</p></aside>"
NAMES = "".join(
    f"<div>Miller {one}{two} of the valley</div>" for one in "BCDFGH" for two in ("ala", "ebe", "iso", "osu")
)


def read(html: str) -> str:
    return read_page(html.encode(), url="https://x.example/", charset="utf-8").content


def test_furniture_that_trafilatura_takes_for_none_of_the_matter_goes() -> None:
    assert "Taste" not in read(PROSE + SLOGAN)


def test_where_trafilatura_finds_little_all_of_the_page_stays() -> None:
    content = read(f"<article>{PROSE}</article><div class=widget>{NAMES}</div>{SLOGAN}")

    assert "Miller Hosu of the valley" in content
    assert "Taste the whole world" in content


def test_matter_of_a_page_without_a_body_tag_is_no_head() -> None:
    content = read(f"<title>Mill</title><meta charset=utf-8><nav><a href=/>All</a></nav><main>{PROSE}</main>")

    assert content.startswith("The mill stands")
    assert "Mill\n" not in content


def test_a_page_with_little_beside_its_furniture_keeps_it() -> None:
    assert "About" in read("<nav><a href=/a>About</a></nav><p>Welcome.")


def test_furniture_with_a_fact_stays() -> None:
    for fact in ("Open till 20:00", "Write to a@b.example", "Seven Mile Road 5", "€5 off"):
        assert fact in read(f"{PROSE}<footer><p>{fact}</p></footer>")
    assert "rights" not in read(f"{PROSE}<footer><p>Copyright 2019-2025, all rights reserved by us</p></footer>")


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

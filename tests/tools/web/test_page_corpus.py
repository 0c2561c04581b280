"""Pages of many kinds: what a reader of each must find again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from conductor_ai.tools.web.page_markdown import read_page

PAGES = Path(__file__).parent / "pages"
TRUTH = tomllib.loads((PAGES / "truth.toml").read_text("utf-8"))


def test_every_page_of_the_corpus_has_its_truth() -> None:
    assert {path.stem for path in PAGES.glob("*.html")} == set(TRUTH)


@pytest.mark.parametrize("name", TRUTH)
def test_title_links_and_facts_of_a_page_are_found_again(name: str) -> None:
    truth = TRUTH[name]

    page = read_page((PAGES / f"{name}.html").read_bytes(), url="https://site.example/dir/page", charset=None)

    assert page.title == truth["title"]
    assert [[link.text, link.url] for link in page.links] == truth["links"]
    assert [fact for fact in truth["facts"] if fact not in page.content] == []
    assert [noise for noise in truth["noise"] if noise in page.content] == []


def test_a_page_of_5_mb_is_read_whole() -> None:
    street = "Long Street, a town with a long name and little else besides"
    rows = "".join(f"<tr><td>Dealer {n}</td><td>{street}</td><td>0555 {n:06}</td></tr>" for n in range(1, 45_001))
    html = f"<title>All</title><p>Fact at the start: 17</p><table>{rows}</table><p>Fact at the end: 19</p>"

    page = read_page(html.encode(), url="https://site.example/", charset="utf-8")

    assert len(html) > 5_000_000
    assert page.content.startswith("Fact at the start: 17\n") and page.content.endswith("Fact at the end: 19")
    for number in (1, 22_500, 45_000):
        assert f"| Dealer {number} | {street} | 0555 {number:06} |\n" in page.content

"""The memory for reading on: whose page it is, and when it goes."""

from __future__ import annotations

from dataclasses import replace

from conductor_ai.tools.web.kept_pages import KeptPages, PageKey, Reading

KEY = PageKey("org", "session", "GET", "http://example.com/", (), None)


def reading(content: str = "text") -> Reading:
    return Reading("http://example.com/", 200, "text/plain", "", content)


def numbered(number: int) -> PageKey:
    return replace(KEY, url=f"http://example.com/{number}")


def test_a_page_is_found_by_all_of_its_key_only() -> None:
    pages = KeptPages()
    pages.keep(KEY, reading())
    assert pages.get(KEY) == reading()
    others = {
        "org_id": "x",
        "session_id": "x",
        "method": "POST",
        "url": "x",
        "headers": (("accept", "x"),),
        "body": b"",
    }
    for name, value in others.items():
        assert pages.get(replace(KEY, **{name: value})) is None  # type: ignore[arg-type]


def test_the_page_used_longest_ago_goes_first() -> None:
    pages = KeptPages(max_pages=3)
    for number in range(3):
        pages.keep(numbered(number), reading())
    assert pages.get(numbered(0)) is not None
    pages.keep(numbered(3), reading())
    assert [number for number in range(4) if pages.get(numbered(number)) is not None] == [0, 2, 3]


def test_memory_is_bounded_by_what_the_pages_take() -> None:
    pages = KeptPages(max_bytes=100_000)
    for number in range(10):
        pages.keep(numbered(number), reading("\U0001f600" * 5000))  # four bytes each
    assert [number for number in range(10) if pages.get(numbered(number)) is not None] == [6, 7, 8, 9]


def test_a_page_larger_than_all_the_memory_is_not_kept() -> None:
    pages = KeptPages(max_bytes=100_000)
    pages.keep(KEY, reading("x" * 200_000))
    assert pages.get(KEY) is None
    pages.keep(KEY, reading())
    assert pages.get(KEY) == reading()


def test_keeping_a_page_again_counts_it_once() -> None:
    pages = KeptPages(max_bytes=100_000)
    pages.keep(numbered(1), reading("x" * 40_000))
    for _ in range(5):
        pages.keep(numbered(2), reading("x" * 40_000))
    assert pages.get(numbered(1)) is not None

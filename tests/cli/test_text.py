from decimal import Decimal

import pytest

from conductor_ai.cli import text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("dos\r\nline\rover", "dos\nline\\x0dover"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\ud800", "\\ud800"),
        ("abc\u202ecba", "abc\\u202ecba"),
        ("👩\u200d💻 grüße", "👩\u200d💻 grüße"),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
    ],
)
def test_what_would_steer_a_terminal_is_shown_and_the_rest_is_left_alone(raw: str, shown: str) -> None:
    assert text.plain(raw) == shown


def test_a_person_who_decides_sees_what_is_invisible() -> None:
    assert text.exact("pay\u200b 1\u00a0000\U000e0041") == "pay\\u200b 1\\xa0000\\U000e0041"


@pytest.mark.parametrize(
    ("raw", "line"),
    [("a\n  b", "a b"), ("x" * 11, "xxxxxxx..."), ("x" * 10, "x" * 10), (" " * 500 + "x", "...")],
)
def test_one_line_is_short_and_says_that_it_was_cut(raw: str, line: str) -> None:
    assert text.one_line(raw, 10) == line


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "price unknown"),
        (Decimal(0), "$0.00"),
        ("0.0000204", "$0.00002"),
        (Decimal("1.5"), "$1.50"),
        (Decimal("12.3456789"), "$12.345679"),
        (Decimal("1E+3"), "$1000.00"),
    ],
)
def test_money_is_rounded_where_it_is_shown(amount: Decimal | str | None, shown: str) -> None:
    assert text.money(amount) == shown


def test_figures_read_well() -> None:
    assert [text.milliseconds(ms) for ms in (None, 0.4, 812.0, 12_345.0)] == ["-", "0 ms", "812 ms", "12.3 s"]
    assert [text.count(n, "step") for n in (0, 1, 1200)] == ["0 steps", "1 step", "1,200 steps"]

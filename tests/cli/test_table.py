from conductor_ai.cli.table import table_lines

HEADINGS = ("session", "status", "created (UTC)", "model", "cost", "task")
ROW = (
    "01a2060a-34be-7917-ba4a-89cbfe0760f8",
    "waiting_approval",
    "2026-11-23T03:00:15",
    "local/" + "m" * 40,
    "$0.00042",
    "t" * 99,
)


def test_what_fits_stands_in_columns_as_it_is() -> None:
    assert table_lines(("a", "b"), [("1", "long"), ("222", "x")], columns=80, shorten=()) == [
        "a    b",
        "1    long",
        "222  x",
    ]


def test_long_columns_are_cut_with_a_mark_and_the_others_stay_whole() -> None:
    _, line = table_lines(HEADINGS, [ROW], columns=130, shorten=("model", "task"))
    assert len(line) == 130
    assert line.endswith("t...")
    assert all(whole in line for whole in (ROW[0], ROW[1], ROW[2], ROW[4], "m...  "))


def test_a_terminal_of_80_columns_gets_two_lines_a_row_with_ids_status_and_date_whole() -> None:
    lines = table_lines(HEADINGS, [ROW], columns=80, shorten=("model", "task"))
    assert max(map(len, lines)) <= 80
    above, below = lines[2:]
    assert above == f"{ROW[0]}  {ROW[1]}"
    assert below.startswith(f"    {ROW[2]}  local/m")
    assert below.endswith("t...")


def test_wide_characters_count_as_two() -> None:
    _, line = table_lines(("id", "task"), [("1", "\u8eca" * 30)], columns=24, shorten=("task",))
    assert line == "1   " + "\u8eca" * 8 + " ..."

import pytest

from conductor_ai.cli.arguments import has_flag, with_command, without_flag
from conductor_ai.errors import UsageError

COMMANDS = {"run": [], "demo": [], "resume": [], "tools": ["list", "call"], "sessions": ["list", "show"]}
VALUES = frozenset({"--model", "--plugins-dir"})


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([], []),
        (["run", "x"], ["run", "x"]),
        (["--help"], ["--help"]),
        (["find dealers"], ["run", "find dealers"]),
        (["hello"], ["run", "hello"]),
        (["--model", "demo", "x y"], ["run", "--model", "demo", "x y"]),
        (["--model=demo", "x y", "--json"], ["run", "--model=demo", "x y", "--json"]),
        (["--", "tools"], ["run", "--", "tools"]),
        (["--json"], ["run", "--json"]),
        (["--json", "--"], ["run", "--json", "--"]),
        (["--json", "demo"], ["demo", "--json"]),
        (["--plugins-dir", "p", "tools", "call", "t"], ["tools", "call", "--plugins-dir", "p", "t"]),
        (["--json", "tools"], ["tools", "--json"]),
        (["show me the sessions"], ["run", "show me the sessions"]),
    ],
)
def test_a_command_line_without_a_command_means_run(given: list[str], meant: list[str]) -> None:
    assert with_command(given, commands=COMMANDS, value_options=VALUES) == meant


@pytest.mark.parametrize("word", ["sesions", "Resume", "tool", "resmue", "help"])
def test_a_word_close_to_a_command_is_refused_with_what_was_meant(word: str) -> None:
    with pytest.raises(UsageError, match="did you mean `conductor "):
        with_command([word, "list"], commands=COMMANDS, value_options=VALUES)


def test_flags_count_only_before_the_terminator() -> None:
    given = ["run", "--debug", "--", "--json", "--debug"]
    assert has_flag(given, "--debug")
    assert not has_flag(given, "--json")
    assert without_flag(given, "--debug") == ["run", "--", "--json", "--debug"]

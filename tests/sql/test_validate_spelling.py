"""However a statement is written, the verdict is the same; and every text gets one."""

from __future__ import annotations

import re

import pglast.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor_ai.tools.sql.validate import validate_change, validate_sql
from tests.sql.corpus_hostile import HOSTILE
from tests.sql.corpus_useful import POLICY, USEFUL

_TRICKS = "tricks of writing"  # these are spelt as they are on purpose
_HOSTILE = [(rule, sql) for group, statements in HOSTILE.items() if group != _TRICKS for rule, sql in statements]
_GAPS = [" ", "\n", "\t\f", " /**/ ", "\r\n--;\n", " /* ' /* \" */ -- */ ", " --'\n/*$$*/ "]
_COMMENTS = ("SQL_COMMENT", "C_COMMENT")


@st.composite
def respelt(draw: st.DrawFn, sql: str) -> str:
    """The same statement: other case, gaps and comments, names and texts quoted and escaped in other ways."""
    tokens = [token for token in pglast.parser.scan(sql) if token.name not in _COMMENTS]
    words = [draw(st.sampled_from(_GAPS))]
    is_name = False  # of a value, behind its colon
    for at, token in enumerate(tokens):
        word = sql[token.start : token.end + 1]
        if word != ":":
            as_it_is = is_name or (at > 0 and tokens[at - 1].name == "UESCAPE")
            words += [word if as_it_is else draw(_spellings(token.name, token.kind != "NO_KEYWORD", word))]
            words += [draw(st.sampled_from(_GAPS))]
            is_name = False
        else:
            is_name = (
                sql[token.end + 1].isalpha() and not sql[token.start - 1].isalnum() and sql[token.start - 1] != "'"
            )
            words[-1:] = [words[-1], ":"] if is_name else [":", draw(st.sampled_from(_GAPS))]
    return "".join(words)


def _spellings(kind: str, is_keyword: bool, word: str) -> st.SearchStrategy[str]:
    cases = st.sampled_from([word, word.upper(), word.lower(), word.swapcase(), word.title()])
    if is_keyword:
        return cases
    if kind == "IDENT" and re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", word):
        name = word.lower()
        return st.one_of(cases, st.just(f'"{name}"'), _escaped(name).map(lambda text: f'U&"{text}"'))
    if kind == "SCONST" and re.fullmatch(r"'[^'\\$]*'", word):
        text = word[1:-1]
        plain = st.sampled_from([word, f"E{word}", f"e{word}", f"$${text}$$", f"$body${text}$body$"])
        return st.one_of(plain, _escaped(text).map(lambda escaped: f"U&'{escaped}'"))
    return st.just(word)


def _escaped(text: str) -> st.SearchStrategy[str]:
    def spell(chosen: list[int]) -> str:
        forms = "{0}", "\\{1:04x}", "\\+{1:06X}"
        return "".join(forms[form].format(letter, ord(letter)) for letter, form in zip(text, chosen, strict=True))

    return st.lists(st.integers(0, 2), min_size=len(text), max_size=len(text)).map(spell)


@pytest.mark.parametrize("examples", [60, pytest.param(1_000, marks=pytest.mark.slow)])
def test_a_hostile_statement_is_refused_however_it_is_written(examples: int) -> None:
    @settings(max_examples=examples)
    @given(st.data())
    def refused(data: st.DataObject) -> None:
        rule, sql = data.draw(st.sampled_from(_HOSTILE))
        verdict = validate_sql(data.draw(respelt(sql)), POLICY)

        assert (verdict.allowed, verdict.rule) == (False, rule)

    refused()


@pytest.mark.parametrize("examples", [25, pytest.param(300, marks=pytest.mark.slow)])
def test_a_useful_statement_is_allowed_however_it_is_written(examples: int) -> None:
    @settings(max_examples=examples)
    @given(st.data())
    def allowed(data: st.DataObject) -> None:
        sql = data.draw(st.sampled_from(USEFUL))
        verdict = validate_sql(data.draw(respelt(sql)), POLICY)

        as_written = validate_sql(sql, POLICY).checked()
        assert verdict.allowed, verdict.reason
        assert (verdict.checked().tables, verdict.checked().parameters) == (as_written.tables, as_written.parameters)

    allowed()


_PIECES = sorted({word for sql in [*USEFUL, *(sql for _, sql in _HOSTILE)] for word in sql.split()})


@given(
    st.one_of(
        st.text(), st.text("'\"$;-/*:\\U&eE\n()[]", max_size=40), st.lists(st.sampled_from(_PIECES)).map(" ".join)
    )
)
def test_every_text_gets_a_verdict(text: str) -> None:
    for verdict in (validate_sql(text, POLICY), validate_change(text, POLICY)):
        assert verdict.allowed is (verdict.rule is None) is (verdict.statement is not None)


@given(st.text())
def test_a_value_within_a_text_is_no_value(text: str) -> None:
    quoted = "'" + text.replace("'", "''") + " :hidden'"
    verdict = validate_sql(f"SELECT {quoted}, :seen", POLICY)

    if verdict.allowed:
        assert verdict.checked().parameters == ("seen",)
        assert verdict.checked().sql == f"SELECT {quoted}, $1"
    else:
        assert not text.isprintable()

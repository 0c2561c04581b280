from __future__ import annotations

from conductor_ai.sdk.docstrings import parse_docstring


def test_sections_are_told_from_the_description() -> None:
    parsed = parse_docstring(
        """List the free slots.

        Earliest first.

        Args:
            day (date): The day to look at,
                in the shop's own time.
            limit: At most so many: one to ten.

        Returns: slots as text.
        Raises:
            ValueError: on Sundays.

        Ask only once a minute.
        """
    )

    assert parsed.description == "List the free slots.\n\nEarliest first.\n\nAsk only once a minute."
    assert parsed.arguments == {
        "day": "The day to look at, in the shop's own time.",
        "limit": "At most so many: one to ten.",
    }


def test_a_colon_inside_a_description_begins_no_section() -> None:
    parsed = parse_docstring("Formats: csv and json.\nNote: slow.")

    assert parsed.description == "Formats: csv and json.\nNote: slow."


def test_an_empty_argument_section_describes_nothing() -> None:
    assert parse_docstring("Do it.\n\nArgs:\n").arguments == {}

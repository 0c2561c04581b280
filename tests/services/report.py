"""The closing lines of a run: which servers the tests had, how many used each, and what was missing.

A test carries its notes with its report, so those of all processes of a run meet in the one that prints.
"""

from __future__ import annotations

from collections import Counter

import pytest

USED, MISSED = "service used", "service missing"


def used(request: pytest.FixtureRequest, service: str) -> None:
    """Note that this test has `service`."""
    request.node.user_properties.append((USED, service))


def missed(request: pytest.FixtureRequest, reason: str) -> None:
    """Note that this test cannot have what it needs."""
    request.node.user_properties.append((MISSED, reason))


class ServiceReport:
    """The plugin that gathers the notes and prints them."""

    def __init__(self) -> None:
        self._notes: dict[str, set[tuple[str, str]]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        notes = {(kind, str(text)) for kind, text in report.user_properties if kind in (USED, MISSED)}
        if notes:
            self._notes.setdefault(report.nodeid, set()).update(notes)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = self.lines()
        if lines:
            terminalreporter.section("servers that the tests used")
            for line in lines:
                terminalreporter.line(line)

    def lines(self) -> list[str]:
        """One line for each server, then one for each reason why tests went without."""
        counts = Counter(note for notes in self._notes.values() for note in notes)
        return [
            f"{text}: {_tests(count)}{' skipped' if kind == MISSED else ''}"
            for (kind, text), count in sorted(counts.items(), key=lambda item: (item[0][0] == MISSED, item[0][1]))
        ]


def _tests(count: int) -> str:
    return f"{count} test" if count == 1 else f"{count} tests"

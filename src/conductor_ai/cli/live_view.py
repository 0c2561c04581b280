"""The view of a session at work, on standard error: Rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from conductor_ai.cli.narration import Line, Narrator
from conductor_ai.cli.output import note
from conductor_ai.cli.text import plain

if TYPE_CHECKING:
    from rich.status import Status


class LiveView(Protocol):
    narrator: Narrator

    def event(self, event: dict[str, Any]) -> None:
        """Show one event."""
        ...

    def line(self, text: str) -> None:
        """Show one line that is no event."""
        ...

    def hold(self) -> None:
        """Leave the terminal alone until the next event: somebody else wants to write, or all is over."""
        ...


def open_view() -> LiveView:
    """The view that fits where standard error goes."""
    return TerminalView() if sys.stderr is not None and sys.stderr.isatty() else PlainView()


class PlainView:
    def __init__(self) -> None:
        self.narrator = Narrator()

    def event(self, event: dict[str, Any]) -> None:
        for line in self.narrator.lines(event):
            note(line.text)

    def line(self, text: str) -> None:
        note(text)

    def hold(self) -> None:
        """Nothing moves here."""


class TerminalView:
    """Lines that stay, above one line that moves and says what goes on."""

    def __init__(self) -> None:
        from rich.console import Console

        self.narrator = Narrator()
        self._console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        self._status: Status | None = None

    def event(self, event: dict[str, Any]) -> None:
        for line in self.narrator.lines(event):
            self._print(line)
        self._show_activity()

    def line(self, text: str) -> None:
        self._print(Line(text))

    def hold(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _print(self, line: Line) -> None:
        from rich.text import Text

        self._console.print(Text(plain(line.text), style=line.style), soft_wrap=True)

    def _show_activity(self) -> None:
        from rich.text import Text

        if not self.narrator.activity:
            self.hold()
            return
        activity = Text(plain(self.narrator.activity))
        if self._status is None:
            self._status = self._console.status(activity, spinner="line")
            self._status.start()
        else:
            self._status.update(activity)

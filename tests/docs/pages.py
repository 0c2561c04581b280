"""Finds the code blocks of the README and the docs.

A comment directly above a block says how it is run, where that is not the usual way:
- `<!-- file: PATH -->`: it is the content of a file; the shell blocks after it on the page find it there.
- `<!-- output -->`: it is what the shell block before it prints; `...` stands for whatever differs.
- `<!-- in a fresh clone -->`: `.ci/run` runs it in one, with all others so marked.
- `<!-- run by .ci/run -->`: it is what `.ci/run` does itself; such blocks are listed in `test_snippets.py`.

Where a block speaks to http://localhost:8000, a `conductor serve` runs beside it, and its address is put there.

`python -m tests.docs.pages` prints the blocks that want a fresh clone, as one shell script.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
IN_A_CLONE = "in a fresh clone"
BY_CI = "run by .ci/run"
OUTPUT = "output"
FILE = "file: "
SERVER = "http://localhost:8000"

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """`page` is a path from the root of the tree, `line` the number of the fence."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks() -> list[Block]:
    return [block for page in pages() for block in blocks_of(page.read_text(), str(page.relative_to(ROOT)))]


def blocks_of(text: str, page: str) -> list[Block]:
    return [
        Block(
            page, text[: found.start("language")].count("\n") + 1, found["language"], found["text"], found["mark"] or ""
        )
        for found in _BLOCK.finditer(text)
    ]


def shell_pages() -> dict[str, list[Block]]:
    """The blocks of each page that are worked through in order, in one folder: files, commands, their output."""
    found: dict[str, list[Block]] = {}
    for block in blocks():
        in_order = block.mark == OUTPUT or block.mark.startswith(FILE) or (block.language, block.mark) == ("bash", "")
        if in_order:
            found.setdefault(block.page, []).append(block)
    return found


if __name__ == "__main__":
    for wanted in blocks():
        if wanted.mark == IN_A_CLONE:
            sys.stdout.write(f"echo '--- {wanted}'\n{wanted.text}")

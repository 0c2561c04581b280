"""Whatever stands in the README and the docs as code is run, or read by what would read it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cli.model_server import model_server
from tests.docs.pages import BY_CI, FILE, IN_A_CLONE, OUTPUT, ROOT, SERVER, Block, blocks, blocks_of, pages, shell_pages

# What no test can do, since it is what runs the tests. Add a line only if `.ci/run` really does it.
DONE_BY_CI = {
    ("README.md", "scripts/test\n"),
    ("CONTRIBUTING.md", "scripts/test\n"),
    ("CONTRIBUTING.md", "bash .ci/run\n"),
    ("CONTRIBUTING.md", '. "$(scripts/environment)/activate"\nruff check\nruff format --check\nmypy\nlint-imports\n'),
}

README = "README.md"
PYTHON = [block for block in blocks() if block.language == "python" and not block.mark]
DATA = [block for block in blocks() if block.language in ("json", "toml")]


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A folder like a clone's root: the plugins are there, and nothing else."""
    shutil.copytree(ROOT / "plugins", tmp_path / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def variables(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A person's environment, with a model of their own: a server on loopback that has an answer ready."""
    with model_server() as server:
        for _ in range(10):
            server.will_answer("Here is what I found.")
        yield {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "LOCAL_LLM_BASE_URL": server.url,
            "CONDUCTOR_MODEL": "local/mine",
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
        }


def those_of_the_readme_always(page: str) -> list[pytest.MarkDecorator]:
    """All of them take minutes; what a newcomer meets first is run in every run of the tests."""
    return [] if page == README else [pytest.mark.slow]


@pytest.mark.parametrize(
    "block", [pytest.param(one, id=str(one), marks=those_of_the_readme_always(one.page)) for one in PYTHON]
)
def test_python_runs_standing_alone(block: Block, workshop: Path, variables: dict[str, str]) -> None:
    script = workshop / "snippet.py"

    with Beside(workshop, variables) as beside:
        script.write_text(beside.addressed(block.text))
        ended = run([sys.executable, "-W", "error", script.name], workshop, variables)

    assert (ended.returncode, ended.stderr) == (0, ""), f"{block}: {ended.stderr}"


@pytest.mark.parametrize(
    ("page", "in_order"),
    [pytest.param(*one, id=one[0], marks=those_of_the_readme_always(one[0])) for one in shell_pages().items()],
)
def test_the_commands_of_a_page_run_in_order(
    page: str, in_order: list[Block], workshop: Path, variables: dict[str, str]
) -> None:
    printed = ""
    with Beside(workshop, variables) as beside:
        for block in in_order:
            text = beside.addressed(block.text)
            if block.mark.startswith(FILE):
                file = workshop / block.mark.removeprefix(FILE)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            elif block.mark == OUTPUT:
                assert re.search(pattern_of(text), printed), f"{block}: not what was printed:\n{printed}"
            else:
                ended = run(["bash", "-euo", "pipefail", "-c", text], workshop, variables)
                printed = ended.stdout + ended.stderr
                assert ended.returncode == 0, f"{block} exited with {ended.returncode}:\n{printed}"


@pytest.mark.parametrize("block", DATA, ids=str)
def test_data_can_be_read(block: Block) -> None:
    json.loads(block.text) if block.language == "json" else tomllib.loads(block.text)


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    known = {"python", "bash", "json", "toml", "text"}
    marks = ("", IN_A_CLONE, BY_CI, OUTPUT)

    assert [str(block) for block in blocks() if block.language not in known] == []
    assert [str(block) for block in blocks() if block.mark not in marks and not block.mark.startswith(FILE)] == []
    assert {(block.page, block.text) for block in blocks() if block.mark == BY_CI} <= DONE_BY_CI


def test_no_block_hides_from_the_collection() -> None:
    for page in pages():
        fences = re.findall(r"^\s*(?:```|~~~)", page.read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(blocks_of(page.read_text(), page.name)), page


def test_links_within_the_tree_lead_somewhere() -> None:
    broken = [
        f"{page.name}: {target}"
        for page in pages()
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert broken == []


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()

    assert [page.name for page in sorted(folder.glob("[0-9]*.md")) if f"({page.name})" not in index] == []


class Beside(ExitStack):
    """The server of a page that speaks to one: started in the workshop with the first block that does."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        super().__init__()
        self._folder = folder
        self._variables = variables
        self._url: str | None = None

    def addressed(self, text: str) -> str:
        """The block with the server's own address in it."""
        if SERVER not in text:
            return text
        if self._url is None:
            self._url = self.enter_context(serving(self._folder, self._variables))
        return text.replace(SERVER, self._url)


@contextmanager
def serving(folder: Path, variables: dict[str, str]) -> Iterator[str]:
    process = subprocess.Popen(
        ["conductor", "serve", "--port", "0", "--json"],
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def run(command: list[str], folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100
    )


def pattern_of(expected: str) -> str:
    return re.escape(expected.strip()).replace(re.escape("..."), ".*")

"""The template: its own tests, what it imports, and that its data is invented."""

from __future__ import annotations

import ast
import csv
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "plugins" / "example_plugin"


def test_its_own_tests_pass() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "plugins/example_plugin"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


def test_it_imports_the_sdk_and_the_standard_library_only() -> None:
    imported: set[str] = set()
    for file in EXAMPLE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module))

    assert {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names} == {"conductor_ai.sdk"}


def test_no_dealer_can_be_reached() -> None:
    dealers = list(csv.DictReader((EXAMPLE / "data" / "dealers.csv").read_text().splitlines()))

    assert len({dealer["dealer_id"] for dealer in dealers}) == len(dealers) == 30
    assert all(re.fullmatch(r"\(\d{3}\) 555-01\d\d", dealer["phone"]) for dealer in dealers)
    assert all(dealer["email"].endswith(".example") for dealer in dealers)

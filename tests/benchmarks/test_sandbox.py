"""The benchmark runs; what it measures is for people to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SANDBOX = Path(__file__).parents[2] / "benchmarks" / "sandbox.py"


@pytest.mark.slow
def test_a_quick_run_fills_its_table() -> None:
    ended = subprocess.run([sys.executable, SANDBOX, "--quick"], capture_output=True, text=True, timeout=300)

    assert ended.returncode == 0, ended.stderr
    tables = ended.stdout.split("\n\n")
    if not any(table.startswith("| run") for table in tables):
        pytest.skip(f"no backend can start here: {ended.stdout}")
    for table in tables:
        if table.startswith("| run"):
            names = [line.split(" | ")[0] for line in table.splitlines()]
            assert {"| Python, one line", "| numpy and pandas", "| 6 at a time", "| a cancel"} <= set(names)

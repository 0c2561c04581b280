"""The benchmark runs; what it measures is for people to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_quick_run_fills_its_table() -> None:
    command = [sys.executable, "-m", "benchmarks.service", "--quick"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert ended.returncode == 0, ended.stderr
    rows = [line.split(" | ")[0] for line in ended.stdout.splitlines() if line.startswith("| ")]
    assert rows == ["| server", "| ---", "| ours", "| floor", "| target"]

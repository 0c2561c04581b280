"""The benchmark runs; what it measures is for people to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STREAM_COST = Path(__file__).parents[2] / "benchmarks" / "stream_cost.py"


@pytest.mark.slow
def test_a_quick_run_fills_its_table(tmp_path: Path) -> None:
    command = [sys.executable, str(STREAM_COST), "--quick", "--dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)

    assert ended.returncode == 0, ended.stderr
    rows = [line.split(" | ") for line in ended.stdout.splitlines() if line.startswith("| ") and "each" in line]
    assert [row[0] for row in rows] == ["| anthropic", "| openrouter", "| local", "| gemini"] * 2
    assert len([line for line in ended.stdout.splitlines() if "all at once" in line]) == 4

"""The benchmark runs; what it measures is for people to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STEP_COST = Path(__file__).parents[2] / "benchmarks" / "step_cost.py"


@pytest.mark.slow
def test_a_quick_run_fills_its_table() -> None:
    ended = subprocess.run([sys.executable, STEP_COST, "--quick"], capture_output=True, text=True, timeout=300)

    assert ended.returncode == 0, ended.stderr
    rows = [line for line in ended.stdout.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(rows) == 4

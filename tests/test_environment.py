"""`scripts/environment`, as far as it comes without making one."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "environment"


def test_an_interpreter_that_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\necho 'python3.13: that version is not installed' >&2\nexit 127\n")
    shim.chmod(0o755)
    ended = subprocess.run(
        [SCRIPT], env={"PATH": os.environ["PATH"], "PYTHON": str(shim)}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"PYTHON={shim} could not be started: python3.13: that version is not installed\n"

"""`conductor demo`: a real session without a key; only the model's choices are scripted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from conductor_ai.cli.options import AsJSON

if TYPE_CHECKING:
    from pathlib import Path

    from conductor_ai.settings import Settings


def demo(as_json: AsJSON = False) -> int:
    """Run a real session over a bundled file, without any key. Only the model's choices are scripted."""
    import asyncio

    from conductor_ai.bundled import bundled
    from conductor_ai.cli.commands.run import start_and_drive
    from conductor_ai.cli.output import note
    from conductor_ai.cli.reporting import Report
    from conductor_ai.conductor import StartRequest
    from conductor_ai.settings import Settings
    from conductor_ai.wiring.demo import DEMO_TASK, DEMO_TOOLS

    # The example plugin reads the variable, which may be set in `.env` only, or need another value.
    os.environ["CONDUCTOR_HOME"] = str(_writable_home(Settings.load()))
    note(f"demo: no key is needed. The task: {DEMO_TASK}")
    request = StartRequest(
        messages=[{"role": "user", "content": DEMO_TASK}], model="demo/scripted", tools=list(DEMO_TOOLS)
    )
    return asyncio.run(start_and_drive(request, Report(as_json), plugins_dir=bundled("plugins")))


def _writable_home(settings: Settings) -> Path:
    """The demo runs in any folder: where its database cannot be made there, and no other place was named, in one of
    its own under the system's folder for temporary files."""
    from pathlib import Path
    from tempfile import mkdtemp

    from conductor_ai.cli.output import note

    home = settings.conductor_home
    if settings.is_set("CONDUCTOR_HOME") or os.access(home if home.exists() else home.absolute().parent, os.W_OK):
        return home
    elsewhere = Path(mkdtemp(prefix="conductor-demo-"))
    note(f"nothing can be written here; to look at this session later: export CONDUCTOR_HOME={elsewhere}")
    return elsewhere

"""`conductor demo`: a real session without a key; only the model's choices are scripted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conductor_ai.cli.options import AsJSON

if TYPE_CHECKING:
    from conductor_ai.cli.reporting import Report
    from conductor_ai.settings import Settings

_DATABASE = "demo-sales.db"


def demo(
    full: Annotated[
        bool,
        typer.Option("--full", help="Read a page, ask a database and run code, with one approval on the way."),
    ] = False,
    approve: Annotated[
        bool, typer.Option("--yes", help="With --full: approve the code beforehand, for want of a person.")
    ] = False,
    as_json: AsJSON = False,
) -> int:
    """Run a real session over bundled data, without any key. Only the model's choices are scripted."""
    import asyncio

    from conductor_ai.bundled import bundled
    from conductor_ai.cli.commands.run import start_and_drive
    from conductor_ai.cli.output import note
    from conductor_ai.cli.reporting import Report
    from conductor_ai.conductor import StartRequest
    from conductor_ai.errors import UsageError
    from conductor_ai.settings import Settings
    from conductor_ai.wiring.demo import DEMO_TASK, DEMO_TOOLS

    if approve and not full:
        raise UsageError("--yes goes with --full: the short demo asks for no approval")
    # The example plugin reads the variable, which may be set in `.env` only, or need another value.
    home = _writable_home(Settings.load())
    os.environ["CONDUCTOR_HOME"] = str(home)
    report = Report(as_json)
    if full:
        return asyncio.run(_full(home, report, approve=approve))
    note(f"demo: no key is needed. The task: {DEMO_TASK}")
    request = StartRequest(
        messages=[{"role": "user", "content": DEMO_TASK}], model="demo/scripted", tools=list(DEMO_TOOLS)
    )
    return asyncio.run(start_and_drive(request, report, plugins_dir=bundled("plugins")))


async def _full(home: Path, report: Report, *, approve: bool) -> int:
    import asyncio
    import shlex
    from urllib.parse import urlsplit

    from conductor_ai.cli.commands.run import start_and_drive
    from conductor_ai.cli.output import note
    from conductor_ai.conductor import StartRequest
    from conductor_ai.wiring.demo_full import FULL_DEMO_TOOLS, full_demo_task
    from conductor_ai.wiring.demo_world import DATABASE_TABLES, demo_site, make_database

    database = (home / _DATABASE).absolute()
    await asyncio.to_thread(make_database, database)
    async with demo_site() as url:
        # What an operator would put into `.env`: the one loopback port that may be fetched from, and what may be read.
        os.environ["CONDUCTOR_FETCH_GRANTS"] = urlsplit(url).netloc
        sql = {"CONDUCTOR_SQL_URL": f"sqlite:///{database}", "CONDUCTOR_SQL_TABLES": ",".join(DATABASE_TABLES)}
        os.environ.update(sql)
        task = full_demo_task(url)
        note(f"demo: no key is needed. The task: {task}")
        note(f"to resume it later: export {shlex.join(f'{name}={value}' for name, value in sql.items())}")
        request = StartRequest(
            messages=[{"role": "user", "content": task}],
            model="demo/scripted",
            tools=list(FULL_DEMO_TOOLS),
            pre_approved=["code_run"] if approve else [],
        )
        return await start_and_drive(request, report, plugins_dir=None)


def _writable_home(settings: Settings) -> Path:
    """The demo runs in any folder: where its database cannot be made there, and no other place was named, in one of
    its own under the system's folder for temporary files."""
    from tempfile import mkdtemp

    from conductor_ai.cli.output import note

    home = settings.conductor_home
    if settings.is_set("CONDUCTOR_HOME") or os.access(home if home.exists() else home.absolute().parent, os.W_OK):
        return home
    elsewhere = Path(mkdtemp(prefix="conductor-demo-"))
    note(f"nothing can be written here; to look at this session later: export CONDUCTOR_HOME={elsewhere}")
    return elsewhere

"""`conductor doctor`: what is set up, what is missing, what is broken."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from conductor_ai.cli.options import AgentsDir, AsJSON, PluginsDir
from conductor_ai.errors import ConductorError, MissingKey, ToolUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from conductor_ai.settings import Settings


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. Not `ok`: something needed is broken."""

    name: str
    ok: bool
    detail: str


def doctor(as_json: AsJSON = False, plugins_dir: PluginsDir = None, agents_dir: AgentsDir = None) -> int:
    """Say what is set up, what is missing and what is broken. Exit code 1 where something needed is broken."""
    from conductor_ai.cli.output import say, say_json

    checks = [Check("python", sys.version_info >= (3, 11), sys.version.split()[0])]
    settings = _settings(checks)
    if settings is not None:
        checks += _checked("home", lambda: [_home(settings)])
        checks += _checked("database", lambda: [_database(settings)])
        checks += _checked("default model", lambda: [_model(settings)])
        checks += _checked("plugins", lambda: _tools_and_plugins(settings, plugins_dir))
        checks += _checked("sandbox", lambda: [_sandbox(settings)])
        checks += _checked("sql_query", lambda: [_sql(settings)])
        checks += _checked("agents", lambda: _agents(settings, agents_dir))
    variables = _variables(settings)
    healthy = all(check.ok for check in checks)
    if as_json:
        say_json({"ok": healthy, "checks": [asdict(check) for check in checks], "variables": variables})
        return 0 if healthy else 1
    for check in checks:
        say(f"{'ok' if check.ok else 'BROKEN':<8}{check.name}: {check.detail}")
    for variable in variables:
        value = f" = {variable['value']}" if variable["value"] is not None else ""
        say(f"{'set' if variable['set'] else '-':<8}{variable['name']}{value}: {variable['meaning']}")
    return 0 if healthy else 1


def _checked(name: str, look: Callable[[], list[Check]]) -> list[Check]:
    """What `look` finds; what keeps it from looking is a finding too, and the others go on."""
    try:
        return look()
    except ConductorError as error:
        return [_broken(name, error)]
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return [Check(name, False, f"{error.strerror or type(error).__name__}{where}")]


def _settings(checks: list[Check]) -> Settings | None:
    from conductor_ai.settings import Settings

    try:
        return Settings.load()
    except ConductorError as error:
        checks.append(_broken("settings", error))
        return None


def _home(settings: Settings) -> Check:
    home = settings.conductor_home.absolute()
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    writable = os.access(nearest, os.W_OK | os.X_OK)
    if not nearest.is_dir():
        return Check("home", False, f"{home} cannot be a folder: {nearest} is a file")
    return Check(
        "home", writable, f"{home}{'' if writable else f' cannot be written: see the permissions of {nearest}'}"
    )


def _database(settings: Settings) -> Check:
    import asyncio

    from conductor_ai.cli.door import has_database
    from conductor_ai.wiring import open_runtime

    async def count() -> int:
        async with open_runtime(settings) as runtime:
            return len(await runtime.store.sessions("default", limit=1000))

    if not has_database():
        return Check("database", True, "none yet; the first session makes it")
    sessions = asyncio.run(count())
    return Check("database", True, f"{'1000 or more' if sessions == 1000 else sessions} sessions")


def _model(settings: Settings) -> Check:
    from datetime import UTC, datetime

    from conductor_ai.model_catalog import Catalog, retirement_warning
    from conductor_ai.settings import default_model

    try:
        model = default_model(settings, Catalog.load(settings.models_file))
    except MissingKey as error:
        return Check("default model", True, f"none: {error.hint}")
    warning = retirement_warning(model, datetime.now(UTC).date())
    return Check("default model", True, model.id + (f" ({warning})" if warning else ""))


def _tools_and_plugins(settings: Settings, plugins_dir: Path | None) -> list[Check]:
    from conductor_ai.wiring.tools import load_tools

    registry, found = load_tools(settings, plugins_dir)
    lacking = registry.unavailable.items()
    return [
        *(Check(f"tool {name}", True, f"not available: {error}: {error.hint}") for name, error in lacking),
        *(Check(f"plugin {p.name}", p.error is None, p.error or f"{', '.join(p.tools)} from {p.path}") for p in found),
    ]


def _sandbox(settings: Settings) -> Check:
    """Not having one is no fault, where none was asked for by name."""
    import asyncio

    from conductor_ai.tools.sandbox import AUTO, Sandbox
    from conductor_ai.wiring.sandbox import sandbox_of

    async def chosen(sandbox: Sandbox) -> str:
        try:
            backend, found = await sandbox.chosen()
        finally:
            await sandbox.close()
        languages = ", ".join(sorted(found.languages))
        notes = "".join(f"; {reason}" for reason in found.reasons)
        return f"{backend.name}, isolation by {found.level}, memory bounded by {found.memory}, runs {languages}{notes}"

    try:
        return Check("sandbox", True, asyncio.run(chosen(sandbox_of(settings))))
    except ToolUnavailable as error:
        detail = f"code_run is not offered: {error}; {error.hint}"
        return Check("sandbox", settings.conductor_sandbox == AUTO, detail)


def _sql(settings: Settings) -> Check:
    if settings.conductor_sql_url is None:
        return Check("sql_query", True, "not offered: CONDUCTOR_SQL_URL names no database for it")
    tables = ", ".join(name.strip() for name in settings.conductor_sql_tables.split(","))
    return Check("sql_query", True, f"reads {tables or 'no table: CONDUCTOR_SQL_TABLES is empty'}")


def _agents(settings: Settings, agents_dir: Path | None) -> list[Check]:
    from conductor_ai.wiring.agents import load_agent_files

    found = load_agent_files(settings, agents_dir)
    return [Check(f"agent {a.name}", a.error is None, a.error or f"{a.description} From {a.path}") for a in found]


def _variables(settings: Settings | None) -> list[dict[str, Any]]:
    """Each variable that is read. The value is shown where it is no secret."""
    from conductor_ai.settings import VARIABLES

    rows: list[dict[str, Any]] = []
    for variable in VARIABLES:
        is_set = variable.name in os.environ if settings is None else settings.is_set(variable.name)
        shown = is_set and settings is not None and not variable.is_secret
        value = str(getattr(settings, variable.name.lower())) if shown else None
        rows.append({"name": variable.name, "set": is_set, "value": value, "meaning": variable.meaning})
    return rows


def _broken(name: str, error: ConductorError) -> Check:
    return Check(name, False, f"{error}; {error.hint}" if error.hint else str(error))

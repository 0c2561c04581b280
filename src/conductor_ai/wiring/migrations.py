"""The schema of the database that the settings name: what it has, what it lacks, bringing it up to date."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from conductor_ai.bundled import bundled
from conductor_ai.errors import MissingExtra
from conductor_ai.settings import Settings
from conductor_ai.storage import migrations
from conductor_ai.storage.sqlite import schema as sqlite
from conductor_ai.storage.sqlite.database import FILE_NAME


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """`database` says which, without a password; the others are names of migrations, in order."""

    database: str
    applied: list[str]
    pending: list[str]


def schema_status(settings: Settings) -> SchemaStatus:
    """Changes nothing, and makes no database. Blocks: call it in a worker thread.

    Raises: MigrationError where a migration that was applied was edited since; StorageError, MissingExtra.
    """
    if settings.postgres_url is None:
        name = str(settings.conductor_home / FILE_NAME)
        applied, files = sqlite.applied(settings.conductor_home), sqlite.files()
    else:
        url = settings.postgres_url.get_secret_value()
        name, applied = _postgres().applied(url)
        files = migrations.load(bundled("sql"))
    pending = migrations.pending(applied, files)
    return SchemaStatus(name, [one.name for one in applied], [one.name for one in pending])


def bring_up_to_date(settings: Settings) -> list[str]:
    """Apply what is pending, under a lock, and name it. Blocks: call it in a worker thread. Raises: as above."""
    if settings.postgres_url is None:
        done = sqlite.migrate(settings.conductor_home)
    else:
        done = _postgres().migrate(settings.postgres_url.get_secret_value())
    return [migration.name for migration in done]


def _postgres() -> ModuleType:
    try:
        from conductor_ai.storage.postgres import database
    except ModuleNotFoundError as exc:
        raise MissingExtra(f"DATABASE_URL needs {exc.name}", hint="pip install 'conductor-ai[postgres]'") from exc
    return database

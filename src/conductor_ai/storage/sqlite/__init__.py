"""The embedded store: all SQL that SQLite alone understands is in this package."""

from conductor_ai.storage.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]

"""Postgres as the store: all SQL that it alone understands is in this package. Importing it imports psycopg."""

from conductor_ai.storage.postgres.database import migrate
from conductor_ai.storage.postgres.store import PostgresStore

__all__ = ["PostgresStore", "migrate"]

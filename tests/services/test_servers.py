"""Servers that are real, databases that are separate, and a Redis that comes and goes."""

from __future__ import annotations

import psycopg
import pytest
import redis

from conductor_ai.bundled import bundled
from conductor_ai.storage import migrations
from tests.services.redis import RedisServer


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_each_test_has_a_database_of_its_own(postgres_url: str, empty_postgres_url: str) -> None:
    assert tables(empty_postgres_url) == set()
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("CREATE TABLE mine (n int)")
    assert "mine" not in tables(postgres_url)


def test_a_database_is_migrated(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        applied = connection.execute("SELECT name FROM schema_migrations ORDER BY number").fetchall()
    assert [name for (name,) in applied] == [one.name for one in migrations.load(bundled("sql"))]


def test_the_role_of_a_database_is_an_ordinary_one(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        role = connection.execute("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user").fetchone()
    assert role == (False, False)


def test_pgbouncer_gives_a_connection_for_one_transaction(pgbouncer_url: str, postgres_url: str) -> None:
    address = pgbouncer_url.removesuffix("?pgbouncer=true")
    with (
        psycopg.connect(address, autocommit=True) as one,
        psycopg.connect(address, autocommit=True) as other,
        psycopg.connect(postgres_url) as direct,
    ):
        backends = {
            connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone() for connection in (one, other, one)
        }
        assert one.info.dbname == direct.info.dbname
    assert len(backends) == 1  # two clients, one after the other on the same connection to the server


@pytest.mark.parametrize("time", ["first", "second"])
def test_redis_is_empty_for_each_test(redis_url: str, time: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", time)


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_redis_of_ones_own_comes_back_empty_at_its_address(redis_server: RedisServer, way: str) -> None:
    url = redis_server.url
    with redis.Redis.from_url(url, retry=None) as client:
        client.set("key", "value")
        getattr(redis_server, way)()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        redis_server.start()
        assert (redis_server.url, client.get("key")) == (url, None)

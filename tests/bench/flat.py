"""Whether an event costs more when much is stored: intake and claim beside the same on an almost empty database.

In this process and this thread, without HTTP and receivers, so that nothing hides what the database does.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from functools import partial

import sqlalchemy as sa

from flask_hubspot_hitl.hubspot.events import parse_body
from flask_hubspot_hitl.ledger import SCHEMA

from .figures import Case, Figure, Target, interleave
from .stage import Host, Stage

FEW, MANY = 10, 10_000
"""Open handoffs."""
SAMPLES = 50
CHUNK = 100_000
WEEK_MS = 7 * 86_400_000
COUNT = "WITH RECURSIVE n(i) AS (SELECT CAST(:first AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i < :last) "
RANDOM = {"sqlite": "lower(hex(randomblob(20)))", "postgresql": "md5(random()::text) || substr(md5(random()::text), 9)"}


def run(stage: Stage) -> Iterator[Figure]:
    """Milliseconds for each, in the middle, with more and more stored."""
    sizes = [(0, FEW), (0, MANY), (100_000, FEW), (100_000, MANY)]
    if not stage.quick:
        sizes += [(1_000_000, FEW), (1_000_000, MANY)]
    with contextlib.ExitStack() as stack:
        cases: dict[str, Case] = {}
        for kind in stage.databases:
            for events, handoffs in sizes:
                stage.say(f"flat: {events:,} events and {handoffs:,} handoffs on {kind}")
                host = stack.enter_context(stage.host(kind, threads=FEW))
                _fill(host, events, handoffs)
                _measure(host)  # warm up
                cases[_name(kind, events, handoffs)] = partial(_measure, host)
        found = interleave(cases, stage.rounds * 4, stage.say)  # short ones: what disturbs them lasts longer
    for what in ("intake", "claim", "settle"):
        for kind in stage.databases:
            for events, handoffs in sizes:
                is_empty = (events, handoffs) == (0, FEW)
                yield Figure(
                    subject="flat cost",
                    what=f"{what}, {events:,} events, {handoffs:,} open handoffs",
                    database=kind,
                    unit="ms",
                    values=found[_name(kind, events, handoffs)][what],
                    against="" if is_empty else "empty",
                    yardstick=() if is_empty else found[_name(kind, 0, FEW)][what],
                    target=None if is_empty else Target(1.3, at_most=True, of_ratio=True),
                )


def _name(kind: str, events: int, handoffs: int) -> str:
    return f"flat, {kind}, {events:,} events, {handoffs:,} handoffs"


def _measure(host: Host) -> dict[str, float]:
    """The median of storing one event, of claiming its lane, and of settling it and giving the lane back."""
    ledger, intake = host.runtime.ledger, host.runtime.intake
    took: dict[str, list[float]] = {"intake": [], "claim": [], "settle": []}
    for body in host.bodies(SAMPLES):
        items = parse_body(body, now_ms=ledger.now_ms())
        began = time.perf_counter()
        intake.accept(items)
        stored = time.perf_counter()
        now = ledger.now_ms()
        with ledger.write() as tx:
            lease = tx.queue.claim(owner="bench", now=now, ttl_ms=15_000)
            event = tx.queue.head(lease) if lease else None
        claimed = time.perf_counter()
        if lease is None or event is None:
            raise RuntimeError("an event was stored, and none was due")
        with ledger.write() as tx:
            if tx.queue.finish_held(lease, event, now=now):
                tx.queue.release(lease, now=now, due_at=None)
        settled = time.perf_counter()
        for name, spent in (("intake", stored - began), ("claim", claimed - stored), ("settle", settled - claimed)):
            took[name].append(spent)
    return {name: statistics.median(values) * 1000 for name, values in took.items()}


# As after a week's work --------------------------------------------------------------------------------------


def _fill(host: Host, events: int, handoffs: int) -> None:
    """Further open handoffs with idle lanes, and events that were done, each with what its receiver said."""
    engine = sa.create_engine(
        sa.make_url(host.url).set(drivername="sqlite" if host.kind == "sqlite" else "postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",  # not the ledger, which waits for nothing so long
        poolclass=sa.NullPool,
    )
    with engine.connect() as connection:
        if host.kind == "sqlite":
            connection.execute(sa.text("PRAGMA synchronous = OFF"))
        else:
            connection.execute(sa.text(f"SET search_path TO {SCHEMA}"))
        _say(connection, host, HANDOFFS, first=FEW + 1, last=handoffs)
        seeded = EVENTS.format(random=RANDOM[host.kind], progress=PROGRESS)
        for first in range(1, events + 1, CHUNK):
            _say(connection, host, seeded, first=first, last=min(first + CHUNK - 1, events))
        if host.kind == "postgresql":  # what autovacuum does in the course of time
            connection.execute(sa.text("VACUUM ANALYZE"))


def _say(connection: sa.Connection, host: Host, statements: str, *, first: int, last: int) -> None:
    if first > last:
        return
    for statement in statements.split(";"):
        given = {"first": first, "last": last}
        if ":then" in statement:
            given["then"] = host.runtime.ledger.now_ms() - WEEK_MS
        connection.execute(sa.text(COUNT + statement), given)


HANDOFFS = """
INSERT INTO hitl_handoff (id, conversation_id, portal_id, inbox_id, channel_id, account_id, integration_thread_id,
    thread_id, state, contact, name, attributes, operator, opened_at, assigned_mark)
SELECT 'seeded' || i, 'conversation' || i, portal_id, inbox_id, channel_id, account_id, 'integration-thread' || i,
    CAST(7300000000 + i AS TEXT), 'waiting', contact, name, attributes, operator, opened_at, assigned_mark
FROM n, (SELECT * FROM hitl_handoff LIMIT 1) AS t
;
INSERT INTO hitl_thread (portal_id, thread_id, handoff_id)
SELECT '424242', CAST(7300000000 + i AS TEXT), 'seeded' || i FROM n
;
INSERT INTO hitl_lane (key, due_at, fence, wake) SELECT 'in:424242:' || CAST(7300000000 + i AS TEXT), NULL, 1, 1 FROM n
"""
PROGRESS = json.dumps(
    {
        "operator": {"actor_id": "A-987", "name": "Noor Haddad", "email": "noor@acme.test", "avatar": None},
        "plan": [{"signal": "operator_assigned", "snapshot": {"state": "assigned"}, "pad": "x" * 300}],
        "step": 1,
    }
)
"""What is kept of an event until its payload is forgotten, after a day."""
EVENTS = """
INSERT INTO hitl_event (dedupe_key, lane, sort_at, topic, portal_id, thread_id, handoff_id, payload, progress, state,
    starts, attempts, received_at, done_at)
SELECT 'in:' || {random}, 'in:424242:' || thread, at, 'assigned', '424242', thread, 'done' || thread,
    CASE WHEN i % 7 = 0 THEN '{{"value": "A-987", "hint": false}}' END,
    CASE WHEN i % 7 = 0 THEN '{progress}' END, 2, 0, 0, at, at
FROM (SELECT i, CAST(8300000000 + i % 50000 AS TEXT) AS thread, :then + 600 * i AS at FROM n) AS t
"""

"""Whether an event costs more when much is stored: intake, claim and settle beside the same on an empty database.

In this process and this thread, without HTTP and receivers, so that nothing hides what the database does. What is
stored is put in by SQL: a million rows take a minute.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from flask_hubspot_hitl.hubspot.events import parse_body
from flask_hubspot_hitl.ledger import SCHEMA, lanes

from .figures import Case, Figure, Target, bar, interleave
from .stage import Host, Stage

FEW = 10
"""Open handoffs of an empty database, of one portal."""
SAMPLES = 50
CHUNK = 100_000
HOUR_MS = 3_600_000
WEEK_MS = 7 * 24 * HOUR_MS
COUNT = "WITH RECURSIVE n(i) AS (SELECT CAST(:first AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i < :last) "
RANDOM = {"sqlite": "lower(hex(randomblob(20)))", "postgresql": "md5(random()::text) || substr(md5(random()::text), 9)"}


class Size(NamedTuple):
    """How much is stored."""

    events: int
    handoffs: int
    portals: int

    def __str__(self) -> str:
        return f"{self.events:,} events, {self.handoffs:,} handoffs, {self.portals:,} portals"


EMPTY = Size(0, FEW, 1)
FULL = Size(1_000_000, 10_000, 1_000)
QUICK = Size(100_000, 10_000, 1_000)


def run(stage: Stage) -> Iterator[Figure]:
    """Milliseconds for each, in the middle: with much of one kind stored, and with much of all."""
    full = QUICK if stage.quick else FULL
    sizes = [EMPTY, Size(full.events, FEW, 1), Size(0, full.handoffs, 1), Size(0, full.handoffs, full.portals), full]
    with contextlib.ExitStack() as stack:
        cases: dict[str, Case] = {}
        for kind in stage.databases:
            for number, size in enumerate(sizes):
                stage.say(f"{bar(number, len(sizes))} growth: {size} on {kind}")
                host = stack.enter_context(stage.host(kind, threads=FEW))
                _fill(host, size)
                _measure(host)  # warm up
                cases[f"{kind}, {size}"] = partial(_measure, host)
        found = interleave(cases, stage.rounds * 4, stage.say)  # short ones: what disturbs them lasts longer
    for what in ("intake", "claim", "settle"):
        for kind in stage.databases:
            for size in sizes:
                is_empty = size == EMPTY
                yield Figure(
                    subject="growth",
                    what=f"{what}, {size}",
                    database=kind,
                    unit="ms",
                    values=found[f"{kind}, {size}"][what],
                    against="" if is_empty else "empty",
                    yardstick=() if is_empty else found[f"{kind}, {EMPTY}"][what],
                    target=None if is_empty else Target(1.15, at_most=True, of_ratio=True),
                )


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
            lease = tx.queue.take(owner="bench", now=now, ttl_ms=15_000, works=tuple(lanes.Work), portal=None)
            event = tx.queue.begun(lease) if lease else None
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


def _fill(host: Host, size: Size) -> None:
    """Further portals, each with a look that waits for its hour, open handoffs with idle lanes, and events that were
    done, each with what its receiver said."""
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
        portals = size.portals
        looks = PORTALS.format(look=lanes.look_back(""), work=int(lanes.work_of(lanes.look_back("1"))))
        _say(connection, host, looks, first=1, last=portals if portals > 1 else 0)
        whose = OTHERS.format(portals=portals) if portals > 1 else OWN
        _say(connection, host, HANDOFFS.format(whose=whose), first=FEW + 1, last=size.handoffs)
        seeded = EVENTS.format(random=RANDOM[host.kind], progress=PROGRESS, whose=whose)
        for first in range(1, size.events + 1, CHUNK):
            _say(connection, host, seeded, first=first, last=min(first + CHUNK - 1, size.events))
        if host.kind == "postgresql":  # what autovacuum does in the course of time
            connection.execute(sa.text("VACUUM ANALYZE"))


def _say(connection: sa.Connection, host: Host, statements: str, *, first: int, last: int) -> None:
    if first > last:
        return
    for statement in statements.split(";"):
        given = {"first": first, "last": last}
        for name, at in (("then", -WEEK_MS), ("later", HOUR_MS)):
            if f":{name}" in statement:
                given[name] = host.runtime.ledger.now_ms() + at
        connection.execute(sa.text(COUNT + statement), given)


OWN = "'424242'"
OTHERS = "CAST(500000 + i % {portals} AS TEXT)"
PORTALS = """
INSERT INTO hitl_installation (portal_id, state, added_at) SELECT CAST(500000 + i AS TEXT), 'active', :then FROM n
;
INSERT INTO hitl_lane (key, due_at, work, portal_id)
SELECT '{look}' || CAST(500000 + i AS TEXT), :later + i, {work}, CAST(500000 + i AS TEXT) FROM n
"""
HANDOFFS = """
INSERT INTO hitl_handoff (id, conversation_id, portal_id, inbox_id, channel_id, account_id, integration_thread_id,
    thread_id, state, contact, name, attributes, operator, opened_at, assigned_mark)
SELECT 'seeded' || i, 'conversation' || i, {whose}, inbox_id, channel_id, account_id, 'integration-thread' || i,
    CAST(7300000000 + i AS TEXT), 'waiting', contact, name, attributes, operator, opened_at, assigned_mark
FROM n, (SELECT * FROM hitl_handoff LIMIT 1) AS t
;
INSERT INTO hitl_thread (portal_id, thread_id, handoff_id)
SELECT {whose}, CAST(7300000000 + i AS TEXT), 'seeded' || i FROM n
;
INSERT INTO hitl_lane (key, due_at, fence, wake, portal_id)
SELECT 'in:' || {whose} || ':' || CAST(7300000000 + i AS TEXT), NULL, 1, 1, {whose} FROM n
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
SELECT 'in:' || {random}, 'in:' || {whose} || ':' || thread, at, 'assigned', {whose}, thread, 'done' || thread,
    CASE WHEN i % 7 = 0 THEN '{{"value": "A-987", "hint": false}}' END,
    CASE WHEN i % 7 = 0 THEN '{progress}' END, 2, 0, 0, at, at
FROM (SELECT i, CAST(8300000000 + i % 50000 AS TEXT) AS thread, :then + 600 * i AS at FROM n) AS t
"""

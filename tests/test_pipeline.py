"""PostgreSQL's fast way to run statements: what waits is sent in order, once, and fails as it would by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
import sqlalchemy as sa

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.errors import LedgerUnavailable
from flask_hubspot_hitl.ledger import EventState, Ledger, NewEvent, Transaction, lanes
from flask_hubspot_hitl.ledger.pipeline import PipelinedConnection

from .conftest import RelayOf

LANE = lanes.outbound("1")
NOW = 1_000
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
BAD = sa.text("SELECT 1 / 0")


@pytest.fixture
def ledger(database_url: str, clock: ManualClock) -> Iterator[Ledger]:
    """A store on the fast path."""
    one = Ledger(database_url, clock)
    one.create()
    yield one
    one.close()


def an_event(key: str = "a", *, topic: str = "t", sort_at: int = 0) -> NewEvent:
    """An event of the lane, with a text that PostgreSQL could take for a parameter or for its end."""
    return NewEvent(dedupe_key=key, lane=LANE, topic=topic, sort_at=sort_at, payload={"text": "50 % (x)s $1 \\ ' é 🦜"})


@on_postgresql
def test_what_waits_is_seen_by_what_comes_next(ledger: Ledger) -> None:
    with ledger.write() as tx:
        assert type(tx._connection) is PipelinedConnection
        tx.queue.touch(LANE, due_at=NOW)
        assert tx._connection.scalar(sa.text("SELECT count(*) FROM hitl_lane")) == 1  # SQLAlchemy's way
        assert tx.queue.put([an_event("a"), an_event("b", sort_at=1), an_event("a")], now=NOW) == 2
        tx.queue.touch(lanes.outbound("2"), due_at=NOW)
        lease = tx.queue.claim(owner="me", now=NOW, ttl_ms=1_000)
        assert lease is not None
        assert lease.lane == LANE
        head = tx.queue.head(lease)
        assert head is not None
        assert head.payload == an_event().payload
    with ledger.read() as tx:
        assert tx.count(EventState.PENDING) == 2
        assert tx._connection.scalar(sa.text("SELECT count(*) FROM hitl_lane")) == 2


@on_postgresql
def test_a_change_that_fails_takes_the_transaction_back_at_its_end(ledger: Ledger) -> None:
    def fail() -> None:
        with ledger.write() as tx:
            tx.queue.touch(LANE, due_at=NOW)
            tx.queue.touch(lanes.outbound("2"), due_at=2**64)

    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        fail()
    with ledger.write() as tx:  # on the same connection
        assert not tx.queue.has_pending(LANE)
        assert tx._connection.scalar(sa.text("SELECT count(*) FROM hitl_lane")) == 0
        assert tx.queue.put([an_event()], now=NOW) == 1
    with ledger.read() as tx:
        assert tx.count(EventState.PENDING) == 1


@on_postgresql
def test_what_waits_is_forgotten_with_the_transaction(ledger: Ledger) -> None:
    def fail(then: Callable[[Transaction], object]) -> None:
        with ledger.write() as tx:
            tx.queue.touch(LANE, due_at=NOW)
            then(tx)

    with pytest.raises(ZeroDivisionError):
        fail(lambda tx: 1 / 0)
    with pytest.raises(sa.exc.DataError):
        fail(lambda tx: tx._connection.execute(BAD))
    with ledger.write() as tx:
        tx.queue.touch(lanes.outbound("2"), due_at=NOW)
    with ledger.read() as tx:
        assert tx._connection.scalars(sa.text("SELECT key FROM hitl_lane")).all() == [lanes.outbound("2")]


@on_postgresql
def test_text_is_refused_where_it_would_be_cut(ledger: Ledger) -> None:
    with pytest.raises(psycopg.DataError, match="NUL"), ledger.write() as tx:
        tx.queue.put([an_event(topic="a\0b")], now=NOW)
    with ledger.read() as tx:
        assert tx.count(EventState.PENDING) == 0


@on_postgresql
def test_a_commit_whose_answer_is_lost_is_an_outage(database_url: str, relay_of: RelayOf, clock: ManualClock) -> None:
    relay, url = relay_of(database_url)
    ledger = Ledger(url, clock)
    ledger.create()

    def touch() -> None:
        with ledger.write() as tx:
            tx.queue.touch(LANE, due_at=NOW)

    relay.last_words = b"COMMIT"
    with pytest.raises(LedgerUnavailable):
        touch()
    with ledger.write() as tx:
        assert tx.queue.put([an_event()], now=NOW) == 1
    ledger.close()


@on_postgresql
def test_without_names_for_statements_where_a_pooler_knows_none(
    ledger: Ledger, database_url: str, clock: ManualClock
) -> None:
    other = Ledger(sa.make_url(database_url).update_query_dict({"prepare_threshold": "none"}), clock)
    other.create()
    with other.write() as tx:
        assert tx.queue.put([an_event()], now=NOW) == 1
        lease = tx.queue.claim(owner="me", now=NOW, ttl_ms=1_000)
        assert lease is not None
        assert tx.queue.head(lease) is not None
        named = tx._connection.scalars(sa.text("SELECT name FROM pg_prepared_statements")).all()
        assert not [name for name in named if name.startswith("hitl_")]
    other.close()


@on_postgresql
def test_with_many_lanes_a_claim_is_not_planned_anew_each_time(ledger: Ledger) -> None:
    """Planning takes longer than claiming; PostgreSQL gives it up after five times unless it sees an advantage."""
    with ledger.write() as tx:
        idle = "INSERT INTO hitl_lane (key, fence, wake) SELECT 'in:1:' || i, 1, 1 FROM generate_series(1, 5000) AS i"
        tx._connection.execute(sa.text(idle))
        tx._connection.execute(sa.text("ANALYZE hitl_lane"))
    for number in range(8):
        with ledger.write() as tx:
            tx.queue.put([an_event(str(number), sort_at=number)], now=NOW)
            taken = tx.queue.take(owner="me", now=NOW, ttl_ms=1_000, works=tuple(lanes.Work), portal=None)
            assert taken is not None
            event = tx.queue.begun(taken)
            assert event is not None
            tx.queue.finish(event, EventState.DONE, now=NOW)
            tx.queue.release(taken, now=NOW, due_at=None)
    with ledger.read() as tx:
        counts = "SELECT statement, generic_plans, custom_plans FROM pg_prepared_statements WHERE name LIKE 'hitl_%'"
        plans = {row[0]: (row[1], row[2]) for row in tx._connection.execute(sa.text(counts))}
    claims = [count for statement, count in plans.items() if statement.startswith("WITH taken")]
    assert claims == [(3, 5)]

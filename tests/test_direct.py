"""An event that is put without a look beforehand: only where its thread is ours, and nothing of it was erased."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.ledger import EventState, Ledger, NewEvent, Speed, lanes
from flask_hubspot_hitl.ledger.people import thread_mark

from .databases import every_store

PORTAL, THREAD = "424242", "77"
LANE = lanes.thread(PORTAL, THREAD)
MARK = thread_mark(PORTAL, THREAD)
NOW = 1_000


@pytest.fixture
def ledger(database_url: str, clock: ManualClock, speed: Speed) -> Iterator[Ledger]:
    """A store on a path."""
    one = Ledger(database_url, clock, speed=speed)
    one.create()
    yield one
    one.close()


def put(ledger: Ledger, key: str = "a") -> int:
    """How many events were stored."""
    new = NewEvent(
        dedupe_key=key, lane=LANE, topic="t", sort_at=1, portal_id=PORTAL, thread_id=THREAD, payload={"x": 1}
    )
    with ledger.write() as tx:
        counted = tx.direct.put(new, marks=[MARK], now=NOW)
    return counted.rows


def lanes_of(ledger: Ledger) -> list[str]:
    with ledger.read() as tx:
        return list(tx._connection.scalars(sa.text("SELECT key FROM hitl_lane")))


@pytest.fixture
def _known(ledger: Ledger) -> None:
    with ledger.write() as tx:
        tx.records.bind_thread(portal_id=PORTAL, thread_id=THREAD, handoff_id="h1")


@every_store
@pytest.mark.usefixtures("_known")
def test_an_event_of_our_thread_is_stored_once_and_is_its_handoffs(ledger: Ledger) -> None:
    assert (put(ledger), put(ledger), put(ledger, "b")) == (1, 0, 1)
    with ledger.write() as tx:
        lease = tx.queue.claim(owner="me", now=NOW, ttl_ms=1_000)
        assert lease is not None
        assert (lease.lane, lease.wake) == (LANE, 3)
        head = tx.queue.head(lease)
        assert head is not None
        assert (head.dedupe_key, head.handoff_id, head.payload) == ("a", "h1", {"x": 1})


@every_store
def test_an_event_of_another_thread_leaves_nothing_behind(ledger: Ledger) -> None:
    assert put(ledger) == 0
    assert lanes_of(ledger) == []


@every_store
@pytest.mark.usefixtures("_known")
def test_an_event_of_an_erased_thread_is_not_stored(ledger: Ledger) -> None:
    with ledger.write() as tx:
        tx._connection.execute(sa.text("INSERT INTO hitl_erased (key, erased_at) VALUES (:key, 1)"), {"key": MARK})
    assert put(ledger) == 0


@every_store
@pytest.mark.usefixtures("_known")
def test_an_event_that_waits_for_an_erasure_sees_what_it_did(ledger: Ledger) -> None:
    stored: list[int] = []
    thread = threading.Thread(target=lambda: stored.append(put(ledger)))
    with ledger.write() as tx:
        tx.queue.reserve(LANE, now=NOW)  # as an erasure does first of all
        tx._connection.execute(sa.text("UPDATE hitl_lane SET wake = wake"))  # it is locked by now
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        tx._connection.execute(sa.text("INSERT INTO hitl_erased (key, erased_at) VALUES (:key, 1)"), {"key": MARK})
    thread.join(20)
    assert stored == [0]
    with ledger.read() as tx:
        assert tx.count(EventState.PENDING) == 0

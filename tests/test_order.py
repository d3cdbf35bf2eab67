"""Which lane is claimed next: by class, longest due first, portals in turn, and none that waits for ever (rules H1)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.dispatch.order import FAVOUR_EVERY, LOOK_MS, Order
from flask_hubspot_hitl.ledger import Lease, Ledger, NewEvent, due
from flask_hubspot_hitl.ledger.lanes import Lane, Work, work_of

from .databases import every_database

NOW = 1_790_000_000_000
KINDS = {
    Work.LIVE: (Lane.THREAD, Lane.OUTBOUND, Lane.BRIDGE),
    Work.RECEIPT: (Lane.RECEIPTS, Lane.NEWS),
    Work.TIMER: (Lane.TIMER, Lane.ACCOUNTS),
    Work.LOOKING_BACK: (Lane.RECONCILE, Lane.JOURNAL, Lane.PRUNE),
}


@pytest.fixture
def ledger(database_url: str, clock: ManualClock) -> Iterator[Ledger]:
    ledger = Ledger(database_url, clock)
    ledger.create()
    yield ledger
    ledger.close()


@dataclass(frozen=True)
class Waiting:
    """What the model knows of a lane."""

    key: str
    work: Work
    due_at: int
    portal: str


def some(number: int, work: Work, due_at: int, portal: str = "1") -> Waiting:
    kinds = KINDS[work]
    kind = kinds[number % len(kinds)]
    prefix = f"{kind.prefix}chat" if kind is Lane.BRIDGE else kind.prefix
    return Waiting(f"{prefix}:{number}", work, due_at, portal)


def put(ledger: Ledger, *lanes: Waiting) -> None:
    with ledger.write() as tx:
        for one in lanes:
            event = NewEvent(dedupe_key=one.key, lane=one.key, topic="test", sort_at=0, portal_id=one.portal)
            event.due_at = one.due_at
            tx.queue.put([event], now=NOW)


def claim(ledger: Ledger, order: Order, *, now: int = NOW, least: Work = Work.LOOKING_BACK) -> Lease | None:
    with ledger.write() as tx:
        return order.claim(tx, owner="me", now=now, ttl_ms=10_000_000, least=least)


def claimed(ledger: Ledger, order: Order, *, now: int = NOW) -> str:
    lease = claim(ledger, order, now=now)
    assert lease is not None
    return lease.lane


def test_the_kinds_here_are_of_their_classes() -> None:
    assert {work: {kind.work for kind in kinds} for work, kinds in KINDS.items()} == {work: {work} for work in Work}


@every_database
@pytest.mark.parametrize("seed", range(3))
def test_claims_come_by_class_and_within_it_by_due_time(ledger: Ledger, seed: int) -> None:
    """Against a plain model: of any lanes, some of which wait for later, in any mix."""
    rng = random.Random(seed)
    times = rng.sample(range(NOW - 5_000, NOW + 1_000), 90)
    lanes = [some(number, rng.choice(list(Work)), at, rng.choice("123")) for number, at in enumerate(times)]
    put(ledger, *lanes)
    order, waiting = Order(), [one for one in lanes if one.due_at <= NOW]
    favoured = 0
    for number in range(1, len(waiting) + 1):
        works = list(Work)
        if number % FAVOUR_EVERY == 0:
            favoured += 1
            works.insert(0, works.pop(1 + favoured % 3))
        expected = min(waiting, key=lambda one: (works.index(one.work), one.due_at))
        assert claimed(ledger, order) == expected.key
        waiting.remove(expected)
    assert claim(ledger, order) is None


@every_database
def test_no_class_starves(ledger: Ledger) -> None:
    """However many messages come in: whatever else is due has its turn within sixty claims."""
    others = [some(number, work, NOW) for number, work in enumerate(list(Work)[1:])]
    put(ledger, *others)
    order, seen = Order(), set[str]()
    for number in range(3 * FAVOUR_EVERY):
        put(ledger, some(100 + number, Work.LIVE, NOW - 1_000))
        seen.add(claimed(ledger, order))
    assert {one.key for one in others} <= seen
    assert sum(work_of(key) is Work.LIVE for key in seen) == 3 * FAVOUR_EVERY - len(others), "the rest is live"


@every_database
def test_classes_that_may_not_be_claimed_are_not(ledger: Ledger) -> None:
    order = Order()
    put(ledger, some(1, Work.LOOKING_BACK, NOW - 10))
    everything, more_urgent = tuple(Work), (Work.LIVE, Work.RECEIPT, Work.TIMER)
    assert claim(ledger, order, least=Work.TIMER) is None
    with ledger.read() as tx:
        assert (tx.queue.next_due(more_urgent), tx.queue.next_due(everything)) == (None, NOW - 10)
        assert tx.queue.count_due(now=NOW, most=5, works=more_urgent) == 0
        assert tx.queue.count_due(now=NOW, most=5, works=everything) == 1
    assert work_of(claimed(ledger, order)) is Work.LOOKING_BACK


@every_database
def test_due_lanes_are_counted_up_to_a_number(ledger: Ledger) -> None:
    put(ledger, *(some(number, list(Work)[number % 4], NOW) for number in range(12)), some(99, Work.LIVE, NOW + 1))
    with ledger.read() as tx:
        assert [tx.queue.count_due(now=NOW, most=most) for most in (1, 10, 12, 13)] == [1, 10, 12, 12]


@every_database
def test_portals_take_turns_while_there_is_a_backlog(ledger: Ledger) -> None:
    """One portal with a long backlog does not delay another's first lane by more than a look."""
    order = Order()
    put(ledger, *(some(number, Work.LIVE, NOW - 1_000, "1") for number in range(30)))
    assert claimed(ledger, order) == "in:0"
    put(ledger, *(some(100 + 3 * number, Work.LIVE, NOW - 1, "2") for number in range(3)))
    put(ledger, some(203, Work.RECEIPT, NOW - 2_000, "3"))
    assert claimed(ledger, order) not in {"out:100", "out:103", "out:106"}, "by due time, as nobody has looked"
    later = [claimed(ledger, order, now=NOW + LOOK_MS) for _ in range(8)]
    assert [number for number, key in enumerate(later) if key in {"out:100", "out:103", "out:106"}] == [1, 3, 5]
    assert not any(key.startswith(Lane.RECEIPTS.prefix) for key in later), "classes come before portals"


def test_of_many_portals_each_has_its_turn(sqlite_url: str, clock: ManualClock) -> None:
    """More than one look passes: the next one goes on where it ended."""
    ledger = Ledger(sqlite_url, clock)
    ledger.create()
    many = due.PORTALS_AT_ONCE + 50
    waiting = {f"{number:04}": NOW + 1_000_000 for number in range(many)}  # a back-off in each
    waiting |= {"0010": NOW, "0011": NOW, f"{many - 1:04}": NOW}
    put(ledger, *(some(3 * number, Work.LIVE, at, portal) for number, (portal, at) in enumerate(waiting.items())))
    with ledger.read() as tx:
        found, since = tx.queue.due_portals(Work.LIVE, now=NOW)
        assert (found, since) == (["0010", "0011"], f"{due.PORTALS_AT_ONCE - 1:04}")
        assert tx.queue.due_portals(Work.LIVE, now=NOW, since=since) == ([f"{many - 1:04}"], "")
        assert tx.queue.due_portals(Work.RECEIPT, now=NOW) == ([], "")
    ledger.close()


@every_database
def test_a_lane_is_its_events_portals(ledger: Ledger) -> None:
    """Also where it was locked before it was known whose event comes into it."""
    with ledger.write() as tx:
        tx.queue.reserve("out:1", now=NOW)
        tx.queue.put([NewEvent(dedupe_key="a", lane="out:1", topic="t", sort_at=0, portal_id="7")], now=NOW)
        tx.queue.touch("out:1", due_at=NOW)
        found = tx._connection.execute(sa.text("SELECT portal_id, work FROM hitl_lane")).all()
    assert [tuple(one) for one in found] == [("7", int(Work.LIVE))]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_waits_for_later_is_passed_over_by_index(ledger: Ledger) -> None:
    """Ten thousand timers cost a claim nothing: each look is a search in an index, and never a scan of the lanes."""
    with ledger.read() as tx:
        connection = tx._connection
        said = tx.queue._say
        for statement in (said.claim, said.claim_in_turn, due._PORTALS, due._NEXT_DUE, due._COUNT_DUE):
            prepared = connection._prepare(statement)
            plan = connection.driver.execute(f"EXPLAIN QUERY PLAN {prepared.text}", prepared.bind(dict.fromkeys(
                ["now", "by", "until", "turn", "work", "since", "most", *due._PLACES], 1
            ))).fetchall()  # fmt: skip
            assert not [row[3] for row in plan if row[3].startswith("SCAN hitl_lane")]

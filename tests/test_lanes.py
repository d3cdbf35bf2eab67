"""The table of lanes: the keys that stand in databases, the order of locks, and what happens with an unknown kind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_hubspot_hitl.clock import ManualClock, to_datetime
from flask_hubspot_hitl.domain import Handoff, HandoffState
from flask_hubspot_hitl.hubspot.events import Kind
from flask_hubspot_hitl.ledger import Ledger, NewEvent, Topic, lanes
from flask_hubspot_hitl.ledger.lanes import Lane, Rank, UnknownLane

from .conftest import MakeApp
from .helpers import state_of

PACKAGE = Path(__file__).resolve().parents[1] / "flask_hubspot_hitl"
NOW = 1_700_000_000_000
STARTING = Handoff(
    id="h1", conversation_id="c1", portal_id="424242", inbox_id=None, thread_id=None,
    state=HandoffState.STARTING, opened_at=to_datetime(NOW),
)  # fmt: skip
KEYS = {
    lanes.parked("424242"): ("park:424242", Lane.PARKED),
    lanes.outbound("h1"): ("out:h1", Lane.OUTBOUND),
    lanes.ticket("h1"): ("ticket:h1", Lane.TICKET),
    lanes.new_messages("424242", "77"): ("gap:424242:77", Lane.NEW_MESSAGES),
    lanes.timer("h1", Topic.ASSIGNMENT_TIMEOUT): ("timer:h1:assignment-timeout", Lane.TIMER),
    lanes.reconcile("h1"): ("reconcile:h1", Lane.RECONCILE),
    lanes.proof("h1"): ("reconcile:h1:proof", Lane.RECONCILE),
    lanes.look_back("424242"): ("reconcile:portal:424242", Lane.RECONCILE),
    lanes.sweep("hourly"): ("reconcile:hourly", Lane.RECONCILE),
    lanes.resume("424242"): ("resume:424242", Lane.RESUME),
    lanes.accounts("424242", 2_000): ("accounts:424242:2000", Lane.ACCOUNTS),
    lanes.prune(): ("prune:", Lane.PRUNE),
    lanes.journal(): ("journal:", Lane.JOURNAL),
    lanes.journal("1"): ("journal:1", Lane.JOURNAL),
    lanes.portal("424242"): ("portal:424242", Lane.PORTAL),
    lanes.bridge(lanes.bridge_topic("chat"), "parked", "u1"): ("botpress-chat:parked:u1", Lane.BRIDGE),
    lanes.thread("424242", "77"): ("in:424242:77", Lane.THREAD),
    lanes.signals(STARTING): ("in:424242:starting:h1", Lane.THREAD),
    lanes.signals(replace(STARTING, thread_id="77")): ("in:424242:77", Lane.THREAD),
    lanes.receipts("h1"): ("receipt:h1", Lane.RECEIPTS),
    lanes.receipt_of_event(5): ("receipt:event:5", Lane.RECEIPTS),
    lanes.news(5): ("dead:5", Lane.NEWS),
    lanes.erasure("424242", "77"): ("erase:424242:77", Lane.ERASURES),
}


@pytest.fixture
def ledger(database_url: str, clock: ManualClock) -> Iterator[Ledger]:
    ledger = Ledger(database_url, clock)
    ledger.create()
    yield ledger
    ledger.close()


def test_the_keys_are_those_that_stand_in_databases() -> None:
    assert {key: lanes.kind_of(key) for key in KEYS} == dict(KEYS.values())
    assert {kind for _, kind in KEYS.values()} == set(Lane), "every kind of lane has a key here"


def test_lanes_are_locked_in_one_order() -> None:
    """Parked events, tasks, threads; then the handoff's row; then what locks no handoff."""
    keys = ["dead:5", "in:1:2", "in:1:1", "receipt:h1", "out:h1", "park:1", "botpress-chat:u1", "gap:1:1", "portal:1"]
    expected = [
        "park:1",
        "botpress-chat:u1",
        "gap:1:1",
        "out:h1",
        "portal:1",
        "in:1:1",
        "in:1:2",
        "dead:5",
        "receipt:h1",
    ]
    assert sorted(keys, key=lanes.lock_order) == expected
    assert list(Rank) == [Rank.PARKED, Rank.TASK, Rank.THREAD, Rank.LAST]


@pytest.mark.parametrize("key", ["bogus:1", "in", "", "botpress-chat", ":1", "inn:1", "In:1", "botpress:1"])
def test_an_unknown_lane_is_an_error_and_stores_nothing(ledger: Ledger, key: str) -> None:
    known = NewEvent(dedupe_key="known", lane="in:1:1", topic="test", sort_at=NOW)
    unknown = NewEvent(dedupe_key="unknown", lane=key, topic="test", sort_at=NOW)
    with pytest.raises(UnknownLane, match="table Lane"), ledger.write() as tx:
        tx.queue.put([known, unknown], now=NOW)
    with pytest.raises(UnknownLane), ledger.write() as tx:
        tx.queue.put([unknown], now=NOW)
    with pytest.raises(UnknownLane), ledger.write() as tx:
        tx.queue.reserve("in:1:1", key, now=NOW)
    with ledger.read() as tx:
        assert tx.queue.next_due() is None
        assert tx.waiting_events() == []


def test_a_lane_of_a_newer_version_does_not_stop_this_one(ledger: Ledger) -> None:
    """Two versions may share a database: the lease on a lane of the other's is kept like every other."""
    with ledger.write() as tx:
        tx.queue.put([NewEvent(dedupe_key="a", lane="in:1:1", topic="test", sort_at=NOW)], now=NOW)
        rename = sa.text("UPDATE hitl_event SET lane = 'newer:1' WHERE lane = 'in:1:1'")
        tx._connection.execute(rename)
        tx._connection.execute(sa.text("UPDATE hitl_lane SET key = 'newer:1' WHERE key = 'in:1:1'"))
        tx.queue.put([NewEvent(dedupe_key="b", lane="in:1:1", topic="test", sort_at=NOW)], now=NOW)
    with ledger.write() as tx:
        leases = [tx.queue.claim(owner="me", now=NOW, ttl_ms=1_000) for _ in range(2)]
        assert {lease.lane for lease in leases if lease} == {"newer:1", "in:1:1"}
        tx.queue.heartbeat([lease for lease in leases if lease], now=NOW, ttl_ms=9_000)
        assert tx.queue.next_due() == NOW + 9_000
        tx.queue.touch("newer:1", due_at=NOW)  # what ``dead retry`` does with an event of its


def test_what_waits_for_its_time_is_not_waiting_for_us(ledger: Ledger) -> None:
    with ledger.write() as tx:
        rows = [NewEvent(dedupe_key=key, lane=key, topic="test", sort_at=NOW) for key, _ in KEYS.values()]
        tx.queue.put(rows, now=NOW)
    with ledger.read() as tx:
        waiting = {one["id"] for one in tx.waiting_events()}
    assert len(waiting) == len({key for key, kind in KEYS.values() if not kind.is_timer})
    timers = {kind.prefix for kind in Lane if kind.is_timer}
    assert timers == {"park", "gap", "timer", "reconcile", "resume", "accounts", "prune", "journal"}


def test_every_topic_has_its_task(make_app: MakeApp) -> None:
    tasks = state_of(make_app()).dispatcher.tasks
    heard = set(Kind) - {Kind.ACCOUNT, Kind.OTHER}  # those two are never put into the queue
    assert set(tasks) == {str(topic) for topic in (*Topic, *heard)}


DEDUPE_KEYS = {"hubspot/events.py", "handoffs/history.py", "botpress/chat/from_bot.py"}
"""What an event is known by begins with ``in:`` too; that stands in databases and is no lane."""


def test_no_other_module_spells_a_lane() -> None:
    prefixes = {f"{kind.prefix}:" for kind in Lane}
    places = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    found = {
        place
        for place, path in places.items()
        if not place.startswith("simulator/")
        for text in strings(path)
        if text.startswith((*prefixes, Lane.BRIDGE.prefix))
    }
    assert found == {"ledger/lanes.py", *DEDUPE_KEYS}


def strings(path: Path) -> Iterator[str]:
    """The strings of a module, f-strings by their first literal."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            yield node.value

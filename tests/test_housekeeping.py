"""Retention: payloads go first, then dedupe keys, in small transactions; what waits or died stays."""

from __future__ import annotations

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.config import Settings
from flask_hubspot_hitl.dispatch import housekeeping
from flask_hubspot_hitl.ledger import EventState, Ledger, NewEvent

DAY = 86_400
SETTINGS = Settings(client_secret=("x",), public_url=("https://bot.example.test",))


def fill(ledger: Ledger, count: int) -> None:
    """Put ``count`` events and finish them; one more waits, one more is dead."""
    with ledger.write() as tx:
        names = [f"e{number}" for number in range(count)] + ["dead", "waits"]
        events = [
            NewEvent(dedupe_key=name, lane="in:1:1", topic="t", sort_at=0, payload={"text": "x"}) for name in names
        ]
        tx.queue.put(events, now=ledger.now_ms())
        lease = tx.queue.claim(owner="me", now=ledger.now_ms(), ttl_ms=1000)
        assert lease is not None
        for name in names[:-1]:
            head = tx.queue.head(lease)
            assert head is not None
            state = EventState.DEAD if name == "dead" else EventState.DONE
            tx.queue.finish(head, state, now=ledger.now_ms())
        tx.queue.release(lease, now=ledger.now_ms(), due_at=None)


def test_retention(database_url: str) -> None:
    clock = ManualClock()
    ledger = Ledger(database_url, clock)
    ledger.create()
    fill(ledger, 1_200)
    assert housekeeping.tidy(ledger, SETTINGS)[0]["payloads"] == 0
    clock.advance(DAY + 1)
    gone, _ = housekeeping.tidy(ledger, SETTINGS)
    assert {kind: count for kind, count in gone.items() if count} == {"payloads": 1_200}
    with ledger.write() as tx:
        again = [NewEvent(dedupe_key="e7", lane="in:1:1", topic="t", sort_at=0)]
        assert tx.queue.put(again, now=clock.now_ms()) == 0, "the key is still there"
    clock.advance(6 * DAY)
    assert housekeeping.tidy(ledger, SETTINGS)[0]["events"] == 1_200
    with ledger.read() as tx:
        status = tx.status(now=clock.now_ms())
        assert (status["done"], status["dead"], status["pending"]) == (0, 1, 1)
        assert tx.dead_events()[0]["id"]
    ledger.close()


def test_idle_lanes_go_and_come_back(database_url: str) -> None:
    clock = ManualClock()
    ledger = Ledger(database_url, clock)
    ledger.create()
    fill(ledger, 1)
    with ledger.write() as tx:
        tx.queue.touch("in:1:2", due_at=clock.now_ms())
        for _ in range(2):
            lease = tx.queue.claim(owner="me", now=clock.now_ms(), ttl_ms=1000)
            assert lease is not None
            tx.queue.release(lease, now=clock.now_ms(), due_at=None if lease.lane == "in:1:2" else clock.now_ms() + 1)
    assert housekeeping.tidy(ledger, SETTINGS)[0]["lanes"] == 1, "not the one in which something waits"
    with ledger.write() as tx:
        tx.queue.put([NewEvent(dedupe_key="new", lane="in:1:2", topic="t", sort_at=0)], now=clock.now_ms())
        assert tx.queue.claim(owner="me", now=clock.now_ms(), ttl_ms=1000) is not None
    ledger.close()


def test_b7_a_lane_is_kept_while_its_next_event_is_to_carry_after_gap(database_url: str) -> None:
    clock = ManualClock()
    ledger = Ledger(database_url, clock)
    ledger.create()
    carried = [run_next(ledger, "poison", EventState.DEAD)]
    assert housekeeping.tidy(ledger, SETTINGS)[0]["lanes"] == 0
    carried.append(run_next(ledger, "next", EventState.DONE))
    assert carried == [False, True]
    assert housekeeping.tidy(ledger, SETTINGS)[0]["lanes"] == 1, "it was told"
    run_next(ledger, "more poison", EventState.DEAD)
    with ledger.write() as tx:
        assert tx.people.prune_dead(before=clock.now_ms() + 1, limit=10) == 2
    assert housekeeping.tidy(ledger, SETTINGS)[0]["lanes"] == 1, "not for ever"
    ledger.close()


def run_next(ledger: Ledger, key: str, state: EventState) -> bool:
    """Put an event into a lane and end it so; whether it carried ``after_gap``."""
    now = ledger.now_ms()
    with ledger.write() as tx:
        tx.queue.put([NewEvent(dedupe_key=key, lane="in:1:1", topic="t", sort_at=0)], now=now)
        lease = tx.queue.claim_lane("in:1:1", owner="me", now=now, ttl_ms=1000)
        assert lease is not None
        head = tx.queue.head(lease)
        assert head is not None
        tx.queue.finish(head, state, now=now, error="x")
        tx.queue.release(lease, now=now, due_at=None)
        return head.after_gap

"""The place of a conversation in the queue, the estimate against what then happened, and the signal of a change.

Source: docs/rules.rst J7.
"""

from __future__ import annotations

import heapq
import math
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_hubspot_hitl import CloseReason, HubSpotHITL, Waiting, queue_changed
from flask_hubspot_hitl.clock import ManualClock, to_datetime
from flask_hubspot_hitl.domain import HandoffState, Operator
from flask_hubspot_hitl.handoffs import queue, rules, transitions
from flask_hubspot_hitl.handoffs.states import kind_of
from flask_hubspot_hitl.ledger import HandoffRecord, Ledger, Transaction

from .conftest import MakeApp, Serve
from .databases import every_database
from .helpers import HubSpot, Recorder, begin_handoff, opening, state_of, wait_until

Record = Callable[[Flask], Recorder]
EMAIL = "rosa@example.test"
NOOR = "A-987"


@pytest.fixture
def ledger(database_url: str, clock: ManualClock) -> Iterator[Ledger]:
    with opened(database_url, clock) as made:
        yield made


class opened:
    """A new ledger."""

    def __init__(self, url: str, clock: ManualClock) -> None:
        self._ledger = Ledger(url, clock, kind_of=kind_of)

    def __enter__(self) -> Ledger:
        self._ledger.create()
        return self._ledger

    def __exit__(self, *_: object) -> None:
        self._ledger.close()


def begin_bare(tx: Transaction, name: str, now: int, **more: str) -> HandoffRecord:
    """A handoff that waits, and nothing that follows from it: for those of which there are many."""
    asked = opening(name, state=HandoffState.WAITING, thread_id=f"7{name}", opened_at=to_datetime(now), **more)
    record = HandoffRecord(
        handoff=asked.handoff,
        channel_id=asked.channel_id,
        account_id=asked.account_id,
        integration_thread_id=name,
        sender=None,
        recipient=None,
    )
    assert tx.records.insert(record)
    return record


def begin(ledger: Ledger, name: str, **more: str) -> str:
    with ledger.write() as tx:
        record = begin_handoff(tx, name, now=ledger.now_ms(), **more)
        rules.opened(tx, record, thread_id=f"7{name}", timeout_ms=0, now=ledger.now_ms())
        return record.handoff.id


def held(tx: Transaction, handoff_id: str) -> HandoffRecord:
    record = tx.records.get(handoff_id, lock=True)
    assert record is not None
    return record


def take_in(tx: Transaction, handoff_id: str, now: int, actor_id: str | None = NOOR) -> None:
    operator = None if actor_id is None else Operator(actor_id)
    transitions.assigned(tx, held(tx, handoff_id), operator, occurred_ms=now)


def take(ledger: Ledger, handoff_id: str, actor_id: str | None = NOOR) -> None:
    with ledger.write() as tx:
        take_in(tx, handoff_id, ledger.now_ms(), actor_id)


def end_in(tx: Transaction, handoff_id: str, now: int) -> None:
    rules.close(tx, held(tx, handoff_id), reason=CloseReason.USER, detail=None, at_ms=now, now=now)


def end(ledger: Ledger, handoff_id: str) -> None:
    with ledger.write() as tx:
        end_in(tx, handoff_id, ledger.now_ms())


def place(ledger: Ledger, handoff_id: str) -> Waiting | None:
    with ledger.read() as tx:
        return queue.waiting_of(tx, tx.records.get(handoff_id))


# --- how many are ahead ------------------------------------------------------------------------------------


@every_database
def test_those_who_came_before_to_the_same_inbox_and_wait_are_ahead(ledger: Ledger) -> None:
    first, other, second, third = (
        begin(ledger, name, **more) for name, more in {"1": {}, "2": {"inbox_id": "7"}, "3": {}, "4": {}}.items()
    )
    assert [place(ledger, one) for one in (first, other, second, third)] == [
        *(Waiting(0), Waiting(0), Waiting(1), Waiting(2))
    ]
    take(ledger, second)
    assert place(ledger, second) is None
    assert place(ledger, third) == Waiting(1)
    end(ledger, first)
    assert place(ledger, third) == Waiting(0)
    take(ledger, second, None)  # given up by its agent, it is before the third one again
    assert (place(ledger, second), place(ledger, third)) == (Waiting(0), Waiting(1))


@every_database
def test_an_inbox_that_is_not_known_has_a_queue_of_its_own(ledger: Ledger) -> None:
    begin(ledger, "1")
    begin(ledger, "2", inbox_id=None)  # type: ignore[arg-type]
    assert place(ledger, begin(ledger, "3", inbox_id=None)) == Waiting(1)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["begin", "take", "end"]), st.integers(0, 99)), max_size=40))
def test_nobody_is_ever_moved_back(actions: list[tuple[str, int]]) -> None:
    now = 1_780_000_000_000
    with (
        tempfile.TemporaryDirectory() as folder,
        opened(f"sqlite:///{Path(folder) / 'l.sqlite3'}", ManualClock(now)) as ledger,
        ledger.write() as tx,
    ):
        waiting: dict[str, int] = {}
        for number, (action, which) in enumerate(actions):
            now += 1_000
            if action == "begin" or not waiting:
                inbox = ("700200300", "7")[which % 2]
                waiting[begin_bare(tx, str(number), now, inbox_id=inbox).handoff.id] = 10**9
            else:
                one = sorted(waiting)[which % len(waiting)]
                (take_in if action == "take" else end_in)(tx, one, now)
                del waiting[one]
            found = {one.handoff_id: one.ahead for one in tx.inboxes.places()}
            assert found.keys() == waiting.keys()
            assert all(0 <= ahead <= waiting[one] for one, ahead in found.items())
            waiting = found
        for one, ahead in waiting.items():
            told = queue.waiting_of(tx, tx.records.get(one))
            assert told is not None
            assert told.ahead == ahead


# --- for how long -------------------------------------------------------------------------------------------

AGENTS, SERVICE, WAITS = 3, 300.0, 1_000


Event = tuple[str, float, int]


def history(seed: int) -> list[Event]:
    """What happens in an inbox of three agents through quiet and busy hours: a moment in seconds, who comes or goes."""
    chance, at = random.Random(seed), 0.0
    free, told = [0.0] * AGENTS, []
    for number in range(WAITS):
        load = 0.85 + 0.3 * math.sin(at / 7_200)
        at += chance.expovariate(load * AGENTS / SERVICE)
        reacts = chance.lognormvariate(math.log(20), 0.6)
        taken = max(at, heapq.heappop(free)) + reacts
        heapq.heappush(free, taken + chance.lognormvariate(math.log(SERVICE) - 0.32, 0.8))
        told += [("comes", at, number), ("taken", taken, number)]
    return sorted(told, key=lambda one: one[1])


def batched(events: list[Event], size: int) -> list[list[Event]]:
    return [events[at : at + size] for at in range(0, len(events), size)]


def test_the_estimate_is_within_twice_of_what_happens_for_half_of_a_thousand_waits(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    began = 1_780_000_000_000
    said: dict[int, tuple[float | None, float]] = {}
    ids: dict[int, str] = {}
    right = none = 0
    with opened(sqlite_url, ManualClock(began)) as ledger:
        for events in batched(history(seed=18), 100):
            with ledger.write() as tx:  # many in one, for nothing but speed
                for what, at, number in events:
                    now = began + round(at * 1000)
                    if what == "comes":
                        record = begin_bare(tx, str(number), now)
                        ids[number], found = record.handoff.id, queue.waiting_of(tx, record)
                        assert found is not None
                        said[number] = found.estimate, at
                        continue
                    take_in(tx, ids[number], now)
                    estimate, since = said[number]
                    none += estimate is None
                    right += estimate is not None and (at - since) / 2 <= estimate <= (at - since) * 2
    with capsys.disabled():
        print(f"\nestimates within x 2: {right} of {WAITS}; none known for {none}")
    assert right >= WAITS / 2
    assert none < 20


def test_an_estimate_needs_some_waits_and_leaves_nights_out() -> None:
    def takes(*waits: int) -> list[tuple[int, int]]:
        return [(number * 100_000, number * 100_000 + wait * 1000) for number, wait in enumerate(waits)]

    assert queue.estimate(takes(60, 60, 60, 60, 60), 0) is None
    assert queue.estimate(takes(*[60] * 6), 0) == 60
    assert queue.estimate(takes(*[60] * 6), 2) == 180
    assert queue.estimate(takes(*[60] * 5, 36_000), 0) == pytest.approx((4 * 60 + 240) / 5)
    assert queue.estimate(takes(*[0] * 6), 3) == 0
    assert queue.estimate(takes(*[-5] * 6), 0) == 0, "HubSpot's clock may be behind ours"


# --- the signal ---------------------------------------------------------------------------------------------


def serve_queue(app: Flask) -> None:
    """What the start of a dispatcher does, which an inline one has none of."""
    with state_of(app).ledger.write() as tx:
        queue.schedule(tx, now=state_of(app).ledger.now_ms())


def places(recorder: Recorder) -> list[tuple[str, int]]:
    return [(one["handoff"].conversation_id, one["waiting"].ahead) for one in recorder.of(queue_changed)]


def test_who_waits_is_told_when_the_place_changes_at_most_every_five_seconds(
    make_app: MakeApp, hubspot: HubSpot, serve: Serve, clock: ManualClock, record: Record
) -> None:
    app = make_app(clock=clock, dispatcher="inline")
    recorder, hitl, dispatcher = record(app), HubSpotHITL(), state_of(app).dispatcher
    serve(app)
    with app.app_context():
        threads = [str(hitl.start(f"c-{number}", contact=EMAIL).thread_id) for number in range(4)]
        assert [hitl.waiting(f"c-{number}") for number in range(4)] == [Waiting(ahead) for ahead in range(4)]
        serve_queue(app)
        dispatcher.run_due()
        assert places(recorder) == [], "their places are as they were when they began"
        for number in (0, 1):
            hubspot.act(threads[number], "assign", actorId=NOOR)
            recorder.wait_for("operator_assigned", number + 1)
        dispatcher.run_due()
        assert places(recorder) == [], "five seconds have not gone by"
        clock.advance(5)
        dispatcher.run_due()
        assert places(recorder) == [("c-2", 0), ("c-3", 1)]
        assert hitl.waiting("c-1") is None
        hitl.stop("c-2")
        hubspot.act(threads[3], "assign", actorId=NOOR)
        recorder.wait_for("operator_assigned", 3)
        clock.advance(5)
        dispatcher.run_due()
        assert places(recorder) == [("c-2", 0), ("c-3", 1)], "nobody waits any more"
        assert hitl.waiting("c-9") is None


def test_what_comes_late_is_not_told(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> None:
    app = make_app(clock=clock, dispatcher="external")
    recorder, ledger = record(app), state_of(app).ledger
    first, second = begin(ledger, "1"), begin(ledger, "2")
    take(ledger, first)
    with ledger.write() as tx:
        queue.tell(tx, now=ledger.now_ms())
    take(ledger, second)
    state_of(app).dispatcher.run_due()
    assert "handoff_started" in recorder.names()
    assert places(recorder) == []


def test_it_is_told_by_a_dispatcher_and_no_timer_runs_where_nobody_listens(
    make_app: MakeApp, hubspot: HubSpot, record: Record
) -> None:
    deaf = make_app(name="deaf", dispatcher="thread")
    state_of(deaf).dispatcher.ensure_started()
    ledger = state_of(deaf).ledger
    first, _ = begin(ledger, "1"), begin(ledger, "2")
    take(ledger, first)

    def has_timer() -> bool:
        with ledger.read() as tx:
            return tx.queue.has_pending("timer:queue")

    state_of(deaf).dispatcher.stop()
    assert not has_timer()
    app = make_app(dispatcher="thread", public_url=deaf.config["HUBSPOT_HITL_PUBLIC_URL"])
    recorder = record(app)
    state_of(app).dispatcher.ensure_started()
    recorder.wait_for(queue_changed)
    assert places(recorder) == [("2", 0)]
    wait_until(has_timer)
    recorder.close()

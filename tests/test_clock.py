"""Time: on SQLite the time since the machine was started, on PostgreSQL the server's.

A machine's clock that is set forward or back by somebody neither holds anything back nor gives anything up.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from flask_hubspot_hitl import HubSpotHITL, operator_message
from flask_hubspot_hitl.clock import Deadline, ManualClock, SystemClock, uptime_ms, wall_ms
from flask_hubspot_hitl.hubspot.transport import deadline
from flask_hubspot_hitl.ledger import Ledger, NewEvent, patience
from flask_hubspot_hitl.ledger.timekeeping import SYNC_MS

from .conftest import MakeApp, Record, Serve
from .helpers import HubSpot, signed_post, state_of, wait_until

SECOND_MS, HOUR_MS = 1000, 3_600_000
SLACK_MS = 1_500
"""A jump of a second is followed at once."""


class MachineClock:
    """A machine's clock that somebody puts forward or back."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


@pytest.fixture
def machine() -> MachineClock:
    return MachineClock()


def off_by(ledger: Ledger) -> float:
    return abs(ledger.now_ms() - time.time() * 1000)


@contextlib.contextmanager
def opened(url: str, machine: MachineClock) -> Iterator[Ledger]:
    """As a process that starts has it."""
    with contextlib.closing(Ledger(url, SystemClock(machine))) as ledger:
        ledger.create()
        yield ledger


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
def test_a_host_with_a_wrong_clock_goes_by_postgresqls(
    postgresql_url: str, machine: MachineClock, ahead_ms: int
) -> None:
    machine.ahead_ms = ahead_ms
    with opened(postgresql_url, machine) as ledger:
        assert off_by(ledger) < HOUR_MS / 2
        machine.ahead_ms = -2 * ahead_ms  # while it runs
        assert off_by(ledger) < HOUR_MS / 2
        assert abs(ledger.wall_ms() - time.time() * 1000) < HOUR_MS / 2


@pytest.mark.parametrize("ahead_ms", [25 * HOUR_MS, -25 * HOUR_MS, 240 * SECOND_MS, -240 * SECOND_MS])
def test_on_sqlite_a_clock_that_is_set_moves_no_process_by_more_than_a_moment(
    sqlite_url: str, machine: MachineClock, ahead_ms: int
) -> None:
    with opened(sqlite_url, machine) as ledger:
        machine.ahead_ms = ahead_ms
        assert off_by(ledger) < SLACK_MS
        with opened(sqlite_url, machine) as other:  # one that starts meanwhile goes by the same time
            assert off_by(other) < SLACK_MS
            assert abs(ledger.now_ms() - other.now_ms()) < SLACK_MS
        assert abs(ledger.wall_ms() - machine()) < SLACK_MS


def test_on_sqlite_the_machines_clock_is_followed_slowly(
    sqlite_url: str, machine: MachineClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    went_by = 0
    monkeypatch.setattr("flask_hubspot_hitl.clock.uptime_ms", lambda: uptime_ms() + went_by)
    monkeypatch.setattr("flask_hubspot_hitl.ledger.timekeeping.uptime_ms", lambda: uptime_ms() + went_by)
    with opened(sqlite_url, machine) as ledger:
        machine.ahead_ms = 5 * SECOND_MS
        for _ in range(8):
            went_by += SYNC_MS + 1
            machine.ahead_ms += SYNC_MS + 1
            with ledger.write():
                pass
        assert abs(ledger.now_ms() - machine()) < SLACK_MS


@pytest.mark.parametrize("ahead_ms", [40 * 365 * 24 * HOUR_MS, -40 * 365 * 24 * HOUR_MS])
def test_a_machine_that_had_no_time_yet_is_followed_at_once(
    sqlite_url: str, machine: MachineClock, ahead_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    went_by = 0
    monkeypatch.setattr("flask_hubspot_hitl.ledger.timekeeping.uptime_ms", lambda: uptime_ms() + went_by)
    machine.ahead_ms = ahead_ms
    with opened(sqlite_url, machine) as ledger:
        machine.ahead_ms, went_by = 0, SYNC_MS + 1
        with ledger.write():
            pass
        went_by = 0
        assert off_by(ledger) < SYNC_MS + SLACK_MS


def test_what_waits_for_a_time_that_is_far_ahead_is_pulled_back(database_url: str) -> None:
    now = 1_790_000_000_000
    with contextlib.closing(Ledger(database_url, ManualClock(now))) as ledger:
        ledger.create()
        with ledger.write() as tx:
            put = [NewEvent(dedupe_key=key, lane=key, topic="x", sort_at=0) for key in ("out:1", "out:2", "timer:1")]
            tx.queue.put(put, now=now)
            for key, failures in (("out:1", 3), ("timer:1", 0)):
                lease = tx.queue.claim_lane(key, owner="me", now=now, ttl_ms=1000)
                assert lease is not None
                tx.queue.release(lease, now=now, due_at=now + 25 * HOUR_MS, failures=failures)
            assert tx.queue.claim_lane("out:2", owner="gone", now=now + 25 * HOUR_MS, ttl_ms=15_000) is not None
        with ledger.write() as tx:
            assert tx.queue.pull_back(now=now, longest_ms=2 * HOUR_MS, ttl_ms=15_000) == 2
        with ledger.write() as tx:
            due = []
            while (lease := tx.queue.claim(owner="me", now=now + 15_000, ttl_ms=HOUR_MS)) is not None:
                due.append(lease.lane)
            assert sorted(due) == ["out:1", "out:2"]


def test_what_waited_for_a_day_is_tried_once_more_before_it_is_given_up(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, database_url: str
) -> None:
    app = make_app(clock=clock, dispatcher="external", contact_policy="anonymous")
    with app.app_context():
        hitl = HubSpotHITL()
        hitl.start("c1", name="Maria")
        assert hitl.send("c1", "Hello")
    clock.advance(25 * 3600)
    state_of(app).dispatcher.run_due()
    assert [[one["text"] for one in thread["messages"]][-1] for thread in hubspot.threads()] == ["Hello"]


DOWN = [{"match": ".*", "times": None, "mode": "status", "status": 503}]


@pytest.mark.parametrize("ahead_ms", [25 * HOUR_MS, -240 * SECOND_MS])
def test_a_server_whose_clock_is_set_gives_nothing_up_and_holds_nothing_back(
    make_app: MakeApp, serve: Serve, hubspot: HubSpot, machine: MachineClock, record: Record, ahead_ms: int
) -> None:
    app = make_app(clock=SystemClock(machine), contact_policy="anonymous")
    seen = record(app)
    operator_message.connect(nobody, app)
    base = serve(app)
    with app.app_context():
        hitl = HubSpotHITL()
        hitl.start("c1", name="Maria")
        hubspot.chaos(faults=DOWN)
        before = len(hubspot.requests())
        assert hitl.send("c1", "Hello")
    requests.get(f"{base}/hubspot/healthz", timeout=10)  # it serves, so it dispatches
    wait_until(lambda: len(hubspot.requests()) > before + 2)
    machine.ahead_ms = ahead_ms
    if ahead_ms > 0:  # for a moment only
        before = len(hubspot.requests())
        wait_until(lambda: len(hubspot.requests()) > before or seen.of("message_failed"))
        machine.ahead_ms = 0
    hubspot.chaos(faults=[])
    wait_until(lambda: seen.of("message_delivered") or seen.of("message_failed"))
    assert [one["message"].text for one in seen.of("message_delivered")] == ["Hello"]


def nobody(*_args: object, **_facts: object) -> None:
    """Hears what agents write."""


def test_a_signature_is_held_against_the_time_of_day(make_app: MakeApp, machine: MachineClock) -> None:
    machine.ahead_ms = -HOUR_MS
    app = make_app(clock=SystemClock(machine))
    machine.ahead_ms = 0  # somebody has put it right
    assert abs(state_of(app).ledger.now_ms() - time.time() * 1000) > HOUR_MS / 2
    assert signed_post(app, [], timestamp=machine()).status_code == 204


def test_a_clock_that_was_set_goes_on() -> None:
    clock = SystemClock(lambda: 0)
    assert clock.now_ms() == 0
    clock.set(5_000_000, at=0)
    first = clock.now_ms()
    time.sleep(0.02)
    assert 15 <= clock.now_ms() - first < HOUR_MS
    assert clock.wall_ms() >= first
    clock.set(5_000_000, at=0, is_true=False)
    assert wall_ms(clock) == 0


def test_a_manual_clock_sleeps_at_once() -> None:
    clock = ManualClock(5_000)
    clock.sleep(2.5)
    assert clock.now_ms() == 7_500
    assert wall_ms(clock) == 7_500


def test_of_nested_deadlines_the_earlier_end_wins() -> None:
    one = Deadline("one")
    assert one.left() == math.inf
    with one(60):
        assert 59 < one.left() <= 60
        with one(3600):
            assert one.left() <= 60
        with contextlib.suppress(RuntimeError), one(1):
            assert one.left() <= 1
            raise RuntimeError
        assert one.left() > 59, "a block that ends takes its own end away"
        with one(-1):
            assert one.left() == 0
    assert one.left() == math.inf


def test_a_deadline_is_counted_from_the_beginning_of_its_block() -> None:
    one = Deadline("one")
    block = one(60)
    time.sleep(0.05)
    with block:
        assert one.left() > 59.97


def test_a_deadline_goes_with_the_context_and_not_to_other_threads() -> None:
    one, seen = Deadline("one"), {}

    def look(name: str) -> None:
        seen[name] = one.left()

    with one(60):
        given = contextvars.copy_context()
        threads = [
            threading.Thread(target=look, args=["other"]),
            threading.Thread(target=given.run, args=[look, "given"]),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert seen["other"] == math.inf
    assert 0 < seen["given"] <= 60


def test_hubspots_deadline_is_not_the_databases_patience() -> None:
    with deadline(1):
        assert patience.left() == math.inf
        with patience(2):
            assert deadline.left() <= 1 < patience.left() <= 2

"""How many threads there are: more while they wait, fewer when they are idle (rules H2), some for what is urgent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.config import Settings
from flask_hubspot_hitl.dispatch.bell import Bell
from flask_hubspot_hitl.dispatch.dispatcher import Dispatcher
from flask_hubspot_hitl.dispatch.options import EngineOptions
from flask_hubspot_hitl.dispatch.running import Running
from flask_hubspot_hitl.dispatch.scaling import BUSY_SHARE, WAITS_SECONDS, Threads
from flask_hubspot_hitl.dispatch.tasks import Done, Outcome, Task
from flask_hubspot_hitl.ledger import Event, Lease, Ledger, NewEvent

from .conftest import MakeApp
from .helpers import state_of, wait_until

PATIENCE = 60


def options(**given: Any) -> EngineOptions:
    usual: dict[str, Any] = {"mode": "thread", "threads": 4, "lease_ttl": 15, "handler_timeout": 300, "grows": True}
    return EngineOptions(**{**usual, "max_attempts": 3, **given})


# --- the rule, with a clock that is told the time ---------------------------------------------------------


class Time:
    """Wall time and this process's time, in seconds; both go on when told to."""

    def __init__(self) -> None:
        self.wall = self.spent = 1_000.0

    def go_on(self, seconds: float, *, share: float = 0.0) -> None:
        self.wall += seconds
        self.spent += share * seconds


class Crew:
    """Threads that wait until the end, and what they are said to run."""

    def __init__(self, **given: Any) -> None:
        self.time, self.bell, self.over = Time(), Bell(), threading.Event()
        self.due, self.said = 100, list[str]()
        self.running: list[Running] = []
        self.threads = Threads(
            options(**given),
            self.bell,
            self._wait,
            lambda text, what: self.said.append(text % what),
            now=lambda: self.time.wall,
            spent=lambda: self.time.spent,
        )
        self.threads.start(4)

    def _wait(self) -> None:
        self.over.wait(PATIENCE)

    def take(self, count: int) -> None:
        """So many threads begin a task now."""
        lease = Lease(lane="in:1:1", owner="me", fence=1, wake=1, failures=0)
        for _ in range(count):
            self.running.append(Running(lease, threading.current_thread(), self.time.wall, looks_back=False))

    def grow(self) -> int:
        self.threads.grow(self.running, lambda most: min(most, self.due))
        return len(self.threads)


@pytest.fixture
def crews() -> Iterator[Callable[..., Crew]]:
    made: list[Crew] = []

    def make(**given: Any) -> Crew:
        made.append(Crew(**given))
        return made[-1]

    yield make
    for one in made:
        one.over.set()


def test_h2_as_many_threads_as_at_first_are_kept_working(crews: Callable[..., Crew]) -> None:
    crew = crews()
    crew.take(4)
    crew.time.go_on(WAITS_SECONDS)
    assert crew.grow() == 4, "they work"
    crew.time.go_on(WAITS_SECONDS)
    assert crew.grow() == 8, "they wait: others in their place"
    crew.take(2)
    crew.time.go_on(WAITS_SECONDS)
    assert crew.grow() == 8, "four work: two that have just begun, and two that are about to"
    crew.time.go_on(WAITS_SECONDS)
    assert crew.grow() == 12, "six wait: as many work"
    crew.take(6)
    crew.time.go_on(1.5 * WAITS_SECONDS)
    assert crew.grow() == 12, "so many take turns, and may not have had theirs yet"
    crew.time.go_on(2 * WAITS_SECONDS)
    assert crew.grow() == 24, "all wait: twice as many"


def test_h2_no_more_are_started_than_are_due_and_one(crews: Callable[..., Crew]) -> None:
    crew = crews()
    crew.take(4)
    crew.time.go_on(2 * WAITS_SECONDS)
    crew.due = 2
    assert crew.grow() == 6
    crew.take(2)
    crew.time.go_on(2 * WAITS_SECONDS)
    crew.due = 0
    assert crew.grow() == 7, "ready for what comes next"


def test_h2_there_is_a_bound(crews: Callable[..., Crew]) -> None:
    crew = crews(max_threads=6)
    crew.take(4)
    for expected in (6, 6):
        crew.time.go_on(2 * WAITS_SECONDS)
        assert crew.grow() == expected
        crew.take(2)


@pytest.mark.parametrize(("share", "expected"), [(BUSY_SHARE - 0.05, 8), (BUSY_SHARE + 0.05, 4), (1.9, 4)])
def test_h2_threads_that_compute_are_not_helped_by_more(
    crews: Callable[..., Crew], share: float, expected: int
) -> None:
    crew = crews()
    crew.take(4)
    crew.time.go_on(2 * WAITS_SECONDS, share=share)
    assert crew.grow() == expected


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_h2_where_threads_do_not_grow_only_hung_ones_are_replaced(crews: Callable[..., Crew], share: float) -> None:
    crew = crews(grows=False, handler_timeout=10)
    crew.take(4)
    crew.time.go_on(9.9, share=share)
    assert crew.grow() == 4
    crew.time.go_on(0.2, share=share)
    assert crew.grow() == 8
    crew.take(3)
    crew.time.go_on(11, share=share)
    assert crew.grow() == 11, "four that do not hang, and no more"


def test_h2_who_stores_an_outcome_does_not_wait(crews: Callable[..., Crew]) -> None:
    crew = crews()
    crew.take(4)
    for one in crew.running:
        one.since = float("inf")
    crew.time.go_on(10)
    assert crew.grow() == 4


def test_h2_a_system_without_more_threads_is_told_and_lived_with(
    crews: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = crews()
    crew.take(4)
    crew.time.go_on(2 * WAITS_SECONDS)

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert crew.grow() == 4
    assert "can't start new thread" in crew.said[0]


@pytest.mark.parametrize(
    ("settings", "grows"),
    [
        ({}, True),
        ({"DISPATCHER_THREADS": "4"}, False),
        ({"DISPATCHER_MAX_THREADS": "8"}, True),
        ({"DISPATCHER_THREADS": "4", "DISPATCHER_MAX_THREADS": "8"}, True),
    ],
)
def test_h2_who_chooses_a_number_alone_gets_it(make_app: MakeApp, settings: dict[str, Any], grows: bool) -> None:
    app = make_app(**{f"HUBSPOT_HITL_{name}": value for name, value in settings.items()})
    found: Settings = state_of(app).settings
    assert found.most_threads == int(settings.get("DISPATCHER_MAX_THREADS", 64))
    assert state_of(app).dispatcher.pool._options.grows is grows


# --- the same with threads that run lanes ----------------------------------------------------------------


class Work(Task):
    """Does for each event what a test wants."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.do: Callable[[Event], object] = lambda event: None

    def run(self, event: Event, lease: Lease) -> Outcome:
        self.ran.append(event.lane)
        self.do(event)
        return Done()


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    one = Ledger(database_url, SystemClock())
    one.create()
    yield one
    one.close()


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def make(ledger: Ledger, work: Work) -> Iterator[Callable[..., Dispatcher]]:
    made: list[Dispatcher] = []

    def make(**given: Any) -> Dispatcher:
        one = Dispatcher(ledger, lambda: {"work": work}, options(**given))
        one.serving = True
        made.append(one)
        return one

    yield make
    for one in made:
        assert one.stop(PATIENCE)


def put(ledger: Ledger, *keys: str, portal: str = "1") -> None:
    now = ledger.now_ms()
    for start in range(0, len(keys), 500):
        with ledger.write() as tx:
            events = [
                NewEvent(dedupe_key=key, lane=key, topic="work", sort_at=now, portal_id=portal)
                for key in keys[start : start + 500]
            ]
            tx.queue.put(events, now=now)


def test_h2_threads_grow_while_they_wait_and_go_when_idle(
    ledger: Ledger, work: Work, make: Callable[..., Dispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_hubspot_hitl.dispatch.scaling.IDLE_SECONDS", 0.5)
    together = threading.Barrier(40)
    work.do = lambda event: together.wait(PATIENCE)
    dispatcher = make()
    put(ledger, *(f"in:1:{number}" for number in range(40)))
    dispatcher.wake()
    wait_until(lambda: len(work.ran) == 40, what="forty lanes to be run at once")
    assert not together.broken
    wait_until(lambda: len(dispatcher.pool._threads) == 4, what="the first number of threads")
    assert sum(thread.name.startswith("hubspot-hitl-") for thread in dispatcher.pool._threads) == 4
    put(ledger, "in:1:again")
    work.do = lambda event: None
    dispatcher.wake()
    wait_until(lambda: "in:1:again" in work.ran, what="those that stayed to go on")


def test_h1_looking_back_leaves_threads_for_what_is_urgent(
    ledger: Ledger, work: Work, make: Callable[..., Dispatcher]
) -> None:
    """At most a quarter of the threads look back, and one at least: also where they do not grow."""
    go = threading.Event()
    work.do = lambda event: event.lane.startswith("reconcile:") and go.wait(PATIENCE)
    dispatcher = make(threads=8, grows=False)
    put(ledger, *(f"reconcile:{number}" for number in range(20)))
    dispatcher.wake()
    wait_until(lambda: len(work.ran) == 2, what="two of eight to look back")
    put(ledger, *(f"in:1:{number}" for number in range(10)))
    dispatcher.wake()
    wait_until(lambda: sum(lane.startswith("in:") for lane in work.ran) == 10, what="what is live")
    assert sum(lane.startswith("reconcile:") for lane in work.ran) == 2
    go.set()
    wait_until(lambda: len(work.ran) == 30, what="the others to look back, once those are through")


def test_h1_another_portals_backlog_is_not_waited_for(
    ledger: Ledger, work: Work, make: Callable[..., Dispatcher]
) -> None:
    """Ten thousand lanes of one portal are due; another's first message is heard within half a second."""
    put(ledger, *(f"in:1:{number}" for number in range(10_000)), portal="1")
    heard = threading.Event()
    work.do = lambda event: heard.set() if event.lane == "in:2:1" else None
    dispatcher = make()
    dispatcher.wake()
    wait_until(lambda: len(work.ran) > 100, what="the backlog to be begun")
    put(ledger, "in:2:1", portal="2")
    began = time.monotonic()
    dispatcher.wake()
    assert heard.wait(PATIENCE)
    took, before = time.monotonic() - began, work.ran.index("in:2:1")
    assert took < 0.5 or before < 1_500, (took, before)  # a busy machine may be slow at everything
    assert before < 9_000, "the backlog was not through"
    assert dispatcher.stop(PATIENCE), "nobody waits for the rest"

"""The ledger and the runner against a plain-Python model: hypothesis looks for a sequence in which they differ.

The model is a dictionary of lists. Whatever is put, run, refused, crashed, taken over or settled too late: an event
is lost never, run again only when its run was not settled, and always the first of its lane by time and arrival.
"""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.dispatch.options import EngineOptions
from flask_hubspot_hitl.dispatch.runner import Runner
from flask_hubspot_hitl.dispatch.tasks import Again, Dead, Done, Outcome, Retry, Task
from flask_hubspot_hitl.ledger import FAST, PLAIN, Event, EventState, Lease, Ledger, NewEvent

LANES = [f"in:1:{number}" for number in range(3)]
TTL_MS = 5_000
MAX_ATTEMPTS = 3
OUTCOMES = ["done", "again", "retry", "counts", "dead"]


class Scripted(Task):
    """A task that does what the test says."""

    def run(self, event: Event, lease: Lease) -> Outcome:
        raise AssertionError("the test settles by hand")


@dataclass
class ModelEvent:
    """What the model knows of an event."""

    key: str
    sort_at: int
    order: int
    attempts: int = 0


@dataclass
class ModelLane:
    """What the model knows of a lane: what waits, until when nobody may have it, and who has it."""

    waiting: list[ModelEvent] = field(default_factory=list)
    due_at: int | None = None
    holder: int | None = None
    """The number of the claim that holds the lease."""

    def head(self) -> ModelEvent:
        return min(self.waiting, key=lambda one: (one.sort_at, one.order))


class LedgerModel(RuleBasedStateMachine):
    """Compares every step with the model."""

    speed = FAST

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock(1_790_000_000_000)
        self.ledger = Ledger(f"sqlite:///{Path(self.folder.name) / 'l.db'}", self.clock, speed=self.speed)
        self.ledger.create()
        options = EngineOptions(
            mode="inline", threads=1, lease_ttl=TTL_MS / 1000, handler_timeout=300, max_attempts=MAX_ATTEMPTS
        )
        self.runner = Runner(
            self.ledger,
            lambda: {"t": Scripted()},
            options,
            owner="me",
            stopping=threading.Event(),
            say_once=lambda text, what: None,
        )
        self.lanes = {key: ModelLane() for key in LANES}
        self.seen: set[str] = set()
        self.done: set[str] = set()
        self.dead: set[str] = set()
        self.claims = 0
        self.news = 0
        self.held: list[tuple[int, Lease]] = []

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()

    @rule(lane=st.sampled_from(LANES), number=st.integers(0, 30), age=st.integers(-50, 50))
    def put(self, lane: str, number: int, age: int) -> None:
        """An event comes in, perhaps a known one, perhaps older than what is there."""
        key = f"{lane}:{number}"
        new = NewEvent(dedupe_key=key, lane=lane, topic="t", sort_at=1_000 + age)
        with self.ledger.write() as tx:
            count = tx.queue.put([new], now=self.clock.now_ms())
        assert count == int(key not in self.seen)
        model = self.lanes[lane]
        if key not in self.seen:
            self.seen.add(key)
            model.waiting.append(ModelEvent(key, 1_000 + age, len(self.seen)))
        if model.due_at is None:
            model.due_at = self.clock.now_ms()

    @rule(ms=st.sampled_from([1, 400, TTL_MS + 1, 700_000]))
    def wait(self, ms: int) -> None:
        """Time passes; leases may run out."""
        self.clock.advance(ms / 1000)

    @rule()
    def claim(self) -> None:
        """Somebody takes the lane that is due; it must be due in the model, and its head the model's."""
        now = self.clock.now_ms()
        ready = {key for key, lane in self.lanes.items() if lane.due_at is not None and lane.due_at <= now}
        while (lease := self.runner.claim()) is not None and lease.lane not in self.lanes:
            assert lease.lane.startswith("dead:"), "the news of a death, in a lane of its own"
            self.runner.settle(lease, Done(), go_on=True)
            self.news += 1
        if lease is None:
            assert not ready
            return
        assert lease.lane in ready
        model = self.lanes[lease.lane]
        if lease.head is None:
            assert not model.waiting
            model.due_at, model.holder = None, None
            return
        assert lease.head.dedupe_key == model.head().key
        assert lease.head.dedupe_key not in self.done | self.dead
        self.claims += 1
        model.due_at, model.holder = now + TTL_MS, self.claims
        self.held.append((self.claims, lease))

    @precondition(lambda self: self.held)
    @rule(
        which=st.integers(0, 5), what=st.sampled_from(["done", "again", "retry", "counts", "dead"]), go_on=st.booleans()
    )
    def settle(self, which: int, what: str, go_on: bool) -> None:
        """A holder reports; one that has lost its lease in the meantime changes nothing."""
        number, lease = self.held.pop(which % len(self.held))
        model = self.lanes[lease.lane]
        assert lease.head is not None
        key = lease.head.dedupe_key
        now = self.clock.now_ms()
        outcomes: dict[str, Outcome] = {
            "done": Done(),
            "again": Again(),
            "retry": Retry("later", at_ms=now + 300),
            "counts": Retry("failed", counts=True, at_ms=now + 300),
            "dead": Dead("poison"),
        }
        self.runner.settle(lease, outcomes[what], go_on=go_on)
        if model.holder != number:
            return  # fenced off: somebody else has claimed it since
        mine = next(one for one in model.waiting if one.key == key)
        mine.attempts += what == "counts"
        gone = what in ("done", "dead") or mine.attempts >= MAX_ATTEMPTS
        if gone:
            model.waiting.remove(mine)
            (self.done if what == "done" else self.dead).add(key)
        if what in ("retry", "counts") and not gone:
            model.due_at, model.holder = now + 300, None
        elif not go_on:
            model.due_at, model.holder = now, None
        elif not model.waiting:
            model.due_at, model.holder = None, None
        else:
            assert lease.head is not None
            assert lease.head.dedupe_key == model.head().key, "the head is read anew"
            self.held.append((number, lease))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 5))
    def crash(self, which: int) -> None:
        """A holder is killed: its lease runs out by itself."""
        self.held.pop(which % len(self.held))

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "ledger"):
            return
        waiting = {one.key for lane in self.lanes.values() for one in lane.waiting}
        assert waiting | self.done | self.dead == self.seen
        with self.ledger.read() as tx:
            news = len(self.dead) - self.news
            assert tx.count(EventState.PENDING) == len(waiting) + news
            assert tx.count(EventState.DONE) == len(self.done) + self.news
            assert tx.count(EventState.DEAD) == len(self.dead)


class PlainModel(LedgerModel):
    """The same on the plain path."""

    speed = PLAIN


def _examples(count: int) -> settings:
    return settings(max_examples=count, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


LedgerModel.TestCase.settings = _examples(40)
TestLedgerModel = LedgerModel.TestCase
PlainModel.TestCase.settings = _examples(20)
TestPlainModel = PlainModel.TestCase

"""Take lanes, run their events one by one, and settle each in one transaction; no threads are known here.

When a run ends in an exception, its transaction is rolled back and one attempt of the event is counted; after
``MAX_ATTEMPTS`` the event is dead and its lane goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..errors import LedgerUnavailable
from ..ledger import Event, EventState, Lease, Ledger, Step, Transaction, lanes
from ..ledger.at_work import working
from ..ledger.lanes import Work
from ..ledger.plans import signal_event
from ..metrics import DIED, RETRIED, correlation
from ..process import dice
from . import event_log
from .event_log import Ended
from .options import EngineOptions
from .order import Order
from .tasks import Again, Dead, Done, Outcome, Retry, Task, backoff_ms, nothing

logger = logging.getLogger(__name__)

MAX_UNFINISHED_CALLS = 50
"""Runs. Give an event up after this many runs that never finished: it probably crashes the process. High, because a run
that waits for a slow HubSpot is lost too when the process is killed for another reason; receivers have a lower limit of
their own."""
EVENT_DEAD = "event-dead"


class Next(NamedTuple):
    """Tell what came of looking for another lane while one was released."""

    lease: Lease | None = None
    """The lane that was claimed."""
    is_last: bool = False
    """True when none was due."""


class Runner:
    """Claim a lane, run its events, settle them.

    :param tasks: returns what is run, by the topic of the event.
    :param say_once: logs a text at most once a minute.
    """

    def __init__(
        self,
        ledger: Ledger,
        tasks: Callable[[], Mapping[str, Task]],
        options: EngineOptions,
        *,
        owner: str,
        stopping: threading.Event,
        say_once: Callable[[str, object], None],
    ) -> None:
        self._ledger = ledger
        self._load = tasks
        self._tasks: Mapping[str, Task] = {}
        self.owner = owner
        self._ttl_ms = options.lease_ms
        self._max_attempts = options.max_attempts
        self._meter = options.meter
        self._stopping = stopping
        self._say_once = say_once
        self._order = Order()

    def load(self) -> None:
        """Load the tasks, outside of any transaction: it takes a moment."""
        self._tasks = self._load()

    def claim(self, *, least: Work = Work.LOOKING_BACK) -> Lease | None:
        """Lease the lane that is next and take its first event.

        :param least: the least urgent class of lanes that is looked at.
        :returns: None when nothing is due.
        """
        if not self._tasks:
            self.load()
        lease: Lease | None = None
        try:
            with self._ledger.write() as tx:
                now = self._ledger.now_ms()
                lease = self._take(tx, now, least)
                if lease is not None:
                    self._prepare(tx, lease, now)
        except LedgerUnavailable:
            raise
        except Exception as error:
            if lease is None:
                raise
            self._could_not_take(lease, error)
            return None
        return lease

    def _take(self, tx: Transaction, now: int, least: Work) -> Lease | None:
        lease = self._order.claim(tx, owner=self.owner, now=now, ttl_ms=self._ttl_ms, least=least)
        if lease is not None:
            lease.head = tx.queue.begun(lease)
        return lease

    def _take_head(self, tx: Transaction, lease: Lease, now: int) -> None:
        """Read the lane's first event and prepare it; release the lane when it is empty."""
        lease.head = tx.queue.head(lease)
        self._prepare(tx, lease, now)

    def _prepare(self, tx: Transaction, lease: Lease, now: int) -> None:
        if lease.head is None:
            tx.queue.release(lease, now=now, due_at=None)
        elif (task := self._tasks.get(lease.head.topic)) is not None:
            task.prepare(tx, lease.head, now)

    def _could_not_take(self, lease: Lease, error: Exception) -> None:
        """Count a failed attempt for an event whose `prepare` raised; its transaction was undone, claim and all."""
        logger.exception(
            "Preparing an event failed (lane %s, %s); one attempt is counted and it is tried again later. "
            "Please report this traceback",
            lanes.shown(lease.lane),
            type(error).__name__,
        )
        now, outcome = self._ledger.now_ms(), Retry(type(error).__name__, counts=True)
        with self._ledger.write() as tx:
            is_held = tx.queue.holds(lease)
            again = (
                lease if is_held else tx.queue.claim_lane(lease.lane, owner=self.owner, now=now, ttl_ms=self._ttl_ms)
            )
            head = None if again is None else tx.queue.head(again)
            if again is None or head is None:
                return
            attempt = head.attempts + 1
            ended = self._conclude(tx, again, head, outcome, now)
            ended.handoff_id = event_log.handoff_of(tx, head, ended.outcome)
        event_log.tell(head, ended, attempt=attempt)

    def claim_within(self, tx: Transaction, lane: str, now: int, *, least_ms: int = 0) -> Lease | None:
        """Claim one lane within a transaction at hand, with its head taken, for ``least_ms`` milliseconds at least."""
        lease = tx.queue.claim_lane(lane, owner=self.owner, now=now, ttl_ms=max(self._ttl_ms, least_ms))
        if lease is not None:
            self._take_head(tx, lease, now)
        return lease

    def perform(self, lease: Lease) -> Outcome:
        """Run a taken event, outside any transaction."""
        event = lease.head
        if event is None:
            raise ValueError("the lease has no event")
        task = self._tasks.get(event.topic)
        if task is None:
            return Dead(f"this version knows no topic {event.topic!r}")
        if event.starts > MAX_UNFINISHED_CALLS and not task.limits_starts(event):
            return Dead(f"it ended the process {event.starts - 1} times")
        heard, reset = correlation.listen(), lanes.doing.set(lanes.work_of(lease.lane))
        try:
            with working(lease):
                return task.run(event, lease)
        except LedgerUnavailable as error:
            return Retry(str(error), cause=error)
        except KeyboardInterrupt:
            raise  # of the person who runs us
        except BaseException as error:  # what leaks out of a host's code: a cancelled task, gevent's Timeout, an exit
            logger.exception(
                "Bug while running an event (topic %s, event %d); one attempt is counted and it is tried again later. "
                "Please report this traceback",
                event.topic,
                event.id,
            )
            return Retry(type(error).__name__, counts=True)
        finally:
            lanes.doing.reset(reset)
            event.correlation_id = heard.last or event.correlation_id

    def settle(
        self,
        lease: Lease,
        outcome: Outcome,
        *,
        go_on: bool,
        patience: float = float("inf"),
        least: Work | None = None,
        began: float | None = None,
    ) -> Next:
        """Store an outcome with its effect, and take the next event or release the lane.

        :param patience: seconds to wait for a database that can't be used.
        :param least: have the next lane claimed in the same transaction when this one is released, of this class or a
            more urgent one; None: claim nothing.
        :param began: when the run began, in seconds of the monotonic clock, for the log.
        :returns: what was claimed.
        :raises LedgerUnavailable: when it did not come back in that time.
        """
        ends = time.monotonic() + patience
        event = lease.head
        if event is None:
            raise ValueError("the lease has no event")
        attempts, is_repeat = event.attempts, False
        attempt = max(attempts, lease.failures) + 1
        while True:
            event.attempts = attempts  # a transaction that failed counted for nothing
            try:
                ended, other = self._settle(lease, event, outcome, go_on, is_repeat, least)
                if ended is not None:
                    event_log.tell(event, ended, attempt=attempt, began=began)
                return other
            except LedgerUnavailable as error:
                is_repeat, least = True, None
                # The event has happened; forgetting it would repeat it. The heartbeat can't hold the lease
                # either, so whoever takes over repeats it with the same ids: wait for the database here.
                self._say_once("The database can't be used: %s", error)
                if self._stopping.wait(0.5) or time.monotonic() > ends:
                    raise
            except Exception as error:
                logger.exception(
                    "The outcome of an event could not be stored (topic %s, event %d); it is stored again without "
                    "taking another one, and if that fails too counts as a failed attempt. Please report this "
                    "traceback",
                    event.topic,
                    event.id,
                )
                if go_on or least is not None:
                    go_on, least = False, None  # the next event may be the culprit: it must not undo this one
                elif isinstance(outcome, Retry):
                    raise  # the lease runs out, and the event's starts are counted
                else:
                    outcome = Retry(type(error).__name__, counts=True)

    def _settle(
        self, lease: Lease, event: Event, outcome: Outcome, go_on: bool, is_repeat: bool, least: Work | None
    ) -> tuple[Ended | None, Next]:
        """Store an outcome once, and how it ended: None when the lane was somebody else's, and nothing was stored.

        The second is what was claimed in the same transaction.
        """
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            ended = self._store(tx, lease, event, outcome, go_on, is_repeat, now)
            if least is None or lease.head is not None or not self._may_take_another(lease, outcome):
                return ended, Next()
            other = self._take(tx, now, least)
            if other is None:
                return ended, Next(is_last=True)
            is_prepared = self._ledger.is_sqlite or lanes.is_of_thread(other.lane)
            if is_prepared:
                self._prepare(tx, other, now)
        return ended, Next(other if is_prepared else self._prepare_apart(other))

    def _prepare_apart(self, lease: Lease) -> Lease | None:
        try:
            with self._ledger.write() as tx:
                if not tx.queue.holds(lease):
                    return None
                self._prepare(tx, lease, self._ledger.now_ms())
        except LedgerUnavailable:
            raise
        except Exception as error:
            self._could_not_take(lease, error)
            return None
        return lease

    def _may_take_another(self, lease: Lease, outcome: Outcome) -> bool:
        """Return True when the transaction that settles an event may take one of another lane.

        On PostgreSQL two could wait for each other if this one had locked anything that comes after the lanes of
        threads: who has locked a handoff waits for such.
        """
        changes_no_more = isinstance(outcome, Done) and outcome.effect is nothing
        return self._ledger.is_sqlite or (changes_no_more and lanes.is_of_thread(lease.lane))

    def _store(
        self, tx: Transaction, lease: Lease, event: Event, outcome: Outcome, go_on: bool, is_repeat: bool, now: int
    ) -> Ended | None:
        ended = Ended(outcome)
        lease.head = None
        finishes = isinstance(outcome, Done) and not is_repeat
        if finishes and go_on and outcome.effect is nothing:
            ended.handoff_id = event_log.handoff_of(tx, event, outcome)
            if tx.queue.finish_and_take(lease, event, now=now):
                lease.failures = 0
                self._prepare(tx, lease, now)
                return ended
            _warn_of_loss(lease)
            return None
        if not (tx.queue.finish_held(lease, event, now=now) if finishes else tx.queue.holds(lease)):
            _warn_of_loss(lease)
            return None
        # A commit whose answer was lost may have come through; then its effect must not happen again.
        if is_repeat and not tx.queue.is_kept(lease):
            return ended
        if not (is_repeat and _came_through(tx, event, outcome)):
            outcome.effect(tx)
            if not finishes:
                ended = self._conclude(tx, lease, event, outcome, now)
            ended.handoff_id = event_log.handoff_of(tx, event, ended.outcome)
            if isinstance(ended.outcome, Retry):
                return ended
        lease.failures = 0
        if go_on:
            self._take_head(tx, lease, now)
        else:
            tx.queue.release(lease, now=now, due_at=now)
        return ended

    def _conclude(self, tx: Transaction, lease: Lease, event: Event, outcome: Outcome, now: int) -> Ended:
        """Mark the event; the lane goes on at once unless it is tried again later."""
        if isinstance(outcome, Retry):
            event.attempts += outcome.counts
            if outcome.at_ms is None or outcome.counts:
                self._meter(RETRIED, topic=self._label(event))
            if not outcome.counts or event.attempts < self._max_attempts:
                tx.queue.note_failure(event, error=outcome.error)
                delay = backoff_ms(lease.failures, counts=outcome.counts, jitter=dice.random())
                due_at = now + delay if outcome.at_ms is None else outcome.at_ms
                tx.queue.release(lease, now=now, due_at=due_at, failures=lease.failures + (outcome.at_ms is None))
                return Ended(outcome, due_at)
            outcome = Dead(outcome.error, cause=outcome.cause)
        if isinstance(outcome, Again):
            tx.queue.save(event)
        elif isinstance(outcome, Done):
            tx.queue.finish(event, EventState.DONE, now=now)
        else:
            self._bury(tx, event, outcome.error, now)
        return Ended(outcome)

    def _label(self, event: Event) -> str:
        return event.topic if event.topic in self._tasks else "other"

    def _bury(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        self._meter(DIED, topic=self._label(event))
        task = self._tasks.get(event.topic)
        if task is not None:
            task.buried(tx, event, error, now)
        tx.queue.finish(event, EventState.DEAD, now=now, error=error)
        if event.dedupe_key.startswith(EVENT_DEAD):
            return  # the news of a death is not itself news
        about = {"portal_id": event.portal_id, "thread_id": event.thread_id, "handoff_id": event.handoff_id}
        facts = {"id": event.id, "topic": event.topic, **about, "attempts": event.attempts}
        told = Step(signal="event_dead", facts={"event": facts, "error": error})
        key = f"{EVENT_DEAD}:{event.id}:{event.received_at}"
        tx.queue.put([signal_event([told], key=key, lane=lanes.news(event.id), sort_at=now, **about)], now=now)


def _came_through(tx: Transaction, event: Event, outcome: Outcome) -> bool:
    """Return True when the transaction that stored an outcome was committed after all.

    That of :class:`.Again` may have gone on with the same event: what was decided then must not be overwritten.
    """
    return tx.queue.is_settled(event) or (isinstance(outcome, Again) and not tx.queue.is_as_taken(event))


def _warn_of_loss(lease: Lease) -> None:
    logger.warning(
        "The lease of lane %s ended while its event ran; the result is discarded. Unless the person was erased "
        "meanwhile, it expired: the process that has the lane now runs the event again. If that repeats, raise "
        "HUBSPOT_HITL_LEASE_TTL or look for a frozen host",
        lanes.shown(lease.lane),
    )

"""Take lanes, run their events one by one, and settle each in one transaction; no threads are known here.

When a run ends in an exception, its transaction is rolled back and one attempt of the event is counted; after
``MAX_ATTEMPTS`` the event is dead and its lane goes on.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping

from ..errors import LedgerUnavailable
from ..ledger import Event, EventState, Lease, Ledger, Step, Transaction, lanes
from ..ledger.lanes import Work
from ..ledger.plans import signal_event
from .options import EngineOptions
from .order import Order
from .tasks import Again, Dead, Done, Outcome, Retry, Task, backoff_ms

logger = logging.getLogger(__name__)

MAX_UNFINISHED_CALLS = 50
"""Runs. Give an event up after this many runs that never finished: it probably crashes the process. High, because a run
that waits for a slow HubSpot is lost too when the process is killed for another reason; receivers have a lower limit of
their own."""
EVENT_DEAD = "event-dead"


class Runner:
    """Claim a lane, run its events, settle them.

    :param say_once: logs a text at most once a minute.
    """

    def __init__(
        self,
        ledger: Ledger,
        tasks: Mapping[str, Task],
        options: EngineOptions,
        *,
        owner: str,
        stopping: threading.Event,
        say_once: Callable[[str, object], None],
    ) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self.owner = owner
        self._ttl_ms = options.lease_ms
        self._max_attempts = options.max_attempts
        self._stopping = stopping
        self._say_once = say_once
        self._order = Order()

    def claim(self, *, least: Work = Work.LOOKING_BACK) -> Lease | None:
        """Lease the lane that is next and take its first event.

        :param least: the least urgent class of lanes that is looked at.
        :returns: None when nothing is due.
        """
        now = self._ledger.now_ms()
        lease: Lease | None = None
        try:
            with self._ledger.write() as tx:
                lease = self._order.claim(tx, owner=self.owner, now=now, ttl_ms=self._ttl_ms, least=least)
                if lease is not None:
                    self._take_head(tx, lease, now)
        except LedgerUnavailable:
            raise
        except Exception as error:
            if lease is None:
                raise
            self._could_not_take(lease, error)
            return None
        return lease

    def _take_head(self, tx: Transaction, lease: Lease, now: int) -> None:
        """Read the lane's first event and prepare it; release the lane when it is empty."""
        lease.head = tx.queue.head(lease)
        if lease.head is None:
            tx.queue.release(lease, now=now, due_at=None)
        elif (task := self._tasks.get(lease.head.topic)) is not None:
            task.prepare(tx, lease.head, now)

    def _could_not_take(self, lease: Lease, error: Exception) -> None:
        """Count a failed attempt for an event whose `prepare` raised; its transaction was undone, claim and all."""
        logger.exception(
            "Preparing an event failed (lane %s, %s); one attempt is counted and it is tried again later. "
            "Please report this traceback",
            lease.lane,
            type(error).__name__,
        )
        now = self._ledger.now_ms()
        with self._ledger.write() as tx:
            again = tx.queue.claim_lane(lease.lane, owner=self.owner, now=now, ttl_ms=self._ttl_ms)
            head = None if again is None else tx.queue.head(again)
            if again is None or head is None:
                return
            self._conclude(tx, again, head, Retry(type(error).__name__, counts=True), now)

    def claim_within(self, tx: Transaction, lane: str, now: int) -> Lease | None:
        """Claim one lane within a transaction at hand, with its head taken."""
        lease = tx.queue.claim_lane(lane, owner=self.owner, now=now, ttl_ms=self._ttl_ms)
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
        reset = lanes.doing.set(lanes.work_of(lease.lane))
        try:
            return task.run(event, lease)
        except LedgerUnavailable as error:
            return Retry(str(error))
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

    def settle(self, lease: Lease, outcome: Outcome, *, go_on: bool, patience: float = float("inf")) -> None:
        """Store an outcome with its effect, and take the next event or release the lane.

        :param patience: seconds to wait for a database that can't be used.
        :raises LedgerUnavailable: when it did not come back in that time.
        """
        ends = time.monotonic() + patience
        event = lease.head
        if event is None:
            raise ValueError("the lease has no event")
        attempts, is_repeat = event.attempts, False
        while True:
            event.attempts = attempts  # a transaction that failed counted for nothing
            try:
                self._settle(lease, event, outcome, go_on, is_repeat)
                return
            except LedgerUnavailable as error:
                is_repeat = True
                # The event has happened; forgetting it would repeat it. The heartbeat can't hold the lease
                # either, so whoever takes over repeats it with the same ids: wait for the database here.
                self._say_once("The database can't be used: %s", error)
                if self._stopping.wait(0.5) or time.monotonic() > ends:
                    raise
            except Exception as error:
                logger.exception(
                    "The outcome of an event could not be stored (topic %s, event %d); it is stored again without "
                    "taking the next event, and if that fails too counts as a failed attempt. Please report this "
                    "traceback",
                    event.topic,
                    event.id,
                )
                if go_on:
                    go_on = False  # the next event may be the culprit: it must not undo this one
                elif isinstance(outcome, Retry):
                    raise  # the lease runs out, and the event's starts are counted
                else:
                    outcome = Retry(type(error).__name__, counts=True)

    def _settle(self, lease: Lease, event: Event, outcome: Outcome, go_on: bool, is_repeat: bool) -> None:
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            lease.head = None
            finishes = isinstance(outcome, Done) and not is_repeat
            if not (tx.queue.finish_held(lease, event, now=now) if finishes else tx.queue.holds(lease)):
                logger.warning(
                    "The lease of lane %s expired while its event ran; the result is discarded and the process that "
                    "has the lane now runs the event again. If this repeats, raise HUBSPOT_HITL_LEASE_TTL or look for "
                    "a frozen host",
                    lease.lane,
                )
                return
            # A commit whose answer was lost may have come through; then its effect must not happen again.
            if is_repeat and not tx.queue.is_kept(lease):
                return
            if not (is_repeat and tx.queue.is_settled(event)):
                outcome.effect(tx)
                if not finishes and not self._conclude(tx, lease, event, outcome, now):
                    return
            lease.failures = 0
            if go_on:
                self._take_head(tx, lease, now)
            else:
                tx.queue.release(lease, now=now, due_at=now)

    def _conclude(self, tx: Transaction, lease: Lease, event: Event, outcome: Outcome, now: int) -> bool:
        """Mark the event; True when the lane goes on at once."""
        if isinstance(outcome, Retry):
            event.attempts += outcome.counts
            if not outcome.counts or event.attempts < self._max_attempts:
                tx.queue.note_failure(event, error=outcome.error)
                delay = backoff_ms(lease.failures, counts=outcome.counts, jitter=random.random())  # noqa: S311 - spreads retries, guards nothing
                due_at = now + delay if outcome.at_ms is None else outcome.at_ms
                tx.queue.release(lease, now=now, due_at=due_at, failures=lease.failures + (outcome.at_ms is None))
                return False
            outcome = Dead(outcome.error)
        if isinstance(outcome, Again):
            tx.queue.save(event)
        elif isinstance(outcome, Done):
            tx.queue.finish(event, EventState.DONE, now=now)
        else:
            self._bury(tx, event, outcome.error, now)
        return True

    def _bury(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        logger.error(
            "Event %d (%s) is given up: %s. Its lane goes on; see 'flask hubspot-hitl dead show' and 'dead retry'",
            event.id,
            event.topic,
            error,
        )
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

"""Claims lanes, runs their events one by one, and settles each in one transaction; retries, gives up.

``thread`` runs a pool of daemon threads in each serving process, ``external`` leaves the work to
``flask hubspot-hitl worker`` or ``tick``, ``inline`` does it in the caller. All three are this one loop.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import socket
import sys
import threading
import time
import traceback
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import handoffs
from .errors import LedgerUnavailable
from .ledger import Event, EventState, Lease, Ledger, NewEvent, Transaction
from .tasks import Again, Dead, Done, Outcome, Retry, Task, backoff_ms

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
LANE_EVENTS = 20
LANE_SECONDS = 5.0
MAX_UNFINISHED_STARTS = 5
EVENT_DEAD = "event-dead"


@dataclass(slots=True)
class _Running:
    """A lane being run by one of our threads."""

    lease: Lease
    thread: threading.Thread
    since: float
    hung: bool = False


class Dispatcher:
    """One app's dispatcher in this process.

    ``guard`` says why nothing may be dispatched (a copied database), or None. ``lease_ttl`` is in seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        tasks: Mapping[str, Task],
        *,
        mode: str,
        threads: int,
        lease_ttl: float,
        handler_timeout: float,
        max_attempts: int,
        guard: Callable[[], str | None],
    ) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self.mode = mode
        self._thread_count = threads
        self._ttl_ms = int(lease_ttl * 1000)
        self._handler_timeout = handler_timeout
        self._max_attempts = max_attempts
        self._guard = guard
        self._reset()
        if hasattr(os, "register_at_fork"):
            this = weakref.WeakMethod(self._reset)
            os.register_at_fork(after_in_child=lambda: (method := this()) and method())

    def _reset(self) -> None:
        """A fresh state; in a forked child the parent's threads are gone."""
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{_started_at(os.getpid())}:{uuid.uuid4().hex[:8]}"
        self._lock = threading.Lock()
        self._work = threading.Condition()
        self._pending_wakes = 0
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._running: dict[str, _Running] = {}
        self._started = False
        self._stopping = threading.Event()
        self._inline = threading.local()
        self._said: dict[str, float] = {}

    # Starting, waking, stopping --------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be due: called after every commit of ours."""
        if self.mode == "inline":
            self.run_due()
        elif self.mode == "thread":
            self.ensure_started()
            self._notify()

    def _notify(self) -> None:
        with self._work:
            self._pending_wakes += 1
            self._work.notify()

    def ensure_started(self) -> None:
        """Start the pool, once in this process."""
        if self._started or self._stopping.is_set():
            return
        with self._lock:
            if self._started:
                return
            self._started = True
            names = [(f"hubspot-hitl-{number}", self._serve) for number in range(self._thread_count)]
            this = weakref.WeakMethod(self.stop)
            atexit.register(lambda: (method := this()) and method())
            for name, target in [("hubspot-hitl-clock", self._keep_time), *names]:
                self._start_thread(name, target)

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self, timeout: float = 25.0) -> None:
        """Claim nothing more, finish what is held, give the rest back. ``timeout`` is in seconds."""
        self._stopping.set()
        with self._work:
            self._work.notify_all()
        ends = time.monotonic() + timeout
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join(max(0.0, ends - time.monotonic()))
        if self._running:
            return  # still at work: their leases run out by themselves, or the kill frees them
        self._started = False

    # The loop --------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        me = threading.current_thread()
        while not self._stopping.is_set():
            try:
                ran = self.blocked() is None and self.run_one()
            except LedgerUnavailable as error:
                self._say_once("The database can't be used: %s", error)
                self._stopping.wait(0.5)
                ran = False
            except Exception:
                logger.exception("The dispatcher tripped over a bug of its own; it goes on")
                self._stopping.wait(1.0)
                ran = False
            if me not in self._threads:
                return  # replaced while a receiver hung
            if not ran:
                with self._work:
                    if self._pending_wakes == 0:
                        self._idle += 1
                        self._work.wait(1.0)
                        self._idle -= 1
                    self._pending_wakes = max(0, self._pending_wakes - 1)

    def run_due(self) -> int:
        """Run in the caller until nothing is due; returns how many lanes were run. Does not nest."""
        if getattr(self._inline, "busy", False) or self.blocked() is not None:
            return 0
        self._inline.busy = True
        try:
            count = 0
            while self.run_one():
                count += 1
            return count
        finally:
            self._inline.busy = False

    def blocked(self) -> str | None:
        """Why nothing may be dispatched, or None."""
        reason = self._guard()
        if reason is not None:
            self._say_once("Nothing is dispatched: %s", reason)
        return reason

    def run_one(self) -> bool:
        """Claim the lane that is due the longest and run it; False when nothing is due."""
        lease = self._claim()
        if lease is None:
            return False
        if self._idle:
            self._notify()  # there may be more for another thread
        self._run_lane(lease)
        return True

    def claim_within(self, tx: Transaction, lane: str, now: int) -> Lease | None:
        """Claim one lane within a transaction at hand, with its head taken."""
        lease = tx.queue.claim_lane(lane, owner=self.owner, now=now, ttl_ms=self._ttl_ms)
        if lease is not None:
            self._take_head(tx, lease, now)
        return lease

    def _claim(self) -> Lease | None:
        now = self._ledger.now_ms()
        lease: Lease | None = None
        try:
            with self._ledger.write() as tx:
                lease = tx.queue.claim(owner=self.owner, now=now, ttl_ms=self._ttl_ms)
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
        """Read the lane's head anew and prepare it; with none left, give the lane back."""
        tx.queue.refresh_wake(lease)
        lease.head = tx.queue.head(lease)
        if lease.head is None:
            tx.queue.release(lease, now=now, due_at=None)
        elif (task := self._tasks.get(lease.head.topic)) is not None:
            task.prepare(tx, lease.head, now)

    def _could_not_take(self, lease: Lease, error: Exception) -> None:
        """Deciding about an event failed and was rolled back, claim and all: count it against the event."""
        logger.exception("An event could not be taken up (lane %s): %s", lease.lane, type(error).__name__)
        now = self._ledger.now_ms()
        with self._ledger.write() as tx:
            again = tx.queue.claim_lane(lease.lane, owner=self.owner, now=now, ttl_ms=self._ttl_ms)
            head = None if again is None else tx.queue.head(again)
            if again is None or head is None:
                return
            self._conclude(tx, again, head, Retry(type(error).__name__, counts=True), now)

    def _run_lane(self, lease: Lease) -> None:
        """Run a lane's events in order, each settled before the next is read, for a fair while."""
        running = _Running(lease, threading.current_thread(), time.monotonic())
        ends = running.since + LANE_SECONDS
        with self._lock:
            self._running[lease.lane] = running
        try:
            for count in range(1, LANE_EVENTS + 1):
                if lease.head is None:
                    return
                running.since = time.monotonic()
                outcome = self.perform(lease)
                last = count == LANE_EVENTS or time.monotonic() > ends or self._stopping.is_set()
                self.settle(lease, outcome, go_on=not last)
        finally:
            with self._lock:
                self._running.pop(lease.lane, None)

    def perform(self, lease: Lease) -> Outcome:
        """Run a taken event, outside any transaction."""
        event = lease.head
        if event is None:
            raise ValueError("the lease has no event")
        task = self._tasks.get(event.topic)
        if task is None:
            return Dead(f"this version knows no topic {event.topic!r}")
        if event.starts > MAX_UNFINISHED_STARTS and not event.receipts:
            return Dead(f"it ended the process {event.starts - 1} times")
        try:
            return task.run(event, lease)
        except LedgerUnavailable as error:
            return Retry(str(error))
        except Exception as error:
            logger.exception("Running an event failed (topic %s, event %d)", event.topic, event.id)
            return Retry(type(error).__name__, counts=True)

    def settle(self, lease: Lease, outcome: Outcome, *, go_on: bool, patience: float = float("inf")) -> None:
        """Write down an outcome with its effect, and take the next event or give the lane back.

        A database that is down is waited for, ``patience`` seconds at the most.

        :raises LedgerUnavailable: when it did not come back in that time.
        """
        ends = time.monotonic() + patience
        event = lease.head
        if event is None:
            raise ValueError("the lease has no event")
        while True:
            try:
                self._settle(lease, event, outcome, go_on)
                return
            except LedgerUnavailable as error:
                # The event has happened; forgetting it would repeat it. The heartbeat can't hold the lease
                # either, so whoever takes over repeats it with the same ids: wait for the database here.
                self._say_once("The database can't be used: %s", error)
                if self._stopping.wait(0.5) or time.monotonic() > ends:
                    raise
            except Exception as error:
                logger.exception("An outcome could not be written down (topic %s, event %d)", event.topic, event.id)
                if go_on:
                    go_on = False  # the next event may be the culprit: it must not undo this one
                elif isinstance(outcome, Retry):
                    raise  # the lease runs out, and the event's starts are counted
                else:
                    outcome = Retry(type(error).__name__, counts=True)

    def _settle(self, lease: Lease, event: Event, outcome: Outcome, go_on: bool) -> None:
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            lease.head = None
            if not tx.queue.holds(lease):
                logger.warning("A lease was lost while its event ran (lane %s); somebody else has it", lease.lane)
                return
            outcome.effect(tx)
            if not self._conclude(tx, lease, event, outcome, now):
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
                tx.queue.release(lease, now=now, due_at=due_at, failures=lease.failures + 1)
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
        logger.error("Given up: event %d (%s): %s", event.id, event.topic, error)
        task = self._tasks.get(event.topic)
        if task is not None:
            task.buried(tx, event, error, now)
        tx.queue.finish(event, EventState.DEAD, now=now, error=error)
        if event.dedupe_key.startswith(EVENT_DEAD):
            return  # the news of a death is not itself news
        facts = {
            "id": event.id,
            "topic": event.topic,
            "portal_id": event.portal_id,
            "thread_id": event.thread_id,
            "handoff_id": event.handoff_id,
            "attempts": event.attempts,
        }
        news = NewEvent(
            dedupe_key=f"{EVENT_DEAD}:{event.id}:{event.received_at}",
            lane=f"dead:{event.id}",
            topic=handoffs.SIGNAL,
            sort_at=now,
            portal_id=event.portal_id,
            thread_id=event.thread_id,
            handoff_id=event.handoff_id,
            progress={"plan": [{"signal": "event_dead", "event": facts, "error": error}]},
        )
        tx.queue.put([news], now=now)

    # Keeping time ----------------------------------------------------------------------------------------

    def _keep_time(self) -> None:
        """Notice what becomes due, keep our leases alive, and find receivers that hang."""
        self._free_the_dead()
        next_beat = time.monotonic() + self._ttl_ms / 3000
        while not self._stopping.wait(POLL_SECONDS):
            try:
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + self._ttl_ms / 3000
                    self._beat()
                self._look_for_hung()
                with self._ledger.read() as tx:
                    due = tx.queue.next_due()
                if due is not None and due <= self._ledger.now_ms():
                    self._notify()
            except LedgerUnavailable as error:
                self._say_once("The database can't be used: %s", error)
                self._stopping.wait(0.5)

    def _beat(self) -> None:
        with self._lock:
            leases = [running.lease for running in self._running.values()]
        if leases:
            with self._ledger.write() as tx:
                tx.queue.heartbeat(leases, now=self._ledger.now_ms(), ttl_ms=self._ttl_ms)

    def _look_for_hung(self) -> None:
        now = time.monotonic()
        with self._lock:
            hung = [one for one in self._running.values() if not one.hung and now - one.since > self._handler_timeout]
        for running in hung:
            running.hung = True
            frame = sys._current_frames().get(running.thread.ident or 0)
            stack = "".join(traceback.format_stack(frame)) if frame else "(no stack)"
            logger.error(
                "A receiver runs for more than %.0f s (lane %s); its thread is replaced\n%s",
                self._handler_timeout, running.lease.lane, stack,
            )  # fmt: skip
            with self._ledger.write() as tx:
                tx.queue.mark_hung(running.lease, now=self._ledger.now_ms())
            if running.thread in self._threads:
                self._threads.remove(running.thread)
                self._start_thread(running.thread.name, self._serve)

    def _free_the_dead(self) -> None:
        """On SQLite everybody is on this machine: a killed process's lanes need not wait for their leases."""
        if not self._ledger.is_sqlite:
            return
        try:
            with self._ledger.read() as tx:
                dead = [owner for owner in tx.queue.owners() if _is_dead(owner)]
            if dead:
                with self._ledger.write() as tx:
                    for owner in dead:
                        tx.queue.release_owner(owner, now=self._ledger.now_ms())
        except LedgerUnavailable as error:
            self._say_once("The database can't be used: %s", error)

    def _say_once(self, text: str, what: object) -> None:
        """Log at most once a minute per text."""
        now = time.monotonic()
        if now >= self._said.get(text, 0.0):
            self._said[text] = now + 60.0
            logger.error(text, what)


def _started_at(pid: int) -> str:
    """When a process started, in clock ticks since boot; empty where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_dead(owner: str) -> bool:
    """True when an owner is a process of this machine that is gone."""
    host, _, rest = owner.partition(":")
    pid, started = [*rest.split(":"), "", ""][:2]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return bool(started) and _started_at(int(pid)) != started

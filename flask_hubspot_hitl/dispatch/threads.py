"""The threads that run lanes in one process: wake-ups, heartbeats, receivers that hang, and the end.

Knows nothing of servers, forks and modes: see ``dispatcher``.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import LedgerUnavailable
from ..ledger import Lease, Ledger, Watch, patience
from .runner import Runner
from .seldom import Seldom
from .stacks import stack_of
from .tasks import Task

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks for something due, when nothing was told of and nothing is known to become due."""
LANE_EVENTS = 20
LANE_SECONDS = 5.0
SIGN_SECONDS = 20.0
"""Between two signs of life; ``doctor`` and other hosts see by them that somebody dispatches."""
WITHDRAW_SECONDS = 0.5
"""A process that ends waits no longer than this for the database to take its sign of life back."""
LONGEST_WAIT_MS = 2 * 3_600_000
"""What failed waits for less, unless the other side asked for more."""
RECOVERY_SECONDS = 1.0
"""After the database was away nothing is claimed for so long: first everybody prolongs the leases he has."""


@dataclass(slots=True, eq=False)
class _Running:
    """A lane being run by one of our threads."""

    lease: Lease
    thread: threading.Thread
    since: float
    hung: bool = False


_running_here: contextvars.ContextVar[_Running | None] = contextvars.ContextVar("hubspot_hitl_running", default=None)
"""The lane that a receiver is called for; a coroutine function runs in another thread than the lane's."""


class _Bell:
    """Wakes idle threads. They hold this and not their pool: an app that nobody has any more can be collected."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._condition = threading.Condition()
        self.wakes = self._idle = 0

    @property
    def idle(self) -> int:
        """How many threads wait."""
        return self._idle

    def ring(self, threads: int) -> bool:
        """Have one of so many threads look; False when all are busy."""
        with self._condition:
            self.wakes = min(self.wakes + 1, threads)
            self._condition.notify()
            return self.wakes <= self._idle

    def wait(self) -> None:
        """Wait for a ring, or the end."""
        with self._condition:
            self._idle += 1
            self._condition.wait_for(lambda: self.wakes or self.stopping.is_set())
            self._idle -= 1
            self.wakes = max(0, self.wakes - 1)

    def end(self) -> None:
        """Have all threads end when they have finished what they hold."""
        with self._condition:
            self.stopping.set()
            self._condition.notify_all()


class Pool:
    """What one process dispatches with, once: threads that claim lanes, and a clock that looks after them.

    Without :meth:`start` it runs lanes in the caller. ``guard`` says why nothing may be dispatched (a copied
    database), or None; ``on_start`` is called once, by the clock. ``poll`` is how many seconds
    it naps where nobody tells of others' commits, by default as suits the database. ``max_threads`` is how many
    threads there may be, with those whose receivers hang: at that bound none is replaced any more.

    Its threads end within a second or so of its being collected.
    """

    def __init__(
        self,
        ledger: Ledger,
        tasks: Mapping[str, Task],
        *,
        ttl_ms: int,
        handler_timeout: float,
        max_threads: int,
        max_attempts: int,
        guard: Callable[[], str | None],
        on_start: Callable[[], None] | None = None,
        poll: float | None = None,
    ) -> None:
        self._ledger = ledger
        self._poll = poll
        self._ttl_ms = ttl_ms
        self._handler_timeout = handler_timeout
        self._max_threads = max_threads
        self._guard = guard
        self._on_start = on_start
        self._lock = threading.Lock()
        self._running: set[_Running] = set()
        self._bell = _Bell()
        self._clock: threading.Thread | None = None
        self._watch = Watch()
        self._threads: list[threading.Thread] = []
        self._replaced: list[threading.Thread] = []
        self._stopping = self._bell.stopping
        self._over = threading.Event()
        self._trouble = threading.Event()
        self._next_beat = self._next_sign = 0.0
        self._calm_at: float | None = None
        self._is_new = True
        self._say_once = Seldom(logger, logging.ERROR)
        self.runner = Runner(
            ledger,
            tasks,
            owner=f"{socket.gethostname()}:{os.getpid()}:{_started_at(os.getpid())}:{uuid.uuid4().hex[:8]}",
            ttl_ms=ttl_ms,
            max_attempts=max_attempts,
            stopping=self._stopping,
            say_once=self._say_once,
        )

    def __del__(self) -> None:
        self._watch.is_dropped = True  # the clock sees that, and ends the threads

    # Beginning and end -----------------------------------------------------------------------------------

    def start(self, threads: int) -> None:
        """Start the clock, and ``threads`` threads that run what is due."""
        if self._clock is not None and self._clock.is_alive():
            return  # two would share a watch, and the one that ends would close the other one's connection
        if threads:
            self._watch = self._ledger.watch(self._say_once, poll=self._poll)
        given = (weakref.ref(self), self._watch, self._bell, self._over)
        self._clock = threading.Thread(target=_keep_time, args=given, name="hubspot-hitl-clock", daemon=True)
        self._clock.start()
        for number in range(threads):
            self._start_thread(f"hubspot-hitl-{number}")

    def _start_thread(self, name: str) -> None:
        thread = threading.Thread(target=_serve, args=(weakref.ref(self), self._bell), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def wake(self) -> bool:
        """Something may be due: have one thread look. False when all of them are busy."""
        return self._bell.ring(len(self._threads))

    def retire(self) -> None:
        """Claim nothing more. What is held is finished, and the threads end."""
        self._bell.end()
        self._watch.interrupt()

    def stop(self, timeout: float) -> bool:
        """Retire, wait up to ``timeout`` seconds for what is held, and give back what is not finished by then.

        A receiver that hangs is not waited for, nor one that calls this.
        Returns True when nothing had to be given back.
        """
        self.retire()
        ends = time.monotonic() + timeout
        own = _running_here.get()
        with self._lock:
            not_waited_for = {one.thread for one in self._running if one.hung or one is own}
        for thread in list(self._threads):
            # A signal may come while they start.
            if thread.is_alive() and thread not in not_waited_for:
                thread.join(max(0.0, ends - time.monotonic()))
        self._over.set()
        self._watch.interrupt()
        if self._clock is not None and self._clock.is_alive():  # as the threads: it may be about to start
            self._clock.join(1.0)  # it closes its connection
        with self._lock:
            unfinished = [running.lease for running in self._running]
        try:
            for lease in unfinished:
                with self._ledger.write() as tx:
                    now = self._ledger.now_ms()
                    if tx.queue.holds(lease):
                        tx.queue.release(lease, now=now, due_at=now, failures=lease.failures)
        except LedgerUnavailable as error:
            logger.warning("Leases could not be given back and will run out: %s", error)
        if self._clock is not None:
            with contextlib.suppress(LedgerUnavailable), patience(WITHDRAW_SECONDS), self._ledger.write() as tx:
                tx.signs.withdraw(self.runner.owner)
        return not unfinished

    # Running what is due ---------------------------------------------------------------------------------

    def take_turn(self) -> bool:
        """Run in one of our threads what is due, until there is no more; False when the thread was replaced."""
        ran_any = False
        while not self._stopping.is_set():
            ran = False
            try:
                ran = not self._trouble.is_set() and self.blocked() is None and self.run_one()
            except LedgerUnavailable as error:
                self._trouble.set()
                self._say_once("The database can't be used: %s", error)
                self._stopping.wait(0.5)
            except BaseException:  # a thread of ours has nobody above it who could be interested
                logger.exception("The dispatcher tripped over a bug; it goes on")
                self._stopping.wait(1.0)
            if threading.current_thread() not in self._threads:
                return False  # replaced while a receiver hung
            if not ran:
                break
            ran_any = True
        if ran_any:
            self._watch.interrupt()  # what it ran may have left something for later
        self._ledger.rest()
        return True

    def blocked(self) -> str | None:
        """Why nothing may be dispatched, or None."""
        reason = self._guard()
        if reason is not None:
            self._say_once("Nothing is dispatched: %s", reason)
        return reason

    def run_one(self) -> bool:
        """Claim the lane that is due the longest and run it; False when nothing is due."""
        lease = self.runner.claim()
        if lease is None:
            return False
        self.wake()  # there may be more for another thread
        self._run_lane(lease)
        return True

    def _run_lane(self, lease: Lease) -> None:
        """Run a lane's events in order, each settled before the next is read, for a fair while."""
        running = _Running(lease, threading.current_thread(), time.monotonic())
        ends = running.since + LANE_SECONDS
        with self._lock:
            self._running.add(running)
        reset = _running_here.set(running)
        try:
            for count in range(1, LANE_EVENTS + 1):
                if lease.head is None:
                    return
                running.since = time.monotonic()
                outcome = self.runner.perform(lease)
                running.since = math.inf  # what is left to do waits for the database, and for no receiver
                spent = count == LANE_EVENTS or time.monotonic() > ends
                go_on = not (spent or running.hung or self._stopping.is_set())
                self.runner.settle(lease, outcome, go_on=go_on)
        finally:
            _running_here.reset(reset)
            with self._lock:
                self._running.remove(running)

    # Keeping time ----------------------------------------------------------------------------------------

    def has_ended(self) -> bool:
        """True when it stops, and no thread is left."""
        return self._stopping.is_set() and not any(thread.is_alive() for thread in self._threads)

    def look_after(self) -> float | None:
        """Notice what becomes due, keep our leases alive, and find receivers that hang.

        :returns: the seconds until it is worth looking again, unasked; None when it is at once.
        """
        stopping = self._stopping.is_set()
        try:
            if self._is_new:
                self.free_the_dead()
                self._pull_back()
                if self._on_start is not None:
                    self._on_start()
                self._is_new = False
            if time.monotonic() >= self._next_beat or self._trouble.is_set():
                self._beat()
                self._next_beat = time.monotonic() + self._ttl_ms / 3000
            if self._trouble.is_set():
                with self._ledger.read() as tx:
                    tx.queue.next_due()  # it does answer
                self._calm_at = self._calm_at or time.monotonic() + RECOVERY_SECONDS
                if time.monotonic() >= self._calm_at:
                    self._trouble.clear()
                    self._calm_at = None
            elif time.monotonic() >= self._next_sign and not stopping:
                if self._ledger.was_set_back():
                    self._pull_back()
                with self._ledger.write() as tx:
                    tx.signs.show(self.runner.owner, now=self._ledger.now_ms())
                self._next_sign = time.monotonic() + SIGN_SECONDS
            self._look_for_hung()
            nap = self._watch.poll if stopping or self._trouble.is_set() else self._look_for_due()
            self._ledger.rest()
            return min(nap, self._next_beat - time.monotonic())
        except LedgerUnavailable as error:
            self._trouble.set()
            self._calm_at = None
            self._say_once("The database can't be used: %s", error)
            self._over.wait(0.5)
        except Exception:
            logger.exception("The dispatcher's clock tripped over a bug; it goes on")
            self._over.wait(1.0)
        return None

    def _look_for_due(self) -> float:
        """Wake a thread if something is due; answers the seconds until it is worth looking again, unasked."""
        if not self._bell.idle:
            self.wake()  # whoever is done first looks once more
            return LOOK_SECONDS
        with self._ledger.read() as tx:
            due = tx.queue.next_due()
        left = LOOK_SECONDS if due is None else (due - self._ledger.now_ms()) / 1000
        if left <= 0:
            self.wake()
        return min(max(left, self._watch.poll), LOOK_SECONDS)

    def _beat(self) -> None:
        with self._lock:
            leases = [running.lease for running in self._running]
        if leases:
            with self._ledger.write() as tx:
                tx.queue.heartbeat(leases, now=self._ledger.now_ms(), ttl_ms=self._ttl_ms)

    def _look_for_hung(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = [one for one in self._running if now - one.since > self._handler_timeout]
        for running in late:
            if not running.hung:
                running.hung = True
                logger.error(
                    "A receiver runs for more than %.0f s (lane %s); its thread is replaced while there are fewer than "
                    "%d\n%s",
                    self._handler_timeout, running.lease.lane, self._max_threads,
                    stack_of(running.thread.ident) or "(no stack)",
                )  # fmt: skip
                with self._ledger.write() as tx:
                    if tx.queue.holds(running.lease) and running in self._running:
                        tx.queue.mark_hung(running.lease, now=self._ledger.now_ms())
            if running.thread in self._threads and not self._stopping.is_set():
                self._replace(running.thread, len(late))

    def _replace(self, thread: threading.Thread, hung: int) -> None:
        """Start another thread in the place of one that hangs, if there may be one more."""
        self._replaced = [one for one in self._replaced if one.is_alive()]
        if len(self._threads) + len(self._replaced) >= self._max_threads:
            self._say_once(
                "%s and none is replaced any more: there may be so many, see HUBSPOT_HITL_DISPATCHER_MAX_THREADS. When "
                "all hang nothing is dispatched until one returns, and webhooks are stored meanwhile. Look for the "
                "stacks above, and give the calls in your receivers a time-out",
                f"{hung} of {self._max_threads} threads hang,",
            )
            return
        self._threads.remove(thread)
        self._replaced.append(thread)
        self._start_thread(thread.name)

    def free_the_dead(self) -> None:
        """On SQLite everybody is on this machine: a killed process's lanes need not wait for their leases.

        :raises LedgerUnavailable: when the database can't be used.
        """
        if not self._ledger.is_sqlite:
            return
        with self._ledger.read() as tx:
            dead = [owner for owner in tx.queue.owners() if is_dead(owner)]
        if dead:
            with self._ledger.write() as tx:
                for owner in dead:
                    tx.queue.release_owner(owner, now=self._ledger.now_ms())

    def _pull_back(self) -> None:
        with self._ledger.write() as tx:
            longest_ms = max(LONGEST_WAIT_MS, 2 * self._ttl_ms)
            count = tx.queue.pull_back(now=self._ledger.now_ms(), longest_ms=longest_ms, ttl_ms=self._ttl_ms)
        if count:
            logger.warning("%d lane(s) waited for a time that is far ahead: was the clock set back? They go on", count)


def _serve(pool_of: weakref.ref[Pool], bell: _Bell) -> None:
    """What a thread does: run what is due, and wait without holding the pool."""
    while not bell.stopping.is_set():
        pool = pool_of()
        if pool is None or not pool.take_turn():
            return
        del pool
        bell.wait()


def _keep_time(pool_of: weakref.ref[Pool], watch: Watch, bell: _Bell, over: threading.Event) -> None:
    """What the clock does, until all threads ended, or nobody has the pool any more."""
    with contextlib.closing(watch):
        while not over.is_set():
            pool = pool_of()
            if pool is None:
                bell.end()
                return
            if pool.has_ended():
                return
            nap = pool.look_after()
            del pool
            try:
                if nap is not None:
                    watch.wait(nap)
            except Exception:
                logger.exception("The dispatcher's clock tripped over a bug; it goes on")
                over.wait(1.0)


def _started_at(pid: int) -> str:
    """When a process started, in clock ticks since boot; empty where the system does not tell."""
    facts = _facts(pid)
    return facts[19] if len(facts) > 19 else ""


def _facts(pid: int) -> list[str]:
    """What Linux tells of a process, from its state on; nothing elsewhere."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def is_dead(owner: str) -> bool:
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
    if _facts(int(pid))[:1] == ["Z"]:
        return True  # killed, and its parent has not noticed yet: in a container without an init perhaps never
    return bool(started) and _started_at(int(pid)) != started

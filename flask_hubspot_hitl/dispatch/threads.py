"""Run lanes in the threads of one process: wake-ups, heartbeats, receivers that hang, and the end.

Knows nothing of servers, forks and modes: see ``dispatcher``. How many threads there are is in ``scaling``.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import math
import threading
import time
import weakref
from collections.abc import Callable, Mapping

from ..errors import LedgerUnavailable
from ..ledger import Lease, Ledger, Watch, lanes, patience
from ..ledger.lanes import Work
from . import recovery
from .bell import Bell
from .options import EngineOptions
from .owners import new_owner
from .runner import Runner
from .running import Held, Running
from .scaling import WAITS_SECONDS, Threads
from .seldom import Seldom
from .stacks import stack_of
from .tasks import Outcome, Task

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Seconds between two looks for due lanes when no notification came and no lane is known to become due."""
LANE_EVENTS, LANE_SECONDS = 20, 5.0
"""Events, and seconds, after which a lane makes room for another one."""
SIGN_SECONDS = 20.0
"""Seconds between two signs of life, by which ``doctor`` and other hosts see that this process dispatches."""
WITHDRAW_SECONDS = 0.5
"""Seconds that an ending process waits for the database to delete its sign of life."""
RECOVERY_SECONDS = 1.0
"""Seconds to wait after a database outage before claiming new lanes, so that every process can renew its leases
first."""

NO_DATABASE = (
    "The database can't be used (%s); nothing is dispatched, and it is tried again twice a second. Check "
    "HUBSPOT_HITL_DATABASE_URL and the server"
)

_running_here: contextvars.ContextVar[Running | None] = contextvars.ContextVar("hubspot_hitl_running", default=None)
"""The lane that a receiver is called for; a coroutine function runs in another thread than the lane's."""


class Pool:
    """Hold the threads of one process that claim and run lanes, and the clock thread that watches them.

    Without :meth:`start` lanes are run in the calling thread. The pool's threads end within a second or so of the
    pool's being collected.

    :param tasks: returns what is run, by the topic of the event.
    :param seldom: the app's, for log lines that may recur.
    """

    def __init__(
        self,
        ledger: Ledger,
        tasks: Callable[[], Mapping[str, Task]],
        options: EngineOptions,
        seldom: Seldom,
    ) -> None:
        self._ledger = ledger
        self._options = options
        self._held = Held(options)
        self._bell = Bell()
        self._clock: threading.Thread | None = None
        self._watch = Watch()
        self._stopping = self._bell.stopping
        self._over = threading.Event()
        self._trouble = threading.Event()
        self._next_beat = self._next_sign = 0.0
        self._calm_at: float | None = None
        self._is_new = True
        self._say_once = functools.partial(seldom, logger, logging.ERROR)
        body = functools.partial(_serve, weakref.ref(self), self._bell)
        self._threads = Threads(options, self._bell, body, self._say_once)
        self._looks_often = False
        self.runner = Runner(
            ledger, tasks, options, owner=new_owner(), stopping=self._stopping, say_once=self._say_once
        )

    def __del__(self) -> None:
        self._watch.is_dropped = True  # the clock sees that, and ends the threads

    @property
    def idle(self) -> int:
        """Return how many threads wait for something to do."""
        return self._bell.idle

    @property
    def size(self) -> int:
        """Return how many threads run lanes."""
        return len(self._threads)

    def is_full(self) -> bool:
        """Return True when receivers hang in all the threads that there may be."""
        return sum(one.hung for one in self._held) >= self._options.max_threads

    # Beginning and end -----------------------------------------------------------------------------------

    def start(self, threads: int) -> None:
        """Start the clock thread, and the threads that run due lanes.

        :param threads: how many threads run lanes; 0: the caller runs them.
        """
        if self._clock is not None and self._clock.is_alive():
            return  # two would share a watch, and the one that ends would close the other one's connection
        if threads:
            self._watch = self._ledger.watch(self._say_once, poll=self._options.poll)
        given = (weakref.ref(self), self._watch, self._bell, self._over)
        self._clock = threading.Thread(target=_keep_time, args=given, name="hubspot-hitl-clock", daemon=True)
        self._clock.start()
        self._threads.start(threads)

    def wake(self) -> bool:
        """Wake one idle thread to look for due lanes.

        :returns: False when all threads are busy.
        """
        if self._bell.ring():
            return True
        if self._threads.may_grow and not self._looks_often:
            self._looks_often = True
            self._watch.interrupt()  # for the clock to see whether they wait
        return False

    def leave(self) -> None:
        """Forget the calling thread, which ends."""
        self._threads.leave(threading.current_thread())

    def retire(self) -> None:
        """Stop claiming lanes; the threads finish the lanes they run, then end."""
        self._bell.end()
        self._watch.interrupt()

    def stop(self, timeout: float) -> bool:
        """Retire, wait up to ``timeout`` seconds for running lanes, then release those that are not finished.

        A receiver that hangs is not waited for, nor one that calls this.

        :returns: True when nothing had to be released.
        """
        self.retire()
        ends = time.monotonic() + timeout
        own = _running_here.get()
        not_waited_for = {one.thread for one in self._held if one.hung or one is own}
        for thread in self._threads:
            # A signal may come while they start.
            if thread.is_alive() and thread not in not_waited_for:
                thread.join(max(0.0, ends - time.monotonic()))
        self._over.set()
        self._watch.interrupt()
        if self._clock is not None and self._clock.is_alive():  # as the threads: it may be about to start
            self._clock.join(1.0)  # it closes its connection
        unfinished = [running.lease for running in self._held]
        try:
            for lease in unfinished:
                with self._ledger.write() as tx:
                    now = self._ledger.now_ms()
                    if tx.queue.holds(lease):
                        tx.queue.release(lease, now=now, due_at=now, failures=lease.failures)
        except LedgerUnavailable as error:
            logger.warning(
                "Leases could not be released at the end of this process (%s); other processes take these lanes over "
                "when the "
                "leases expire (HUBSPOT_HITL_LEASE_TTL)",
                error,
            )
        if self._clock is not None:
            with contextlib.suppress(LedgerUnavailable), patience(WITHDRAW_SECONDS), self._ledger.write() as tx:
                tx.signs.withdraw(self.runner.owner)
        return not unfinished

    # Running what is due ---------------------------------------------------------------------------------

    def take_turn(self) -> None:
        """Run due lanes in one of the pool's threads until no more are due."""
        ran_any = False
        while not self._stopping.is_set():
            count, has_more = 0, False
            try:
                if not self._trouble.is_set() and self.blocked() is None:
                    count, has_more = self.run_lanes()
            except LedgerUnavailable as error:
                self._trouble.set()
                self._say_once(NO_DATABASE, error)
                self._stopping.wait(0.5)
            except BaseException:  # nothing above this thread could handle the exception
                logger.exception(
                    "Bug in the dispatcher; it goes on with the next lane in a second. Please report this traceback"
                )
                self._stopping.wait(1.0)
            ran_any = ran_any or count > 0
            if not has_more:
                break
        if ran_any:
            self._watch.interrupt()  # what it ran may have left something for later
        self._ledger.rest()

    def blocked(self) -> str | None:
        """Return the reason why nothing may be dispatched, or None."""
        reason = self._options.guard()
        if reason is not None:
            self._say_once("Nothing is dispatched: %s", reason)
        return reason

    def run_lanes(self) -> tuple[int, bool]:
        """Claim the lane that is next and run it, and then those that are claimed as it is released.

        :returns: how many were run, and False when nothing more is due.
        """
        count, running = 0, self._held.claim(lambda least: self.runner.claim(least=least))
        has_more = running is not None
        while running is not None:
            count, last = count + 1, running
            running = self._run_lane(last)
            has_more = not last.is_last
        return count, has_more

    def _run_lane(self, running: Running) -> Running | None:
        """Run a lane's events in order, each settled before the next is read, until its share of time is used up.

        :returns: the lane that was claimed in the transaction that released this one, if any.
        """
        lease, ends = running.lease, running.since + LANE_SECONDS
        other: Running | None = None
        reset = _running_here.set(running)
        try:
            self.wake()  # there may be more for another thread
            for count in range(1, LANE_EVENTS + 1):
                if lease.head is None:
                    break
                running.since = began = time.monotonic()
                outcome = self.runner.perform(lease)
                running.since = math.inf  # what is left to do waits for the database, and for no receiver
                spent = count == LANE_EVENTS or time.monotonic() > ends
                other = self._settle(running, outcome, spent, began)
        finally:
            _running_here.reset(reset)
            self._held.give_back(running)
        return other

    def _settle(self, running: Running, outcome: Outcome, spent: bool, began: float) -> Running | None:
        lease, settle = running.lease, self.runner.settle
        stops = running.hung or self._stopping.is_set()
        if stops or self._trouble.is_set() or self.blocked() is not None:
            settle(lease, outcome, go_on=not (spent or stops), began=began)
            return None

        def claim(least: Work) -> Lease | None:
            found, running.is_last = settle(lease, outcome, go_on=not spent, least=least, began=began)
            return found

        return self._held.claim(claim)

    # Keeping time ----------------------------------------------------------------------------------------

    def has_ended(self) -> bool:
        """Return True when the pool was retired, and no thread is left."""
        return self._stopping.is_set() and not any(thread.is_alive() for thread in self._threads)

    def look_after(self) -> float | None:
        """Watch for lanes that become due, renew this process's leases, and find hanging receivers.

        :returns: the seconds until the next look, unless a notification comes before; None: look again at once.
        """
        stopping = self._stopping.is_set()
        try:
            if self._is_new:
                self._ledger.find()  # it may have been away at the start: a large one is brought up to date here
                recovery.free_the_dead(self._ledger)
                recovery.pull_back(self._ledger, self._options.lease_ms)
                self._options.on_start()
                self._is_new = False
            if time.monotonic() >= self._next_beat or self._trouble.is_set():
                self._held.renew(self._ledger, self._options.lease_ms)
                self._next_beat = time.monotonic() + self._options.lease_ttl / 3
            if self._trouble.is_set():
                with self._ledger.read() as tx:
                    tx.queue.next_due()  # it does answer
                self._calm_at = self._calm_at or time.monotonic() + RECOVERY_SECONDS
                if time.monotonic() >= self._calm_at:
                    self._trouble.clear()
                    self._calm_at = None
            elif time.monotonic() >= self._next_sign and not stopping:
                if self._ledger.was_set_back():
                    recovery.pull_back(self._ledger, self._options.lease_ms)
                with self._ledger.write() as tx:
                    tx.signs.show(self.runner.owner, now=self._ledger.now_ms())
                self._next_sign = time.monotonic() + SIGN_SECONDS
            self._look_for_hung()
            if not stopping and not self._trouble.is_set():
                self._scale()
            nap = self._watch.poll if stopping or self._trouble.is_set() else self._look_for_due()
            self._ledger.rest()
            return min(nap, self._next_beat - time.monotonic())
        except LedgerUnavailable as error:
            self._trouble.set()
            self._calm_at = None
            self._say_once(NO_DATABASE, error)
            self._over.wait(0.5)
        except Exception:
            logger.exception("Bug in the dispatcher's clock; it goes on in a second. Please report this traceback")
            self._over.wait(1.0)
        return None

    def _look_for_due(self) -> float:
        """Wake a thread if a lane is due.

        :returns: seconds until the next look.
        """
        self._looks_often = False
        if not self._bell.idle:
            self._looks_often = self._threads.may_grow
            self.wake()  # whoever is done first looks once more
            return WAITS_SECONDS if self._looks_often else LOOK_SECONDS
        with self._ledger.read() as tx:
            due = tx.queue.next_due(self._held.works())
        left = LOOK_SECONDS if due is None else (due - self._ledger.now_ms()) / 1000
        if left <= 0:
            self.wake()
        return min(max(left, self._watch.poll), LOOK_SECONDS)

    def _look_for_hung(self) -> None:
        now = time.monotonic()
        late = [one for one in self._held if now - one.since > self._options.handler_timeout]
        for running in late:
            if not running.hung:
                running.hung = True
                logger.error(
                    "A receiver has been running for more than %.0f s (lane %s); another thread takes over its work "
                    "while there are fewer than %d, and the lane waits for it. Its stack, to find out what it waits "
                    "for:\n%s",
                    self._options.handler_timeout, lanes.shown(running.lease.lane), self._options.max_threads,
                    stack_of(running.thread.ident) or "(no stack)",
                )  # fmt: skip
                with self._ledger.write() as tx:
                    if tx.queue.holds(running.lease) and running in self._held:
                        tx.queue.mark_hung(running.lease, now=self._ledger.now_ms())
        if len(late) >= self._options.max_threads:
            self._say_once(
                "%s and none is replaced any more: HUBSPOT_HITL_DISPATCHER_MAX_THREADS allows no more threads. When "
                "all hang nothing is dispatched until one returns, and webhooks are stored meanwhile. Look for the "
                "stacks above, and give the calls in your receivers a time-out",
                f"{len(late)} of {self._options.max_threads} threads hang,",
            )

    def _scale(self) -> None:
        """Start threads in the place of those that wait, and let those go that are not needed any more."""
        running = list(self._held)
        self._threads.grow(running, self._count_due)
        self._threads.shrink(running)

    def _count_due(self, most: int) -> int:
        with self._ledger.read() as tx:
            return tx.queue.count_due(now=self._ledger.now_ms(), most=most, works=self._held.works())


def _serve(pool_of: weakref.ref[Pool], bell: Bell) -> None:
    """Run due lanes, and wait without holding the pool: the body of each thread that runs lanes."""
    while not bell.stopping.is_set():
        pool = pool_of()
        if pool is None:
            return
        pool.take_turn()
        del pool
        if not bell.wait():
            if (pool := pool_of()) is not None:
                pool.leave()
            return


def _keep_time(pool_of: weakref.ref[Pool], watch: Watch, bell: Bell, over: threading.Event) -> None:
    """Look after the pool until all threads have ended, or it is collected: the body of the clock thread."""
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
                logger.exception("Bug in the dispatcher's clock; it goes on in a second. Please report this traceback")
                over.wait(1.0)

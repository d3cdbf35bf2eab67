"""Decide in which processes lanes are run, from when, and until when.

``thread`` runs a pool of daemon threads in each serving process, ``external`` leaves the work to ``flask hubspot-hitl
worker`` or ``tick``, ``inline`` does it in the caller. All three use one ``threads``.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from types import FrameType

from ..ledger import Ledger
from ..process import Process
from . import recovery
from .options import EngineOptions
from .runner import Runner
from .seldom import Seldom
from .tasks import Task
from .threads import Pool

START_SECONDS = 1.0
"""Seconds between the app's making and the start of its pool: the host connects its handlers meanwhile."""
TICK = "tick"
"""Name under which a :meth:`Dispatcher.tick` leaves its sign of life."""
GRACE_SECONDS = 25.0
"""Seconds that running lanes get to finish at the end of a process. Below gunicorn's 30 s, after which it kills its
workers."""


class Dispatcher:
    """Run one app's lanes, in the mode that the settings ask for.

    In ``thread`` mode a process dispatches once a request has come, or, with :meth:`start_soon`, before: after a crash
    the backlog must not wait for the next request. A process that forks before it has served a request is taken for a
    server's master (``gunicorn --preload``): its children dispatch. A child that is forked later is taken for a helper,
    and dispatches nothing. (Of uWSGI's forks see ``servers``.)

    :param tasks: returns what is run, by the topic of the event; asked for when there is something to run.
    :param options: how it is run.
    :param seldom: the app's, for log lines that may recur; None: one of the dispatcher's own.
    """

    def __init__(
        self,
        ledger: Ledger,
        tasks: Callable[[], Mapping[str, Task]],
        options: EngineOptions,
        *,
        seldom: Seldom | None = None,
    ) -> None:
        self.mode = options.mode
        self._tasks = tasks
        self.serving = False
        """True from the first request on: nothing else shows for certain that this process serves and its threads get
        time to run."""
        self._ledger = ledger
        self._threads = options.threads
        self._new_pool = functools.partial(Pool, ledger, tasks, options, seldom or Seldom())
        self._is_testing = options.is_testing
        self._is_eager = False
        self._may_start: Callable[[], bool] = lambda: True
        self._is_master = False
        self.is_over = False
        """True once it was stopped: nothing is started from now on."""
        self._begin_life()
        self._process = Process(self._begin_anew, at_once=True)
        _known.add(self)

    def _begin_life(self) -> None:
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self.has_started = False
        """True when this process has threads that dispatch."""
        self._inline = threading.local()

    @property
    def tasks(self) -> Mapping[str, Task]:
        """Return what is run, by the topic of the event."""
        return self._tasks()

    @property
    def pool(self) -> Pool:
        """Return this process's pool, made at first use, because gevent may replace threads and locks after a fork."""
        self._process.check()
        with self._lock:
            if self._pool is None:
                self._pool = self._new_pool()
            return self._pool

    @property
    def runner(self) -> Runner:
        """Return what runs single lanes in the caller."""
        runner = self.pool.runner
        runner.load()
        return runner

    def threads(self) -> tuple[int, int]:
        """Return how many threads of this process run lanes, and how many of these have nothing to do."""
        return (self.pool.size, self.pool.idle) if self.has_started else (0, 0)

    # Starting and waking ---------------------------------------------------------------------------------

    def serve(self, *, start: bool = True) -> None:
        """Note that a request has come.

        :param start: whether the request starts the pool in a process that was not expected to serve.
        """
        self._process.check()
        if not self.serving:
            self.serving = True
            if start and self.mode == "thread":
                self.ensure_started()

    def wake(self) -> None:
        """Have a thread look for due lanes; call it after each commit that stored something from outside."""
        self._process.check()
        if self.mode == "inline":
            self.run_due()
            return
        if self.mode == "thread" and (self.serving or (self._is_eager and not self._is_master)):
            self.ensure_started()
            if self.pool.wake():
                return  # one of our own threads has nothing else to do: nobody else need look
        self._ledger.notify()

    def ensure_started(self) -> None:
        """Start the pool, once in this process."""
        pool = self.pool
        with self._lock:
            if self.has_started or self.is_over:
                return
            self.has_started = True
        pool.start(self._threads)

    def start_soon(self, may_start: Callable[[], bool]) -> None:
        """Start the pool a moment from now, so that the host can connect its handlers first.

        After a fork by a master, the pool is started in the children. While the app is tested nothing starts before
        there is something to do.

        :param may_start: asked when the time has come; False: the pool is not started.
        """
        self._process.check()
        self._is_eager, self._may_start = True, may_start
        self._set_timer()

    def _set_timer(self) -> None:
        # gevent's worker patches after the fork: what runs in a thread from before can't start greenlets that last.
        if not self._is_testing():
            this = weakref.WeakMethod(self._start_now)
            timer = threading.Timer(START_SECONDS, _call, args=[this, threading.get_ident])
            timer.daemon = True
            timer.start()

    def _start_now(self, threads_of_then: object) -> None:
        if self._is_testing() or not self._is_eager or self._is_master:
            return
        if threading.get_ident is threads_of_then and self._may_start():
            self.ensure_started()

    # Forks -----------------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """Note, in the parent, that this process has forked."""
        if self.serving or _forks_a_helper(sys._getframe()):
            return
        self._is_master = True
        if self.has_started and self._pool is not None:  # loading took so long that we had begun
            self._pool.retire()
            self._begin_life()

    def _begin_anew(self) -> None:
        """Forget the parent's threads, locks and connections, which the child has not, or must not use."""
        is_helper = self.serving or _forks_a_helper(sys._getframe())
        self._inherited = self._pool
        self._begin_life()
        self.serving = self._is_master = False
        self._is_eager = self._is_eager and not is_helper
        if self._is_eager and not self.is_over:
            self._set_timer()

    # Running in the caller -------------------------------------------------------------------------------

    def run_due(self) -> int:
        """Run due lanes in the calling thread until nothing is due.

        :returns: the number of lanes run; 0 when called from within itself.
        """
        self._process.check()
        if getattr(self._inline, "busy", False) or self.blocked() is not None:
            return 0
        self._inline.busy = True
        try:
            count, has_more = 0, True
            while has_more:
                ran, has_more = self.pool.run_lanes()
                count += ran
            return count
        finally:
            self._inline.busy = False

    def tick(self) -> int:
        """Run due lanes in the calling thread while a second thread renews the leases.

        For a process that does nothing else.

        :returns: the number of lanes run.
        :raises LedgerUnavailable: when the database can't be used.
        """
        recovery.free_the_dead(self._ledger)
        self.pool.start(0)
        try:
            count = self.run_due()
            with self._ledger.write() as tx:
                tx.signs.show(TICK, now=self._ledger.now_ms())
            return count
        finally:
            self.stop()

    def is_full(self) -> bool:
        """Return True when receivers hang in all the threads that there may be: nothing more is dispatched here."""
        return self.has_started and self.pool.is_full()

    def blocked(self) -> str | None:
        """Return the reason why nothing may be dispatched, or None."""
        return self.pool.blocked()

    # The end ---------------------------------------------------------------------------------------------

    def stop(self, timeout: float = GRACE_SECONDS) -> bool:
        """Stop claiming lanes, finish running ones for up to ``timeout`` seconds, and release the rest.

        Nothing is started from now on, neither in this process nor in its forks.

        :returns: True when all running lanes were finished.
        """
        self._process.check()
        with self._lock:
            self.is_over = True
            pool = self._pool
        return pool is None or pool.stop(timeout)


def _call(method_of: weakref.WeakMethod[Callable[..., None]], *arguments: object) -> None:
    method = method_of()
    if method is not None:
        method(*arguments)


_known: weakref.WeakSet[Dispatcher] = weakref.WeakSet()
"""The dispatchers of all apps. What is registered with the interpreter can't be taken back, so it is registered
once."""


def _after_fork() -> None:
    for one in list(_known):
        one.after_fork()


def _stop_all() -> None:
    for one in list(_known):
        if one.has_started:
            one.stop()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_after_fork)


def _forks_a_helper(frame: FrameType | None) -> bool:
    """Return True while ``multiprocessing`` forks: its child is a helper of the host's, not a serving process."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "multiprocessing.popen_fork":
            return True
        frame = frame.f_back
    return False

"""When and where lanes are run: in which processes, from which moment on, until when.

``thread`` runs a pool of daemon threads in each serving process, ``external`` leaves the work to
``flask hubspot-hitl worker`` or ``tick``, ``inline`` does it in the caller. All three use one ``threads``.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType

from ..ledger import Ledger
from ..process import Process
from .runner import Runner
from .tasks import Task
from .threads import Pool

START_SECONDS = 1.0
TICK = "tick"
"""Whose sign of life a :meth:`Dispatcher.tick` leaves."""
GRACE_SECONDS = 25.0
"""Below the 30 s after which gunicorn kills its workers."""


class Dispatcher:
    """One app's dispatcher. ``guard`` says why nothing may be dispatched (a copied database), or None.

    ``lease_ttl``, ``handler_timeout`` and ``poll`` (see :class:`.threads.Pool`) are in seconds. ``is_testing`` tells
    whether the app is being tested.

    In ``thread`` mode a process dispatches once a request has come, or, with :meth:`start_soon`, before:
    after a crash the backlog must not wait for the next request. Servers that load the app and then fork
    (``gunicorn --preload``) are told by just that: who forks before having served a request is a master, and its
    children serve. Who forks later has a helper, which dispatches nothing. (Of uWSGI's forks see ``servers``.)
    """

    def __init__(
        self,
        ledger: Ledger,
        tasks: dict[str, Task],
        *,
        mode: str,
        threads: int,
        lease_ttl: float,
        handler_timeout: float,
        max_attempts: int,
        guard: Callable[[], str | None],
        max_threads: int = 64,
        on_start: Callable[[], None] | None = None,
        poll: float | None = None,
        is_testing: Callable[[], bool] = lambda: False,
    ) -> None:
        self.mode = mode
        self.tasks = tasks
        """What is run, by the topic of the event. More may be added while nothing is served yet."""
        self.serving = False
        """True from the first request on. Nothing else tells for certain that this process serves."""
        self._ledger = ledger
        self._threads = threads
        self._new_pool = functools.partial(
            Pool,
            ledger,
            tasks,
            ttl_ms=int(lease_ttl * 1000),
            handler_timeout=handler_timeout,
            max_threads=max_threads,
            max_attempts=max_attempts,
            guard=guard,
            on_start=on_start,
            poll=poll,
        )
        self._is_testing = is_testing
        self._is_eager = False
        self._may_start: Callable[[], bool] = lambda: True
        self._is_master = False
        self._is_over = False
        self._begin_life()
        self._process = Process(self._begin_anew, at_once=True)
        _known.add(self)

    def _begin_life(self) -> None:
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._is_started = False
        self._inline = threading.local()

    @property
    def pool(self) -> Pool:
        """This process's pool. Made late: gevent may replace threads and locks after a fork."""
        self._process.check()
        with self._lock:
            if self._pool is None:
                self._pool = self._new_pool()
            return self._pool

    @property
    def has_started(self) -> bool:
        """True when this process has threads that dispatch."""
        return self._is_started

    @property
    def runner(self) -> Runner:
        """Runs single lanes in the caller."""
        return self.pool.runner

    # Starting and waking ---------------------------------------------------------------------------------

    def serve(self, *, start: bool = True) -> None:
        """Note that a request has come, and ``start`` now where that was not expected of this process."""
        self._process.check()
        if not self.serving:
            self.serving = True
            if start and self.mode == "thread":
                self.ensure_started()

    def wake(self) -> None:
        """Something may be due: called after every commit that took something in from outside."""
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
            if self._is_started or self._is_over:
                return
            self._is_started = True
        pool.start(self._threads)

    def start_soon(self, may_start: Callable[[], bool]) -> None:
        """Start without waiting for a request, but let the host connect its handlers first.

        After a fork by a master, its children do so. ``may_start`` is asked when the time has come. While the app is
        tested nothing starts before there is something to do.
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
        """Take notice, in the parent, of a fork."""
        if self.serving or _forks_a_helper(sys._getframe()):
            return
        self._is_master = True
        if self._is_started and self._pool is not None:  # loading took so long that we had begun
            self._pool.retire()
            self._begin_life()

    def _begin_anew(self) -> None:
        """In the child: the parent's threads are gone, and so are its locks' owners; its connections are its own."""
        is_helper = self.serving or _forks_a_helper(sys._getframe())
        self._inherited = self._pool
        self._begin_life()
        self.serving = self._is_master = False
        self._is_eager = self._is_eager and not is_helper
        if self._is_eager and not self._is_over:
            self._set_timer()

    # Running in the caller -------------------------------------------------------------------------------

    def run_due(self) -> int:
        """Run in the caller until nothing is due; returns how many lanes were run. Does not nest."""
        self._process.check()
        if getattr(self._inline, "busy", False) or self.blocked() is not None:
            return 0
        self._inline.busy = True
        try:
            count = 0
            while self.pool.run_one():
                count += 1
            return count
        finally:
            self._inline.busy = False

    def tick(self) -> int:
        """:meth:`run_due` with a clock that keeps the leases alive meanwhile, for a process of its own.

        :raises LedgerUnavailable: when the database can't be used.
        """
        self.pool.free_the_dead()
        self.pool.start(0)
        try:
            count = self.run_due()
            with self._ledger.write() as tx:
                tx.signs.show(TICK, now=self._ledger.now_ms())
            return count
        finally:
            self.stop()

    def blocked(self) -> str | None:
        """Why nothing may be dispatched, or None."""
        return self.pool.blocked()

    # The end ---------------------------------------------------------------------------------------------

    def stop(self, timeout: float = GRACE_SECONDS) -> bool:
        """Claim nothing more, finish what is held for ``timeout`` seconds, give the rest back.

        Returns True when all was finished. Nothing is started from now on, neither in this process nor in its forks.
        """
        self._process.check()
        with self._lock:
            self._is_over = True
            pool = self._pool
        return pool is None or pool.stop(timeout)


def _call(method_of: weakref.WeakMethod[Callable[..., None]], *arguments: object) -> None:
    method = method_of()
    if method is not None:
        method(*arguments)


_known: weakref.WeakSet[Dispatcher] = weakref.WeakSet()
"""What is registered with the interpreter can't be taken back: so that is done once, and not by each app."""


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
    """True when ``multiprocessing`` forks: such a child is somebody's helper, not a server's process."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "multiprocessing.popen_fork":
            return True
        frame = frame.f_back
    return False

"""When and by whom lanes are run: the pool of threads, wake-ups, heartbeats, receivers that hang.

``thread`` runs a pool of daemon threads in each serving process, ``external`` leaves the work to
``flask hubspot-hitl worker`` or ``tick``, ``inline`` does it in the caller. All three use one ``runner``.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import sys
import threading
import time
import traceback
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .errors import LedgerUnavailable
from .ledger import Lease, Ledger
from .runner import Runner
from .tasks import Task

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
LANE_EVENTS = 20
LANE_SECONDS = 5.0


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
        self.serving = True
        """False in a process that serves no requests, such as a CLI command: its threads would end with it."""
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
        owner = f"{socket.gethostname()}:{os.getpid()}:{_started_at(os.getpid())}:{uuid.uuid4().hex[:8]}"
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
        self.runner = Runner(
            self._ledger,
            self._tasks,
            owner=owner,
            ttl_ms=self._ttl_ms,
            max_attempts=self._max_attempts,
            stopping=self._stopping,
            say_once=self._say_once,
        )

    # Starting, waking, stopping --------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be due: called after every commit of ours."""
        if self.mode == "inline":
            self.run_due()
        elif self.mode == "thread" and self.serving:
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
        lease = self.runner.claim()
        if lease is None:
            return False
        if self._idle:
            self._notify()  # there may be more for another thread
        self._run_lane(lease)
        return True

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
                outcome = self.runner.perform(lease)
                last = count == LANE_EVENTS or time.monotonic() > ends or self._stopping.is_set()
                self.runner.settle(lease, outcome, go_on=not last)
        finally:
            with self._lock:
                self._running.pop(lease.lane, None)

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

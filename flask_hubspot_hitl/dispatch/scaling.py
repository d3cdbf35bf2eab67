"""Hold the threads of a pool that run lanes: start more while they wait, and let them go when they are idle.

Receivers and calls wait far more than they compute. A thread whose task runs for longer than some milliseconds counts
as waiting, and another is started in its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator

from .bell import Bell
from .options import EngineOptions
from .running import Running

WAITS_SECONDS = 0.015
"""Seconds after which a thread that runs a task counts as waiting. Also between two looks for such."""
TURN_SECONDS = 0.002
"""The same for each thread there is, where that is longer: threads that compute take turns, and wait for theirs."""
BUSY_SHARE = 0.75
"""Share of one core that this process uses when it counts as busy: then its threads wait for each other, and more of
them would not help."""
IDLE_SECONDS = 15.0
"""Seconds for which threads that are too many are kept; they go within twice that time."""


class Threads:
    """Hold a pool's threads.

    :param options: how many there are at first, how many there may be, and whether they grow.
    :param body: what a thread runs, from its beginning to its end.
    :param say_once: logs a text at most once a minute.
    :param now: monotonic time, in seconds; for tests.
    :param spent: the time for which this process has computed, in seconds; for tests.
    """

    def __init__(
        self,
        options: EngineOptions,
        bell: Bell,
        body: Callable[[], None],
        say_once: Callable[[str, object], None],
        *,
        now: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.process_time,
    ) -> None:
        self._options = options
        self._bell = bell
        self._body = body
        self._say_once = say_once
        self._threads: list[threading.Thread] = []
        self._first = self._started = 0
        self._now, self._cpu = now, spent
        self._looked_at, self._spent = now(), spent()
        self._next_count = 0.0

    def __len__(self) -> int:
        return len(self._threads)

    def __iter__(self) -> Iterator[threading.Thread]:
        return iter(list(self._threads))

    @property
    def may_grow(self) -> bool:
        """Return True when a thread is started in the place of one that waits."""
        return self._options.grows and 0 < len(self._threads) < self._options.max_threads

    def start(self, count: int) -> None:
        """Start so many threads; as many are kept working while lanes are due.

        :raises RuntimeError: when the system gives no more threads.
        """
        self._first = count
        for _ in range(count):
            self._start()

    def _start(self) -> None:
        name = f"hubspot-hitl-{self._started}"
        thread = threading.Thread(target=self._body, name=name, daemon=True)
        self._started += 1
        self._threads.append(thread)
        try:
            thread.start()
        except BaseException:
            self.leave(thread)
            raise

    def leave(self, thread: threading.Thread) -> None:
        """Forget a thread that ends."""
        if thread in self._threads:
            self._threads.remove(thread)

    def grow(self, running: Collection[Running], count_due: Callable[[int], int]) -> None:
        """Start threads in the place of those that wait, when all are busy.

        As many are kept working as there were at first, and as many as wait: the more wait, the faster there are more.
        Where threads do not grow, and where this process is busy computing, only those count as waiting that hang; and
        not more than at first are kept working.

        :param running: what the threads do.
        :param count_due: returns how many lanes are due, at most the number it is given.
        """
        now = self._now()
        if now - self._looked_at < WAITS_SECONDS:
            return
        grows = not self._is_computing(now) and self._options.grows
        if self._bell.idle or not self._threads:
            return
        after = self._options.handler_timeout
        if grows:
            after = max(WAITS_SECONDS, TURN_SECONDS * len(self._threads))
        waiting = sum(now - one.since > after for one in running)
        wanted = max(self._first, waiting if grows else 0) - (len(self._threads) - waiting)
        wanted = min(wanted, self._options.max_threads - len(self._threads))
        if wanted <= 0:
            return
        try:
            for _ in range(max(1, count_due(wanted))):  # one is ready for what comes next
                self._start()
        except RuntimeError as error:
            self._say_once("No more threads can be started to run lanes (%s); it goes on with those there are", error)

    def _is_computing(self, now: float) -> bool:
        """Return True when this process was busy computing since the last look."""
        spent = self._cpu()
        share = (spent - self._spent) / (now - self._looked_at)
        self._looked_at, self._spent = now, spent
        return share > BUSY_SHARE

    def shrink(self, running: Collection[Running]) -> None:
        """Let threads go that had nothing to do for a while; those that were there at first stay, beside hung ones."""
        now = self._now()
        if now < self._next_count:
            return
        self._next_count = now + IDLE_SECONDS
        surplus = len(self._threads) - sum(one.hung for one in running) - self._first
        leaving = min(self._bell.least_idle(), surplus)
        if leaving > 0:
            self._bell.dismiss(leaving)

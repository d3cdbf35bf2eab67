"""Wake a pool's idle threads, and let some of them go. Imports nothing of ours."""

from __future__ import annotations

import threading


class Bell:
    """Wake idle threads. They hold the bell and not their pool, so that an app that nobody uses can be collected."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._condition = threading.Condition()
        self.wakes = self.idle = 0
        """How many rings were not heard yet, and how many threads wait."""
        self._least_idle = self._leaving = 0

    def ring(self) -> bool:
        """Wake one thread. While all are busy one ring is kept: whoever hears it rings again if there is more to do.

        :returns: False when all threads are busy, or about to be.
        """
        with self._condition:
            is_heard = self.wakes < self.idle
            self.wakes = min(self.wakes + 1, max(1, self.idle))
            self._leaving = 0
            if self.idle:
                self._condition.notify()
            return is_heard

    def wait(self) -> bool:
        """Wait for a ring, or for the end.

        :returns: False when this thread is to go.
        """
        with self._condition:
            self.idle += 1
            self._condition.wait_for(lambda: self.wakes or self._leaving or self.stopping.is_set())
            self.idle -= 1
            self._least_idle = min(self._least_idle, self.idle)
            if self.wakes:
                self.wakes -= 1
            elif self._leaving:
                self._leaving -= 1
                return False
            return True

    def least_idle(self) -> int:
        """Return how many threads have been idle at the least since this was called last."""
        with self._condition:
            least, self._least_idle = self._least_idle, self.idle
            return least

    def dismiss(self, threads: int) -> None:
        """Let so many idle threads go, unless somebody rings before."""
        with self._condition:
            self._leaving = threads
            self._condition.notify(threads)

    def end(self) -> None:
        """Have all threads end when they have finished the lanes they run."""
        with self._condition:
            self.stopping.set()
            self._condition.notify_all()

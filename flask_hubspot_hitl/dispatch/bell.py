"""Wake a pool's idle threads. Imports nothing of ours."""

from __future__ import annotations

import threading


class Bell:
    """Wake idle threads. They hold the bell and not their pool, so that an app that nobody uses can be collected."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._condition = threading.Condition()
        self.wakes = self.idle = 0
        """How many rings were not heard yet, and how many threads wait."""

    def ring(self, threads: int) -> bool:
        """Wake one thread.

        :param threads: how many threads there are.
        :returns: False when all of them are busy.
        """
        with self._condition:
            self.wakes = min(self.wakes + 1, threads)
            self._condition.notify()
            return self.wakes <= self.idle

    def wait(self) -> None:
        """Wait for a ring, or for the end."""
        with self._condition:
            self.idle += 1
            self._condition.wait_for(lambda: self.wakes or self.stopping.is_set())
            self.idle -= 1
            self.wakes = max(0, self.wakes - 1)

    def end(self) -> None:
        """Have all threads end when they have finished the lanes they run."""
        with self._condition:
            self.stopping.set()
            self._condition.notify_all()

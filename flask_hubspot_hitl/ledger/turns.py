"""Let a limited number of threads run at a time, first come, first served. Knows nothing of what they do.

:class:`OneAtATime` and :class:`Unlimited` are the plain ways: without an order, and without a limit.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..errors import LedgerUnavailable
from .patience import remaining


class Gate(Protocol):
    """Let threads in that want to write."""

    def take(self) -> None:
        """Wait until this thread may write, as long as there is :func:`.patience.patience`.

        :raises LedgerUnavailable: when other threads have been writing all the time.
        """

    def give_back(self) -> None:
        """Let the next thread write."""

    def reset(self) -> None:
        """Forget all threads, in a forked child, which has none of the parent's."""


class Turns:
    """Give ``limit`` turns to threads, in the order in which they ask."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """Free all turns: in a forked child, which has none of the parent's other threads."""
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self.free = self._limit
        """The number of turns that no thread has."""

    @property
    def waiting(self) -> int:
        """Return the number of threads that wait for a turn."""
        return len(self._waiting)

    def take(self, *, abandon: Callable[[], None] | None = None) -> None:
        """Wait for a turn, as long as there is :func:`.patience.patience`.

        :param abandon: called with a turn that arrived while its thread was interrupted (gevent kills waiting
            greenlets); by default the turn is returned.
        :raises LedgerUnavailable: when other threads have been writing all the time.
        """
        with self._mutex:
            if self.free:
                self.free -= 1
                return
            turn = held_lock()
            self._waiting.append(turn)
        try:
            is_ours = turn.acquire(timeout=_seconds())
        except BaseException:
            if not self._withdraw(turn):
                (abandon or self.give_back)()
            raise
        if not is_ours and self._withdraw(turn):
            raise LedgerUnavailable(_BUSY)

    def _withdraw(self, turn: threading.Lock) -> bool:
        """Stop waiting. Return False when the turn has come in this very moment."""
        with self._mutex:
            if turn not in self._waiting:
                return False
            self._waiting.remove(turn)
            return True

    def hand_over(self) -> bool:
        """Pass the turn to the thread that has waited longest.

        :returns: False when none waits; the caller keeps the turn.
        """
        with self._mutex:
            if not self._waiting:
                return False
            self._waiting.popleft().release()
            return True

    def give_back(self) -> None:
        """Return a turn, and wake the next thread."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self.free += 1


class OneAtATime:
    """Let one thread run at a time, whichever is the quickest: a lock."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Make a new lock: in a forked child the parent's may be held for ever."""
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait for the lock; see :class:`Gate`."""
        if not self._lock.acquire(timeout=_seconds()):
            raise LedgerUnavailable(_BUSY)

    def give_back(self) -> None:
        """Release the lock."""
        self._lock.release()


class Unlimited:
    """Let every thread run: the connections alone set a limit."""

    def reset(self) -> None:
        """Do nothing: there is no state."""

    def take(self) -> None:
        """Do nothing: no thread has to wait."""

    def give_back(self) -> None:
        """Do nothing: no thread waits."""


_BUSY = "the database is busy: other threads have been writing all the time"


def _seconds() -> float:
    return min(remaining(), threading.TIMEOUT_MAX)


def held_lock() -> threading.Lock:
    """Return a locked lock that another thread releases; made when needed, because gevent may replace locks after a
    fork."""
    lock = threading.Lock()
    lock.acquire()
    return lock

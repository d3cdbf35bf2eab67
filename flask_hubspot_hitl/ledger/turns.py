"""So many threads at a time, first come, first served. Knows nothing of what they do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ..errors import LedgerUnavailable
from .patience import remaining


class Turns:
    """``limit`` turns, which threads take and give back."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """All turns are free: as after a fork, in the child, which has none of the parent's other threads."""
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._free = self._limit

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return len(self._waiting)

    @property
    def free(self) -> int:
        """How many turns nobody has."""
        return self._free

    def take(self, *, abandon: Callable[[], None] | None = None) -> None:
        """Wait for a turn, as long as there is :func:`.patience.patience`.

        ``abandon`` is what becomes of a turn that came when its thread was torn out of waiting for it (gevent does
        so); by default it is given back.

        :raises LedgerUnavailable: when others have been at it all the time.
        """
        with self._mutex:
            if self._free:
                self._free -= 1
                return
            turn = held_lock()
            self._waiting.append(turn)
        try:
            is_ours = turn.acquire(timeout=min(remaining(), threading.TIMEOUT_MAX))
        except BaseException:
            if not self._withdraw(turn):
                (abandon or self.give_back)()
            raise
        if not is_ours and self._withdraw(turn):
            raise LedgerUnavailable("the database is busy: other threads have been writing all the time")

    def _withdraw(self, turn: threading.Lock) -> bool:
        """Wait no longer; False when the turn has come in this very moment."""
        with self._mutex:
            if turn not in self._waiting:
                return False
            self._waiting.remove(turn)
            return True

    def hand_over(self) -> bool:
        """Give a turn to who has waited the longest; False when nobody waits, and it is still ours."""
        with self._mutex:
            if not self._waiting:
                return False
            self._waiting.popleft().release()
            return True

    def give_back(self) -> None:
        """A turn is over: it is the next one's."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


def held_lock() -> threading.Lock:
    """A lock that somebody else will open. Made when it is needed: gevent may replace locks after a fork."""
    lock = threading.Lock()
    lock.acquire()
    return lock

"""Choose which lane a process claims next: the most urgent, portals in turn, and none that waits for ever.

Knows the queue; no threads, no tasks.
"""

from __future__ import annotations

import bisect
import threading
from collections import deque

from ..ledger import Lease, Transaction
from ..ledger.lanes import EVERY_WORK, Work

FAVOUR_EVERY = 20
"""Claims after which one begins with a class that is not live, each of these in its turn."""
LOOK_MS = 250
"""Milliseconds of a backlog after which it is looked whose it is, and then again."""


class Order:
    """Claim lanes in order.

    By class: user's and agent's messages first, looking back last; but every twentieth claim begins with one of the
    other classes, so that each gets a sixtieth of the claims however much there is to do before it. Within a class
    the lane comes first that has been due the longest. While there is a backlog, in which several portals have lanes
    of the most urgent class, these take turns.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims = 0
        self._looked_at: int | None = None
        self._since: dict[Work, str] = {}
        self._portals: deque[str] = deque()
        self._last = ""

    def claim(
        self, tx: Transaction, *, owner: str, now: int, ttl_ms: int, least: Work = Work.LOOKING_BACK
    ) -> Lease | None:
        """Lease the lane that is next, with its first event begun, or return None when nothing is due.

        :param now: epoch ms.
        :param ttl_ms: how long the lease holds, in milliseconds.
        :param least: the least urgent class that is looked at.
        """
        with self._lock:
            self._claims += 1
            works = _in_order(self._claims, least)
            looks = self._looked_at is not None and not 0 <= now - self._looked_at < LOOK_MS
            if looks or self._looked_at is None:
                self._looked_at = now
        if looks:
            self._look(tx, least, now)
        lease = tx.queue.take(owner=owner, now=now, ttl_ms=ttl_ms, works=works, portal=self._next_portal())
        if lease is None:
            with self._lock:
                self._looked_at = None  # there is no backlog
                self._portals.clear()
        return lease

    def _look(self, tx: Transaction, least: Work, now: int) -> None:
        """Find out which portals have due lanes of the most urgent class that has any."""
        found: list[str] = []
        for work in _in_order(0, least):
            found, self._since[work] = tx.queue.due_portals(work, now=now, since=self._since.get(work, ""))
            if found:
                break
        found.sort()
        with self._lock:
            next_one = bisect.bisect_right(found, self._last)
            self._portals = deque([*found[next_one:], *found[:next_one]] if len(found) > 1 else [])

    def _next_portal(self) -> str | None:
        with self._lock:
            if not self._portals:
                return None
            self._last = self._portals[0]
            self._portals.rotate(-1)
            return self._last


def _in_order(claims: int, least: Work) -> tuple[Work, ...]:
    """Return the classes in the order in which a claim looks for a lane: the ``claims``-th one."""
    works = EVERY_WORK[: EVERY_WORK.index(least) + 1]
    if claims and claims % FAVOUR_EVERY == 0:
        favoured = works[1 + claims // FAVOUR_EVERY % (len(works) - 1)]
        return favoured, *(work for work in works if work is not favoured)
    return works

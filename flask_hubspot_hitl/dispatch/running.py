"""Hold what the threads of a pool are running, and say of which classes they may claim more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..ledger import Lease, Ledger
from ..ledger.lanes import EVERY_WORK, Work, work_of
from .options import EngineOptions

_MORE_URGENT = tuple(work for work in EVERY_WORK if work is not Work.LOOKING_BACK)
LOOKING_BACK_SHARE = 4
"""One of so many threads may look back: what is more urgent never waits for all of them."""


@dataclass(slots=True, eq=False)
class Running:
    """Describe a lane that one thread of a pool is running."""

    lease: Lease
    thread: threading.Thread
    since: float
    """Monotonic seconds at which its task began; infinite while its outcome is stored."""
    looks_back: bool
    """True for a lane of the least urgent class."""
    hung: bool = False
    is_last: bool = False
    """True when no other lane was due as this one was released."""


class Held:
    """Hold the lanes that a pool's threads are running."""

    def __init__(self, options: EngineOptions) -> None:
        most = options.max_threads if options.grows else options.threads
        self._most_looking_back = max(1, most // LOOKING_BACK_SHARE)
        self._lock = threading.Lock()
        self._running: set[Running] = set()
        self._asking = 0

    def __iter__(self) -> Iterator[Running]:
        with self._lock:
            return iter(list(self._running))

    def __contains__(self, running: Running) -> bool:
        return running in self._running

    def works(self) -> tuple[Work, ...]:
        """Return the classes of which a lane may be claimed now."""
        with self._lock:
            return self._works()

    def _works(self) -> tuple[Work, ...]:
        looking_back = self._asking + sum(one.looks_back for one in self._running)
        return EVERY_WORK if looking_back < self._most_looking_back else _MORE_URGENT

    def claim(self, claim: Callable[[Work], Lease | None]) -> Running | None:
        """Claim a lane for the calling thread.

        Who asks for any lane counts as looking back until it is known what was found.

        :param claim: claims a lane, of this class or a more urgent one.
        :returns: None when nothing is due.
        """
        with self._lock:
            least = self._works()[-1]
            asks = least is Work.LOOKING_BACK
            self._asking += asks
        running: Running | None = None
        try:
            lease = claim(least)
            if lease is not None:
                looks_back = work_of(lease.lane) is Work.LOOKING_BACK
                running = Running(lease, threading.current_thread(), time.monotonic(), looks_back)
            return running
        finally:
            with self._lock:
                self._asking -= asks
                if running is not None:
                    self._running.add(running)

    def renew(self, ledger: Ledger, ttl_ms: int) -> None:
        """Renew the leases of all."""
        leases = [running.lease for running in self]
        if leases:
            with ledger.write() as tx:
                tx.queue.heartbeat(leases, now=ledger.now_ms(), ttl_ms=ttl_ms)

    def give_back(self, running: Running) -> None:
        """Forget a lane that was given back."""
        with self._lock:
            self._running.remove(running)

"""Set lanes going again that a killed process held, or that a wrong clock put off."""

from __future__ import annotations

import logging

from ..ledger import Ledger
from .owners import is_dead

logger = logging.getLogger(__name__)

LONGEST_WAIT_MS = 2 * 3_600_000
"""Milliseconds that a lane may wait for its time without being looked at: no back-off is that long, but HubSpot may ask
for more."""


def free_the_dead(ledger: Ledger) -> None:
    """Free the lanes of killed processes at once.

    SQLite only: there all processes are on this machine, so a dead one can be told.

    :raises LedgerUnavailable: when the database can't be used.
    """
    if not ledger.is_sqlite:
        return
    with ledger.read() as tx:
        dead = [owner for owner in tx.queue.owners() if is_dead(owner)]
    if dead:
        with ledger.write() as tx:
            for owner in dead:
                tx.queue.release_owner(owner, now=ledger.now_ms())


def pull_back(ledger: Ledger, ttl_ms: int) -> None:
    """Have lanes looked at that wait for a time far ahead, as they do after a clock was set back.

    :param ttl_ms: how long a lease holds, in milliseconds.
    :raises LedgerUnavailable: when the database can't be used.
    """
    with ledger.write() as tx:
        longest_ms = max(LONGEST_WAIT_MS, 2 * ttl_ms)
        count = tx.queue.pull_back(now=ledger.now_ms(), longest_ms=longest_ms, ttl_ms=ttl_ms)
    if count:
        logger.warning(
            "%d lane(s) waited for a time that is far ahead, as after a clock was set back; they go on now. Check this "
            "machine's clock",
            count,
        )

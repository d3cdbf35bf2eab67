"""Delete what is no longer needed in small transactions: payloads, dedupe keys, idle lanes, what has expired, and
conversations that are older than ``KEEP_CONVERSATIONS``.

A large DELETE would hold SQLite's only write lock; each transaction here takes milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..config import Settings
from ..ledger import Event, Lease, Ledger, NewEvent, State, Topic, Transaction, lanes
from ..ledger.states import stored
from .tasks import Outcome, Retry, Task

EVERY_MS = 600_000
"""Milliseconds between two runs."""
CHUNK = 500
"""Rows that one transaction deletes at most."""
BITE = 25
"""Rows of conversations that one transaction deletes at most: they are long."""
PAUSE = 0.05
"""Seconds between two such transactions, for those who wait to write."""
DAY_MS = 86_400_000
NOTICE_MS = 7 * DAY_MS
"""Milliseconds that a store waits with the first conversation after an upgrade; ``doctor`` tells what would go."""
_PRUNES_FROM = "prunes_conversations_from"
DELIVERIES = "once:"
"""Prefix of the names under which bridges store how far a delivery is."""
MAX_CHUNKS = 200
"""Transactions in one run, so that a backlog of 100,000 events does not keep a thread for minutes."""


def schedule(tx: Transaction, *, now: int) -> None:
    """Schedule the housekeeping, once however often it is called."""
    first = NewEvent(dedupe_key=Topic.PRUNE, lane=lanes.prune(), topic=Topic.PRUNE, sort_at=0, due_at=now + EVERY_MS)
    tx.queue.put([first], now=now)


def tidy(ledger: Ledger, settings: Settings) -> dict[str, int]:
    """Delete now, in small transactions.

    :returns: how many of each kind were deleted; of conversations the rows.
    """
    now = ledger.now_ms()
    done_before, forget_before = now - int(settings.retention * 1000), now - int(settings.payload_ttl * 1000)
    bites: dict[str, Callable[[Transaction], int]] = {
        "payloads": lambda tx: tx.forget_payloads(before=forget_before, limit=CHUNK),
        "events": lambda tx: tx.prune(before=done_before, limit=CHUNK),
        "lanes": lambda tx: tx.prune_lanes(limit=CHUNK),
        "keys": lambda tx: tx.once.prune(now=now, limit=CHUNK),
        "deliveries": lambda tx: tx.bridges.prune(DELIVERIES, before=done_before, limit=CHUNK),
    }
    sizes = dict.fromkeys(bites, CHUNK)
    before = _kept_since(ledger, settings, now)
    if before is not None:
        bites["conversations"] = lambda tx: tx.people.prune_conversations(before=before, limit=BITE)
        bites["given up"] = lambda tx: tx.people.prune_dead(before=before, limit=BITE)
        sizes |= {"conversations": BITE, "given up": BITE}
    gone = dict.fromkeys((*bites, "conversations", "given up"), 0)
    for what, bite in bites.items():
        for _ in range(MAX_CHUNKS):
            with ledger.write() as tx:
                count = bite(tx)
            gone[what] += count
            if count < sizes[what]:
                break
            if sizes[what] == BITE:
                time.sleep(PAUSE)
    return gone


# How long conversations are kept -----------------------------------------------------------------------------


def remember(tx: Transaction, *, now: int) -> None:
    """Let a store that was in use before conversations were deleted for their age wait a week with the first one."""
    if tx.get_meta(_PRUNES_FROM) is None:
        is_used = tx.is_used()
        tx.set_meta(_PRUNES_FROM, str(now + NOTICE_MS if is_used else 0))
        if not is_used:
            tx.set_overwritten()


def prunes_from(tx: Transaction) -> int:
    """Return the epoch ms before which no conversation is deleted for its age."""
    return int(tx.get_meta(_PRUNES_FROM) or 0)


def too_old(settings: Settings, now: int) -> int | None:
    """Return the epoch ms before which a handoff must have ended to be deleted; None: they are kept for ever.

    One that can still be reopened stays, whatever the setting says.
    """
    if not settings.keep_conversations:
        return None
    return now - max(settings.keep_conversations * DAY_MS, int(settings.reopen_window * 1000))


def _kept_since(ledger: Ledger, settings: Settings, now: int) -> int | None:
    with ledger.read() as tx:
        return too_old(settings, now) if prunes_from(tx) <= now else None


@dataclass(slots=True, kw_only=True, eq=False)
class PruneState(State):
    """Hold when the housekeeping runs next."""

    next_at: int | None = field(default=None, metadata=stored("next"))
    """Epoch ms."""


class PruneTask(Task):
    """Run the housekeeping as a timer, again and again."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Tidy up when it is time; see :func:`tidy`."""
        now, state = self._ledger.now_ms(), event.state(PruneState)
        at_ms = event.received_at + EVERY_MS if state.next_at is None else state.next_at
        if now < at_ms:
            return Retry("not yet", at_ms=at_ms)
        tidy(self._ledger, self._settings)
        state.next_at = now + EVERY_MS
        return Retry("until the next time", at_ms=state.next_at)

"""Delete what is no longer needed in small transactions: payloads, dedupe keys, idle lanes, what has expired, and
conversations, and what bridges remember of users, that are older than ``KEEP_CONVERSATIONS``.

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
SOON_MS = 1_000
"""Milliseconds until the next run when one left something."""
CHUNK = 500
"""Rows that one transaction deletes at most."""
BITE = 25
"""Rows of conversations, and of bridges, that one transaction deletes at most: they are long."""
REST = 100
"""Rests after such a transaction, in what it took: then fewer than one in a hundred who write meets one. On two slow
cores it takes SQLite 4 ms, while a webhook takes 2."""
LONGEST_REST = 1.0
"""Seconds that such a rest lasts at most, however busy the machine is."""
LONG = ("conversations", "given up", "audit", "bridges")
"""What is deleted so."""
MAX_BITES = 25
"""Such transactions in one run, so that no thread is kept for minutes."""
DAY_MS = 86_400_000
NOTICE_MS = 7 * DAY_MS
"""Milliseconds that a store waits with the first conversation after an upgrade; ``doctor`` tells what would go."""
CONVERSATIONS, BRIDGES = "prunes_conversations_from", "prunes_bridges_from"
"""Names of the times from which on conversations, and what bridges remember of users, are deleted for their age."""
DELIVERIES = "once:"
"""Prefix of the names under which bridges store how far a delivery is."""
MAX_CHUNKS = 200
"""Other transactions in one run, so that a backlog of 100,000 events does not keep a thread for minutes."""


def schedule(tx: Transaction, *, now: int) -> None:
    """Schedule the housekeeping, once however often it is called."""
    first = NewEvent(dedupe_key=Topic.PRUNE, lane=lanes.prune(), topic=Topic.PRUNE, sort_at=0, due_at=now + EVERY_MS)
    tx.queue.put([first], now=now)


def tidy(ledger: Ledger, settings: Settings) -> tuple[dict[str, int], bool]:
    """Delete now, in small transactions.

    :returns: how many of each kind were deleted, of conversations the rows; whether that was all.
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
    before = too_old(settings, now)
    with ledger.read() as tx:
        is_time = {name: before is not None and prunes_from(tx, name) <= now for name in (CONVERSATIONS, BRIDGES)}
    if before is not None and is_time[CONVERSATIONS]:
        bites["conversations"] = lambda tx: tx.people.prune_conversations(before=before, limit=BITE)
        bites["audit"] = lambda tx: tx.audit.prune(before=before, limit=BITE)
        bites["given up"] = lambda tx: tx.people.prune_dead(before=before, limit=BITE)
    if before is not None and is_time[BRIDGES]:
        bites["bridges"] = lambda tx: tx.bridges.prune_unused(before=before, but=DELIVERIES, now=now, limit=BITE)
    gone, is_all = dict.fromkeys((*bites, *LONG), 0), True
    for what, bite in bites.items():
        size, times = (BITE, MAX_BITES) if what in LONG else (CHUNK, MAX_CHUNKS)
        for _ in range(times):
            began = time.monotonic()
            with ledger.write() as tx:
                count = bite(tx)
            gone[what] += count
            if count < size:
                break
            if what in LONG:
                ledger.sleep(min((time.monotonic() - began) * REST, LONGEST_REST))
        else:
            is_all = False
    return gone, is_all


# How long conversations are kept -----------------------------------------------------------------------------


def remember(tx: Transaction, *, now: int) -> None:
    """Let a store that was in use before something was deleted for its age wait a week with the first one."""
    for name in (CONVERSATIONS, BRIDGES):
        if tx.get_meta(name) is None:
            is_used = tx.is_used()
            tx.set_meta(name, str(now + NOTICE_MS if is_used else 0))
            if not is_used:
                tx.set_overwritten()


def prunes_from(tx: Transaction, name: str = CONVERSATIONS) -> int:
    """Return the epoch ms before which nothing is deleted for its age: no conversation, or ``name``."""
    return int(tx.get_meta(name) or 0)


def too_old(settings: Settings, now: int) -> int | None:
    """Return the epoch ms before which a handoff must have ended to be deleted; None: they are kept for ever.

    One that can still be reopened stays, whatever the setting says.
    """
    if not settings.keep_conversations:
        return None
    return now - max(settings.keep_conversations * DAY_MS, int(settings.reopen_window * 1000))


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
            return Retry("not yet", at_ms=at_ms, is_planned=True)
        _, is_all = tidy(self._ledger, self._settings)
        state.next_at = self._ledger.now_ms() + (EVERY_MS if is_all else SOON_MS)
        return Retry("until the next time", at_ms=state.next_at, is_planned=True)

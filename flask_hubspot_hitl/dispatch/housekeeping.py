"""Delete what is no longer needed in small transactions: payloads, dedupe keys, idle lanes, what has expired.

A large DELETE would hold SQLite's only write lock; each transaction here takes milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import Settings
from ..ledger import Event, Lease, Ledger, NewEvent, State, Topic, Transaction, lanes
from ..ledger.states import stored
from .tasks import Outcome, Retry, Task

EVERY_MS = 600_000
"""Milliseconds between two runs."""
CHUNK = 500
"""Rows that one transaction deletes at most."""
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

    :returns: how many of each kind were deleted.
    """
    now = ledger.now_ms()
    gone = {"payloads": 0, "events": 0, "lanes": 0, "keys": 0, "deliveries": 0}
    for what in gone:
        for _ in range(MAX_CHUNKS):
            with ledger.write() as tx:
                if what == "payloads":
                    count = tx.forget_payloads(before=now - int(settings.payload_ttl * 1000), limit=CHUNK)
                elif what == "events":
                    count = tx.prune(before=now - int(settings.retention * 1000), limit=CHUNK)
                elif what == "lanes":
                    count = tx.prune_lanes(limit=CHUNK)
                elif what == "keys":
                    count = tx.once.prune(now=now, limit=CHUNK)
                else:
                    count = tx.bridges.prune(DELIVERIES, before=now - int(settings.retention * 1000), limit=CHUNK)
            gone[what] += count
            if count < CHUNK:
                break
    return gone


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

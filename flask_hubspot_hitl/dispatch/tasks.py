"""What the dispatcher and the things it runs say to each other.

May import ``ledger`` and ``errors`` of ours. A task is run outside any transaction; what it wants to change goes
back as an *effect*, which the dispatcher carries out in the transaction that also settles the event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import HITLError, HubSpotUnavailable
from ..ledger import Event, Lease, NewEvent, Transaction

Effect = Callable[[Transaction], None]

OUTAGE_BASE_MS = 500
OUTAGE_CAP_MS = 300_000
FAILURE_BASE_MS = 1_000
FAILURE_CAP_MS = 600_000


def nothing(_tx: Transaction) -> None:
    """The effect of changing nothing."""


def putting(events: Sequence[NewEvent], now: int) -> Effect:
    """The effect of putting events into their lanes."""

    def put(tx: Transaction) -> None:
        tx.queue.put(events, now=now)

    return put


@dataclass(frozen=True, slots=True)
class Done:
    """The event is settled."""

    effect: Effect = nothing


@dataclass(frozen=True, slots=True)
class Again:
    """Something was learned or put in front: save the progress and read the lane's head anew."""

    effect: Effect = nothing


@dataclass(frozen=True, slots=True)
class Retry:
    """Run the event again later. ``counts``: this was an attempt, of which there are ``MAX_ATTEMPTS``.

    ``at_ms`` is the epoch ms of the next run; None: after a back-off that grows with the failures in a row.
    """

    error: str
    counts: bool = False
    at_ms: int | None = None
    effect: Effect = nothing
    cause: HITLError | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """The event is given up; the lane goes on. ``cause`` is what ``start`` raises when it was waiting."""

    error: str
    effect: Effect = nothing
    cause: HITLError | None = None


Outcome = Done | Again | Retry | Dead


class Task(Protocol):
    """One kind of work, by the event's topic."""

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Called in the transaction that takes the event; may decide all that needs no call to HubSpot."""
        ...

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Do it. Raises nothing but bugs and LedgerUnavailable."""
        ...

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """The event died: see to it that nobody is left waiting in silence."""
        ...


def outage(error: HubSpotUnavailable, now: int) -> Retry:
    """HubSpot can't be used just now: wait as it wishes, or back off; no attempt is used up."""
    at_ms = None if error.retry_after is None else now + max(500, int(error.retry_after * 1000))
    return Retry(str(error), at_ms=at_ms, cause=error)


def backoff_ms(failures: int, *, counts: bool, jitter: float) -> int:
    """How long to wait after ``failures`` in a row; ``jitter`` is in 0..1."""
    base, cap = (FAILURE_BASE_MS, FAILURE_CAP_MS) if counts else (OUTAGE_BASE_MS, OUTAGE_CAP_MS)
    return int(min(cap, base * 2 ** min(failures, 20)) * (0.5 + jitter / 2))

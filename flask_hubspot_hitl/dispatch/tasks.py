"""Define what a task is and which outcomes it may have.

May import ``ledger`` and ``errors`` of ours. A task is run outside any transaction; what it wants to change goes
back as an *effect*, which the dispatcher carries out in the transaction that also settles the event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import HITLError, HubSpotRejected, HubSpotUnavailable, NotConfigured
from ..ledger import Event, Lease, Ledger, NewEvent, Transaction
from ..metrics import correlation

Effect = Callable[[Transaction], None]

OUTAGE_BASE_MS = 500
OUTAGE_CAP_MS = 300_000
FAILURE_BASE_MS = 1_000
FAILURE_CAP_MS = 600_000


def nothing(_tx: Transaction) -> None:
    """Change nothing."""


def putting(events: Sequence[NewEvent], now: int) -> Effect:
    """Return the effect of putting events into their lanes, at ``now`` (epoch ms)."""

    def put(tx: Transaction) -> None:
        tx.queue.put(events, now=now)

    return put


@dataclass(frozen=True, slots=True)
class Done:
    """Settle the event."""

    effect: Effect = nothing


@dataclass(frozen=True, slots=True)
class Again:
    """Save the event's state and read the lane's head again, because something was fetched or queued ahead of it."""

    effect: Effect = nothing


@dataclass(frozen=True, slots=True)
class Retry:
    """Run the event again later.

    :param counts: this was an attempt, of which there are ``MAX_ATTEMPTS``.
    :param at_ms: epoch ms of the next run; None: after a back-off that grows with the failures in a row.
    :param is_planned: nothing is amiss, it is only not its time yet: no log line tells of it.
    :param attempt: which attempt in a row this was, for the log, where the event's own count does not tell.
    """

    error: str
    counts: bool = False
    at_ms: int | None = None
    effect: Effect = nothing
    cause: HITLError | None = None
    is_planned: bool = False
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """Give the event up; its lane goes on.

    :param cause: what ``start`` raises when it waits for the event.
    """

    error: str
    effect: Effect = nothing
    cause: HITLError | None = None


Outcome = Done | Again | Retry | Dead


class Task:
    """Run one kind of work, chosen by the event's topic."""

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Decide what needs no call to HubSpot, in the transaction that takes the event; by default nothing."""

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Do the work, outside any transaction; raise nothing but bugs and LedgerUnavailable."""
        raise NotImplementedError

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Handle an event that was given up: tell whoever waits for it; by default nobody does."""

    def limits_starts(self, event: Event) -> bool:
        """Return True when the task itself gives up what ends the process again and again."""
        return False


class CallingTask(Task):
    """Run work that calls HubSpot, and turn HubSpot's errors into outcomes."""

    refusals: tuple[type[Exception], ...] = (HubSpotRejected,)
    """What :meth:`refused` is asked about."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Do the work; see :meth:`call`."""
        now = self._ledger.now_ms()
        try:
            return self.call(event, lease, now)
        except HubSpotUnavailable as error:
            correlation.hear(error.correlation_id)  # a refresh of the token may have been another event's
            return self.unavailable(event, error, now)
        except NotConfigured as error:
            return self.not_configured(event, error)
        except self.refusals as error:
            return self.refused(event, error)

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Do the work; HubSpot's errors may leave it."""
        raise NotImplementedError

    def unavailable(self, event: Event, error: HubSpotUnavailable, now: int) -> Outcome:
        """HubSpot can't be used just now: by default wait, however long it takes."""
        return outage(error, now)

    def not_configured(self, event: Event, error: NotConfigured) -> Outcome:
        """There is no token that could be used: by default wait until somebody has seen to that."""
        return Retry(str(error), cause=error)

    def refused(self, event: Event, error: Exception) -> Outcome:
        """HubSpot says no: by default ask a few times more."""
        return Retry(str(error), counts=True, cause=error if isinstance(error, HITLError) else None)


def outage(error: HubSpotUnavailable, now: int) -> Retry:
    """Return a retry that counts no attempt: after HubSpot's Retry-After, else after a back-off."""
    at_ms = None if error.retry_after is None else now + max(500, int(error.retry_after * 1000))
    return Retry(str(error), at_ms=at_ms, cause=error)


def backoff_ms(failures: int, *, counts: bool, jitter: float) -> int:
    """Return the milliseconds to wait after ``failures`` in a row; ``jitter`` is in 0..1."""
    base, cap = (FAILURE_BASE_MS, FAILURE_CAP_MS) if counts else (OUTAGE_BASE_MS, OUTAGE_CAP_MS)
    return int(min(cap, base * 2 ** min(failures, 20)) * (0.5 + jitter / 2))

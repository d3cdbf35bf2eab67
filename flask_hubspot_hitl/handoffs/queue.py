"""Tell users who wait how many are before them, and for how long about: as far as our own ledger knows.

A timer looks at all who wait, and has what has changed told in the lane of each (docs/rules.rst J7). It runs only where
somebody listens.
"""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise

from ..dispatch.tasks import Done, Outcome, Retry, Task
from ..domain import HandoffState, Waiting
from ..ledger import Event, HandoffRecord, Lease, Ledger, NewEvent, Topic, Transaction, lanes
from ..ledger.inboxes import Place
from ..ledger.plans import signal_event
from .steps import step

EVERY_MS = 5_000
"""Milliseconds between two looks: a handoff's place is told at most once in so many."""
AT_ONCE = 200
"""Handoffs that are told their place in one look, at most; the others are in the next one."""
TAKES = 21
"""The newest handoffs of an inbox whose waits the estimate goes by."""
FEWEST = 6
"""Of them, at least, for there to be an estimate."""
OUTLIER = 4
"""A wait at the head of the queue of more than so many times the median counts as so long: a night, for one."""
STATES = (HandoffState.STARTING, HandoffState.WAITING)
SIGNAL = "queue_changed"


def waiting_of(tx: Transaction, record: HandoffRecord | None) -> Waiting | None:
    """Return the place of a handoff; None when it does not wait."""
    if record is None or record.handoff.state not in STATES:
        return None
    handoff = record.handoff
    ahead = tx.inboxes.ahead(handoff.id, handoff.portal_id, handoff.inbox_id)
    return Waiting(ahead, estimate(tx.inboxes.takes(handoff.portal_id, handoff.inbox_id, limit=TAKES), ahead))


def estimate(takes: Sequence[tuple[int, int]], ahead: int) -> float | None:
    """Return the seconds until somebody is taken who has so many before him, as the last ones went.

    What is reckoned with is how long each was the head of the queue: since the one before was taken, or since he came.

    :param takes: when those who were taken last came and were taken, in epoch ms, in any order.
    :returns: None when too few are known.
    """
    if len(takes) < FEWEST:
        return None
    in_order = sorted((taken, came) for came, taken in takes)
    heads = [max(0, taken - max(before, came)) for (before, _), (taken, came) in pairwise(in_order)]
    longest = OUTLIER * statistics.median(heads)
    return (ahead + 1) * statistics.fmean(min(one, longest) for one in heads) / 1000


def schedule(tx: Transaction, *, now: int) -> None:
    """Have the places looked at from now on, by one process at a time; once however often it is called."""
    lane = lanes.timer(Topic.QUEUE)
    if not tx.queue.has_pending(lane):
        key = f"{lane}:{secrets.token_hex(8)}"
        tx.queue.put([NewEvent(dedupe_key=key, lane=lane, topic=Topic.QUEUE, sort_at=now)], now=now)


class QueueTask(Task):
    """Look at all who wait, again and again.

    :param is_heard: tells whether this process has a receiver of the signal.
    """

    def __init__(self, ledger: Ledger, is_heard: Callable[[], bool]) -> None:
        self._ledger = ledger
        self._is_heard = is_heard

    def limits_starts(self, event: Event) -> bool:
        """Go on however often the process was killed: a look that is repeated does no harm."""
        return True

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Have the places that have changed told; the outcome's effect reads and writes them together."""
        if not self._is_heard():
            return Done()
        now = self._ledger.now_ms()
        return Retry("until the next look", at_ms=now + EVERY_MS, effect=lambda tx: tell(tx, now=now), is_planned=True)


def tell(tx: Transaction, *, now: int) -> None:
    """Queue a signal for each handoff whose place is another one than it was told."""
    changed = [one for one in tx.inboxes.places() if one.ahead != one.told][:AT_ONCE]
    takes: dict[tuple[str, str | None], list[tuple[int, int]]] = {}
    news, told = list[NewEvent](), list[Place]()
    for one in changed:
        record = tx.records.get(one.handoff_id)
        if record is None:
            continue
        inbox = one.portal_id, one.inbox_id
        if inbox not in takes:
            takes[inbox] = tx.inboxes.takes(*inbox, limit=TAKES)
        facts = {"ahead": one.ahead, "estimate": estimate(takes[inbox], one.ahead)}
        plan = [step(SIGNAL, record.handoff, facts={"waiting": facts})]
        key, lane = f"signal:{secrets.token_hex(16)}", lanes.signals(record.handoff)
        news.append(signal_event(plan, key=key, lane=lane, sort_at=now, handoff=record.handoff))
        told.append(one)
    tx.queue.put(news, now=now)  # lanes are locked before rows of handoffs
    for one in told:
        tx.inboxes.told(one.handoff_id, one.ahead)

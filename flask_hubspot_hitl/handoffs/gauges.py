"""Read what the database and this process's threads have to do right now (:mod:`.metrics`)."""

from __future__ import annotations

from collections.abc import Iterator

from ..dispatch.dispatcher import Dispatcher
from ..domain import HandoffState
from ..ledger import EventState
from ..ledger.lanes import Work
from ..metrics import BUDGET, DEAD, HANDOFFS, OLDEST, THREADS, WAITING, Reading
from ..portals import budget
from ..portals.clients import Services


def read(services: Services, dispatcher: Dispatcher) -> Iterator[Reading]:
    """Return the value of every gauge.

    :raises LedgerUnavailable: when the database can't be used.
    """
    ledger, limit = services.ledger, services.settings.rate_limit
    now = ledger.now_ms()
    with ledger.read() as tx:
        waits, dead = tx.waits(now=now), tx.count(EventState.DEAD)
        handoffs, buckets = tx.records.count_by_state(), tx.buckets.all()
    for work in Work:
        mine = [one for one in waits if one.work is work]
        labels = {"work": work.name.lower()}
        yield Reading(WAITING, sum(one.events for one in mine), labels)
        yield Reading(OLDEST, max((max(0, now - one.since) / 1000 for one in mine), default=0), labels)
    yield Reading(DEAD, dead, {})
    for state in HandoffState:
        yield Reading(HANDOFFS, handoffs.get(state.value, 0), {"state": state.value})
    for one in buckets:
        budget.forget(one, now)
    left = (max(0, limit - sum(budget.used(one).values())) for one in buckets)
    yield Reading(BUDGET, min(left, default=limit), {})
    count, idle = dispatcher.threads()
    yield Reading(THREADS, count - idle, {"does": "busy"})
    yield Reading(THREADS, idle, {"does": "idle"})

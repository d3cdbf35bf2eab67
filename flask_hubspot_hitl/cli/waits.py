"""Say what waits, for how long and for what, for ``status`` and ``doctor``: in words, and for machines."""

from __future__ import annotations

from typing import Any

from ..ledger import Transaction
from ..ledger.lanes import Work
from ..portals import budget

Facts = dict[str, Any]


def waits(tx: Transaction, now: int) -> list[Facts]:
    """Return what waits, by class and reason, the most urgent first; ``now`` is in epoch ms.

    :returns: ``class``, ``events``, ``seconds`` (of the one that waits longest), ``why``, and ``next_seconds`` until it
        is tried again, 0 when only a thread is missing.
    """
    return [
        {
            "class": budget.NAMES[one.work],
            "events": one.events,
            "seconds": max(0, now - one.since) / 1000,
            "why": "no thread has taken it yet" if one.why is None else one.why.rpartition("not asked, ")[2],
            "next_seconds": max(0, one.due_at - now) / 1000,
        }
        for one in tx.waits(now=now)
    ]


def wait_words(one: Facts) -> str:
    """Return one of :func:`waits` as a line."""
    again = f"; {one['next_seconds']:.0f} s left" if one["next_seconds"] else ""
    return f"{one['class']}: {one['events']}, the oldest for {one['seconds']:.0f} s: {one['why']}{again}"


def budgets(tx: Transaction, limit: int, now: int) -> list[Facts]:
    """Return the budgets of requests that are spent, for some class at least.

    :param limit: requests in a window.
    :param now: epoch ms.
    :returns: ``portal_id``, ``limit``, ``used`` by class, and ``seconds`` until there is room again.
    """
    found = []
    for bucket in tx.buckets.all():
        budget.forget(bucket, now)
        waiting = [work for work in Work if bucket.waiting.get(work, 0) > now]
        short = [work for work in waiting if budget.room(bucket, work, limit, now) <= 0]
        if short:
            used = {budget.NAMES[work]: count for work, count in budget.used(bucket).items() if count}
            left = budget.turn(bucket, short[0], limit, now, 0) - now
            found.append({"portal_id": bucket.portal_id, "limit": limit, "used": used, "seconds": left / 1000})
    return found


def budget_words(one: Facts) -> str:
    """Return one of :func:`budgets` as a line."""
    spent = ", ".join(f"{name} {count}" for name, count in sorted(one["used"].items(), key=lambda item: -item[1]))
    return f"portal {one['portal_id']}: spent on {spent}, of {one['limit']}; {one['seconds']:.0f} s left"

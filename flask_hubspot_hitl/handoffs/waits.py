"""Say what waits, for how long and for what: in words, and for machines."""

from __future__ import annotations

from typing import Any

from ..ledger import Transaction, lanes
from ..ledger.lanes import Work
from ..portals import budget
from .words import span

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
    again = f"; tried again in {span(one['next_seconds'])}" if one["next_seconds"] else ""
    return f"{one['class']}: {one['events']}, the oldest for {span(one['seconds'])}: {one['why']}{again}"


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
    return f"portal {one['portal_id']}: spent on {spent}, of {one['limit']}; there is more in {span(one['seconds'])}"


def refused_bridges(tx: Transaction, now: int) -> list[Facts]:
    """Return the bridges whose keys Botpress refuses; ``now`` is in epoch ms.

    :returns: ``bridge``, ``seconds`` since when, ``error``: which call was refused first, and ``settings`` to check.
    """
    return [
        {
            "bridge": name,
            "seconds": max(0, now - one["since"]) / 1000,
            "error": one["error"],
            "settings": one["settings"],
        }
        for name, one in tx.bridges.refused().items()
    ]


def refused_words(one: Facts) -> str:
    """Return one of :func:`refused_bridges` as a line."""
    return f"Botpress refuses the key of the bridge {one['bridge']} for {span(one['seconds'])}: check {one['settings']}"


def place_words(key: str) -> str:
    """Return what the events of a lane are about."""
    kind, _, rest = lanes.shown(key).partition(":")
    if kind == lanes.Lane.THREAD.prefix and ":" in rest:
        portal_id, _, thread_id = rest.partition(":")
        return f"thread {thread_id} of portal {portal_id}"
    return f"messages of handoff {rest}" if kind == lanes.Lane.OUTBOUND.prefix else lanes.shown(key)

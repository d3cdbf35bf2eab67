"""Divide a portal's budget of requests between the classes of work, so that no user waits for what can wait.

Each class has a most and a least: a class and those less urgent have no more than its most together, and what a class
that waits has not had of its least is kept for it. So what comes suddenly finds room, and nothing waits for ever. No
clock, no database.
"""

from __future__ import annotations

from dataclasses import replace

from ..ledger.buckets import Bucket
from ..ledger.lanes import Work

WINDOW = 11
"""Seconds that are counted: HubSpot counts ten rolling seconds, and eleven whole ones hold them for certain."""
LATE_MS = 2_000
"""Milliseconds by which whoever was told to wait may be late, and still has the least of its class kept for it."""

_MOST = {Work.LIVE: 1.0, Work.RECEIPT: 0.75, Work.TIMER: 0.5, Work.LOOKING_BACK: 0.5}
_MOST_BESIDE_LIVE = {**_MOST, Work.LOOKING_BACK: 0.25}
_LEAST = {Work.LIVE: 0.0, Work.RECEIPT: 0.1, Work.TIMER: 0.05, Work.LOOKING_BACK: 0.05}
_LIMIT_WITH_LEASTS = len(Work)

NAMES = {
    Work.LIVE: "messages",
    Work.RECEIPT: "receipts",
    Work.TIMER: "timers",
    Work.LOOKING_BACK: "looking back",
}
"""What the classes are called where a person reads of them."""


def used(bucket: Bucket) -> dict[Work, int]:
    """Return how many requests each class has had in the window."""
    return {work: sum(had.get(work, 0) for had in bucket.slots.values()) for work in Work}


def forget(bucket: Bucket, now: int) -> None:
    """Leave out the seconds that are no longer counted; ``now`` is in epoch ms."""
    bucket.slots = {at: had for at, had in bucket.slots.items() if abs(now // 1000 - at) < WINDOW and any(had.values())}


def least(limit: int, work: Work) -> int:
    """Return the requests of a window that are kept for a class while it waits."""
    wanted = _LEAST[work]
    return max(1, int(limit * wanted)) if wanted and limit >= _LIMIT_WITH_LEASTS else 0


def most(limit: int, work: Work, *, beside_live: bool) -> int:
    """Return the requests of a window that a class and those less urgent may have together.

    :param beside_live: whether anything live was seen in the window, or waits.
    """
    return max(1, int(limit * (_MOST_BESIDE_LIVE if beside_live else _MOST)[work]))


def room(bucket: Bucket, work: Work, limit: int, now: int) -> int:
    """Return how many requests a class may send now.

    :param limit: requests in a window.
    :param now: epoch ms; the bucket holds the window that ends then.
    """
    had = used(bucket)
    free = limit - sum(had.values())
    waiting = {other for other, until in bucket.waiting.items() if until > now}
    kept = sum(max(0, least(limit, other) - had[other]) for other in waiting - {work})
    beside_live = had[Work.LIVE] > 0 or Work.LIVE in waiting
    under = most(limit, work, beside_live=beside_live) - sum(had[other] for other in Work if other >= work)
    owed = least(limit, work) - had[work]
    return max(0, min(free, max(owed, min(free - kept, under))))


def take(bucket: Bucket, work: Work, count: int, now: int) -> None:
    """Note that a class takes so many requests at ``now`` (epoch ms)."""
    had = bucket.slots.setdefault(now // 1000, {})
    had[work] = had.get(work, 0) + count


def give_back(bucket: Bucket, work: Work, count: int, second: int) -> None:
    """Note that so many requests of an epoch second were not sent."""
    had = bucket.slots.get(second, {})
    if work in had:
        had[work] = max(0, had[work] - count)


def turn(bucket: Bucket, work: Work, limit: int, now: int, behind: int) -> int:
    """Return the epoch ms when a class that has no room now has it for one more request, after ``behind`` others.

    :param now: epoch ms.
    """
    empty = Bucket(portal_id=bucket.portal_id, waiting=bucket.waiting)
    rounds, rest = divmod(behind, max(1, room(empty, work, limit, now)))
    left = replace(bucket)
    changes = {(second + WINDOW) * 1000 for second in bucket.slots} | set(bucket.waiting.values())
    for at in sorted(one for one in changes if one > now):
        forget(left, at)
        if room(left, work, limit, at) > rest:
            return at + WINDOW * rounds * 1000
    return now + WINDOW * 1000


def spent(bucket: Bucket, work: Work, limit: int) -> str:
    """Return in words why a class has no room.

    :param limit: requests in a window.
    """
    had = used(bucket)
    if work != Work.LIVE and sum(had.values()) < limit:
        return f"the part of the budget of requests for {NAMES[work]} is spent"
    return f"the budget of requests is spent on {NAMES[max(had, key=lambda one: had[one])]}"

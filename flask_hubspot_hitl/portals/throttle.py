"""Limit the requests to HubSpot: one budget, one pause and one circuit for each portal, shared by all processes.

The portal's row holds all three; ``budget`` divides the first. A process takes requests out of the row in small lots,
each for one class of work, so that most calls cost no transaction; the requests that are left of a lot at the end of
its second are returned with the next lot. A process learns of a pause or an outage that another one met within a
second, with its next lot.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..errors import CallPostponed, HubSpotUnavailable, LedgerUnavailable
from ..hubspot.bulkhead import Bulkhead, Passage, open_ms
from ..hubspot.transport import Availability
from ..ledger import Ledger, lanes
from ..ledger.buckets import Bucket
from ..ledger.lanes import Work
from ..process import dice
from . import budget

logger = logging.getLogger(__name__)

#: Attempts in a row without an answer that open the circuit.
OUTAGES = 5
#: Milliseconds without an outage after which the circuit opens as shortly as at first.
FORGET_MS = 600_000
#: Milliseconds that a probe may take before another one is let through.
PROBE_MS = 30_000
#: Milliseconds of the pause after a 429 without Retry-After, at first and at most.
PAUSE_MS, PAUSE_CAP_MS = 1_000, 60_000


@dataclass(frozen=True, slots=True)
class Permit:
    """Allow one request; ``probe``: it is the one that tests whether HubSpot is back."""

    at_ms: int
    probe: bool = False
    passage: Passage | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Forbid requests before ``until`` (epoch ms)."""

    why: str
    until: int
    lasting: bool = True
    """Whether the reason lasts until ``until``; False: it may end earlier, so ask again."""
    is_ours: bool = False
    """Whether it is the budget that forbids them, and not HubSpot."""


@dataclass(slots=True)
class _Lot:
    """Hold what one class of work may still send in this process, and who of it waits."""

    left: int = 0
    second: int = 0
    """The epoch second in which it may be sent."""
    size: int = 1
    behind: int = 0
    """Callers that were refused for want of budget since the last lot, or since this second."""
    behind_since: int = 0


def is_in_lane() -> bool:
    """Return True in a thread that runs a lane, whatever the lane; False for a call of the host's own."""
    return lanes.doing.get(None) is not None


class Throttle:
    """Be the gate of one portal in this process; see :class:`.hubspot.transport.Gate`.

    :param limit: requests per ten seconds.
    :param share: tells how many requests may be under way at once in this process; None: any number.
    """

    def __init__(self, ledger: Ledger, portal_id: str, limit: int, share: Callable[[], int] | None = None) -> None:
        self._ledger = ledger
        self._portal_id = portal_id
        self._limit = limit
        self._bulkhead = Bulkhead("HubSpot", ledger.now_ms, share, holds=is_in_lane, shuts=False)
        self._lock = threading.Lock()
        self._lots = {work: _Lot() for work in Work}
        self._shut: Refusal | None = None
        self._outages = 0
        self._blocked_until = 0
        self._calm = False

    def enter(self, doing: str) -> Permit:
        """Implement :meth:`.hubspot.transport.Gate.enter` on the portal's row, for the class of work being done."""
        passage = self._bulkhead.enter(doing)
        try:
            return replace(self._permit(doing, lanes.doing.get()), passage=passage)
        except BaseException:
            self._bulkhead.leave(passage, Availability.UNKNOWN, None)
            raise

    def _permit(self, doing: str, work: Work) -> Permit:
        with self._lock:
            now = self._ledger.now_ms()
            if self._shut is not None and now < self._shut.until:
                raise self._refused(doing, self._shut, now)
            self._shut = None
            lot = self._lots[work]
            if lot.left and now // 1000 == lot.second:
                lot.left -= 1
                return Permit(now)
            try:
                got = self._take(work, lot, now)
            except LedgerUnavailable as error:
                raise HubSpotUnavailable(f"{doing}: the budget of requests can't be read ({error})") from error
            if isinstance(got, Refusal):
                if got.lasting:
                    self._shut = got
                raise self._refused(doing, got, now)
            return got

    def leave(self, permit: Permit, shown: Availability, retry_after: float | None) -> None:
        """Implement :meth:`.hubspot.transport.Gate.leave` on the portal's row."""
        hung = permit.passage is not None and self._bulkhead.hangs(permit.passage)
        if permit.passage is not None:
            self._bulkhead.leave(permit.passage, shown, retry_after)
        with self._lock:
            trips = False
            if shown is Availability.DOWN:
                self._outages += 1
                trips = permit.probe or hung or self._outages >= OUTAGES
            elif shown is not Availability.UNKNOWN:
                self._outages = 0
                self._calm = self._calm or (shown is Availability.UP and permit.at_ms >= self._blocked_until)
            wished = retry_after is not None and shown is not Availability.UP
            if not (permit.probe or trips or wished or shown is Availability.BUSY):
                return
            try:
                self._learn(permit, shown, retry_after if wished else None, trips)
            except LedgerUnavailable as error:
                logger.warning(
                    "A pause or outage of HubSpot could not be stored (%s); this process keeps to it, others find out "
                    "by themselves",
                    error,
                )

    def _take(self, work: Work, lot: _Lot, now: int) -> Permit | Refusal:
        """Take a lot out of the portal's row, and return what is left of old ones; the caller holds the lock."""
        second = now // 1000
        if lot.second != second:
            lot.size = 1
        elif lot.left == 0:
            lot.size = min(lot.size * 2, max(1, self._limit // 10))
        with self._ledger.write() as tx:
            bucket = tx.buckets.lock(self._portal_id)
            for of, one in self._lots.items():
                if one.second != second:
                    budget.give_back(bucket, of, one.left, one.second)
            if self._calm and now >= bucket.blocked_until:
                bucket.pauses = 0
            got = admit(bucket, work, now, lot.size, self._limit, lot.behind)
            tx.buckets.save(bucket)
        for one in self._lots.values():
            if one.second != second:
                one.left = 0
        self._calm = False
        lot.second = second
        self._blocked_until = bucket.blocked_until
        if isinstance(got, Refusal):
            if second - lot.behind_since >= budget.WINDOW:
                lot.behind, lot.behind_since = 0, second
            lot.behind += got.is_ours
            return got
        count, probe = got
        lot.left, lot.behind = count - 1, 0
        return Permit(now, probe)

    def _learn(self, permit: Permit, shown: Availability, retry_after: float | None, trips: bool) -> None:
        """Store a pause or an outage in the portal's row; the caller holds the lock."""
        now = self._ledger.now_ms()
        with self._ledger.write() as tx:
            bucket = tx.buckets.lock(self._portal_id)
            if shown is Availability.BUSY or retry_after is not None:
                pause(bucket, permit, now, retry_after)
            if permit.probe:
                bucket.probe_until = 0
                if shown in (Availability.UP, Availability.BUSY):
                    bucket.open_until = bucket.trips = 0
                    logger.warning("HubSpot answers again (portal %s); waiting calls go on", self._portal_id)
            if trips and (permit.probe or not bucket.open_until):
                trip(bucket, now)
                logger.warning(
                    "HubSpot does not answer (portal %s); calls wait, and one request at a time tests whether it is "
                    "back. Nothing is lost; see status.hubspot.com",
                    self._portal_id,
                )
            tx.buckets.save(bucket)
        if trips:
            self._outages = 0
        self._blocked_until = bucket.blocked_until
        self._shut = closed(bucket, now)

    def _refused(self, doing: str, why: Refusal, now: int) -> HubSpotUnavailable:
        wait_ms = max(why.until - now, 0)
        kind = CallPostponed if why.is_ours else HubSpotUnavailable
        return kind(f"{doing}: not asked, {why.why}", retry_after=wait_ms / 1000)


def closed(bucket: Bucket, now: int) -> Refusal | None:
    """Return the reason why no process may send now: pause or open circuit; None when it may."""
    if bucket.blocked_until > now:
        return Refusal("HubSpot wants us to pause", bucket.blocked_until)
    if bucket.open_until > now:
        return Refusal("HubSpot is down", bucket.open_until)
    return None


def admit(bucket: Bucket, work: Work, now: int, wanted: int, limit: int, behind: int) -> tuple[int, bool] | Refusal:
    """Take requests out of the budget.

    A caller that is refused for want of budget is told when its turn comes.

    :param wanted: the most requests to take.
    :param limit: requests per ten seconds.
    :param behind: callers of this class that were refused before, and whose turn comes first.
    :returns: how many requests were taken, and whether the first one is a probe.
    """
    if (shut := closed(bucket, now)) is not None:
        return shut
    budget.forget(bucket, now)
    probing = bucket.open_until > 0
    if probing and bucket.probe_until > now:
        wait_ms = int(dice.uniform(1_000, 5_000))
        return Refusal("HubSpot is down, and somebody is trying", now + wait_ms, lasting=False)
    room = budget.room(bucket, work, limit, now)
    if room <= 0:
        until = budget.turn(bucket, work, limit, now, behind)
        bucket.waiting[work] = max(bucket.waiting.get(work, 0), until + budget.LATE_MS)
        return Refusal(budget.spent(bucket, work, limit), until, lasting=False, is_ours=True)
    count = 1 if probing else min(wanted, room)
    budget.take(bucket, work, count, now)
    if probing:
        bucket.probe_until = now + PROBE_MS
    return count, probing


def pause(bucket: Bucket, permit: Permit, now: int, retry_after: float | None) -> None:
    """Pause requests after a 429, as long as HubSpot said, else longer each time.

    429s of requests that were sent before the pause don't lengthen it.

    :param retry_after: the seconds that HubSpot asked for, if it did.
    """
    if permit.at_ms >= bucket.blocked_until:
        bucket.pauses += 1
    if retry_after is None:
        wait_ms = min(PAUSE_MS * 2 ** min(max(bucket.pauses - 1, 0), 10), PAUSE_CAP_MS)
    else:
        wait_ms = int(retry_after * 1000)
    bucket.blocked_until = max(bucket.blocked_until, now + wait_ms)


def trip(bucket: Bucket, now: int) -> None:
    """Open the circuit, longer each time."""
    if bucket.open_until and now - bucket.open_until > FORGET_MS:
        bucket.trips = 0
    bucket.open_until = now + open_ms(bucket.trips)
    bucket.trips += 1
    bucket.probe_until = 0

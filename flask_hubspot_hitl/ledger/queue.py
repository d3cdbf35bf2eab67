"""The queue: events in lanes, leases on lanes. Runs inside the caller's transaction.

Knows nothing of what an event means. The shape, and why: a lane's ``due_at`` is a visibility timeout, so idle,
ready, waiting, leased and crashed are one column and one small index; an abandoned lane becomes claimable by
itself. ``fence`` rises at every claim, and every later write of the claimant is conditional on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from . import codec
from .database import Database
from .schema import EventState, event, lane, receipt

DISTANT = 2**62
_LAST_LOCKED = {"in": 1, "receipt": 2, "dead": 2}


def _lock_order(key: str) -> tuple[int, str]:
    return _LAST_LOCKED.get(key.partition(":")[0], 0), key


@dataclass(slots=True, kw_only=True)
class NewEvent:
    """An event to put into a lane. ``sort_at`` and ``due_at`` are epoch ms."""

    dedupe_key: str
    lane: str | None
    topic: str
    sort_at: int
    portal_id: str | None = None
    thread_id: str | None = None
    handoff_id: str | None = None
    payload: Any = None
    progress: Any = None
    state: EventState = EventState.PENDING
    error: str | None = None
    due_at: int | None = None
    """When its lane becomes due, if it is idle. None: at once."""


@dataclass(slots=True, kw_only=True)
class Event:
    """An event taken from a lane. ``progress`` is this object's to change; the store saves it when told to."""

    id: int
    dedupe_key: str
    lane: str
    topic: str
    sort_at: int
    portal_id: str | None
    thread_id: str | None
    handoff_id: str | None
    payload: Any
    progress: dict[str, Any]
    starts: int
    attempts: int
    received_at: int
    after_gap: bool = False
    receipts: dict[str, Receipt] = field(default_factory=dict)
    scratch: dict[str, Any] = field(default_factory=dict)
    """Of this run only; not stored."""


@dataclass(slots=True, kw_only=True)
class Receipt:
    """How far one receiver is with one event."""

    verdict: str | None = None
    starts: int = 0
    attempts: int = 0
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class Lease:
    """A claim on a lane: nobody else runs it while ``fence`` holds."""

    lane: str
    owner: str
    fence: int
    wake: int
    failures: int
    head: Event | None = None


class Queue:
    """Events and lanes, within one transaction."""

    def __init__(self, connection: sa.Connection, database: Database) -> None:
        self._connection = connection
        self._database = database

    def put(self, events: Sequence[NewEvent], *, now: int) -> list[int | None]:
        """Store events and make their lanes due. Those whose dedupe key is known are passed over.

        Lanes come first and in one order, so the ids within a lane are in commit order, and no two transactions
        wait for each other: see :meth:`reserve`. Returns the new ids, None for a known key.
        """
        due: dict[str, int] = {}
        for new in events:
            if new.lane is not None and new.state == EventState.PENDING:
                at = now if new.due_at is None else new.due_at
                due[new.lane] = min(at, due.get(new.lane, DISTANT))
        for key in sorted(due, key=_lock_order):
            self.touch(key, due_at=due[key])
        ids: list[int | None] = []
        for new in events:
            statement = (
                self._database.insert(event)
                .values(
                    dedupe_key=new.dedupe_key,
                    lane=new.lane,
                    sort_at=new.sort_at,
                    topic=new.topic,
                    portal_id=new.portal_id,
                    thread_id=new.thread_id,
                    handoff_id=new.handoff_id,
                    payload=None if new.payload is None else codec.dumps(new.payload),
                    progress=None if new.progress is None else codec.dumps(new.progress),
                    state=int(new.state),
                    error=new.error,
                    received_at=now,
                )
                .on_conflict_do_nothing(index_elements=["dedupe_key"])
                .returning(event.c.id)
            )
            ids.append(self._connection.scalar(statement))
        return ids

    def put_all(self, events: Sequence[NewEvent], *, now: int) -> None:
        """:meth:`put`, for callers who do not need the ids."""
        self.put(events, now=now)

    def reserve(self, *keys: str, now: int) -> None:
        """Lock lanes that will be put into, before a handoff's row is locked.

        Everybody locks in this order: the lanes of tasks, then ``in:`` lanes, then the handoff, then the lanes that
        nobody locks a handoff from (receipts). Otherwise two transactions could wait for each other.
        """
        for key in sorted(keys, key=_lock_order):
            self.touch(key, due_at=now)

    def touch(self, key: str, *, due_at: int) -> None:
        """Make sure a lane exists and is due; a lease or a back-off in force is not shortened."""
        statement = self._database.insert(lane).values(key=key, due_at=due_at, wake=1)
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=["key"],
                set_={
                    "wake": lane.c.wake + 1,
                    "due_at": sa.func.coalesce(lane.c.due_at, statement.excluded.due_at),
                },
            )
        )

    def claim(self, *, owner: str, now: int, ttl_ms: int) -> Lease | None:
        """Lease the lane that has been due the longest, or None when nothing is due."""
        due = (
            sa.select(lane.c.key)
            .where(lane.c.due_at <= now)
            .order_by(lane.c.due_at)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        return self._lease(lane.c.key == due, owner=owner, now=now, ttl_ms=ttl_ms)

    def claim_lane(self, key: str, *, owner: str, now: int, ttl_ms: int) -> Lease | None:
        """Lease one lane by its key, whatever it waits for; None while somebody else holds it."""
        free = sa.or_(lane.c.owner.is_(None), lane.c.due_at.is_(None), lane.c.due_at <= now)
        return self._lease(sa.and_(lane.c.key == key, free), owner=owner, now=now, ttl_ms=ttl_ms)

    def _lease(self, where: sa.ColumnElement[bool], *, owner: str, now: int, ttl_ms: int) -> Lease | None:
        row = self._connection.execute(
            sa.update(lane)
            .where(where)
            .values(owner=owner, due_at=now + ttl_ms, fence=lane.c.fence + 1, hung_since=None)
            .returning(lane.c.key, lane.c.fence, lane.c.wake, lane.c.failures)
        ).first()
        if row is None:
            return None
        return Lease(lane=row.key, owner=owner, fence=row.fence, wake=row.wake, failures=row.failures)

    def head(self, lease: Lease) -> Event | None:
        """The next event of a leased lane, marked as begun. It is read anew before every run, never ahead."""
        row = self._connection.execute(
            sa.select(event, lane.c.gap)
            .join(lane, lane.c.key == event.c.lane)
            .where(event.c.lane == lease.lane, event.c.state == EventState.PENDING)
            .order_by(event.c.sort_at, event.c.id)
            .limit(1)
        ).first()
        if row is None:
            return None
        self._connection.execute(sa.update(event).where(event.c.id == row.id).values(starts=event.c.starts + 1))
        receipts = self._connection.execute(sa.select(receipt).where(receipt.c.event_id == row.id)).all()
        return Event(
            id=row.id,
            dedupe_key=row.dedupe_key,
            lane=row.lane,
            topic=row.topic,
            sort_at=row.sort_at,
            portal_id=row.portal_id,
            thread_id=row.thread_id,
            handoff_id=row.handoff_id,
            payload=codec.loads(row.payload),
            progress=codec.loads(row.progress) or {},
            starts=row.starts + 1,
            attempts=row.attempts,
            received_at=row.received_at,
            after_gap=bool(row.gap),
            receipts={
                r.receiver: Receipt(verdict=r.verdict, starts=r.starts, attempts=r.attempts, error=r.error)
                for r in receipts
            },
        )

    def holds(self, lease: Lease) -> bool:
        """True while the lease is ours; takes the lane's row lock until the transaction ends."""
        statement = sa.select(lane.c.fence).where(lane.c.key == lease.lane).with_for_update()
        return self._connection.scalar(statement) == lease.fence

    def release(self, lease: Lease, *, now: int, due_at: int | None, failures: int = 0) -> None:
        """Give a lane back: due at ``due_at``; with None idle, unless something came in since the claim."""
        when: Any = due_at
        if due_at is None:
            when = sa.case((lane.c.wake == lease.wake, None), else_=now)
        self._connection.execute(
            sa.update(lane)
            .where(lane.c.key == lease.lane, lane.c.fence == lease.fence)
            .values(owner=None, due_at=when, failures=failures, hung_since=None)
        )

    def refresh_wake(self, lease: Lease) -> None:
        """Remember how often the lane has been touched, as of this transaction's reading of its head."""
        lease.wake = self._connection.scalar(sa.select(lane.c.wake).where(lane.c.key == lease.lane)) or 0

    def heartbeat(self, leases: Iterable[Lease], *, now: int, ttl_ms: int) -> None:
        """Prolong leases that are still ours."""
        for lease in sorted(leases, key=lambda one: one.lane):
            self._connection.execute(
                sa.update(lane)
                .where(lane.c.key == lease.lane, lane.c.fence == lease.fence, lane.c.owner == lease.owner)
                .values(due_at=now + ttl_ms)
            )

    def mark_hung(self, lease: Lease, *, now: int) -> None:
        """Show in ``status`` that a receiver of this lane runs too long."""
        self._connection.execute(
            sa.update(lane).where(lane.c.key == lease.lane, lane.c.fence == lease.fence).values(hung_since=now)
        )

    def save(self, taken: Event) -> None:
        """Store an event's progress; it stays pending, and this run of it is finished."""
        self._connection.execute(
            sa.update(event)
            .where(event.c.id == taken.id)
            .values(progress=codec.dumps(taken.progress), starts=0, attempts=taken.attempts)
        )

    def finish(self, taken: Event, state: EventState, *, now: int, error: str | None = None) -> None:
        """Mark an event done or dead. After a dead one the lane's next event carries ``after_gap``."""
        self._connection.execute(
            sa.update(event)
            .where(event.c.id == taken.id)
            .values(
                state=int(state),
                done_at=now,
                error=error,
                starts=0,
                attempts=taken.attempts,
                progress=codec.dumps(taken.progress),
            )
        )
        gap = int(state == EventState.DEAD)
        if gap != int(taken.after_gap):
            self._connection.execute(sa.update(lane).where(lane.c.key == taken.lane).values(gap=gap))

    def note_failure(self, taken: Event, *, error: str) -> None:
        """Remember why the last run failed; the event stays pending."""
        self._connection.execute(
            sa.update(event)
            .where(event.c.id == taken.id)
            .values(error=error, starts=0, attempts=taken.attempts, progress=codec.dumps(taken.progress))
        )

    def save_receipt(self, event_id: int, receiver: str, kept: Receipt) -> None:
        """Store how far a receiver is."""
        values = {
            "verdict": kept.verdict,
            "starts": kept.starts,
            "attempts": kept.attempts,
            "error": kept.error,
        }
        self._connection.execute(
            self._database.insert(receipt)
            .values(event_id=event_id, receiver=receiver, **values)
            .on_conflict_do_update(index_elements=["event_id", "receiver"], set_=values)
        )

    def next_due(self) -> int | None:
        """When the next lane becomes due, in epoch ms; None when all are idle."""
        due: int | None = self._connection.scalar(
            sa.select(sa.func.min(lane.c.due_at)).where(lane.c.due_at.is_not(None))
        )
        return due

    def release_owner(self, owner: str, *, now: int) -> int:
        """Free every lane of an owner that is gone; returns how many."""
        result = self._connection.execute(
            sa.update(lane).where(lane.c.owner == owner).values(owner=None, due_at=now, fence=lane.c.fence + 1)
        )
        return result.rowcount

    def owners(self) -> list[str]:
        """Who holds leases now."""
        return list(self._connection.scalars(sa.select(lane.c.owner).where(lane.c.owner.is_not(None)).distinct()))

    def has_pending(self, key: str) -> bool:
        """True when a lane has something to do."""
        statement = sa.select(event.c.id).where(event.c.lane == key, event.c.state == EventState.PENDING)
        return self._connection.execute(statement.limit(1)).first() is not None

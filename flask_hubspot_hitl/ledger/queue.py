"""Queue events in lanes, and lease lanes. Runs inside the caller's transaction.

Knows nothing of what an event means. The shape, and why: a lane's ``due_at`` is a visibility timeout, so idle,
ready, waiting, leased and crashed are one column and one small index; an abandoned lane becomes claimable by
itself. ``fence`` rises at every claim, and every later write of the claimant is conditional on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar

import sqlalchemy as sa

from . import codec, due, lanes
from .connection import Connection, Row
from .due import Due
from .inserts import PUT, NewEvent, event_row, lane_row, touching
from .schema import ONE, EventState, event, in_state, lane
from .states import State

S = TypeVar("S", bound=State)


@dataclass(slots=True, kw_only=True)
class Event:
    """Hold an event taken from a lane, with its state, which is stored when the queue is told to."""

    id: int
    dedupe_key: str
    lane: str
    topic: str
    sort_at: int
    portal_id: str | None
    thread_id: str | None
    handoff_id: str | None
    payload: Any
    """What its task is told, as JSON; None when it was told nothing, or that was erased."""
    progress: str | None = field(repr=False)
    """The column as it was read."""
    starts: int
    attempts: int
    received_at: int
    correlation_id: str | None = None
    """HubSpot's id of the last call that was made for it, and answered, for HubSpot's support."""
    after_gap: bool = False
    _state: State | None = field(default=None, init=False)

    def state(self, kind: type[S]) -> S:
        """Return the event's state, read from its column at the first call.

        :param kind: the class of state that the event's task has; a base class of it will do after the first call.
        :raises TypeError: when the state was read as another kind.
        """
        found = self._state
        if found is None:
            self._state = found = kind.from_json(codec.loads(self.progress))
        elif not isinstance(found, kind):
            raise TypeError(f"the state of event {self.id} is a {type(found).__name__}, not a {kind.__name__}")
        return found

    def stored_state(self) -> str | None:
        """Return the column as it is to be written."""
        return self.progress if self._state is None else codec.dumps(self._state.to_json())


_TAKEN = [one.name for one in fields(Event) if one.init and one.name not in ("payload", "after_gap")]
"""Columns that are fields of an event."""
_taken: Callable[[Row], tuple[Any, ...]] = attrgetter(*_TAKEN)


@dataclass(slots=True, kw_only=True)
class Lease:
    """Hold a claim on a lane: no other process runs the lane while its ``fence`` is unchanged."""

    lane: str
    owner: str
    fence: int
    wake: int
    failures: int
    head: Event | None = None
    begun: Row | None = field(default=None, repr=False)
    """The row of the first event, which was taken with the lane."""


class Statements:
    """Hold the queue's statements, built once: putting a statement together costs more than running it."""

    def __init__(self, insert: Any, *, is_sqlite: bool) -> None:
        given = sa.bindparam
        new = insert(event).values({name: given(name) for name in PUT}).inline()
        self.put = new.on_conflict_do_nothing(index_elements=["dedupe_key"])
        self.touch = touching(insert, None)
        lease = (
            sa.update(lane)
            .values(owner=given("by"), due_at=given("until"), fence=lane.c.fence + 1, hung_since=None)
            .returning(lane.c.key, lane.c.fence, lane.c.wake, lane.c.failures)
        )
        self.claim = lease.where(lane.c.key == due.next_key())
        self.claim_in_turn = lease.where(lane.c.key == due.next_key_in_turn())
        self.take = self.take_in_turn = None
        if not is_sqlite:  # which can't change two tables in one statement
            self.take, self.take_in_turn = _taking(self.claim), _taking(self.claim_in_turn)
        self.claim_lane = lease.where(
            lane.c.key == given("lane_key"),
            sa.or_(lane.c.owner.is_(None), lane.c.due_at.is_(None), lane.c.due_at <= given("now")),
        )
        this_lane = lane.c.key == given("lane_key")
        is_ours = sa.exists().where(this_lane, lane.c.fence == given("mine"))
        gap = sa.select(lane.c.gap).where(this_lane).scalar_subquery()
        self.head = _beginning(given("lane_key")).where(is_ours).returning(*event.c, gap.label("gap"))
        this_event = event.c.id == given("event_id")
        self.holds = sa.select(lane.c.fence, lane.c.wake).where(lane.c.key == given("lane_key"))
        self.holds = self.holds.with_for_update()
        self.pending = sa.select(event.c.id).where(event.c.lane == given("lane_key"), in_state(EventState.PENDING))
        self.pending = self.pending.limit(ONE)
        self.unbegun = self.pending.where(event.c.starts == 0)
        ours = sa.and_(lane.c.key == given("lane_key"), lane.c.fence == given("mine"))
        freed: dict[str, Any] = {"owner": None, "failures": given("failed"), "hung_since": None}
        self.release = sa.update(lane).where(ours).values(due_at=given("until"), **freed)
        # An event that was to be run may have been taken back just now: then there may be others behind it.
        has_none = sa.and_(lane.c.wake == given("woken"), ~sa.exists(self.pending))
        idle = sa.case((has_none, None), else_=given("now", type_=sa.BigInteger))
        self.rest = sa.update(lane).where(ours).values(due_at=idle, **freed)
        self.heartbeat = sa.update(lane).where(ours, lane.c.owner == given("by")).values(due_at=given("until"))
        self.hung = sa.update(lane).where(ours, lane.c.owner == given("by")).values(hung_since=given("since"))
        self.gap = sa.update(lane).where(lane.c.key == given("lane_key")).values(gap=given("is_gap"))
        call: dict[str, Any] = {"correlation_id": given("call")}
        run = {"progress": given("done"), "attempts": given("failed"), "starts": 0, **call}
        self.save = sa.update(event).where(this_event).values(**run)
        self.failed = sa.update(event).where(this_event).values(error=given("why"), **run)
        self.finish = (
            sa.update(event)
            .where(this_event)
            .values(state=given("now_is"), done_at=given("now"), error=given("why"), **run)
        )
        fence = sa.select(lane.c.fence).where(lane.c.key == given("lane_key")).with_for_update().scalar_subquery()
        wake = sa.select(lane.c.wake).where(lane.c.key == given("lane_key")).scalar_subquery()
        self.finish_held = self.finish.where(fence == given("mine")).returning(wake.label("wake"))


def _beginning(key: Any) -> sa.Update:
    """Return what marks the first event of a lane as begun."""
    first = sa.select(event.c.id).where(event.c.lane == key, in_state(EventState.PENDING))
    first = first.order_by(event.c.sort_at, event.c.id).limit(ONE)
    begun = sa.update(event).where(event.c.id == first.scalar_subquery(), in_state(EventState.PENDING))
    return begun.values(starts=event.c.starts + 1)


def _taking(claim: Any) -> sa.Select[Any]:
    """Return what leases a lane and marks its first event as begun: each sees what was committed when it began."""
    taken = claim.returning(lane.c.gap).cte("taken")
    begun = _beginning(sa.select(taken.c.key).scalar_subquery()).returning(*event.c).cte("begun")
    leased = (taken.c.key, taken.c.fence, taken.c.wake, taken.c.failures)
    return sa.select(*leased, *begun.c, taken.c.gap).select_from(taken.outerjoin(begun, sa.true()))


class Queue(Due):
    """Read and write events and lanes, in one transaction."""

    def __init__(self, connection: Connection, statements: Statements) -> None:
        super().__init__(connection)
        self._say = statements

    def put(self, events: Sequence[NewEvent], *, now: int) -> int:
        """Store events and make their lanes due. Those whose dedupe key is known are passed over.

        Lanes come first and in one order, so the ids within a lane are in commit order, and no two transactions
        wait for each other: see :meth:`reserve`. Returns how many were new.

        :raises UnknownLane: when a lane is not of the table in ``lanes``.
        """
        if not events:
            return 0
        wanted: dict[str, dict[str, Any]] = {}
        for new in events:
            if new.lane is not None and new.state == EventState.PENDING:
                at = now if new.due_at is None else new.due_at
                row = wanted.setdefault(new.lane, lane_row(new.lane, at, new.portal_id))
                row["due_at"] = min(at, row["due_at"])
        self._touch(wanted.values())
        return self._connection.change_many(self._say.put, [event_row(new, now) for new in events])

    def reserve(self, *keys: str, now: int) -> None:
        """Lock lanes that will be put into, before a handoff's row is locked.

        In the order of :class:`.lanes.Rank`, with the handoff's row between ``THREAD`` and ``LAST``: otherwise two
        transactions could wait for each other.

        :raises UnknownLane: when a key is not of the table in ``lanes``.
        """
        self._touch([lane_row(key, now) for key in keys])

    def touch(self, key: str, *, due_at: int) -> None:
        """Insert a lane or make it due, without shortening a lease or a back-off."""
        self._connection.change(self._say.touch, lane_row(key, due_at))

    def _touch(self, rows: Iterable[dict[str, Any]]) -> None:
        if in_order := sorted(rows, key=lambda row: lanes.lock_order(row["key"])):
            self._connection.change_each(self._say.touch, in_order)

    def claim(
        self,
        *,
        owner: str,
        now: int,
        ttl_ms: int,
        works: tuple[lanes.Work, ...] = lanes.EVERY_WORK,
        portal: str | None = None,
    ) -> Lease | None:
        """Lease the lane that has been due the longest, of the first class that has one; None when nothing is due.

        :param works: the classes that are looked at, in this order.
        :param portal: whose lanes come first within a class; None: nobody's.
        """
        given = {"now": now, "by": owner, "until": now + ttl_ms, **due.places(works)}
        if portal is None:
            return _lease(self._connection.row(self._say.claim, given), owner)
        return _lease(self._connection.row(self._say.claim_in_turn, {**given, "turn": portal}), owner)

    def take(
        self, *, owner: str, now: int, ttl_ms: int, works: tuple[lanes.Work, ...], portal: str | None
    ) -> Lease | None:
        """:meth:`claim` a lane and mark its first event as begun, in one statement where that can be had.

        :returns: a lease, of which :meth:`begun` reads the event.
        """
        statement = self._say.take if portal is None else self._say.take_in_turn
        if statement is None:
            lease = self.claim(owner=owner, now=now, ttl_ms=ttl_ms, works=works, portal=portal)
            if lease is not None:
                lease.begun = self._connection.row(self._say.head, {"lane_key": lease.lane, "mine": lease.fence})
            return lease
        given = {"now": now, "by": owner, "until": now + ttl_ms, **due.places(works)}
        row = self._connection.row(statement, given if portal is None else {**given, "turn": portal})
        lease = _lease(row, owner)
        if lease is not None and row is not None and row.id is not None:
            lease.begun = row
        return lease

    def begun(self, lease: Lease) -> Event | None:
        """Return the event that was taken with a lane; None when it is empty."""
        row, lease.begun = lease.begun, None
        return None if row is None else _event(row)

    def claim_lane(self, key: str, *, owner: str, now: int, ttl_ms: int) -> Lease | None:
        """Lease one lane by its key, whatever it waits for; None while another process holds it."""
        given = {"now": now, "by": owner, "until": now + ttl_ms, "lane_key": key}
        return _lease(self._connection.row(self._say.claim_lane, given), owner)

    def head(self, lease: Lease) -> Event | None:
        """Return the next event of a leased lane, marked as begun. It is read anew before every run, never ahead.

        In a transaction that holds the lane's row: by :meth:`claim` or :meth:`holds`.
        """
        row = self._connection.row(self._say.head, {"lane_key": lease.lane, "mine": lease.fence})
        return None if row is None else _event(row)

    def holds(self, lease: Lease) -> bool:
        """Return True while the lease is ours; takes the lane's row lock until the transaction ends."""
        row = self._connection.row(self._say.holds, {"lane_key": lease.lane})
        if row is None or row.fence != lease.fence:
            return False
        lease.wake = row.wake
        return True

    def is_kept(self, lease: Lease) -> bool:
        """Return False once the lease was released, even if no process has claimed the lane since."""
        statement = sa.select(lane.c.owner).where(lane.c.key == lease.lane, lane.c.fence == lease.fence)
        return bool(self._connection.scalar(statement) == lease.owner)

    def pending_event(self, event_id: int) -> Event | None:
        """Return an event that is still to be run, or is being run; None for any other."""
        found = sa.select(*event.c, sa.literal(0).label("gap"))
        row = self._connection.execute(found.where(event.c.id == event_id, in_state(EventState.PENDING))).first()
        return None if row is None else _event(row)

    def is_settled(self, taken: Event) -> bool:
        """Return True when an event is no longer pending."""
        statement = sa.select(event.c.state).where(event.c.id == taken.id)
        return bool(self._connection.scalar(statement) != EventState.PENDING)

    def is_as_taken(self, taken: Event) -> bool:
        """Return True when an event's row is as it was when the event was taken: no run was stored since."""
        statement = sa.select(event.c.starts, event.c.progress).where(event.c.id == taken.id)
        row = self._connection.execute(statement).first()
        return row is not None and (row.starts, row.progress) == (taken.starts, taken.progress)

    def release(self, lease: Lease, *, now: int, due_at: int | None, failures: int = 0) -> None:
        """Release a lane: due at ``due_at``; with None idle, unless something came in since the claim."""
        given = {"lane_key": lease.lane, "mine": lease.fence, "failed": failures}
        if due_at is None:
            self._connection.change(self._say.rest, {**given, "woken": lease.wake, "now": now})
        else:
            self._connection.change(self._say.release, {**given, "until": due_at})

    def heartbeat(self, leases: Iterable[Lease], *, now: int, ttl_ms: int) -> None:
        """Renew leases that are still ours."""
        for lease in sorted(leases, key=lambda one: lanes.stored_order(one.lane)):
            given = {"lane_key": lease.lane, "mine": lease.fence, "by": lease.owner, "until": now + ttl_ms}
            self._connection.change(self._say.heartbeat, given)

    def mark_hung(self, lease: Lease, *, now: int) -> None:
        """Mark a lane as hung, for ``status``; do nothing when it was released."""
        given = {"lane_key": lease.lane, "mine": lease.fence, "by": lease.owner, "since": now}
        self._connection.change(self._say.hung, given)

    def save(self, taken: Event) -> None:
        """Store the state of an event that stays pending, and count its run as finished."""
        self._connection.change(self._say.save, _run(taken, taken.stored_state()))

    def note_failure(self, taken: Event, *, error: str) -> None:
        """Store why the last run failed; the event stays pending."""
        self._connection.change(self._say.failed, {**_run(taken, taken.stored_state()), "why": error})

    def finish_held(self, lease: Lease, taken: Event, *, now: int) -> bool:
        """:meth:`holds` and, if it does, :meth:`finish` as done, in one statement."""
        return self._is_finished(lease, taken, self._connection.row(*self._finishing(lease, taken, now)))

    def finish_and_take(self, lease: Lease, taken: Event, *, now: int) -> bool:
        """:meth:`finish_held`, and take the next :meth:`head`, in one round trip."""
        next_one = {"lane_key": lease.lane, "mine": lease.fence}
        row, head = self._connection.rows_of(self._finishing(lease, taken, now), (self._say.head, next_one))
        lease.head = None if head is None else _event(head)
        return self._is_finished(lease, taken, row)

    def _finishing(self, lease: Lease, taken: Event, now: int) -> tuple[sa.Update, dict[str, Any]]:
        done = {**_run(taken, None), "now_is": int(EventState.DONE)}
        return self._say.finish_held, {**done, "now": now, "why": None, "lane_key": lease.lane, "mine": lease.fence}

    def _is_finished(self, lease: Lease, taken: Event, row: Row | None) -> bool:
        if row is None:
            return False
        lease.wake = row.wake
        self._set_gap(taken, EventState.DONE)
        return True

    def finish(self, taken: Event, state: EventState, *, now: int, error: str | None = None) -> None:
        """Mark an event done or dead; keep a dead one's state, so that it can be retried.

        After a dead one the lane's next event carries ``after_gap``.
        """
        run = _run(taken, taken.stored_state() if state == EventState.DEAD else None)
        self._connection.change(self._say.finish, {**run, "now_is": int(state), "now": now, "why": error})
        self._set_gap(taken, state)

    def _set_gap(self, taken: Event, state: EventState) -> None:
        gap = int(state == EventState.DEAD)
        if gap != int(taken.after_gap):
            self._connection.change(self._say.gap, {"lane_key": taken.lane, "is_gap": gap})

    def release_owner(self, owner: str, *, now: int) -> int:
        """Release every lane of an owner that is gone; return the number of lanes."""
        result = self._connection.execute(
            sa.update(lane)
            .where(lane.c.owner == owner)
            .values(owner=None, due_at=now, fence=lane.c.fence + 1, hung_since=None)
        )
        return int(result.rowcount)

    def pull_back(self, *, now: int, longest_ms: int, ttl_ms: int) -> int:
        """Have lanes run soon that would wait for longer than anything does: the clock was ahead when they were told
        to. A lease that lives is prolonged by its owner. Returns how many.
        """
        result = self._connection.execute(
            sa.update(lane)
            .where(lane.c.due_at > now + longest_ms, sa.or_(lane.c.owner.is_not(None), lane.c.failures > 0))
            .values(due_at=now + ttl_ms)
        )
        return int(result.rowcount)

    def hasten(self, key: str, *, now: int) -> bool:
        """Have a lane tried again now; False when nobody waits for its time any more."""
        waits = sa.and_(lane.c.key == key, lane.c.owner.is_(None), lane.c.due_at > now)
        return bool(self._connection.execute(sa.update(lane).where(waits).values(due_at=now)).rowcount)

    def owners(self) -> list[str]:
        """Return the owners that hold leases now."""
        return list(self._connection.scalars(sa.select(lane.c.owner).where(lane.c.owner.is_not(None)).distinct()))

    def has_pending(self, key: str, *, unbegun: bool = False) -> bool:
        """Return True when a lane has a pending event; ``unbegun``: one that was not begun yet."""
        return self._connection.row(self._say.unbegun if unbegun else self._say.pending, {"lane_key": key}) is not None


def _lease(row: Row | None, owner: str) -> Lease | None:
    if row is None:
        return None
    return Lease(lane=row.key, owner=owner, fence=row.fence, wake=row.wake, failures=row.failures)


def _event(row: Row) -> Event:
    facts = dict(zip(_TAKEN, _taken(row), strict=True))
    return Event(**facts, payload=codec.loads(row.payload), after_gap=bool(row.gap))


def _run(taken: Event, state: str | None) -> dict[str, Any]:
    return {"event_id": taken.id, "done": state, "failed": taken.attempts, "call": taken.correlation_id}

"""Gather what one transaction can do, with the few statements that are neither queue nor handoff.

No module above the ledger contains SQL.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Generic, NamedTuple, TypeVar

import sqlalchemy as sa

from . import codec, direct, lanes, people, queue, records, wiping
from .audit import Audit
from .bridges import Bridges
from .buckets import Buckets
from .channels import Channels
from .connection import Connection
from .database import Database, every
from .inboxes import Inboxes
from .installations import Installations
from .once import Once
from .parts import Part
from .schema import (
    EventState,
    channel,
    channel_account,
    event,
    handoff,
    in_state,
    installation,
    is_given_up,
    lane,
    message,
    meta,
)
from .signs import Signs
from .states import KindOf, State, no_kind
from .timeline import TIMERS, Timeline
from .timeline import is_waiting as _waiting

DUE_MS = 1_000
"""Milliseconds that a lane may be due before it counts as waiting for a thread."""


def _is_telling(error: str | None, is_timer: bool) -> bool:
    """Return True when an event's last failure tells what it waits for; a timer's next time is noted like one."""
    return error is not None and (not is_timer or "not asked, " in error or " raised " in error)


class Waiting(NamedTuple):
    """Hold what waits for one and the same reason. Times are epoch ms."""

    work: lanes.Work
    why: str | None
    """Why the last try failed; None: no thread has taken it yet."""
    events: int
    since: int
    due_at: int
    """When it is tried again."""


_FACTS = (
    *("id", "state", "topic", "portal_id", "thread_id", "handoff_id"),
    *("attempts", "received_at", "error", "correlation_id"),
)
"""What an operator is told of an event."""


class Statements:
    """Hold the prepared statements; see :class:`.connection.Connection`."""

    def __init__(self, insert: Any, *, is_sqlite: bool) -> None:
        each = partial(every, is_sqlite=is_sqlite)
        self.queue = queue.Statements(insert, is_sqlite=is_sqlite)
        self.records = records.Statements(insert, each)
        self.direct = direct.Statements(insert, each)
        self.people = people.Statements(each)


@cache
def statements_of(insert: Any, *, is_sqlite: bool) -> Statements:
    """Return the statements for a kind of database, which all apps of a process share: to put them together takes
    longer than most of what an app does with them in a test."""
    return Statements(insert, is_sqlite=is_sqlite)


T = TypeVar("T")


class _Made(Generic[T]):
    """Make a part of a transaction when it is first asked for: most transactions need two of the ten."""

    def __init__(self, make: Callable[[Transaction], T]) -> None:
        self._make = make

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, transaction: Transaction, _owner: type) -> T:
        made = self._make(transaction)
        transaction.__dict__[self._name] = made  # found from now on, without this
        return made


class Transaction(Part):
    """Hold one transaction's parts: ``queue`` for events and lanes, ``records`` for handoffs and messages."""

    def __init__(
        self, connection: Connection, database: Database, statements: Statements, kind_of: KindOf = no_kind
    ) -> None:
        super().__init__(connection, database)
        self._kind_of = kind_of
        self._statements = statements
        self.queue = queue.Queue(connection, statements.queue)

    records = _Made(lambda tx: records.Records(tx._connection, tx._database, tx._statements.records))
    direct = _Made(lambda tx: direct.Direct(tx._connection, tx._statements.direct))
    """Events that are stored without a look beforehand."""
    buckets = _Made(lambda tx: Buckets(tx._connection, tx._database))
    """The request budgets that all processes share."""
    installations = _Made(lambda tx: Installations(tx._connection, tx._database))
    """The portals that have installed the app, and their tokens."""
    channels = _Made(lambda tx: Channels(tx._connection, tx._database))
    """Our channel, and its accounts in the portals' inboxes."""
    once = _Made(lambda tx: Once(tx._connection, tx._database))
    """The single-use keys."""
    signs = _Made(lambda tx: Signs(tx._connection, tx._database))
    """The signs of life of the processes that dispatch."""
    bridges = _Made(lambda tx: Bridges(tx._connection, tx._database))
    """What bridges to other services remember."""
    people = _Made(lambda tx: people.People(tx._connection, tx._database, tx._statements.people))
    """What is kept of people: to be listed, erased, or deleted for its age."""
    audit = _Made(lambda tx: Audit(tx._connection, tx._database))
    """What people did by hand."""
    timeline = _Made(lambda tx: Timeline(tx._connection, tx._database))
    """What tells what happened in a handoff."""
    inboxes = _Made(lambda tx: Inboxes(tx._connection, tx._database))
    """What tells of the handoffs of an inbox."""

    def get_meta(self, name: str) -> str | None:
        """Return a stored value; None when its name is not known."""
        found: str | None = self._connection.scalar(sa.select(meta.c.value).where(meta.c.name == name))
        return found

    def set_meta(self, name: str, value: str) -> None:
        """Store a value under a name; the one before is replaced."""
        self._put(meta, {"name": name}, {"value": value})

    def set_overwritten(self) -> None:
        """Remember that nothing was ever deleted here without being overwritten."""
        self.set_meta(wiping.OVERWRITTEN, "1")

    def is_used(self) -> bool:
        """Return True for a store that holds a portal, a channel, an account or a handoff."""
        tables = (installation, channel, channel_account, handoff)
        found = (sa.exists(sa.select(1).select_from(one)) for one in tables)
        return bool(self._connection.scalar(sa.select(sa.or_(*found))))

    def prove(self) -> None:
        """Write and delete a row of its own, to prove that the database can be written; it shares no lock."""
        name = f"proof:{secrets.token_hex(8)}"
        self._add(meta, name=name, value="")
        self._connection.execute(sa.delete(meta).where(meta.c.name == name))

    # What an operator looks at and does -----------------------------------------------------------------

    def dead_events(self, limit: int = 100, *, before: int | None = None) -> list[dict[str, Any]]:
        """Return the events that were given up or could not be read, newest first; only those of lower ids."""
        dead = sa.select(event).where(is_given_up).order_by(event.c.id.desc()).limit(limit)
        if before is not None:
            dead = dead.where(event.c.id < before)
        return [_event_facts(row) for row in self._connection.execute(dead)]

    def waiting_events(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the events that are still to be run, oldest first, without timers."""
        rows = self._connection.execute(sa.select(event).where(_waiting).order_by(event.c.id).limit(limit))
        return [_event_facts(row) for row in rows]

    def dead_event(self, event_id: int) -> dict[str, Any] | None:
        """Return one dead event, with its payload and what each receiver did."""
        row = self._connection.execute(sa.select(event).where(event.c.id == event_id, is_given_up)).first()
        if row is None:
            return None
        return {
            **_event_facts(row),
            "payload": codec.loads(row.payload),
            "receivers": self._state(row.topic, row.progress).verdicts(),
        }

    def retry_dead(self, event_id: int, *, now: int, who: str | None = None) -> bool:
        """Put a dead event back at its place in its lane; receivers that accepted it are not asked again.

        :param who: wants it so, for the audit.
        """
        row = self._connection.execute(
            sa.select(event.c.lane, event.c.topic, event.c.progress, event.c.handoff_id).where(
                event.c.id == event_id, in_state(EventState.DEAD), event.c.lane.is_not(None)
            )
        ).first()
        if row is None:
            return False
        state = self._state(row.topic, row.progress)
        state.forget_verdicts()
        fresh = {"attempts": 0, "starts": 0, "error": None, "done_at": None, "received_at": now}
        again = sa.update(event).where(event.c.id == event_id, in_state(EventState.DEAD))
        again = again.values(state=int(EventState.PENDING), progress=codec.dumps(state.to_json()), **fresh)
        self.queue.touch(row.lane, due_at=now)  # first, as all lock lanes before their events
        if not self._changed(again):
            return False  # somebody else has just retried it
        self.audit.note(who=who, what="retry", event_id=event_id, handoff_id=row.handoff_id, now=now)
        return True

    def discard_dead(self, event_id: int, *, now: int, who: str | None = None) -> bool:
        """Count an event that was given up as done: its key stays known. See :meth:`retry_dead`."""
        gone = sa.update(event).where(event.c.id == event_id, is_given_up).returning(event.c.handoff_id)
        row = self._connection.execute(gone.values(state=int(EventState.DONE), done_at=now)).first()
        if row is None:
            return False
        self.audit.note(who=who, what="discard", event_id=event_id, handoff_id=row.handoff_id, now=now)
        return True

    def status(self, *, now: int) -> dict[str, Any]:
        """Return the figures of ``flask hubspot-hitl status``. Ages are in seconds."""
        by_state = sa.select(event.c.state, sa.func.count()).group_by(event.c.state)
        counts = {int(state): int(count) for state, count in self._connection.execute(by_state)}
        pending, oldest = self._connection.execute(
            sa.select(sa.func.count(), sa.func.min(event.c.received_at)).where(_waiting)
        ).one()
        leased = self._connection.scalar(
            sa.select(sa.func.count()).select_from(lane).where(lane.c.owner.is_not(None), lane.c.due_at > now)
        )
        hung = self._connection.execute(sa.select(lane.c.key, lane.c.owner).where(lane.c.hung_since.is_not(None))).all()
        return {
            "pending": int(pending),
            "oldest_pending_seconds": None if oldest is None else max(0, now - int(oldest)) / 1000,
            "leased": int(leased or 0),
            **{state.name.lower(): counts.get(state, 0) for state in EventState if state != EventState.PENDING},
            "hung_lanes": sorted(one.key for one in hung),
            "hung_by_process": dict(Counter(one.owner for one in hung)),
            "handoffs": self.records.count_by_state(),
        }

    def waits(self, *, now: int) -> list[Waiting]:
        """Return what waits, by class and reason, the most urgent first, without timers whose time has not come."""
        rows = self._connection.execute(
            sa.select(
                *(event.c.lane, lane.c.due_at, lane.c.owner, sa.func.count().label("events")),
                sa.func.min(event.c.received_at).label("received_at"),
                sa.func.min(event.c.sort_at).label("sort_at"),
                sa.func.max(event.c.error).label("error"),
            )
            .join(lane, lane.c.key == event.c.lane)
            .where(in_state(EventState.PENDING), lane.c.due_at.is_not(None))
            .group_by(event.c.lane, lane.c.due_at, lane.c.owner)
        )
        found: dict[tuple[lanes.Work, str | None], Waiting] = {}
        for row in rows:
            is_timer = row.lane.startswith(tuple(f"{prefix}:" for prefix in TIMERS))
            is_due = row.due_at <= now - DUE_MS
            if (row.owner is not None and row.due_at > now) or not (is_due or _is_telling(row.error, is_timer)):
                continue
            work, why = lanes.work_of(row.lane), None if is_due else row.error
            since = row.sort_at if is_timer else row.received_at
            one = found.setdefault((work, why), Waiting(work, why, 0, since, row.due_at))
            found[work, why] = Waiting(
                work, why, one.events + row.events, min(one.since, since), min(one.due_at, row.due_at)
            )
        return sorted(found.values(), key=lambda one: (one.work, one.since, -one.events))

    def last_error(self) -> dict[str, Any] | None:
        """Return the newest error of what waits or was given up: ``at`` (epoch ms), ``topic``, ``error``; or None."""
        newest = sa.select(event).where(event.c.error.is_not(None), sa.or_(_waiting, is_given_up))
        row = self._connection.execute(newest.order_by(event.c.id.desc()).limit(1)).first()
        return None if row is None else {"at": row.received_at, "topic": row.topic, "error": row.error}

    def count(self, state: EventState, portal_id: str | None = None) -> int:
        """Return the number of events in a state, of one portal or of all."""
        statement = sa.select(sa.func.count()).select_from(event).where(in_state(state))
        if portal_id is not None:
            statement = statement.where(event.c.portal_id == portal_id)
        return int(self._connection.scalar(statement) or 0)

    # Parked events: of threads that we do not know yet ---------------------------------------------------

    def parked(self, portal_id: str) -> list[dict[str, Any]]:
        """Return a portal's parked events, in order of arrival: id, thread_id, received_at, topic, payload."""
        rows = self._connection.execute(
            sa.select(event.c.id, event.c.thread_id, event.c.received_at, event.c.topic, event.c.payload)
            .where(in_state(EventState.PARKED), event.c.portal_id == portal_id)
            .order_by(event.c.id)
        )
        return [{**row._mapping, "payload": codec.loads(row.payload)} for row in rows]

    def unpark(self, event_ids: Sequence[int], *, lane_key: str, handoff_id: str | None, now: int) -> None:
        """Move parked events into their lane."""
        self.queue.touch(lane_key, due_at=now)
        self._connection.execute(
            sa.update(event)
            .where(in_state(EventState.PARKED), event.c.id.in_(event_ids))
            .values(state=int(EventState.PENDING), lane=lane_key, handoff_id=handoff_id)
        )

    def adopt(self, lane_key: str, *, handoff_id: str) -> None:
        """Give a handoff what waits in its thread's lane without one."""
        waits = (event.c.lane == lane_key, in_state(EventState.PENDING), event.c.handoff_id.is_(None))
        self._connection.execute(sa.update(event).where(*waits).values(handoff_id=handoff_id))

    def drop_parked(self, event_ids: list[int]) -> None:
        """Delete parked events: noise of threads that are not ours."""
        self._connection.execute(sa.delete(event).where(event.c.id.in_(event_ids), in_state(EventState.PARKED)))

    # A user's message that is not published yet ----------------------------------------------------------

    def cancel_unpublished(self, lane_key: str, *, now: int, topics: Sequence[str]) -> list[tuple[str, Any]]:
        """Cancel the events of an outbound lane that have surely not reached HubSpot.

        An event that has been begun (``starts``), or of which the last try may have been carried out, is left alone:
        its own run will settle it.

        :param topics: only events with one of these topics are cancelled.
        :returns: topic and payload of each cancelled event.
        """
        rows = self._connection.execute(
            sa.select(event.c.id, event.c.topic, event.c.payload, event.c.progress)
            .where(
                event.c.lane == lane_key,
                in_state(EventState.PENDING),
                event.c.starts == 0,
                event.c.topic.in_([str(topic) for topic in topics]),
            )
            .with_for_update()  # who runs the lane may begin one of them just now
        ).all()
        taken = [row for row in rows if not self._state(row.topic, row.progress).may_have_happened]
        if taken:
            self._connection.execute(
                sa.update(event)
                .where(event.c.id.in_([row.id for row in taken]))
                .values(state=int(EventState.DONE), done_at=now, error="the handoff ended")
            )
        return [(row.topic, codec.loads(row.payload)) for row in taken]

    def _state(self, topic: str, progress: str | None) -> State:
        return self._kind_of(topic).from_json(codec.loads(progress))

    def delete_lane(self, lane_key: str) -> None:
        """Delete a lane and its events, of a handoff whose ``start`` raised."""
        self._connection.execute(sa.delete(event).where(event.c.lane == lane_key))
        self._connection.execute(sa.delete(lane).where(lane.c.key == lane_key))

    # Retention -------------------------------------------------------------------------------------------

    def forget_payloads(self, *, before: int, limit: int) -> int:
        """Empty the payloads of events that were done before ``before`` (epoch ms), oldest first; their keys stay.

        :returns: the number of events.
        """
        chosen = (
            sa.select(event.c.id)
            .where(in_state(EventState.DONE), event.c.done_at < before, event.c.payload.is_not(None))
            .order_by(event.c.done_at)
            .limit(limit)
        )
        finished = sa.update(event).where(event.c.id.in_(chosen.scalar_subquery()))
        return self._changed(finished.values(payload=None, progress=None))

    def prune(self, *, before: int, limit: int) -> int:
        """Delete events that were done before ``before`` (epoch ms), oldest first.

        :returns: the number of events.
        """
        done = sa.select(event.c.id).where(in_state(EventState.DONE), event.c.done_at < before)
        chosen = list(self._connection.scalars(done.order_by(event.c.done_at).limit(limit)))
        if chosen:
            self._connection.execute(sa.delete(event).where(event.c.id.in_(chosen)))
        return len(chosen)

    def prune_lanes(self, *, limit: int) -> int:
        """Delete idle lanes in which nothing is left. One whose next event is to carry ``after_gap`` stays for as long
        as anything that was given up in it is kept.

        :returns: the number of lanes.
        """
        waits = sa.exists().where(event.c.lane == lane.c.key, in_state(EventState.PENDING))
        given_up = sa.select(event.c.lane).where(is_given_up, event.c.lane.is_not(None))
        is_told = sa.or_(lane.c.gap == 0, lane.c.key.not_in(given_up))
        chosen = sa.select(lane.c.key).where(lane.c.due_at.is_(None), lane.c.owner.is_(None), ~waits, is_told)
        keys = list(self._connection.scalars(chosen.limit(limit).with_for_update(skip_locked=True)))
        if keys:
            self._connection.execute(sa.delete(lane).where(lane.c.key.in_(keys)))
        return len(keys)

    def message_count(self, handoff_id: str) -> int:
        """Return the number of messages of a handoff."""
        statement = sa.select(sa.func.count()).select_from(message).where(message.c.handoff_id == handoff_id)
        return int(self._connection.scalar(statement) or 0)


def _event_facts(row: sa.Row[Any]) -> dict[str, Any]:
    facts = {name: getattr(row, name) for name in _FACTS}
    return {**facts, "state": EventState(row.state).name.lower()}

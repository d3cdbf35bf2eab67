"""Find handoffs, and read what happened in one: for the admin. Runs inside the caller's transaction.

No text of a message is read. Every reading is bounded: by a limit, and without an index by how far it looks back.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..domain import Handoff, HandoffState
from . import codec, lanes
from .parts import Part
from .rows import to_record
from .schema import EventState, event, handoff, in_state, is_given_up, message, thread

TIMERS = [kind.prefix for kind in lanes.Lane if kind.is_timer]
is_waiting = sa.and_(in_state(EventState.PENDING), *(event.c.lane.not_like(f"{prefix}:%") for prefix in TIMERS))
"""Chooses the events that wait to be run, without timers."""
LOOKS_BACK = 200_000
"""Rows, the newest, that are looked through where there is no index."""
_EVENT = (
    *(event.c.id, event.c.topic, event.c.state, event.c.starts, event.c.attempts, event.c.received_at),
    *(event.c.done_at, event.c.error, event.c.correlation_id, event.c.progress),
)
_MESSAGE = (
    *(message.c.id, message.c.author, message.c.message_id, message.c.hubspot_id, message.c.event_id),
    *(message.c.created_at, message.c.status, message.c.error),
)


class Timeline(Part):
    """Read handoffs, and what happened in them, in one transaction."""

    def handoffs(
        self,
        *,
        limit: int,
        before: int | None = None,
        states: tuple[HandoffState, ...] = (),
        texts: tuple[str, ...] = (),
    ) -> list[tuple[int, Handoff]]:
        """Return handoffs with their numbers, the newest first.

        :param before: only those with a lower number.
        :param states: only those in one of these states; (): in any.
        :param texts: only those that have one of these as their id, or as that of their conversation, their thread or
            their contact, or as its number or address; (): all. A conversation and an id are found however old they
            are, the others among the newest :data:`LOOKS_BACK`.
        """
        found = sa.select(handoff).order_by(handoff.c.seq.desc()).limit(limit)
        if before is not None:
            found = found.where(handoff.c.seq < before)
        if states:
            found = found.where(handoff.c.state.in_([one.value for one in states]))
        if texts:
            near = handoff.c.seq > self._from(handoff.c.seq)
            mentions = (has for one in texts for has in _mentions(one))
            found = found.where(
                handoff.c.seq.in_(
                    _each_of(
                        handoff.c.seq,
                        handoff.c.conversation_id.in_(texts),
                        handoff.c.id.in_(texts),
                        sa.and_(near, sa.or_(handoff.c.thread_id.in_(texts), *mentions)),
                    )
                )
            )
        return [(row.seq, to_record(row).handoff) for row in self._connection.execute(found)]

    def events(self, handoff_id: str, threads: list[tuple[str, str]], *, limit: int) -> list[dict[str, Any]]:
        """Return the newest events of a handoff and of its threads, the newest first.

        :param threads: portal ids and thread ids.
        """
        of_threads = (sa.and_(event.c.portal_id == portal, event.c.thread_id == one) for portal, one in threads)
        mine = sa.or_(event.c.handoff_id == handoff_id, *of_threads)
        near = event.c.id > self._from(event.c.id)
        ids = _each_of(event.c.id, sa.and_(near, mine), sa.and_(is_given_up, mine))
        found = sa.select(*_EVENT).where(event.c.id.in_(ids)).order_by(event.c.id.desc()).limit(limit)
        return [row._asdict() for row in self._connection.execute(found)]

    def messages(self, handoff_id: str, *, limit: int) -> list[dict[str, Any]]:
        """Return the newest messages of a handoff, without what they say, the newest first."""
        found = sa.select(*_MESSAGE).where(message.c.handoff_id == handoff_id)
        found = found.order_by(message.c.created_at.desc(), message.c.id.desc()).limit(limit)
        return [row._asdict() for row in self._connection.execute(found)]

    def threads(self, handoff_id: str) -> list[tuple[str, str]]:
        """Return the portal ids and thread ids of a handoff's threads."""
        found = sa.select(thread.c.portal_id, thread.c.thread_id).where(thread.c.handoff_id == handoff_id)
        return [(row[0], row[1]) for row in self._connection.execute(found.limit(20))]

    def last_errors(self) -> dict[str, str]:
        """Return the newest error of what waits or was given up, by portal."""
        has_error = event.c.error.is_not(None)
        ids = _each_of(event.c.id, sa.and_(is_waiting, has_error), sa.and_(is_given_up, has_error))
        newest = sa.select(sa.func.max(event.c.id)).where(event.c.id.in_(ids)).group_by(event.c.portal_id)
        found = sa.select(event.c.portal_id, event.c.error).where(event.c.id.in_(newest))
        return {row.portal_id: row.error for row in self._connection.execute(found) if row.portal_id is not None}

    def _from(self, numbers: sa.Column[int]) -> int:
        """Return the number of the row before the first one that is looked at."""
        return int(self._connection.scalar(sa.select(sa.func.max(numbers))) or 0) - LOOKS_BACK


def _each_of(numbers: sa.Column[int], *conditions: sa.ColumnElement[bool]) -> sa.CompoundSelect[Any]:
    """Return the numbers of the rows that meet one of some conditions, each found in its own way: by its index, or by a
    look at the newest rows. Of an OR no planner makes that.
    """
    return sa.union_all(*(sa.select(numbers).where(one) for one in conditions))


def _mentions(text: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Return conditions that a handoff's contact or sender has this value, in whichever case it is written."""
    value = f":{codec.dumps(text)}".lower()
    columns = (handoff.c.sender, handoff.c.contact)
    return tuple(sa.func.lower(one).contains(value, autoescape=True) for one in columns)

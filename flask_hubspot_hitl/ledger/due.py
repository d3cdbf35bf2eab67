"""Find lanes that are due: by class, in turn between portals, longest due first. Changes nothing.

Lanes that wait for later cost nothing, however many there are: in each index they are behind those that are due.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import sqlalchemy as sa

from .connection import Connection
from .lanes import EVERY_WORK, Work, work_of
from .schema import ONE, EventState, event, in_state, lane

_PLACES = [f"work_{number}" for number in range(len(Work))]
"""Parameters that say which classes are looked at, in this order."""
_NONE = 0
"""No class: nothing is found in its place."""
PORTALS_AT_ONCE = 200
"""Portals that one look for those with due lanes passes, so that it takes milliseconds however many there are."""

_given = sa.bindparam


@cache
def places(works: tuple[Work, ...]) -> Mapping[str, int]:
    """Return the parameters of the statements below that take classes, in the order to look at them."""
    return {place: int(works[number]) if number < len(works) else _NONE for number, place in enumerate(_PLACES)}


def next_key() -> sa.ColumnElement[str]:
    """Return the key of the lane that has been due the longest, of the first class that has one."""
    return sa.func.coalesce(*(_first_due(lane.c.work == _given(place)) for place in _PLACES))


def next_key_in_turn() -> sa.ColumnElement[str]:
    """Return the same, but within each class a lane of the portal ``turn`` comes first."""
    found = []
    for place in _PLACES:
        of_work = lane.c.work == _given(place)
        found += [_first_due(of_work, lane.c.portal_id == _given("turn")), _first_due(of_work)]
    return sa.func.coalesce(*found)


def _first_due(*which: sa.ColumnElement[bool]) -> sa.ScalarSelect[str]:
    """Return the lane that has been due the longest. Within coalesce() it is looked for only if those before found
    none."""
    return (
        sa.select(lane.c.key)
        .where(*which, lane.c.due_at <= _given("now"))
        .order_by(lane.c.due_at)
        .limit(ONE)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


def _portals() -> sa.Select[Any]:
    """Return portals that have lanes of a class, from ``since`` on, and whether any of these is due.

    One step in the index for each portal, however many lanes it has.
    """
    of_work = sa.and_(lane.c.work == _given("work"), lane.c.due_at.is_not(None))
    first: Any = sa.select(sa.func.min(lane.c.portal_id).label("portal_id"), sa.literal_column("1").label("number"))
    found = first.where(of_work, lane.c.portal_id >= _given("since")).cte("found", recursive=True)
    later = sa.select(sa.func.min(lane.c.portal_id)).where(of_work, lane.c.portal_id > found.c.portal_id)
    going_on = sa.and_(found.c.portal_id.is_not(None), found.c.number < PORTALS_AT_ONCE)
    found = found.union_all(sa.select(later.scalar_subquery(), found.c.number + 1).where(going_on))
    is_due = sa.exists().where(
        lane.c.work == _given("work"), lane.c.portal_id == found.c.portal_id, lane.c.due_at <= _given("now")
    )
    return sa.select(found.c.portal_id, is_due.label("is_due")).where(found.c.portal_id.is_not(None))


def _next_due() -> sa.Select[Any]:
    """Return when the next lane of some classes becomes due."""
    soonest = [
        sa.select(sa.func.min(lane.c.due_at).label("due_at")).where(
            lane.c.work == _given(place), lane.c.due_at.is_not(None)
        )
        for place in _PLACES
    ]
    return sa.select(sa.func.min(sa.union_all(*soonest).subquery().c.due_at))


def _count_due() -> sa.Select[Any]:
    """Return how many lanes of some classes are due; of each class not more than ``most`` are counted."""
    counts = []
    for place in _PLACES:
        some = sa.select(lane.c.key).where(lane.c.work == _given(place), lane.c.due_at <= _given("now"))
        some = some.order_by(lane.c.due_at).limit(_given("most"))  # by index, whatever PostgreSQL knows of the table
        counts.append(sa.select(sa.func.count()).select_from(some.subquery()).scalar_subquery())
    first, *others = counts
    return sa.select(sum(others, first))


_PORTALS, _NEXT_DUE, _COUNT_DUE = _portals(), _next_due(), _count_due()
_has_failed = sa.exists().where(event.c.lane == lane.c.key, in_state(EventState.PENDING), event.c.error.is_not(None))
_WAITING = sa.select(lane.c.key).where(lane.c.due_at > _given("now"), lane.c.owner.is_(None), _has_failed)


class Due:
    """Look for lanes that are due, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def next_due(self, works: tuple[Work, ...] = EVERY_WORK) -> int | None:
        """Return the epoch ms at which the next lane of these classes becomes due, or None."""
        row = self._connection.row(_NEXT_DUE, places(works))
        return None if row is None else row[0]

    def count_due(self, *, now: int, most: int, works: tuple[Work, ...] = EVERY_WORK) -> int:
        """Return how many lanes of these classes are due; ``most`` when there are more."""
        row = self._connection.row(_COUNT_DUE, {**places(works), "now": now, "most": most})
        return 0 if row is None else min(most, row[0])

    def waiting(self, *, now: int) -> list[str]:
        """Return the lanes whose event has failed and is tried again later than ``now``.

        Not those of work that looks back, which plans when it is to be tried again.
        """
        rows = self._connection.rows(_WAITING, {"now": now})
        return [row.key for row in rows if work_of(row.key) is not Work.LOOKING_BACK]

    def due_portals(self, work: Work, *, now: int, since: str = "") -> tuple[list[str], str]:
        """Return the portals that have due lanes of a class, and from which portal on to look the next time.

        Of many portals a part is looked at.

        :param since: the portal to begin with; "": the first.
        """
        rows = self._connection.rows(_PORTALS, {"work": int(work), "now": now, "since": since})
        later = rows[-1].portal_id if len(rows) == PORTALS_AT_ONCE else ""
        return [row.portal_id for row in rows if row.is_due], later

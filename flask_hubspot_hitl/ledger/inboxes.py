"""Tell what happens in an inbox: who answers there, who waits, and how long. Runs inside the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from . import codec
from .parts import Part
from .schema import handoff, is_open, is_waiting


@dataclass(frozen=True, slots=True)
class Place:
    """Hold the place of one handoff that waits; ``told`` is the one that the host was told last, or could ask for."""

    handoff_id: str
    portal_id: str
    inbox_id: str | None
    ahead: int
    told: int


def _in(portal_id: str, inbox_id: str | None) -> list[sa.ColumnElement[bool]]:
    inbox = handoff.c.inbox_id
    return [handoff.c.portal_id == portal_id, inbox.is_(None) if inbox_id is None else inbox == inbox_id]


class Inboxes(Part):
    """Read the handoffs of an inbox; ``inbox_id`` None: of those whose inbox HubSpot does not tell."""

    __slots__ = ()

    def operators(self, portal_id: str, inbox_id: str | None, *, limit: int) -> list[str]:
        """Return the actor ids of who had or answered the inbox's newest assigned handoffs, without repetitions.

        :param limit: how many handoffs are looked at.
        """
        wanted = sa.select(handoff.c.operators, handoff.c.operator)
        wanted = wanted.where(*_in(portal_id, inbox_id), handoff.c.taken_at.is_not(None))
        found: dict[str, None] = {}
        for row in self._connection.execute(wanted.order_by(handoff.c.taken_at.desc()).limit(limit)):
            # Older handoffs know only who has them, or had them at the end.
            last = codec.operator_from_json(codec.loads(row.operator))
            known = (*codec.operators_from_text(row.operators), *([last] if last else []))
            found |= dict.fromkeys(one.actor_id for one in known)
        return list(found)

    def ahead(self, handoff_id: str, portal_id: str, inbox_id: str | None) -> int:
        """Return how many handoffs of the inbox wait that were begun before this one."""
        mine = sa.select(handoff.c.seq).where(handoff.c.id == handoff_id).scalar_subquery()
        others = sa.select(sa.func.count()).select_from(handoff)
        before = others.where(*_in(portal_id, inbox_id), is_waiting, handoff.c.seq < mine)
        return int(self._connection.scalar(before) or 0)

    def takes(self, portal_id: str, inbox_id: str | None, *, limit: int) -> list[tuple[int, int]]:
        """Return the newest handoffs of the inbox that a person took: when each was begun and taken, in epoch ms."""
        wanted = sa.select(handoff.c.opened_at, handoff.c.taken_at)
        wanted = wanted.where(*_in(portal_id, inbox_id), handoff.c.taken_at.is_not(None))
        rows = self._connection.execute(wanted.order_by(handoff.c.taken_at.desc()).limit(limit))
        return [(int(row[0]), int(row[1])) for row in rows]

    def places(self) -> list[Place]:
        """Return the place of every handoff that waits, in every inbox, the first one of each first."""
        columns = (handoff.c.id, handoff.c.portal_id, handoff.c.inbox_id, handoff.c.told_ahead)
        found: list[Place] = []
        ahead: dict[tuple[str, str | None], int] = {}
        for row in self._connection.execute(sa.select(*columns).where(is_waiting).order_by(handoff.c.seq)):
            key = row.portal_id, row.inbox_id
            found.append(Place(row.id, *key, ahead.get(key, 0), row.told_ahead or 0))
            ahead[key] = ahead.get(key, 0) + 1
        return found

    def held_by_machines(self, portal_id: str, *, since: int) -> dict[str, int]:
        """Return actor id → how many handoffs of a portal a machine has, or had at the end.

        :param since: epoch ms; those that it took before, and that have ended, are left out.
        """
        mine = sa.select(handoff.c.machine, sa.func.count()).where(handoff.c.portal_id == portal_id)
        wanted = mine.where(handoff.c.machine.is_not(None), sa.or_(is_open, handoff.c.assigned_mark >= since))
        rows = self._connection.execute(wanted.group_by(handoff.c.machine))
        return {row[0]: int(row[1]) for row in rows}

    def begun(self, handoff_id: str, portal_id: str, inbox_id: str | None) -> None:
        """Remember the place of a new handoff, which is not told: the host can ask for it."""
        ahead = self.ahead(handoff_id, portal_id, inbox_id)
        if ahead:
            self.told(handoff_id, ahead)

    def told(self, handoff_id: str, ahead: int) -> None:
        """Remember the place that the host is told."""
        self._connection.execute(sa.update(handoff).where(handoff.c.id == handoff_id).values(told_ahead=ahead))

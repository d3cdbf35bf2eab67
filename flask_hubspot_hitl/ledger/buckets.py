"""Store what all processes share about asking a portal: its budget of requests and its circuit.

Statements only: what they mean is the business of ``budget`` and ``throttle``, one level up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import sqlalchemy as sa

from . import codec
from .lanes import Work
from .parts import Part
from .schema import bucket

_WAITING = "waiting"


@dataclass(slots=True, kw_only=True)
class Bucket:
    """Hold one portal's row. Times are epoch ms, 0 for none."""

    portal_id: str
    slots: dict[int, dict[Work, int]] = field(default_factory=dict)
    """The requests of each epoch second, by class of work."""
    waiting: dict[Work, int] = field(default_factory=dict)
    """Until when requests of a class wait for their turn."""
    blocked_until: int = 0
    pauses: int = 0
    open_until: int = 0
    trips: int = 0
    probe_until: int = 0


class Buckets(Part):
    """Read and write budgets, in one transaction."""

    def lock(self, portal_id: str) -> Bucket:
        """Lock and return a portal's row until the transaction ends; insert it if missing."""
        row = self._connection.row(_OF_PORTAL, {"portal": portal_id})
        if row is None:
            self._add(bucket, portal_id=portal_id)
            row = self._connection.execute(_OF_PORTAL, {"portal": portal_id}).one()
        return _bucket(row._asdict())

    def all(self) -> list[Bucket]:
        """Return every portal's row, without locking it."""
        return [_bucket(row._mapping) for row in self._connection.execute(sa.select(bucket))]

    def save(self, changed: Bucket) -> None:
        """Write a locked row back."""
        values = {name: getattr(changed, name) for name in _SAVED}
        slots = {str(second): had for second, had in changed.slots.items()} | {_WAITING: changed.waiting}
        self._connection.change(_SAVE, {**values, "slots": codec.dumps(slots), "portal": changed.portal_id})


def _bucket(row: Mapping[str, Any]) -> Bucket:
    slots: dict[str, Any] = codec.loads(row["slots"])
    waiting = _by_work(slots.pop(_WAITING, {}))
    return Bucket(**{**row, "slots": {int(second): _by_work(one) for second, one in slots.items()}}, waiting=waiting)


def _by_work(value: Mapping[str, int] | int) -> dict[Work, int]:
    """Return a number for each class; before there were classes, all requests of a second were counted in one."""
    return {Work.LIVE: value} if isinstance(value, int) else {Work(int(work)): one for work, one in value.items()}


_OF_PORTAL = sa.select(bucket).where(bucket.c.portal_id == sa.bindparam("portal")).with_for_update()
_SAVED = [one.name for one in fields(Bucket) if one.name not in ("portal_id", "waiting")]
_SAVE = sa.update(bucket).where(bucket.c.portal_id == sa.bindparam("portal"))
_SAVE = _SAVE.values({name: sa.bindparam(name) for name in _SAVED})

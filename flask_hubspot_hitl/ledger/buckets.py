"""Store what all processes share about asking a portal: its budget of requests and its circuit.

Statements only: what they mean is the business of ``throttle``, one level up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from . import codec
from .connection import Connection
from .database import Database
from .schema import bucket


@dataclass(slots=True, kw_only=True)
class Bucket:
    """Hold one portal's row. Times are epoch ms, 0 for none; ``slots`` counts the requests of each epoch second."""

    portal_id: str
    slots: dict[int, int] = field(default_factory=dict)
    blocked_until: int = 0
    pauses: int = 0
    open_until: int = 0
    trips: int = 0
    probe_until: int = 0


class Buckets:
    """Read and write budgets, in one transaction."""

    def __init__(self, connection: Connection, database: Database) -> None:
        self._connection = connection
        self._database = database

    def lock(self, portal_id: str) -> Bucket:
        """Lock and return a portal's row until the transaction ends; insert it if missing."""
        row = self._connection.execute(_OF_PORTAL, {"portal": portal_id}).first()
        if row is None:
            new = self._database.insert(bucket).values(portal_id=portal_id).on_conflict_do_nothing()
            self._connection.execute(new)
            row = self._connection.execute(_OF_PORTAL, {"portal": portal_id}).one()
        values = dict(row._mapping)
        values["slots"] = {int(second): count for second, count in codec.loads(row.slots).items()}
        return Bucket(**values)

    def save(self, changed: Bucket) -> None:
        """Write a locked row back."""
        slots = codec.dumps({str(second): count for second, count in changed.slots.items()})
        self._connection.execute(
            sa.update(bucket)
            .where(bucket.c.portal_id == changed.portal_id)
            .values(
                slots=slots,
                blocked_until=changed.blocked_until,
                pauses=changed.pauses,
                open_until=changed.open_until,
                trips=changed.trips,
                probe_until=changed.probe_until,
            )
        )


_OF_PORTAL = sa.select(bucket).where(bucket.c.portal_id == sa.bindparam("portal")).with_for_update()

"""Store what all processes share about asking a portal: its budget of requests and its circuit.

Statements only: what they mean is the business of ``throttle``, one level up.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import sqlalchemy as sa

from . import codec
from .parts import Part
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


class Buckets(Part):
    """Read and write budgets, in one transaction."""

    def lock(self, portal_id: str) -> Bucket:
        """Lock and return a portal's row until the transaction ends; insert it if missing."""
        row = self._connection.execute(_OF_PORTAL, {"portal": portal_id}).first()
        if row is None:
            self._add(bucket, portal_id=portal_id)
            row = self._connection.execute(_OF_PORTAL, {"portal": portal_id}).one()
        values = dict(row._mapping)
        values["slots"] = {int(second): count for second, count in codec.loads(row.slots).items()}
        return Bucket(**values)

    def save(self, changed: Bucket) -> None:
        """Write a locked row back."""
        slots = codec.dumps({str(second): count for second, count in changed.slots.items()})
        row = sa.update(bucket).where(bucket.c.portal_id == changed.portal_id)
        self._connection.execute(row.values({**asdict(changed), "slots": slots}))


_OF_PORTAL = sa.select(bucket).where(bucket.c.portal_id == sa.bindparam("portal")).with_for_update()

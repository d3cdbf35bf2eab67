"""What all processes share about a portal: its budget of requests, its circuit, its tokens (as ciphertext).

Statements only: what they mean is the business of ``throttle`` and ``sharing``, one level up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from . import codec
from .database import Database
from .schema import bucket, token


@dataclass(slots=True, kw_only=True)
class Bucket:
    """One portal's row. Times are epoch ms, 0 for none; ``slots`` counts the requests of each epoch second."""

    portal_id: str
    slots: dict[int, int] = field(default_factory=dict)
    blocked_until: int = 0
    pauses: int = 0
    open_until: int = 0
    trips: int = 0
    probe_until: int = 0


class Buckets:
    """Budgets, within one transaction."""

    def __init__(self, connection: sa.Connection, database: Database) -> None:
        self._connection = connection
        self._database = database

    def lock(self, portal_id: str) -> Bucket:
        """A portal's row, locked until the end of the transaction; made if there is none."""
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


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One portal's tokens as they are stored."""

    secret: str | None = field(repr=False)
    lease_until: int
    fence: int


class SharedTokens:
    """Encrypted tokens and the lease to renew them, within one transaction."""

    def __init__(self, connection: sa.Connection, database: Database) -> None:
        self._connection = connection
        self._database = database

    def get(self, portal_id: str) -> TokenRow | None:
        """A portal's row."""
        found = self._connection.execute(
            sa.select(token.c.secret, token.c.lease_until, token.c.fence).where(token.c.portal_id == portal_id)
        ).first()
        return None if found is None else TokenRow(*found)

    def claim(self, portal_id: str, *, now: int, until: int) -> int | None:
        """Take the lease if it is free; its fence, or None when somebody has it."""
        self._connection.execute(self._database.insert(token).values(portal_id=portal_id).on_conflict_do_nothing())
        fence: int | None = self._connection.scalar(
            sa.update(token)
            .where(token.c.portal_id == portal_id, token.c.lease_until <= now)
            .values(lease_until=until, fence=token.c.fence + 1)
            .returning(token.c.fence)
        )
        return fence

    def release(self, portal_id: str, *, fence: int, secret: str | None = None) -> bool:
        """Give the lease back, with new tokens if there are any; False when somebody else has taken it since."""
        values: dict[str, object] = {"lease_until": 0}
        if secret is not None:
            values["secret"] = secret
        found = self._connection.scalar(
            sa.update(token)
            .where(token.c.portal_id == portal_id, token.c.fence == fence)
            .values(values)
            .returning(token.c.fence)
        )
        return found is not None


_OF_PORTAL = sa.select(bucket).where(bucket.c.portal_id == sa.bindparam("portal")).with_for_update()

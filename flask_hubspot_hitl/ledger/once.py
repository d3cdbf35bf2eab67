"""Store what may be used once, or is known only for a while: an OAuth flow's state, whose turn it is, who was made.

Runs inside the caller's transaction. Times are epoch ms.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from . import codec
from .parts import Part
from .schema import once


class Once(Part):
    """Store single-use keys; each step is one statement, so that of two concurrent callers exactly one succeeds."""

    def issue(self, key: str, value: dict[str, Any], *, expires_at: int, now: int) -> None:
        """Store ``value`` under a key that can't be guessed; expired ones are deleted."""
        self._connection.execute(sa.delete(once).where(once.c.expires_at <= now))
        self._connection.execute(sa.insert(once).values(key=key, value=codec.dumps(value), expires_at=expires_at))

    def claim(self, key: str, *, expires_at: int, now: int) -> bool:
        """Take a well-known key.

        :returns: False while another caller has it: until it expires or is consumed.
        """
        self._connection.execute(sa.delete(once).where(once.c.key == key, once.c.expires_at <= now))
        return self._add(once, key=key, value=codec.dumps({}), expires_at=expires_at)

    def put(self, key: str, value: dict[str, Any], *, expires_at: int) -> None:
        """Store a value under a well-known key; the one before is replaced."""
        new = self._database.insert(once).values(key=key, value=codec.dumps(value), expires_at=expires_at)
        changed = {"value": new.excluded.value, "expires_at": new.excluded.expires_at}
        self._connection.execute(new.on_conflict_do_update(index_elements=["key"], set_=changed))

    def get(self, key: str, *, now: int) -> dict[str, Any] | None:
        """Return the value of a key, and leave it there; None when it has expired or does not exist."""
        statement = sa.select(once.c.value).where(once.c.key == key, once.c.expires_at > now)
        found: dict[str, Any] | None = codec.loads(self._connection.scalar(statement))
        return found

    def prune(self, *, now: int, limit: int) -> int:
        """Delete what has expired.

        :returns: the number of keys.
        """
        chosen = sa.select(once.c.key).where(once.c.expires_at <= now).limit(limit)
        keys = list(self._connection.scalars(chosen))
        if keys:
            self._connection.execute(sa.delete(once).where(once.c.key.in_(keys), once.c.expires_at <= now))
        return len(keys)

    def peek(self, key: str, *, now: int) -> bool:
        """Return True while :meth:`consume` would find the key."""
        statement = sa.select(once.c.key).where(once.c.key == key, once.c.expires_at > now)
        return self._connection.execute(statement).first() is not None

    def consume(self, key: str, *, now: int) -> dict[str, Any] | None:
        """Take the value of a key.

        :returns: None when it was taken, has expired, or never existed.
        """
        row = self._connection.execute(
            sa.delete(once).where(once.c.key == key).returning(once.c.value, once.c.expires_at)
        ).first()
        if row is None or row.expires_at <= now:
            return None
        value: dict[str, Any] = codec.loads(row.value)
        return value

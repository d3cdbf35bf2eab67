"""What a bridge to another service remembers: JSON values under keys of its own. Statements only."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from . import codec
from .parts import Part
from .schema import bridge


class Bridges(Part):
    """Read and write what bridges remember, in one transaction."""

    def get(self, name: str, key: str, *, lock: bool = False) -> Any:
        """Return a value, or None.

        :param lock: keeps other transactions from changing the value until this one ends.
        """
        statement = sa.select(bridge.c.value).where(bridge.c.bridge == name, bridge.c.key == key)
        return codec.loads(self._connection.scalar(statement.with_for_update() if lock else statement))

    def put(self, name: str, key: str, value: Any, *, now: int) -> None:
        """Store a value; the one before is replaced. ``now`` is epoch ms."""
        self._put(bridge, {"bridge": name, "key": key}, {"value": codec.dumps(value), "updated_at": now})

    def add(self, name: str, key: str, value: Any, *, now: int) -> bool:
        """Store a value unless its key exists.

        :returns: True when stored.
        """
        return self._add(bridge, bridge=name, key=key, value=codec.dumps(value), updated_at=now)

    def delete(self, name: str, key: str) -> None:
        """Delete a value."""
        self._connection.execute(sa.delete(bridge).where(bridge.c.bridge == name, bridge.c.key == key))

    def prune(self, prefix: str, *, before: int, limit: int) -> int:
        """Delete values of all bridges whose keys begin with ``prefix`` and that are older.

        :param before: epoch ms.
        :returns: the number deleted.
        """
        old = (
            sa.select(bridge.c.bridge, bridge.c.key)
            .where(bridge.c.key.startswith(prefix, autoescape=True), bridge.c.updated_at < before)
            .limit(limit)
        )
        found = self._connection.execute(old).all()
        for row in found:
            self.delete(row.bridge, row.key)
        return len(found)

    def newest(self, name: str, prefix: str, *, limit: int = 100) -> list[tuple[str, Any]]:
        """Return (key, value) of the keys that begin with ``prefix``, the one changed last first."""
        found = (
            sa.select(bridge.c.key, bridge.c.value)
            .where(bridge.c.bridge == name, bridge.c.key.startswith(prefix, autoescape=True))
            .order_by(bridge.c.updated_at.desc(), bridge.c.key)
            .limit(limit)
        )
        return [(row.key, codec.loads(row.value)) for row in self._connection.execute(found)]

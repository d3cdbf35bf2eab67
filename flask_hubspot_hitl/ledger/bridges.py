"""What a bridge to another service remembers: JSON values under keys of its own. Statements only.

A key is a kind and a name, ``user:42``. Of these kinds the housekeeping must know whose a row is: ``user``,
``starting`` and ``session`` are named for a conversation, a ``conversation`` of the other service's has the name as
its value, and a ``session`` holds in ``user`` which user's row it needs.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from . import codec
from .parts import Part
from .schema import bridge, handoff, is_open

DAY_MS = 86_400_000
REFUSED = "refused"
"""The row of a bridge whose key the other service refuses: ``since`` (epoch ms), ``error``, ``settings``."""


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

    def touch(self, name: str, key: str, *, now: int) -> bool:
        """Note that a row is in use, once a day; rows that are not go some time.

        :param now: epoch ms.
        :returns: True when it was noted.
        """
        old = sa.update(bridge).where(bridge.c.bridge == name, bridge.c.key == key, bridge.c.updated_at <= now - DAY_MS)
        return self._changed(old.values(updated_at=now)) > 0

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

    def refused(self) -> dict[str, Any]:
        """Return the rows of the bridges whose keys are refused, by the bridge's name."""
        found = sa.select(bridge.c.bridge, bridge.c.value).where(bridge.c.key == REFUSED).order_by(bridge.c.bridge)
        return {row.bridge: codec.loads(row.value) for row in self._connection.execute(found)}

    def unused(self, *, before: int, but: str) -> int:
        """Return how many rows were not in use since ``before`` (epoch ms), without keys that begin with ``but``."""
        return int(
            self._connection.scalar(sa.select(sa.func.count()).select_from(bridge).where(*_old(before, but))) or 0
        )

    def prune_unused(self, *, before: int, but: str, now: int, limit: int) -> int:
        """Delete rows that were not in use since ``before``, oldest first; times are epoch ms.

        Those of a conversation with an open handoff stay, and are noted as in use.

        :param but: what the keys begin with that are left alone.
        :returns: how many rows were looked at.
        """
        old = sa.select(bridge).where(*_old(before, but)).order_by(bridge.c.updated_at, bridge.c.key.desc())
        old = old.limit(limit)  # a user's row before that of the conversation: whoever writes both locks them so
        rows = [(row.bridge, row.key, codec.loads(row.value)) for row in self._connection.execute(old)]
        if not rows:
            return 0
        whose = {(name, key): _conversation_of(key, value) for name, key, value in rows}
        wanted = sa.select(handoff.c.conversation_id).where(is_open, handoff.c.conversation_id.in_(set(whose.values())))
        has_open = set(self._connection.scalars(wanted))
        needed = self._needed()
        for name, key, _ in rows:
            this = sa.and_(bridge.c.bridge == name, bridge.c.key == key, *_old(before, but))
            if whose[name, key] in has_open or (name, key) in needed:
                self._connection.execute(sa.update(bridge).where(this).values(updated_at=now))
            else:
                self._connection.execute(sa.delete(bridge).where(this))
        return len(rows)

    def _needed(self) -> set[tuple[str, str]]:
        """Return the users' rows that sessions need, with their bridges."""
        sessions = sa.select(bridge.c.bridge, bridge.c.value).where(bridge.c.key.startswith("session:"))
        found = ((row.bridge, codec.loads(row.value)) for row in self._connection.execute(sessions))
        return {
            (name, f"user:{value['user']}") for name, value in found if isinstance(value, dict) and value.get("user")
        }

    def newest(self, name: str, prefix: str, *, limit: int = 100) -> list[tuple[str, Any]]:
        """Return (key, value) of the keys that begin with ``prefix``, the one changed last first."""
        found = (
            sa.select(bridge.c.key, bridge.c.value)
            .where(bridge.c.bridge == name, bridge.c.key.startswith(prefix, autoescape=True))
            .order_by(bridge.c.updated_at.desc(), bridge.c.key)
            .limit(limit)
        )
        return [(row.key, codec.loads(row.value)) for row in self._connection.execute(found)]


def _old(before: int, but: str) -> tuple[sa.ColumnElement[bool], ...]:
    return bridge.c.updated_at < before, ~bridge.c.key.startswith(but, autoescape=True)


def _conversation_of(key: str, value: Any) -> str:
    """Return the host's name of the conversation that a row is about; "" when it is about none."""
    kind, _, name = key.partition(":")
    return str(value) if kind == "conversation" else name

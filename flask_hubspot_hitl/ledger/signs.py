"""Store signs of life: when each process that dispatches was last seen, one row for each in ``hitl_meta``.

Runs inside the caller's transaction. Times are epoch ms.
"""

from __future__ import annotations

import sqlalchemy as sa

from .parts import Part
from .schema import meta

_PREFIX = "alive:"
_FORGET_MS = 3_600_000
"""Milliseconds after its last sign when a killed process's row is deleted, by any other process's sign."""
_is_sign = meta.c.name.like(f"{_PREFIX}%")


class Signs(Part):
    """Read and write signs of life, in one transaction."""

    def show(self, owner: str, *, now: int) -> None:
        """Store that a dispatcher is alive.

        :param owner: the name with which the dispatcher holds leases.
        """
        self._put(meta, {"name": _PREFIX + owner}, {"value": _text(now)})
        self._connection.execute(sa.delete(meta).where(_is_sign, meta.c.value < _text(now - _FORGET_MS)))

    def withdraw(self, owner: str) -> None:
        """Delete the sign of a process that ends."""
        self._connection.execute(sa.delete(meta).where(meta.c.name == _PREFIX + owner))

    def all(self) -> dict[str, int]:
        """Return the owners and the epoch ms of their last sign."""
        rows = self._connection.execute(sa.select(meta.c.name, meta.c.value).where(_is_sign))
        return {row.name.removeprefix(_PREFIX): int(row.value) for row in rows}


def _text(ms: int) -> str:
    """Return a time as a text; the texts sort as the times do."""
    return f"{ms:015d}"

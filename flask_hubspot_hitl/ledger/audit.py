"""Store what people did by hand. Runs inside the caller's transaction, which is that of the deed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from .parts import Part
from .schema import audit


class Audit(Part):
    """Write and read the audit, in one transaction."""

    def note(self, *, who: str | None, what: str, event_id: int, handoff_id: str | None, now: int) -> None:
        """Store what was done with an event.

        :param who: as the host calls them; None when it does not say.
        :param now: epoch ms.
        """
        values = {"done_at": now, "who": who, "what": what, "event_id": event_id, "handoff_id": handoff_id}
        self._connection.execute(sa.insert(audit).values(values))

    def newest(self, *, limit: int, before: int | None = None, handoff_id: str | None = None) -> list[dict[str, Any]]:
        """Return what was done, the newest first: ``id``, ``done_at`` (epoch ms), ``who``, ``what``, ``event_id``,
        ``handoff_id``.

        :param before: only what has a lower id.
        :param handoff_id: only what was done with a handoff's events.
        """
        found = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            found = found.where(audit.c.id < before)
        if handoff_id is not None:
            found = found.where(audit.c.handoff_id == handoff_id)
        return [row._asdict() for row in self._connection.execute(found)]

    def prune(self, *, before: int, limit: int) -> int:
        """Delete what was done before ``before`` (epoch ms), and return how many rows."""
        old = sa.select(audit.c.id).where(audit.c.done_at < before).order_by(audit.c.done_at).limit(limit)
        return self._changed(sa.delete(audit).where(audit.c.id.in_(old.scalar_subquery())))

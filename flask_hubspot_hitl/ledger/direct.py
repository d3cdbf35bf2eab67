"""Put an event of a thread that is ours into its lane, without asking first whether it is: one transaction, no answer.

Knows threads and what was erased, and nothing of what an event means.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa

from . import codec
from .connection import Connection, Count
from .inserts import PUT, NewEvent, event_row, lane_row, touching
from .schema import erased, event, thread


class Statements:
    """Hold the two statements, made once."""

    def __init__(self, insert: Any, each: Callable[[str], sa.Select[Any]]) -> None:
        is_known = sa.and_(
            thread.c.portal_id == sa.bindparam("portal_id"), thread.c.thread_id == sa.bindparam("thread_id")
        )
        self.touch = touching(insert, lambda given: sa.select(*given).select_from(thread).where(is_known))
        names = [name for name in PUT if name != "handoff_id"]
        given = [sa.bindparam(name, type_=event.c[name].type) for name in names]
        is_erased = sa.exists().where(erased.c.key.in_(each("marks")))
        found = sa.select(*given, thread.c.handoff_id).where(is_known, ~is_erased)
        new = insert(event).from_select([*names, "handoff_id"], found)
        self.put = new.on_conflict_do_nothing(index_elements=["dedupe_key"])


class Direct:
    """Put events without a look beforehand, in one transaction."""

    def __init__(self, connection: Connection, statements: Statements) -> None:
        self._connection = connection
        self._say = statements

    def put(self, new: NewEvent, *, marks: Collection[str], now: int) -> Count:
        """Store an event and make its lane due, where its thread is a handoff's; the handoff is the thread's.

        The lane comes first: an erasure that holds it is over by then, and what it has deleted is seen.

        :param marks: by which keys its thread would be remembered, had it been erased; then nothing is stored.
        :returns: how many events were stored, known once the transaction has ended: 0 or 1.
        """
        due_at = now if new.due_at is None else new.due_at
        row = lane_row(str(new.lane), due_at, new.portal_id)
        self._connection.change(self._say.touch, {**row, "thread_id": new.thread_id})
        return self._connection.count(
            self._say.put, {**event_row(new, now), "thread_id": new.thread_id, "marks": codec.dumps(list(marks))}
        )

"""Hold what the parts of a transaction have in common: where their statements run, and the statements all of them use.

Knows no table.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from .connection import Connection
from .database import Database


class Part:
    """Run one part's statements, in one transaction."""

    __slots__ = ("_connection", "_database")

    def __init__(self, connection: Connection, database: Database) -> None:
        self._connection = connection
        self._database = database

    def _put(self, table: sa.Table, key: dict[str, Any], values: dict[str, Any], **changes: Any) -> None:
        """Store a row; where one has this key, it gets the values, and the ``changes`` as well."""
        new = self._database.insert(table).values(**key, **values)
        self._connection.execute(new.on_conflict_do_update(index_elements=list(key), set_=values | changes))

    def _add(self, table: sa.Table, **values: Any) -> bool:
        """Store a row, unless its key exists. Return True when it was stored."""
        new = self._database.insert(table).values(**values).on_conflict_do_nothing()
        return self._connection.execute(new.returning(*table.primary_key)).first() is not None

    def _changed(self, statement: sa.Update | sa.Delete) -> int:
        """Change or delete rows, and return how many."""
        return int(self._connection.execute(statement).rowcount)

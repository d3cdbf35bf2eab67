"""One transaction's connection: statements made once go straight to the driver, all others through SQLAlchemy.

SQLAlchemy's way to run a statement costs some fifty microseconds of Python, the driver's two; an event takes a dozen
statements. Knows SQLAlchemy, and nothing of what a statement means.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.sql.dml import UpdateBase

Row = Any
"""A named tuple, its fields called as the columns are."""
Statement = sa.Select[Any] | UpdateBase


class Prepared:
    """A statement's text, what its parameters are called, and what its rows look like."""

    def __init__(self, statement: Statement, dialect: sa.Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self.text = str(compiled)
        self._given: dict[str, Any] = dict(compiled.params)
        self._order: Sequence[str] | None = compiled.positiontup
        self._row: Callable[[Iterable[Any]], Row] | None = None

    def bind(self, values: Mapping[str, Any]) -> Any:
        """The values as the driver wants them: in order, or by name."""
        if self._order is None:
            return {**self._given, **values}
        given = self._given
        return [values[name] if name in values else given[name] for name in self._order]

    def row(self, cursor: Any, values: Sequence[Any]) -> Row:
        """The values of a row, with names."""
        if self._row is None:
            names = [column[0] for column in cursor.description]
            self._row = cast(Any, namedtuple("Row", names, rename=True))._make
        return self._row(values)


class Connection:
    """What the ledger's parts work with, within one transaction.

    :meth:`row`, :meth:`rows`, :meth:`change` and :meth:`change_many` take statements that are made once, as constants
    of a module or of an object that lives as long as the database: they are put together when they come first.
    :meth:`execute` and its kin are SQLAlchemy's.
    """

    def __init__(self, connection: sa.Connection, prepared: dict[Statement, Prepared]) -> None:
        self.core = connection
        """SQLAlchemy's, in the same transaction."""
        self._driver: Any = connection.connection.driver_connection
        self._prepared = prepared
        self.execute = connection.execute
        self.scalar = connection.scalar
        self.scalars = connection.scalars

    def rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """All rows of a prepared statement."""
        prepared = self._prepare(statement)
        cursor = self._driver.execute(prepared.text, prepared.bind(values))
        return [prepared.row(cursor, one) for one in cursor.fetchall()]

    def row(self, statement: Statement, values: Mapping[str, Any]) -> Row | None:
        """The first row of a prepared statement, or None."""
        prepared = self._prepare(statement)
        cursor = self._driver.execute(prepared.text, prepared.bind(values))
        found = cursor.fetchone()
        return None if found is None else prepared.row(cursor, found)

    def change(self, statement: Statement, values: Mapping[str, Any]) -> int:
        """Run a prepared statement that answers no rows; returns how many it changed."""
        prepared = self._prepare(statement)
        changed: int = self._driver.execute(prepared.text, prepared.bind(values)).rowcount
        return changed

    def change_many(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> int:
        """:meth:`change` for each of ``values``, in this order; returns how many were changed in all."""
        if len(values) == 1:
            return self.change(statement, values[0])
        prepared = self._prepare(statement)
        cursor = self._driver.cursor()
        try:
            cursor.executemany(prepared.text, [prepared.bind(one) for one in values])
            changed: int = cursor.rowcount
        finally:
            cursor.close()
        return changed

    def _prepare(self, statement: Statement) -> Prepared:
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = Prepared(statement, self.core.dialect)
        return prepared

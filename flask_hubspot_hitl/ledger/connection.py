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

USED_AT = "hitl_used_at"
"""In a pooled connection's ``info``: :attr:`Connection.used_at`."""
MADE_AT = "hitl_made_at"
"""The same: :attr:`Connection.made_at`."""
Row = Any
"""A named tuple, its fields called as the columns are."""
Statement = sa.Select[Any] | UpdateBase


class Prepared:
    """A statement's text, what its parameters are called, and what its rows look like."""

    def __init__(self, statement: Statement, engine: sa.Engine) -> None:
        schemas = engine.get_execution_options().get("schema_translate_map")
        given = {"schema_translate_map": schemas, "render_schema_translate": True} if schemas else {}
        compiled: Any = statement.compile(dialect=engine.dialect, **given)
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

    def __init__(
        self, engine: sa.Engine, pooled: sa.PoolProxiedConnection, prepared: dict[Statement, Prepared]
    ) -> None:
        self._engine = engine
        self._pooled = pooled
        self._prepared = prepared
        self._core: sa.Connection | None = None
        driver: Any = pooled.driver_connection
        self.driver = driver
        """The driver's."""
        # A cursor of psycopg's costs as much as a short statement; one of SQLite's would hold on to what it read.
        self._execute = (driver if engine.dialect.name == "sqlite" else driver.cursor()).execute
        self._busy_timeout = 0
        self.used_at = 0.0
        """When its last transaction ended, in monotonic seconds."""
        self.made_at: float = pooled.info.get(MADE_AT, 0.0)
        """When it was connected, the same; 0 for SQLite."""

    @property
    def core(self) -> sa.Connection:
        """SQLAlchemy's, in the same transaction; made when it is asked for."""
        if self._core is None:
            self._core = sa.Connection(self._engine, self._pooled)
        return self._core

    def execute(self, statement: sa.Executable, values: Any = None) -> Any:
        """See SQLAlchemy."""
        return self.core.execute(statement, values)

    def scalar(self, statement: sa.Executable, values: Any = None) -> Any:
        """See SQLAlchemy."""
        return self.core.scalar(statement, values)

    def scalars(self, statement: sa.Executable, values: Any = None) -> Any:
        """See SQLAlchemy."""
        return self.core.scalars(statement, values)

    def be_patient(self, seconds: float) -> None:
        """How long SQLite waits for others' writers, in steps of a tenth: each step is a statement that it prepares."""
        timeout = int(seconds * 10) * 100 + 100
        if timeout != self._busy_timeout:
            self.driver.execute(f"PRAGMA busy_timeout={timeout}")
            self._busy_timeout = timeout

    def commit(self) -> None:
        """End the transaction."""
        if self._core is not None and self._core.in_transaction():
            self._core.commit()
        else:
            self.driver.commit()

    def close(self) -> None:
        """Give it back to the pool; the transaction has ended."""
        if self.used_at:
            self._pooled.info[USED_AT] = self.used_at
        (self._core or self._pooled).close()

    def invalidate(self) -> None:
        """The connection is of no use any more."""
        if self._core is None or not self._core.invalidated:
            self._pooled.invalidate()

    def row(self, statement: Statement, values: Mapping[str, Any]) -> Row | None:
        """The first row of a prepared statement, or None."""
        prepared = self._prepare(statement)
        cursor = self._execute(prepared.text, prepared.bind(values))
        found = cursor.fetchone()
        return None if found is None else prepared.row(cursor, found)

    def rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """All rows of a prepared statement."""
        prepared = self._prepare(statement)
        cursor = self._execute(prepared.text, prepared.bind(values))
        return [prepared.row(cursor, found) for found in cursor.fetchall()]

    def change(self, statement: Statement, values: Mapping[str, Any]) -> int:
        """Run a prepared statement that answers no rows; returns how many it changed."""
        prepared = self._prepare(statement)
        changed: int = self._execute(prepared.text, prepared.bind(values)).rowcount
        return changed

    def change_many(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> int:
        """:meth:`change` for each of ``values``, in this order; returns how many were changed in all."""
        if len(values) == 1:
            return self.change(statement, values[0])
        prepared = self._prepare(statement)
        cursor = self.driver.cursor()
        try:
            cursor.executemany(prepared.text, [prepared.bind(one) for one in values])
            changed: int = cursor.rowcount
        finally:
            cursor.close()
        return changed

    def _prepare(self, statement: Statement) -> Prepared:
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = Prepared(statement, self._engine)
        return prepared

"""Run one transaction's statements: prepared ones directly on the driver, all others through SQLAlchemy.

SQLAlchemy's way to run a statement costs some fifty microseconds of Python, the driver's two; an event takes a dozen
statements. :class:`PlainConnection` runs all through SQLAlchemy; :mod:`.pipeline` is PostgreSQL's fast way. Knows
nothing of what a statement means.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import UpdateBase

from ..errors import LedgerUnavailable

USED_AT = "hitl_used_at"
"""Key of :attr:`Connection.used_at` in a pooled connection's ``info``."""
MADE_AT = "hitl_made_at"
"""Key of :attr:`Connection.made_at` in a pooled connection's ``info``."""
Row = Any
"""A named tuple, its fields called as the columns are."""
Statement = sa.Select[Any] | UpdateBase
_KEEP_COUNT = {"preserve_rowcount": True}
"""Has SQLAlchemy look at the number of rows after an INSERT, too: psycopg forgets it with the cursor."""
_IN_ERROR = 3
"""libpq's ``PQTRANS_INERROR``: a statement of the transaction has failed, so that COMMIT would be a ROLLBACK."""


class Prepared:
    """Hold a compiled statement: its text, its parameters' names, its row type."""

    def __init__(self, statement: Statement, engine: sa.Engine) -> None:
        schemas = engine.get_execution_options().get("schema_translate_map")
        given = {"schema_translate_map": schemas, "render_schema_translate": True} if schemas else {}
        compiled: Any = statement.compile(dialect=engine.dialect, **given)
        self.text = str(compiled)
        self.given: dict[str, Any] = dict(compiled.params)
        """Parameters that the statement itself says."""
        self.numbered: Any = None
        """The statement as libpq takes it, once it was; see :mod:`.pipeline`."""
        self._pick = _picking(compiled.positiontup)
        self._row: Callable[[Iterable[Any]], Row] | None = None

    def bind(self, values: Mapping[str, Any]) -> Any:
        """Return the values as the driver wants them: in order, or by name."""
        return self._pick({**self.given, **values})

    def row(self, cursor: Any, values: Sequence[Any]) -> Row:
        """Return the values of a row as a named tuple."""
        if self._row is None:
            names = [column[0] for column in cursor.description]
            self._row = partial(tuple.__new__, namedtuple("Row", names, rename=True))
        return self._row(values)


def _picking(order: Sequence[str] | None) -> Callable[[dict[str, Any]], Any]:
    """Return what makes the values of a statement's parameters into what its driver takes.

    :param order: the names of the parameters; None: the driver takes them by name.
    """
    if order is None:
        return lambda values: values
    if len(order) > 1:
        return itemgetter(*order)
    return lambda values: tuple(values[name] for name in order)


_prepared: dict[tuple[str, str | None], dict[Statement, Prepared]] = {}
"""The compiled statements, by dialect and schema: apps of a process that have the same ones share them."""


def _prepared_for(engine: sa.Engine) -> dict[Statement, Prepared]:
    schemas = engine.get_execution_options().get("schema_translate_map") or {}
    return _prepared.setdefault((engine.dialect.name, schemas.get(None)), {})


class Count:
    """Hold how many rows a statement has changed; 0 until that is known."""

    __slots__ = ("rows",)

    def __init__(self, rows: int = 0) -> None:
        self.rows = rows


class Connection:
    """Run the statements of the ledger's parts, within one transaction.

    :meth:`row`, :meth:`rows`, :meth:`rows_of`, :meth:`change`, :meth:`change_each` and :meth:`change_many` take
    statements that are made once in a process, for they are kept: they are compiled when they come first.
    :meth:`execute`, :meth:`scalar` and :meth:`scalars` are SQLAlchemy's.
    """

    def __init__(self, engine: sa.Engine, pooled: sa.PoolProxiedConnection) -> None:
        self._engine = engine
        self._pooled = pooled
        self._prepared = _prepared_for(engine)
        self._core: sa.Connection | None = None
        driver: Any = pooled.driver_connection
        self.driver = driver
        """The driver's connection."""
        self._is_sqlite = engine.dialect.name == "sqlite"
        # A cursor of psycopg's costs as much as a short statement; one of SQLite's would hold on to what it read.
        self._execute = (driver if self._is_sqlite else driver.cursor()).execute
        self._busy_timeout = 0
        self.used_at = 0.0
        """Monotonic seconds at which the connection's last transaction ended."""
        self.made_at: float = pooled.info.get(MADE_AT, 0.0)
        """Monotonic seconds at which the connection was made; 0 for SQLite."""

    @property
    def core(self) -> sa.Connection:
        """Return SQLAlchemy's connection in the same transaction; it is made when it is asked for."""
        if self._core is None:
            self._core = sa.Connection(self._engine, self._pooled)
        return self._core

    def execute(self, statement: sa.Executable, values: Any = None) -> Any:
        """Run a SQLAlchemy statement; see ``sqlalchemy.Connection.execute``."""
        return self.core.execute(statement, values)

    def scalar(self, statement: sa.Executable, values: Any = None) -> Any:
        """Run a SQLAlchemy statement; see ``sqlalchemy.Connection.scalar``."""
        return self.core.scalar(statement, values)

    def scalars(self, statement: sa.Executable, values: Any = None) -> Any:
        """Run a SQLAlchemy statement; see ``sqlalchemy.Connection.scalars``."""
        return self.core.scalars(statement, values)

    def be_patient(self, seconds: float) -> None:
        """Set SQLite's busy timeout, rounded to 0.1 s because each value is a statement of its own."""
        timeout = int(seconds * 10) * 100 + 100
        if timeout != self._busy_timeout:
            self.driver.execute(f"PRAGMA busy_timeout={timeout}")
            self._busy_timeout = timeout

    def must_be_whole(self) -> None:
        """Look whether a commit would store what was written.

        :raises LedgerUnavailable: when the transaction is lost: SQLite takes it back after an error of the disk, and
            PostgreSQL after a statement that failed. The driver's ``commit`` would say nothing.
        """
        is_lost = (
            not self.driver.in_transaction if self._is_sqlite else self.driver.pgconn.transaction_status == _IN_ERROR
        )
        if is_lost:
            raise LedgerUnavailable("the database can't be used just now (the transaction was lost)")

    def commit_changes(self) -> None:
        """Commit what was written.

        :raises LedgerUnavailable: when the transaction is lost; see :meth:`must_be_whole`.
        """
        self.must_be_whole()
        self.commit()

    def commit(self) -> None:
        """End the transaction."""
        if self._core is not None and self._core.in_transaction():
            self._core.commit()
        else:
            self.driver.commit()

    def rollback(self) -> None:
        """Take the transaction back."""
        self.driver.rollback()

    def close(self) -> None:
        """Return the connection to SQLAlchemy's pool; the transaction has ended."""
        if self.used_at:
            self._pooled.info[USED_AT] = self.used_at
        (self._core or self._pooled).close()

    def invalidate(self) -> None:
        """Discard the connection; it is not returned to the pool."""
        if self._core is None or not self._core.invalidated:
            self._pooled.invalidate()

    def row(self, statement: Statement, values: Mapping[str, Any]) -> Row | None:
        """Run a prepared statement, and return its first row or None."""
        prepared = self._prepare(statement)
        cursor = self._execute(prepared.text, prepared.bind(values))
        found = cursor.fetchone()
        return None if found is None else prepared.row(cursor, found)

    def rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """Run a prepared statement, and return all its rows."""
        prepared = self._prepare(statement)
        cursor = self._execute(prepared.text, prepared.bind(values))
        return [prepared.row(cursor, found) for found in cursor.fetchall()]

    def rows_of(self, *asked: tuple[Statement, Mapping[str, Any]]) -> list[Row | None]:
        """Run prepared statements one after the other, in one round trip where that can be had.

        :param asked: statements with their values; none of them needs the answer of another.
        :returns: the first row of each, or None.
        """
        return [self.row(*one) for one in asked]

    def change(self, statement: Statement, values: Mapping[str, Any]) -> None:
        """Run a prepared statement that returns nothing; what it raises may come from the next one, or the commit."""
        prepared = self._prepare(statement)
        self._execute(prepared.text, prepared.bind(values))

    def change_each(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> None:
        """Run :meth:`change` for each of ``values``, in this order."""
        self.change_many(statement, values)

    def count(self, statement: Statement, values: Mapping[str, Any]) -> Count:
        """Run :meth:`change`.

        :returns: the number of rows changed, which is known at the latest once the transaction has ended.
        """
        prepared = self._prepare(statement)
        return Count(self._execute(prepared.text, prepared.bind(values)).rowcount)

    def change_many(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> int:
        """Run a prepared statement for each of ``values``, in this order.

        :returns: the number of rows changed in all.
        """
        prepared = self._prepare(statement)
        changed: int
        if len(values) == 1:
            changed = self._execute(prepared.text, prepared.bind(values[0])).rowcount
            return changed
        cursor = self.driver.cursor()
        try:
            cursor.executemany(prepared.text, [prepared.bind(one) for one in values])
            changed = cursor.rowcount
        finally:
            cursor.close()
        return changed

    def _prepare(self, statement: Statement) -> Prepared:
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = Prepared(statement, self._engine)
        return prepared


class PlainConnection(Connection):
    """Run all statements through SQLAlchemy, which compiles and caches them itself."""

    def row(self, statement: Statement, values: Mapping[str, Any]) -> Row | None:
        """Run a statement, and return its first row or None."""
        return self.core.execute(statement, values).first()

    def rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """Run a statement, and return all its rows."""
        return list(self.core.execute(statement, values))

    def change(self, statement: Statement, values: Mapping[str, Any]) -> None:
        """Run a statement that returns nothing."""
        self.core.execute(statement, values)

    def count(self, statement: Statement, values: Mapping[str, Any]) -> Count:
        """Run a statement, and return the number of rows changed."""
        return Count(self.core.execute(statement, values, execution_options=_KEEP_COUNT).rowcount)

    def change_many(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> int:
        """Run a statement for each of ``values``; see :meth:`Connection.change_many`."""
        return self.core.execute(statement, list(values), execution_options=_KEEP_COUNT).rowcount

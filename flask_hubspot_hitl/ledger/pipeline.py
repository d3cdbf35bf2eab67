"""Send prepared statements to PostgreSQL by libpq itself, and those whose answer nobody needs along with the next one.

psycopg's way to run a statement costs some sixty microseconds of Python and a round trip; BEGIN and COMMIT are two
more. Here what only changes something is kept until an answer is needed, or until the commit: then all of it is sent
at once, in libpq's pipeline mode. PostgreSQL runs it in order, each with its own look at what is committed by then, and
skips what follows a statement that fails. Knows psycopg; knows nothing of what a statement means.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import count
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from psycopg import capabilities, errors, pq, waiting
from psycopg.adapt import Transformer

from ..errors import LedgerUnavailable
from .connection import Connection, Count, Prepared, Row, Statement

_NAMES = "hitl_names"
"""Key of the statements' names in a pooled connection's ``info``: they live as long as the session."""
_PARAMETER = re.compile(r"%\((\w+)\)s|%%")
_BEGIN, _COMMIT = b"BEGIN", b"COMMIT"
_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE)
_numbers = count()

_Call = tuple[Prepared | bytes, Sequence[bytes | None]]
"""A prepared statement, or a command, and its parameters."""


def is_supported() -> bool:
    """Return True when libpq has a pipeline mode: since version 14."""
    return capabilities.has_pipeline()


class _Numbered:
    """Hold a compiled statement as libpq takes it, and how its rows are read."""

    def __init__(self, prepared: Prepared) -> None:
        self.names: list[str] = []
        self.text = _PARAMETER.sub(self._number, prepared.text).encode()
        self.make: Callable[[Sequence[Any]], Row] | None = None

    def _number(self, found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "%"
        if name not in self.names:
            self.names.append(name)
        return f"${self.names.index(name) + 1}"


class PipelinedConnection(Connection):
    """Run prepared statements by libpq; see :class:`.connection.Connection`."""

    def __init__(self, engine: sa.Engine, pooled: sa.PoolProxiedConnection) -> None:
        super().__init__(engine, pooled)
        self._waiting: list[_Call] = []
        self._counts: list[tuple[int, Count]] = []
        """Which of what waits is counted, by its place."""
        self._names: dict[Prepared, bytes] = pooled.info.setdefault(_NAMES, {})
        self._reader = Transformer(self.driver)

    @property
    def core(self) -> sa.Connection:
        """Return SQLAlchemy's connection in the same transaction, after what waits was sent."""
        if self._waiting:
            self._send()
        return super().core

    def row(self, statement: Statement, values: Mapping[str, Any]) -> Row | None:
        """Run a prepared statement, and return its first row or None."""
        return self._first(*self._answer(statement, values))

    def rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """Run a prepared statement, and return all its rows."""
        numbered, result = self._answer(statement, values)
        return self._reader.load_rows(0, result.ntuples, self._read(numbered, result))

    def rows_of(self, *asked: tuple[Statement, Mapping[str, Any]]) -> list[Row | None]:
        """Run prepared statements in one round trip; see :meth:`Connection.rows_of`."""
        numbered = [self._queue(*one) for one in asked]
        results = self._send()[-len(asked) :]
        return [self._first(one, result) for one, result in zip(numbered, results, strict=True)]

    def change(self, statement: Statement, values: Mapping[str, Any]) -> None:
        """Have a prepared statement run before whatever comes next; see :meth:`Connection.change`."""
        self._queue(statement, values)

    def count(self, statement: Statement, values: Mapping[str, Any]) -> Count:
        """Run :meth:`change`, and count the rows; see :meth:`Connection.count`."""
        self._queue(statement, values)
        counted = Count()
        self._counts.append((len(self._waiting) - 1, counted))
        return counted

    def change_each(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> None:
        """Run :meth:`change` for each of ``values``, in this order."""
        for one in values:
            self._queue(statement, one)

    def change_many(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> int:
        """Run a prepared statement for each of ``values``; see :meth:`Connection.change_many`."""
        self.change_each(statement, values)
        return sum(result.command_tuples or 0 for result in self._send()[-len(values) :])

    def commit(self) -> None:
        """End the transaction, with what waits to be sent."""
        if self._core is not None and self._core.in_transaction():
            if self._waiting:
                self._send()
            super().commit()
        elif self._waiting or self.driver.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            self._waiting.append((_COMMIT, ()))
            if self._send()[-1].command_status != _COMMIT:
                raise LedgerUnavailable("the database can't be used just now (the transaction was lost)")

    def rollback(self) -> None:
        """Take the transaction back, and forget what waits."""
        self._waiting, self._counts = [], []
        super().rollback()

    # What is sent, and what comes back -------------------------------------------------------------------

    def _answer(self, statement: Statement, values: Mapping[str, Any]) -> tuple[_Numbered, pq.abc.PGresult]:
        numbered = self._queue(statement, values)
        return numbered, self._send()[-1]

    def _queue(self, statement: Statement, values: Mapping[str, Any]) -> _Numbered:
        prepared = self._prepare(statement)
        numbered = prepared.numbered
        if numbered is None:
            prepared.numbered = numbered = _Numbered(prepared)
        given = prepared.given
        parameters = [_encoded(values[name] if name in values else given[name]) for name in numbered.names]
        if not self._waiting and self._is_to_begin():
            self._waiting.append((_BEGIN, ()))
        self._waiting.append((prepared, parameters))
        return cast(_Numbered, numbered)

    def _is_to_begin(self) -> bool:
        idle = self.driver.pgconn.transaction_status == pq.TransactionStatus.IDLE
        return idle and not self.driver.autocommit

    def _send(self) -> list[pq.abc.PGresult]:
        """Send what waits, and return the results of each.

        :raises psycopg.Error: what the first statement that failed says; what followed it was not run.
        """
        calls, self._waiting = self._waiting, []
        counts, self._counts = self._counts, []
        libpq, names = self.driver.pgconn, dict[Prepared, bytes]()
        prepares = self.driver.prepare_threshold is not None
        is_answer: list[bool] = []
        libpq.enter_pipeline_mode()
        for what, parameters in calls:
            if isinstance(what, bytes):
                libpq.send_query_params(what, None)
            elif not prepares:
                libpq.send_query_params(_text(what), parameters)
            else:
                name = self._names.get(what) or names.get(what)
                if name is None:
                    name = names[what] = b"hitl_%d" % next(_numbers)
                    libpq.send_prepare(name, _text(what))
                    is_answer.append(False)
                libpq.send_query_prepared(name, parameters)
            is_answer.append(True)
        libpq.pipeline_sync()
        try:
            results = self.driver.wait(_results(libpq))
        except BaseException:
            self.driver.close()  # in the middle of a conversation
            raise
        libpq.exit_pipeline_mode()
        for result in results:
            if result.status in _FAILED:
                raise errors.error_from_result(result)
        self._names.update(names)
        answers = [result for result, wanted in zip(results, is_answer, strict=True) if wanted]
        for place, counted in counts:
            counted.rows = answers[place].command_tuples or 0
        return answers

    def _first(self, numbered: _Numbered, result: pq.abc.PGresult) -> Row | None:
        make = self._read(numbered, result)
        return self._reader.load_row(0, make) if result.ntuples else None

    def _read(self, numbered: _Numbered, result: pq.abc.PGresult) -> Callable[[Sequence[Any]], Row]:
        """Have the reader look at a result, and return what makes a named tuple of a row."""
        self._reader.set_pgresult(result)
        if numbered.make is None:
            names = [(result.fname(number) or b"").decode() for number in range(result.nfields)]
            numbered.make = cast(Any, namedtuple("Row", names, rename=True))._make
        return numbered.make


def _text(prepared: Prepared) -> bytes:
    numbered: _Numbered = prepared.numbered
    return numbered.text


def _encoded(value: Any) -> bytes | None:
    """Return a parameter as libpq takes it: text in UTF-8, and numbers as text.

    :raises psycopg.DataError: for a NUL, which PostgreSQL can't store; libpq would leave out what follows it.
    """
    if value is None:
        return None
    if isinstance(value, str):
        encoded = value.encode()
        if b"\0" in encoded:
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return encoded
    if isinstance(value, int):
        return b"%d" % value
    raise TypeError(f"a prepared statement takes text and whole numbers, not {type(value).__name__}")


def _results(libpq: pq.abc.PGconn) -> Generator[waiting.Wait, waiting.Ready | int, list[pq.abc.PGresult]]:
    """Send all that was queued, and read up to the mark behind it; for ``psycopg.Connection.wait``."""
    while libpq.flush():
        if (yield waiting.Wait.RW) & waiting.Ready.R:
            libpq.consume_input()
    results: list[pq.abc.PGresult] = []
    while True:
        while libpq.is_busy():
            while not (yield waiting.Wait.R):
                pass
            libpq.consume_input()
        result = libpq.get_result()
        if result is None:
            if libpq.status != pq.ConnStatus.OK:
                raise psycopg.OperationalError("the connection was lost")  # there will be no mark
            continue  # the end of one statement's results
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return results
        results.append(result)

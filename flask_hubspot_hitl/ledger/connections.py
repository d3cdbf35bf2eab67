"""Hand out connections, and drop those that are of no use: kept ready by ourselves, or from SQLAlchemy's pool.

Knows SQLAlchemy and what errors say; begins no transaction.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import sqlalchemy as sa

from ..errors import LedgerUnavailable
from .connection import MADE_AT, USED_AT, Connection, PlainConnection
from .speed import Speed
from .trouble import Session, Trouble, of_driver

_FRESH_SECONDS = 1.0
"""Seconds for which a connection that was just used is trusted without a ping."""
_WARM = 8
"""Connections kept ready outside of SQLAlchemy's pool, whose bookkeeping costs more than most transactions."""


class Connections:
    """Hand out an engine's connections, and take them back.

    :param speed: whether connections are kept ready, and whether statements are prepared.
    """

    def __init__(self, engine: sa.Engine, speed: Speed) -> None:
        self._engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._kind = self._kind_for(speed)
        self._most = _WARM if speed.warm else 0
        self.warm: list[Connection] = []
        """Connections that wait for the next transaction."""
        self._doubted_at = 0.0
        self.rejected_at = 0.0
        """Monotonic seconds: connections to PostgreSQL that were made before are of no use."""
        self.is_closed = False
        if not self._is_sqlite:
            sa.event.listen(engine, "connect", _on_connect)
            sa.event.listen(engine, "checkout", self._on_checkout)

    def _kind_for(self, speed: Speed) -> type[Connection]:
        """Return the way in which statements are run."""
        if not speed.prepared:
            return PlainConnection
        if self._is_sqlite or not speed.pipelined:
            return Connection
        from .pipeline import PipelinedConnection, is_supported  # needs psycopg

        return PipelinedConnection if is_supported() else Connection

    @property
    def driver(self) -> Any:
        """Return the driver's module."""
        return self._engine.dialect.loaded_dbapi

    def take(self) -> Connection:
        """Return a connection: a recently used one if there is one, else one of SQLAlchemy's pool."""
        while self.warm:
            try:
                connection = self.warm.pop()
            except IndexError:
                break
            is_of_use = connection.made_at >= self.rejected_at and not self._is_lost(connection)
            if is_of_use and self._is_fresh(connection.used_at):
                return connection
            connection.close()
        while self._is_lost(connection := self._kind(self._engine, self._take_pooled())):
            _drop(connection)  # one that is made anew says what has happened
        return connection

    def give_back(self, connection: Connection, error: BaseException | None) -> None:
        """Take a connection back: its transaction was committed, or is rolled back because of an ``error``."""
        if error is None:
            connection.used_at = time.monotonic()
            if len(self.warm) < self._most and not self.is_closed:
                self.warm.append(connection)
                return
        else:
            with contextlib.suppress(Exception):  # the connection may be gone, and the transaction with it
                connection.rollback()
            if not self._is_sqlite:
                self._judge(connection, error)
            elif not connection.driver.is_in_place(all_files=True):
                _drop(connection)
                return
        connection.close()
        if self.is_closed:
            self._engine.pool.dispose()  # nothing else would end it

    def take_alone(self) -> Any:
        """Return a driver's connection that belongs to no pool; the caller closes it."""
        pooled = self._take_pooled()
        connection = pooled.driver_connection
        pooled.detach()
        return connection

    def _take_pooled(self) -> sa.PoolProxiedConnection:
        while True:
            pooled = self._engine.raw_connection()
            if pooled.info.get(MADE_AT, 0.0) >= self.rejected_at:
                return pooled
            pooled.invalidate()
            pooled.close()

    def _is_lost(self, connection: Connection) -> bool:
        """Return True when a SQLite connection's files are no longer where other processes look for them."""
        return self._is_sqlite and not connection.driver.is_in_place()

    def _judge(self, connection: Connection, error: BaseException) -> None:
        """Drop a connection to PostgreSQL that an error says is of no use any more, and doubt the others."""
        trouble = self.trouble(error)
        session = Session.KEPT if trouble is None else trouble.session
        # A thread that is torn out of a conversation with the server leaves it in the middle of it.
        if connection.driver.closed or not isinstance(error, Exception) or session is not Session.KEPT:
            connection.invalidate()
            self._doubted_at = time.monotonic()
        if session is Session.REJECTED:
            self.rejected_at = time.monotonic()

    def _is_fresh(self, used_at: float) -> bool:
        return used_at > self._doubted_at and time.monotonic() - used_at < _FRESH_SECONDS

    def _on_checkout(self, driver_connection: Any, record: Any, _pooled: object) -> None:
        """Ping a connection that was idle; SQLAlchemy replaces it, and its older siblings, when it is dead."""
        used_at = record.info.get(USED_AT)
        if used_at is None or self._is_fresh(used_at):
            return
        try:
            works = self._engine.dialect.do_ping(driver_connection)
        except self.driver.Error:
            works = False
        if not works:
            raise sa.exc.InvalidatePoolError

    def unavailable(self, error: BaseException) -> LedgerUnavailable | None:
        """Translate a driver's or SQLAlchemy's error into LedgerUnavailable; None when it is of another kind."""
        trouble = self.trouble(error)
        return None if trouble is None else trouble.error()

    def trouble(self, error: BaseException) -> Trouble | None:
        """Tell what an error says of the database; None for our faults, and the data's."""
        if isinstance(error, sa.exc.TimeoutError):
            return Trouble("all connections of this process are in use", passes=True)
        cause: Any = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        return of_driver(cause, self.driver, is_sqlite=self._is_sqlite)

    def forget_warm(self) -> None:
        """Return the connections that wait for the next transaction to SQLAlchemy's pool."""
        with contextlib.suppress(IndexError):  # another thread took the last one
            while self.warm:
                self.warm.pop().close()

    def close_idle(self) -> None:
        """Close the connections that are not in use."""
        self.forget_warm()
        self._engine.pool.dispose()

    def after_fork(self) -> None:
        """Begin without connections in a forked child: it must neither use the parent's nor close them, so that they
        are kept and never looked at again."""
        self._inherited = (self.warm, self._engine.pool)
        self.warm = []
        self._engine.dispose(close=False)


def _drop(connection: Connection) -> None:
    """Drop a SQLite connection whose files are gone, or a file beside them."""
    connection.driver.save()
    connection.invalidate()
    connection.close()


def _on_connect(_connection: Any, record: Any) -> None:
    record.info[MADE_AT] = time.monotonic()

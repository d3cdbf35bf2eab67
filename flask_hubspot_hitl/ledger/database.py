"""One database, two engines: opening it safely, and one transaction at a time for SQLite's writers.

Knows SQLAlchemy, SQLite and PostgreSQL; knows nothing of handoffs.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from ..clock import Clock, SystemClock
from ..errors import LedgerUnavailable
from ..process import Process
from . import migrations
from .connection import MADE_AT, USED_AT, Connection, Prepared, Statement
from .files import Files
from .group_commit import Writers
from .patience import LONGEST, patience, remaining
from .timekeeping import Timekeeper
from .trouble import Misconfigured, Session, Trouble, first_line, of_refusals, of_sqlite, of_sqlstate
from .turns import Turns
from .url import split_servers
from .writer_lock import WriterLock

logger = logging.getLogger(__name__)

_SCHEMA_LOCK = 0x48544954  # any number that is ours; PostgreSQL advisory lock
_MIGRATION_PATIENCE = 20.0
"""Seconds that a starting process waits for another one that migrates a large database."""
_FRESH_SECONDS = 1.0
"""A connection that was used so short a time ago is taken to work still; others are asked first."""
_WRITERS = 16
"""So many threads of a process write to PostgreSQL at a time. Python runs one of them anyway, and whoever has begun
should come to an end before others begin: of 64 that go on at once, all are as late as the last one."""
_WARM = 8
"""So many connections wait for the next transaction outside of the pool."""

NO_PSYCOPG = "PostgreSQL needs a driver that is not installed: pip install 'Flask-HubSpot-HITL[postgresql]'"


class Database:
    """An engine, its schema, and ``read()``/``write()`` transactions.

    SQLite runs with WAL and ``synchronous=FULL``; its writers take turns, see :class:`.group_commit.Writers`.
    """

    def __init__(
        self,
        url: str | sa.URL,
        clock: Clock,
        *,
        pool_size: int = 20,
        schema: str | None = None,
        is_testing: Callable[[], bool] = lambda: False,
    ) -> None:
        text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
        self.is_sqlite = text.startswith("sqlite:")
        bare, servers = (url, []) if self.is_sqlite else split_servers(text)
        parsed = make_url(bare)
        self.clock = clock
        self.turns = Turns(1 if self.is_sqlite else _WRITERS)
        self.writers: Writers | None = None
        if self.is_sqlite:
            self.files = Files(Path(parsed.database or ""))
            self.files.make()
            lock = WriterLock(self.files.lock)
            self.writers = Writers(self.turns, lock, lambda: self.begin(writes=True), self.end)
            self.engine = sa.create_engine(
                parsed,
                hide_parameters=True,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_timeout=3,
                pool_reset_on_return=None,
                creator=self.files.connect,
            )
            from sqlalchemy.dialects import sqlite  # one of the two is never needed

            self.insert: Any = sqlite.insert
        else:
            try:
                from . import postgresql as driver  # needs psycopg
            except ImportError as error:
                raise Misconfigured(f"{NO_PSYCOPG} ({first_line(str(error))})") from error

            connector = driver.Connector()
            self.engine = sa.create_engine(
                parsed.set(drivername="postgresql+psycopg").difference_update_query(driver.ADDRESS),
                hide_parameters=True,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_timeout=3,
                pool_reset_on_return=None,
                connect_args=driver.options_of(parsed, servers),
            )
            sa.event.listen(self.engine, "do_connect", connector.on_do_connect)
            sa.event.listen(self.engine, "connect", _on_connect)
            sa.event.listen(self.engine, "checkout", self._on_checkout)
            from sqlalchemy.dialects import postgresql

            self.insert = postgresql.insert
        self._prepared: dict[Statement, Prepared] = {}
        self._warm: list[Connection] = []
        self._doubted_at = 0.0
        self.rejected_at = 0.0
        """Connections to PostgreSQL that were made before, in monotonic seconds, are of no use."""
        self.timekeeper: Timekeeper | None = None
        if isinstance(clock, SystemClock):
            self.timekeeper = Timekeeper(clock, self.insert, is_sqlite=self.is_sqlite)
        self._closed = False
        self._schema = schema
        self.deployment_id = ""
        """Which store this is; known once :meth:`create_schema` has found or made it."""
        self.is_testing = is_testing
        """Tells whether connections should be given back as soon as nobody is at work; see :meth:`rest`."""
        # At once: a child that never comes here would keep the lock of a parent that is killed.
        self._process = Process(self._begin_anew, at_once=True)

    def each(self, name: str) -> sa.Select[Any]:
        """The texts in the JSON array that is given as ``name``: one statement, however many there are."""
        given: sa.BindParameter[str] = sa.bindparam(name)
        if self.is_sqlite:
            return sa.select(sa.func.json_each(given).table_valued("value").c.value)
        from sqlalchemy.dialects.postgresql import JSONB

        return sa.select(sa.func.jsonb_array_elements_text(sa.cast(given, JSONB)).column_valued())

    def now_ms(self) -> int:
        """The time, in epoch ms: one clock for all processes, see :mod:`.timekeeping`."""
        return self.clock.now_ms()

    def keep_time(self, connection: Connection, *, writes: bool) -> None:
        """See :class:`.timekeeping.Timekeeper`; another clock than the machine's is left alone."""
        if self.timekeeper is not None and self.deployment_id:
            self.timekeeper.keep(connection, writes=writes)

    def read(self) -> Scope:
        """A transaction that only reads: ``with database.read() as connection``.

        :raises LedgerUnavailable: when the database can't be reached; also at the end of the block.
        """
        self._check()
        return Scope(self, LONGEST, writes=False)

    def write(self, *, seconds: float = LONGEST) -> Scope:
        """A transaction that is committed at the end of the block, or rolled back.

        ``seconds`` is how long it waits for others at the most, in all.

        :raises LedgerUnavailable: when the database can't be reached or written; nothing was changed.
        """
        self._check()
        return Scope(self, seconds, writes=True)

    def _check(self) -> None:
        self._process.check()
        if self._closed:
            raise LedgerUnavailable(
                "HubSpotHITL was closed on this app, so nothing can be read or stored any more; make a new app"
            )

    def take(self) -> Connection:
        """A connection: one that was used just now, or SQLAlchemy's pool's, whose bookkeeping costs more than most
        transactions."""
        while self._warm:
            try:
                connection = self._warm.pop()
            except IndexError:
                break
            is_of_use = connection.made_at >= self.rejected_at and not self._is_lost(connection)
            if is_of_use and self._is_fresh(connection.used_at):
                return connection
            connection.close()
        while self._is_lost(connection := Connection(self.engine, self._take_pooled(), self._prepared)):
            self._drop(connection)  # one that is made anew says what has happened
        return connection

    def _take_pooled(self) -> sa.PoolProxiedConnection:
        while True:
            pooled = self.engine.raw_connection()
            if pooled.info.get(MADE_AT, 0.0) >= self.rejected_at:
                return pooled
            pooled.invalidate()
            pooled.close()

    def _drop(self, connection: Connection) -> None:
        """A SQLite connection whose files are gone, or a file beside them."""
        connection.driver.save()
        connection.invalidate()
        connection.close()

    def _is_lost(self, connection: Connection) -> bool:
        """True when a SQLite connection's files are no longer where others look for them."""
        return self.is_sqlite and not connection.driver.is_in_place()

    def begin(self, *, writes: bool) -> Connection:
        """A connection with a transaction."""
        connection = self.take()
        try:
            # Who only reads needs no transaction: each statement sees what is committed by then, with one or without.
            if not self.is_sqlite:
                if connection.driver.autocommit is writes:
                    connection.driver.autocommit = not writes  # psycopg begins by itself
            elif writes:
                connection.be_patient(remaining())
                # A deferred transaction of SQLite's that turns into a write fails at once when another one writes.
                connection.driver.execute("BEGIN IMMEDIATE")
            self.keep_time(connection, writes=writes)
        except BaseException as error:
            self.end(connection, error)
            raise
        return connection

    def end(self, connection: Connection, error: BaseException | None) -> None:
        """Give a connection back: its transaction was committed, or is taken back because of an ``error``."""
        if error is None:
            connection.used_at = time.monotonic()
            if len(self._warm) < _WARM and not self._closed:
                self._warm.append(connection)
                return
        else:
            with contextlib.suppress(Exception):  # the connection may be gone, and the transaction with it
                connection.driver.rollback()
            if not self.is_sqlite:
                self._judge(connection, error)
            elif not connection.driver.is_in_place(all_files=True):
                self._drop(connection)
                return
        connection.close()
        if self._closed:
            self.engine.pool.dispose()  # nobody else would end it

    def _judge(self, connection: Connection, error: BaseException) -> None:
        """Drop a connection to PostgreSQL that an error says is of no use any more, and doubt the others."""
        trouble = self._trouble(error)
        session = Session.KEPT if trouble is None else trouble.session
        # Who is torn out of a conversation with the server leaves it in the middle of it.
        if connection.driver.closed or not isinstance(error, Exception) or session is not Session.KEPT:
            connection.invalidate()
            self._doubted_at = time.monotonic()
        if session is Session.REJECTED:
            self.rejected_at = time.monotonic()

    def _is_fresh(self, used_at: float) -> bool:
        return used_at > self._doubted_at and time.monotonic() - used_at < _FRESH_SECONDS

    def _on_checkout(self, driver_connection: Any, record: Any, _pooled: object) -> None:
        """Ask a connection that lay idle whether it still works; when not, SQLAlchemy takes new ones."""
        used_at = record.info.get(USED_AT)
        if used_at is None or self._is_fresh(used_at):
            return
        try:
            works = self.engine.dialect.do_ping(driver_connection)
        except self.driver.Error:
            works = False
        if not works:
            raise sa.exc.InvalidatePoolError

    @property
    def driver(self) -> Any:
        """The driver's module."""
        return self.engine.dialect.loaded_dbapi

    def unavailable(self, error: BaseException) -> LedgerUnavailable | None:
        """What the driver or SQLAlchemy raise when the database can't be used, translated; None for other errors."""
        trouble = self._trouble(error)
        return None if trouble is None else trouble.error()

    def _trouble(self, error: BaseException) -> Trouble | None:
        """What an error says of the database; None for our faults, and the data's."""
        driver = self.driver
        cause: Any = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if isinstance(error, sa.exc.TimeoutError):
            return Trouble("all connections of this process are in use", passes=True)
        # A plain DatabaseError is SQLite's word for a damaged file.
        is_its_own = isinstance(cause, (driver.OperationalError, driver.InterfaceError, driver.InternalError))
        is_its_own = is_its_own or type(cause) is driver.DatabaseError
        if self.is_sqlite:
            return of_sqlite(cause) if is_its_own else None
        if not isinstance(cause, driver.Error):
            return None
        if (reasons := getattr(cause, "reasons", None)) is not None:
            return of_refusals(reasons)
        found = of_sqlstate(cause.sqlstate, cause.diag.message_primary)
        if found is None and is_its_own:
            found = Trouble(f"{type(cause).__name__}: {first_line(str(cause))}", passes=True)
        return found

    def connect_alone(self) -> Any:
        """A psycopg connection of its own, in autocommit mode; whoever asked closes it.

        :raises LedgerUnavailable: when the database can't be reached.
        """
        self._process.check()
        with patience(LONGEST):
            try:
                pooled = self._take_pooled()
            except Exception as error:
                translated = self.unavailable(error)
                if translated is not None:
                    raise translated from error
                raise
        connection: Any = pooled.driver_connection
        pooled.detach()
        connection.autocommit = True
        return connection

    def _begin_anew(self) -> None:
        # A child must neither use the parent's connections nor close them: they are kept, and never looked at again.
        self._inherited = (self._warm, self.engine.pool)
        self._warm = []
        self.engine.dispose(close=False)
        self.turns.reset()
        if self.writers is not None:
            self.writers.after_fork()

    def create_schema(self) -> int | None:
        """Make the tables, or bring them up to this version; two processes may do so at once.

        Returns the version found when it was an older one.

        :raises LedgerUnavailable: when the database can't be reached, or was made by a newer version.
        """
        ends = time.monotonic() + _MIGRATION_PATIENCE
        while True:
            try:
                return self._bring_up()
            except LedgerUnavailable as error:
                # PostgreSQL breaks one of two that wait for each other; nothing was changed, and the other goes on.
                if not self._is_deadlock(error) or time.monotonic() > ends:
                    raise

    def _is_deadlock(self, error: LedgerUnavailable) -> bool:
        cause = getattr(error.__cause__, "orig", error.__cause__)
        return not self.is_sqlite and isinstance(cause, self.driver.errors.DeadlockDetected)

    def _bring_up(self) -> int | None:
        with self.write(seconds=_MIGRATION_PATIENCE) as connection:
            if not self.is_sqlite:
                connection.execute(sa.text(f"SET LOCAL lock_timeout = {int(_MIGRATION_PATIENCE * 1000)}"))
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
                schema = migrations.choose_schema(connection, self._schema)
            found = migrations.bring_up(connection, self.insert)
            self.deployment_id = migrations.deployment_id_of(connection)
            self.keep_time(connection, writes=True)
        if self.is_sqlite:
            self.files.deployment_id = self.deployment_id
        elif schema is not None:
            self.engine.update_execution_options(schema_translate_map={None: schema})
            self._forget_warm()  # they don't know yet
        return found

    def _forget_warm(self) -> None:
        while self._warm:
            self._warm.pop().close()

    def close(self) -> None:
        """End all connections; one that is still in use ends with its transaction."""
        self._closed = True
        self.let_go()

    def let_go(self) -> None:
        """Close everything that is not in use; it is opened again when it is needed."""
        self._process.check()
        self._close_idle()
        if self.writers is not None:
            with contextlib.suppress(LedgerUnavailable):
                self.writers.close(seconds=LONGEST)

    def rest(self) -> None:
        """While the app is tested, close what is not in use: a suite may make hundreds of apps, and close none."""
        if self.is_testing() and not self._closed:
            self._close_idle()
            if self.writers is not None:
                with contextlib.suppress(LedgerUnavailable):
                    self.writers.close(seconds=0)

    def _close_idle(self) -> None:
        with contextlib.suppress(IndexError):  # another thread took the last one
            self._forget_warm()
        self.engine.pool.dispose()

    def __del__(self) -> None:
        """Close everything when nobody has the database any more. Takes no lock: any thread may be the one that
        collects, wherever it is just now."""
        try:
            if self._process.is_another():
                return  # they are the parent's
            self._close_idle()
            if self.writers is not None:
                self.writers.abandon()
        except Exception:
            logger.debug("A database that nobody has any more could not be closed", exc_info=True)


class Scope:
    """One transaction, begun and ended with the driver. It waits for others for ``seconds`` in all."""

    __slots__ = ("_connection", "_database", "_patience", "_seconds", "_writers", "_writes")

    def __init__(self, database: Database, seconds: float, *, writes: bool) -> None:
        self._database = database
        self._seconds = seconds
        self._writes = writes
        self._writers = database.writers if writes else None

    def __enter__(self) -> Connection:
        self._patience = patience(self._seconds)
        self._patience.__enter__()
        try:
            self._connection = self._enter()
        except BaseException as error:
            self._patience.__exit__(None, None, None)
            self._translate(error)
            raise
        return self._connection

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        try:
            if self._writers is not None:
                self._writers.leave(error)
            else:
                self._leave(error)
        except BaseException as problem:
            self._translate(problem)
            raise
        finally:
            self._patience.__exit__(None, None, None)
        if error is not None:
            self._translate(error)

    def _enter(self) -> Connection:
        if self._writers is not None:
            return self._writers.enter()
        if not self._writes:
            return self._database.begin(writes=False)
        self._database.turns.take()
        try:
            return self._database.begin(writes=True)
        except BaseException:
            self._database.turns.give_back()
            raise

    def _leave(self, error: BaseException | None) -> None:
        try:
            self._end(error)
        finally:
            if self._writes:
                self._database.turns.give_back()

    def _end(self, error: BaseException | None) -> None:
        failure = error
        if failure is None:
            try:
                self._connection.commit()
            except BaseException as problem:
                failure = problem
        self._database.end(self._connection, failure)
        if error is None and failure is not None:
            raise failure

    def _translate(self, error: BaseException) -> None:
        translated = self._database.unavailable(error)
        if translated is not None:
            raise translated from error


def _on_connect(_connection: Any, record: Any) -> None:
    record.info[MADE_AT] = time.monotonic()

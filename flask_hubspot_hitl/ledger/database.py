"""One database, two engines: opening it safely, and one transaction at a time for SQLite's writers.

Knows SQLAlchemy, SQLite and PostgreSQL; knows nothing of handoffs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from ..clock import Clock, SystemClock, uptime_ms
from ..errors import LedgerUnavailable
from . import migrations
from .connection import Connection, Prepared, Statement
from .patience import LONGEST, patience, remaining

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: the busy timeout alone keeps writers apart
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_SCHEMA_LOCK = 0x48544954  # any number that is ours; PostgreSQL advisory lock
_MIGRATION_PATIENCE = 20.0
"""Seconds that a starting process waits for another one that migrates a large database."""
_SYNC_MS = 10_000
_SLOW_MS = 1_000
"""An answer about the time that took longer is not used."""
_FRESH_SECONDS = 1.0
"""A connection that was used so short a time ago is taken to work still; others are asked first."""


class Database:
    """An engine, its schema, and ``read()``/``write()`` connections.

    SQLite runs with WAL and ``synchronous=FULL``. Its own busy handler naps and is unfair, so writers of this
    process queue on a lock, and writers of all processes on ``flock(<file>.lock)``; the kernel frees the latter
    when a process is killed.
    """

    def __init__(self, url: str, clock: Clock, *, pool_size: int = 20) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.clock = clock
        self._lock = threading.Lock()
        self._flock: int | None = None
        self._lock_path: Path | None = None
        if self.is_sqlite:
            self.path = Path(parsed.database or "")
            self._lock_path = _make_private_files(self.path)
            self.engine = sa.create_engine(
                parsed,
                hide_parameters=True,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_timeout=3,
                connect_args={"check_same_thread": False, "timeout": LONGEST, "isolation_level": None},
            )
            sa.event.listen(self.engine, "connect", _on_sqlite_connect)
            from sqlalchemy.dialects import sqlite  # one of the two is never needed

            self.insert: Any = sqlite.insert
        else:
            from . import postgresql as driver  # needs psycopg

            self.engine = sa.create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                hide_parameters=True,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_timeout=3,
                connect_args=driver.options_of(parsed),
            )
            sa.event.listen(self.engine, "do_connect", driver.on_do_connect)
            sa.event.listen(self.engine, "checkin", _on_checkin)
            sa.event.listen(self.engine, "checkout", self._on_checkout)
            from sqlalchemy.dialects import postgresql

            self.insert = postgresql.insert
        self._prepared: dict[Statement, Prepared] = {}
        self._sync_at = 0
        self._closed = False
        if hasattr(os, "register_at_fork"):
            this = weakref.WeakMethod(self._after_fork)
            os.register_at_fork(after_in_child=lambda: (method := this()) and method())

    def now_ms(self) -> int:
        """The time, in epoch ms: one clock for all hosts of a PostgreSQL database, see :meth:`_keep_time`."""
        return self.clock.now_ms()

    def _keep_time(self, connection: sa.Connection) -> None:
        """Take PostgreSQL's clock for ours now and then, so that leases mean the same on every host."""
        if self.is_sqlite or uptime_ms() < self._sync_at or not isinstance(self.clock, SystemClock):
            return
        sent = uptime_ms()
        theirs = connection.scalar(sa.text("SELECT (extract(epoch from clock_timestamp())*1000)::bigint"))
        took = uptime_ms() - sent
        if took < _SLOW_MS or self._sync_at == 0:
            self.clock.set(int(theirs), at=sent + took // 2)
        self._sync_at = sent + _SYNC_MS

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in a transaction that only reads.

        :raises LedgerUnavailable: when the database can't be reached.
        """
        with self._translated(), patience(LONGEST), self._transaction("BEGIN") as connection:
            yield connection

    @contextlib.contextmanager
    def write(self, *, seconds: float = LONGEST) -> Iterator[Connection]:
        """A connection in a transaction that is committed at the end of the block, or rolled back.

        ``seconds`` is how long it waits for others at the most, in all.

        :raises LedgerUnavailable: when the database can't be reached or written; nothing was changed.
        """
        # A deferred transaction of SQLite's that turns into a write fails at once when another one writes.
        begin = self._transaction("BEGIN IMMEDIATE")
        with self._translated(), patience(seconds), self._writer(), begin as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        """Begun and ended with the driver: what SQLAlchemy does around it would cost more than most transactions."""
        try:
            with self.engine.connect() as core:
                driver: Any = core.connection.driver_connection
                try:
                    if self.is_sqlite:  # psycopg begins by itself
                        driver.execute(f"PRAGMA busy_timeout={int(remaining() * 1000)}")
                        driver.execute(begin)
                    self._keep_time(core)
                    yield Connection(core, self._prepared)
                    if core.in_transaction():
                        core.commit()
                    else:
                        driver.commit()
                except BaseException as error:
                    with contextlib.suppress(Exception):  # the connection may be gone, and the transaction with it
                        driver.rollback()
                    # Who is torn out of a conversation with the server leaves it in the middle of it.
                    if not self.is_sqlite and (driver.closed or not isinstance(error, Exception)):
                        core.invalidate()
                    raise
        finally:
            if self._closed:  # meanwhile: nobody else would end the connection that was just given back
                self.engine.pool.dispose()

    def _on_checkout(self, connection: Any, record: Any, _proxy: object) -> None:
        """Ask a connection that lay idle whether it still works; when not, SQLAlchemy takes new ones."""
        used_at = record.info.get(_USED_AT)
        if used_at is None or time.monotonic() - used_at < _FRESH_SECONDS:
            return
        try:
            works = self.engine.dialect.do_ping(connection)
        except self._driver.Error:
            works = False
        if not works:
            raise sa.exc.InvalidatePoolError

    @property
    def _driver(self) -> Any:
        """The driver's module."""
        return self.engine.dialect.loaded_dbapi

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """What the driver or SQLAlchemy raise when the database can't be used, as LedgerUnavailable."""
        driver = self._driver
        try:
            yield
        except sa.exc.TimeoutError as error:
            raise _unavailable(error) from error
        except (sa.exc.DBAPIError, driver.Error) as error:
            cause = getattr(error, "orig", error)
            # A plain DatabaseError is SQLite's word for a damaged file; the others are our faults, or the data's.
            transient = (driver.OperationalError, driver.InterfaceError, driver.InternalError)
            if isinstance(cause, transient) or type(cause) is driver.DatabaseError:
                raise _unavailable(cause) from error
            raise

    def connect_alone(self) -> Any:
        """A psycopg connection of its own, in autocommit mode; whoever asked closes it.

        :raises LedgerUnavailable: when the database can't be reached.
        """
        with self._translated(), patience(LONGEST):
            pooled = self.engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        connection.autocommit = True
        return connection

    @contextlib.contextmanager
    def _writer(self) -> Iterator[None]:
        """Hold what keeps SQLite's writers apart."""
        if not self.is_sqlite:
            yield
            return
        if not self._lock.acquire(timeout=remaining()):
            raise LedgerUnavailable("the database is busy: another thread has been writing all the time")
        try:
            with _flock(self._lock_file()):
                yield
        finally:
            self._lock.release()

    def _lock_file(self) -> int:
        if self._flock is None:
            try:
                self._flock = os.open(str(self._lock_path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise LedgerUnavailable(f"the database's lock file can't be opened: {error.strerror}") from error
        return self._flock

    def _after_fork(self) -> None:
        # A child must neither use the parent's connections nor close them, nor share its lock's file handle.
        self.engine.dispose(close=False)
        self._lock = threading.Lock()
        if self._flock is not None:
            os.close(self._flock)  # a lock lives as long as any copy of its handle, also when the parent is killed
            self._flock = None

    def create_schema(self) -> int | None:
        """Make the tables, or bring them up to this version; two processes may do so at once.

        Returns the version found when it was an older one.

        :raises LedgerUnavailable: when the database can't be reached, or was made by a newer version.
        """
        with self.write(seconds=_MIGRATION_PATIENCE) as connection:
            if not self.is_sqlite:
                connection.execute(sa.text(f"SET LOCAL lock_timeout = {int(_MIGRATION_PATIENCE * 1000)}"))
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
            return migrations.bring_up(connection, self.insert)

    def close(self) -> None:
        """End all connections; one that is still in use ends with its transaction."""
        self._closed = True
        self.engine.pool.dispose()
        if self._lock.acquire(timeout=LONGEST):  # who is writing needs the lock file's handle to the end
            try:
                if self._flock is not None:
                    os.close(self._flock)
                    self._flock = None
            finally:
                self._lock.release()


def _unavailable(error: Exception) -> LedgerUnavailable:
    return LedgerUnavailable(f"the database can't be used just now ({type(error).__name__})")


@contextlib.contextmanager
def _flock(descriptor: int) -> Iterator[None]:
    """Hold the lock of all processes. One that is stopped while it holds it must not hang us: hence the naps."""
    if fcntl is None:  # pragma: no cover - Windows
        yield
        return
    nap = 0.0005
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not remaining():
                raise LedgerUnavailable("the database is busy: another process has been writing all the time") from None
            time.sleep(nap)
            nap = min(nap * 2, 0.005)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _make_private_files(path: Path) -> Path:
    """Make the folder 0700 and the files 0600 before SQLite opens them; returns the lock file's path.

    :raises LedgerUnavailable: when they can't be made.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            path.parent.chmod(0o700)
        for file in (path, lock):
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            file.chmod(0o600)
    except OSError as error:
        raise LedgerUnavailable(f"the database file {path} can't be made or opened: {error.strerror}") from error
    return lock


def _on_sqlite_connect(connection: sqlite3.Connection, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


_USED_AT = "hitl_used_at"


def _on_checkin(_connection: Any, record: Any) -> None:
    record.info[_USED_AT] = time.monotonic()

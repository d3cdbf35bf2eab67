"""Open one database on either engine, make its schema, and begin its transactions.

Knows SQLAlchemy, SQLite and PostgreSQL; knows nothing of handoffs.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from ..clock import Clock, SystemClock
from ..errors import LedgerUnavailable
from ..process import Process
from . import migrations
from .connection import Connection
from .connections import Connections
from .files import Files
from .group_commit import Together
from .patience import LONGEST, patience, remaining
from .speed import FAST, Speed
from .timekeeping import Timekeeper
from .transactions import Apart, Readers, Scope, Writers
from .trouble import Misconfigured, first_line
from .turns import Gate, OneAtATime, Turns, Unlimited
from .url import split_servers
from .writer_lock import WriterLock

if TYPE_CHECKING:
    from .postgresql import Connector

logger = logging.getLogger(__name__)

_SCHEMA_LOCK = 0x48544954  # any number that is ours; PostgreSQL advisory lock
_MIGRATION_PATIENCE = 20.0
"""Seconds that a starting process waits for another one that migrates a large database."""
_WRITERS = 16
"""Threads of one process that may write to PostgreSQL at once. More only delay each other, because Python runs one at a
time: of 64 that start together all finish as late as the last. Measured on two cores; sixteen serve a distant server.
"""

NO_PSYCOPG = "PostgreSQL needs a driver that is not installed: pip install 'Flask-HubSpot-HITL[postgresql]'"


class Database:
    """Hold an engine and its schema, and begin ``read()``/``write()`` transactions.

    SQLite runs with WAL and ``synchronous=FULL``, with one writer at a time.

    :param speed: which measures make it fast; see :mod:`.speed`.
    :param is_testing: tells whether connections should be given back as soon as they are not in use; see :meth:`rest`.
    """

    def __init__(
        self,
        url: str | sa.URL,
        clock: Clock,
        *,
        pool_size: int = 20,
        schema: str | None = None,
        is_testing: Callable[[], bool] = lambda: False,
        speed: Speed = FAST,
    ) -> None:
        text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
        self.is_sqlite = text.startswith("sqlite:")
        bare, servers = (url, []) if self.is_sqlite else split_servers(text)
        parsed = make_url(bare)
        self.clock = clock
        # One of the two dialects, and of the two drivers, is never needed.
        if self.is_sqlite:
            from sqlalchemy.dialects import sqlite

            self.files = Files(Path(parsed.database or ""))
            self._make_files()
            self.engine = _engine(parsed, pool_size, creator=self.files.connect)
            self.insert: Any = sqlite.insert
        else:
            from sqlalchemy.dialects import postgresql

            self.engine, self._connector = _postgresql(parsed, servers, pool_size)
            self.insert = postgresql.insert
        self.connections = Connections(self.engine, speed)
        self._readers = Readers(partial(self._begin, writes=False), self.connections.give_back)
        self.writers = self._writers(speed)
        self.timekeeper: Timekeeper | None = None
        if isinstance(clock, SystemClock):
            self.timekeeper = Timekeeper(clock, self.insert, is_sqlite=self.is_sqlite)
        self._schema = schema
        self.deployment_id = ""
        """Which store this is; known once :meth:`create_schema` has found or made it, and empty before."""
        self.is_testing = is_testing
        # At once: a child that never comes here would keep the lock of a parent that is killed.
        self._process = Process(self._begin_anew, at_once=True)

    def _make_files(self) -> None:
        """Make what is missing of the files; a disk that is away may be there later, see :meth:`create_schema`."""
        try:
            self.files.make()
        except Misconfigured:
            raise
        except LedgerUnavailable as error:
            logger.debug("%s", error)

    def _writers(self, speed: Speed) -> Writers:
        """Return the way in which this process's threads write."""
        begin, end = partial(self._begin, writes=True), self.connections.give_back
        lock = WriterLock(self.files.lock if self.is_sqlite else None)
        self.turns: Gate
        if self.is_sqlite and speed.group_commit:
            self.turns = turns = Turns(1)
            return Together(turns, lock, begin, end)
        if speed.turns:
            self.turns = Turns(1 if self.is_sqlite else _WRITERS)
        else:
            self.turns = OneAtATime() if self.is_sqlite else Unlimited()
        return Apart(self.turns, lock, begin, end)

    def now_ms(self) -> int:
        """Return the time in epoch ms: one clock for all processes, see :mod:`.timekeeping`."""
        return self.clock.now_ms()

    def keep_time(self, connection: Connection, *, writes: bool) -> None:
        """Measure the shared clock now and then and use it, so that leases expire at the same time on every host; see
        :class:`.timekeeping.Timekeeper`. Another clock than the machine's is left alone."""
        if self.timekeeper is not None and self.deployment_id:
            self.timekeeper.keep(connection, writes=writes)

    def read(self) -> Scope:
        """Return a transaction that only reads: ``with database.read() as connection``.

        :raises LedgerUnavailable: when the database can't be reached; also at the end of the block.
        """
        self._check()
        return Scope(self._readers, self.connections.unavailable, LONGEST)

    def write(self, *, seconds: float = LONGEST) -> Scope:
        """Return a transaction that is committed at the end of the block, or rolled back.

        :param seconds: how long it waits for others at the most, in all.
        :raises LedgerUnavailable: when the database can't be reached or written; nothing was changed.
        """
        self._check()
        return Scope(self.writers, self.connections.unavailable, seconds)

    def _check(self) -> None:
        self._process.check()
        if self.connections.is_closed:
            raise LedgerUnavailable(
                "HubSpotHITL was closed on this app, so nothing can be read or stored any more; make a new app"
            )

    def _begin(self, *, writes: bool) -> Connection:
        """Return a connection with a transaction."""
        connection = self.connections.take()
        try:
            # A block that reads needs no transaction: each statement sees what is committed by then, with or without.
            if not self.is_sqlite:
                if connection.driver.autocommit is writes:
                    connection.driver.autocommit = not writes  # psycopg begins by itself
            elif writes:
                connection.be_patient(remaining())
                # A deferred transaction of SQLite's that turns into a write fails at once when another one writes.
                connection.driver.execute("BEGIN IMMEDIATE")
            self.keep_time(connection, writes=writes)
        except BaseException as error:
            self.connections.give_back(connection, error)
            raise
        return connection

    def connect_alone(self) -> Any:
        """Return a psycopg connection of its own, in autocommit mode; the caller closes it.

        :raises LedgerUnavailable: when the database can't be reached.
        """
        self._process.check()
        with patience(LONGEST):
            try:
                connection = self.connections.take_alone()
            except Exception as error:
                translated = self.connections.unavailable(error)
                if translated is not None:
                    raise translated from error
                raise
        connection.autocommit = True
        return connection

    def _begin_anew(self) -> None:
        self.connections.after_fork()
        self.writers.after_fork()

    def create_schema(
        self, *, anew: bool = True, then: Callable[[Connection], None] = lambda connection: None
    ) -> int | None:
        """Make the tables, or bring them up to this version; two processes may do so at once.

        :param anew: whether to make them where there are none; otherwise an empty database is left as it is.
        :param then: called in the same transaction, under the same lock, once the tables are there.
        :returns: the version found when it was an older one.
        :raises LedgerUnavailable: when the database can't be reached, or was made by a newer version.
        """
        ends = time.monotonic() + _MIGRATION_PATIENCE
        if self.is_sqlite:
            self.files.make()
        while True:
            try:
                return self._bring_up(anew, then)
            except LedgerUnavailable as error:
                # PostgreSQL breaks one of two that wait for each other; nothing was changed, and the other goes on.
                if not self._is_deadlock(error) or time.monotonic() > ends:
                    raise

    def _is_deadlock(self, error: LedgerUnavailable) -> bool:
        cause = getattr(error.__cause__, "orig", error.__cause__)
        return not self.is_sqlite and isinstance(cause, self.connections.driver.errors.DeadlockDetected)

    def _bring_up(self, anew: bool, then: Callable[[Connection], None]) -> int | None:
        with self.write(seconds=_MIGRATION_PATIENCE) as connection:
            if not self.is_sqlite:
                connection.execute(sa.text(f"SET LOCAL lock_timeout = {int(_MIGRATION_PATIENCE * 1000)}"))
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
            if not anew and not migrations.holds_store(connection, self._schema):
                return None
            if not self.is_sqlite:
                schema = migrations.choose_schema(connection, self._schema)
            found = migrations.bring_up(connection, self.insert)
            self.deployment_id = migrations.deployment_id_of(connection)
            then(connection)
            self.keep_time(connection, writes=True)
        if self.is_sqlite:
            self.files.deployment_id = self.deployment_id
            return found
        self._connector.expect(migrations.META, schema, self.deployment_id)
        if schema is not None:
            self.engine.update_execution_options(schema_translate_map={None: schema})
            self.connections.forget_warm()  # they don't know yet
        return found

    def close(self) -> None:
        """End all connections; one that is still in use ends with its transaction."""
        self.connections.is_closed = True
        self.let_go()

    def let_go(self) -> None:
        """Close everything that is not in use; it is opened again when it is needed."""
        self._process.check()
        self._let_go(LONGEST)

    def rest(self) -> None:
        """While the app is tested, close what is not in use: a suite may make hundreds of apps, and close none."""
        if self.is_testing() and not self.connections.is_closed:
            self._let_go(0)

    def _let_go(self, seconds: float) -> None:
        self.connections.close_idle()
        with contextlib.suppress(LedgerUnavailable):  # a thread is writing, and needs the files
            self.writers.close(seconds=seconds)

    def __del__(self) -> None:
        """Close everything when no reference is left. Takes no lock: any thread may be the one that collects, wherever
        it is just now."""
        try:
            if self._process.is_another():
                return  # they are the parent's
            self.connections.close_idle()
            self.writers.abandon()
        except Exception:
            logger.debug("A database that nobody has any more could not be closed", exc_info=True)


def every(name: str, *, is_sqlite: bool) -> sa.Select[Any]:
    """Return a subquery over the strings of a JSON array parameter, so that one statement serves any number of values.

    :param name: the parameter's name.
    """
    given: sa.BindParameter[str] = sa.bindparam(name)
    if is_sqlite:
        return sa.select(sa.func.json_each(given).table_valued("value").c.value)
    from sqlalchemy.dialects.postgresql import JSONB

    return sa.select(sa.func.jsonb_array_elements_text(sa.cast(given, JSONB)).column_valued())


def _engine(url: sa.URL, pool_size: int, **options: Any) -> sa.Engine:
    return sa.create_engine(
        url,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=3,
        pool_reset_on_return=None,
        **options,
    )


def _postgresql(url: sa.URL, servers: Sequence[tuple[str, str]], pool_size: int) -> tuple[sa.Engine, Connector]:
    try:
        from . import postgresql as driver  # needs psycopg
    except ImportError as error:
        raise Misconfigured(f"{NO_PSYCOPG} ({first_line(str(error))})") from error

    connect_args = driver.options_of(url, servers)
    bare = url.set(drivername="postgresql+psycopg").difference_update_query(driver.ADDRESS)
    engine = _engine(bare, pool_size, connect_args=connect_args)
    connector = driver.Connector()
    sa.event.listen(engine, "do_connect", connector.on_do_connect)
    return engine, connector

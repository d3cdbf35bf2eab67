"""Wake dispatchers in other processes and on other hosts. A lost wake-up delays events until the next poll, and loses
none.

PostgreSQL tells with LISTEN and NOTIFY; a SQLite file is asked again and again whether it has changed, which costs
microseconds. Where neither works there is a nap between two looks.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import selectors
import socket
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from ..errors import LedgerUnavailable
from ..process import gives_threads_time
from .database import Database
from .files import FileConnection, Files
from .patience import LONGEST, patience

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
"""Seconds between two polls where no notification arrives."""
FILE_POLL_SECONDS = 0.02
"""Seconds between two checks whether the SQLite file changed; a check costs a hundredth of a poll."""
SPACING_SECONDS = 0.02
"""Seconds between two NOTIFYs of one process; each takes a lock that all databases of the server share."""
IDLE_SECONDS = 1.0
"""Seconds without a NOTIFY after which the thread that sends them ends; the next one starts another."""
PROOF_SECONDS = 15.0
"""Seconds of silence after which a listener notifies itself, to find poolers behind which LISTEN succeeds and hears
nothing."""
ANSWER_SECONDS = 2.0
"""Seconds to wait for that notification before it is logged."""
RETRY_SECONDS = (0.5, 30.0)
"""Seconds between two attempts to connect: the first pause, and the longest."""
_NEVER = float("-inf")
_DEAF = (
    "LISTEN receives no notification (%s); polling the database instead. Behind PgBouncer use session mode, or a direct"
    " URL"
)


class Notifier:
    """Wake the dispatchers of other processes. :meth:`notify` does not wait: a thread of its own sends, except where
    threads get no time.
    """

    def __init__(self, database: Database, channel: Callable[[], str]) -> None:
        self._database = database
        self._channel = channel
        self._tellers: dict[int, _Teller] = {}  # by process; made late, as gevent replaces threads after a fork

    def notify(self) -> None:
        """Wake other processes, because something that may be due was committed. Several calls may become one."""
        if self._database.is_sqlite:
            return
        if not gives_threads_time():
            self._tell()
        else:
            teller = self._tellers.get(os.getpid()) or self._tellers.setdefault(os.getpid(), _Teller(self._tell))
            teller.ring()

    def _tell(self) -> None:
        try:
            notify(self._database, self._channel())
        except LedgerUnavailable as error:
            logger.debug("NOTIFY failed (%s); other processes find the event at their next poll", error)
        except Exception:
            logger.exception(
                "Bug while notifying other processes; they find the event at their next poll. "
                "Please report this traceback"
            )

    def close(self) -> None:
        """Send what is waiting to be sent, and end the thread."""
        teller = self._tellers.get(os.getpid())
        if teller is not None:
            teller.close()


class _Teller:
    """Run the thread that sends notifications; it starts with the first one, and ends when there are no more."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._wanted = threading.Event()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        _tellers.add(self)

    def ring(self) -> None:
        self._wanted.set()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hubspot-hitl-notify", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            if not self._wanted.wait(IDLE_SECONDS):
                with self._lock:
                    if not self._wanted.is_set():
                        self._thread = None
                        return
            self._wanted.clear()
            self._tell()
            self._over.wait(SPACING_SECONDS)

    def close(self) -> None:
        self._over.set()
        self._wanted.set()
        thread = self._thread
        if thread is not None:
            thread.join(1.0)


_tellers: weakref.WeakSet[_Teller] = weakref.WeakSet()


def _close_all() -> None:
    for one in list(_tellers):
        one.close()


atexit.register(_close_all)


def notify(database: Database, channel: str) -> None:
    """Send NOTIFY in a transaction of its own, after the commit: within a commit that waits for the disk, its
    database-wide lock would delay every other notifying commit.

    :raises LedgerUnavailable: when the database can't be reached.
    """
    with database.read() as connection:
        connection.execute(sa.text("SELECT pg_notify(:channel, '')"), {"channel": channel})


class Watch:
    """Wait for commits of other processes; this base class gets no notification and sleeps ``poll`` seconds.

    All methods but :meth:`interrupt` belong to one thread.
    """

    def __init__(self, poll: float = POLL_SECONDS) -> None:
        self.poll = poll
        self.is_dropped = False
        """Set when no reference to the pool is left: a wait ends at the next poll. Setting it takes no lock, unlike
        :meth:`interrupt`: a thread that collects must take none."""
        self._interrupted = threading.Event()

    def wait(self, at_most: float) -> None:
        """Wait until it is worth looking for something due; ``at_most`` seconds."""
        self._nap(at_most)

    def _nap(self, at_most: float) -> bool:
        """Sleep. Return True when interrupted."""
        interrupted = self._interrupted.wait(max(0.0, min(at_most, self.poll)))
        if interrupted:  # one that comes after a nap ends the next
            self._interrupted.clear()
        return interrupted

    def interrupt(self) -> None:
        """End the running wait, or the next one."""
        self._interrupted.set()

    def close(self) -> None:
        """Close the connection or file that the watch holds."""


class QuietWatch(Watch):
    """Wait for :meth:`interrupt` alone, and hold no file and no connection: for tests."""

    def wait(self, at_most: float) -> None:
        if self._interrupted.wait(max(0.0, at_most)):
            self._interrupted.clear()


class FileWatch(Watch):
    """Notice every commit to a SQLite file, of any process."""

    def __init__(self, files: Files, poll: float = FILE_POLL_SECONDS) -> None:
        super().__init__(poll)
        self._files = files
        self._connection: FileConnection | None = None
        self._version: object = None

    def wait(self, at_most: float) -> None:
        ends = time.monotonic() + at_most
        try:
            while not self._has_changed() and (left := ends - time.monotonic()) > 0 and not self.is_dropped:
                if self._nap(left):
                    return
        except (sqlite3.Error, LedgerUnavailable) as error:
            logger.debug(
                "The SQLite file can't be watched for commits (%s); it is polled instead",
                type(error).__name__,
            )
            self.close()
            self._nap(at_most)

    def _has_changed(self) -> bool:
        connection = self._connection
        if connection is None:  # the clock of a pool that is started again may be another thread
            connection = self._connection = self._files.connect()
        if not connection.is_in_place():
            self.close()
            return True
        before = self._version
        [self._version] = connection.execute("PRAGMA data_version").fetchone()
        return self._version != before

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._version = None


class Listener(Watch):
    """Receive PostgreSQL's NOTIFY on a connection of its own; poll while there is none or nothing arrives on it."""

    def __init__(
        self,
        database: Database,
        channel: Callable[[], str],
        say_once: Callable[[str, object], None],
        poll: float = POLL_SECONDS,
    ) -> None:
        import psycopg  # only where there is PostgreSQL

        super().__init__(poll)
        self._troubles = (LedgerUnavailable, psycopg.Error, OSError)
        self._database = database
        self._channel = channel
        self._say_once = say_once
        self._connection: psycopg.Connection[Any] | None = None
        self._heard_at = self._asked_at = _NEVER
        self._connected_at = _NEVER
        self._retry_at, self._delay = 0.0, RETRY_SECONDS[0]
        self._bell, self._clapper = socket.socketpair()
        for end in (self._bell, self._clapper):
            end.setblocking(False)

    @property
    def hears(self) -> bool:
        """Return True while notifications are known to arrive."""
        return self._connection is not None and time.monotonic() - self._heard_at < 2 * PROOF_SECONDS

    def wait(self, at_most: float) -> None:
        try:
            if self._connected_at < self._database.connections.rejected_at:
                self._hang_up()
            if self._connection is None and time.monotonic() >= self._retry_at:
                channel = self._channel()
                self._connected_at = time.monotonic()
                self._connection = self._database.connect_alone()
                with patience(LONGEST):
                    self._connection.execute(f'LISTEN "{channel}"'.encode())
            if self._connection is not None:
                self._ask_for_proof()
            self._listen(at_most if self.hears else min(at_most, self.poll))
        except self._troubles as error:
            self._say_once("LISTEN connection lost (%s); polling the database until it is back", type(error).__name__)
            self._hang_up()
            self._retry_at = time.monotonic() + self._delay
            self._delay = min(2 * self._delay, RETRY_SECONDS[1])
            self._listen(min(at_most, self.poll))

    def _ask_for_proof(self) -> None:
        now = time.monotonic()
        silence = now - max(self._heard_at, self._asked_at)
        if silence >= ANSWER_SECONDS and self._asked_at > self._heard_at:
            self._say_once(_DEAF, "a pooler in between?")
        if silence >= PROOF_SECONDS:
            self._asked_at = now
            notify(self._database, self._channel())  # not by the listening connection: that one hears itself always

    def _listen(self, at_most: float) -> None:
        """Wait for a notification or an interrupt, and read the notifications that have come."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            if self._connection is not None:
                selector.register(self._connection.fileno(), selectors.EVENT_READ)
            ready = selector.select(max(0.0, at_most))
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)
        if self._connection is not None and any(key.fileobj is not self._bell for key, _ in ready):
            self._connection.pgconn.consume_input()
            while self._connection.pgconn.notifies() is not None:
                self._heard_at = time.monotonic()
                self._delay = RETRY_SECONDS[0]

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        self._heard_at = self._asked_at = _NEVER
        if connection is not None:
            connection.close()

    def interrupt(self) -> None:
        with contextlib.suppress(OSError):  # closed already, or so many rings that one more is not missed
            self._clapper.send(b".")

    def close(self) -> None:
        self._hang_up()
        self._bell.close()
        self._clapper.close()

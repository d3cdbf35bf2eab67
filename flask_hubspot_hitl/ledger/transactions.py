"""Run transactions as contexts: ``with`` opens one, and its end commits it or takes it back.

Knows connections and errors, and nothing of what is written. :class:`Apart` is the plain way to write, and the only
one on PostgreSQL; :mod:`.group_commit` is SQLite's fast one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..errors import LedgerUnavailable
from .connection import Connection
from .patience import patience
from .turns import Gate
from .writer_lock import WriterLock

Begin = Callable[[], Connection]
"""Returns a connection with an open transaction."""
End = Callable[[Connection, BaseException | None], None]
"""Takes a connection back, with the error when its transaction has to be rolled back."""
Translate = Callable[[BaseException], LedgerUnavailable | None]
"""Returns what to raise for a driver's or SQLAlchemy's error; None when the error says nothing of the database."""


class Way(Protocol):
    """Begin and end the blocks of transactions."""

    def enter(self) -> Connection:
        """Begin a block, waiting as long as there is :func:`.patience.patience`.

        :raises LedgerUnavailable: when other threads or processes have been writing all the time.
        """

    def leave(self, connection: Connection, error: BaseException | None) -> None:
        """End a block, and return when it is on disk; with the ``error`` it ended in, when it is taken back.

        :raises LedgerUnavailable: when nothing is stored because of another thread's trouble; else what the driver
            raises when nothing is stored.
        """


class Writers(Way):
    """Begin and end blocks that write.

    :param gate: lets this process's threads in.
    :param lock: keeps other processes out.
    """

    def __init__(self, gate: Gate, lock: WriterLock, begin: Begin, end: End) -> None:
        self._gate = gate
        self._lock = lock
        self._begin = begin
        self._end = end

    def after_fork(self) -> None:
        """Reset in a forked child: the parent's threads do not exist there, and its transaction is not touched."""
        self._gate.reset()
        self.abandon()

    def abandon(self) -> None:
        """Close the lock's file at once, because no thread can be writing any more."""
        self._lock.close()

    def close(self, *, seconds: float) -> None:
        """Close the lock's file, after waiting at most ``seconds`` for a thread that is writing.

        :raises LedgerUnavailable: when a thread is still writing; nothing was closed.
        """
        with patience(seconds):
            self._gate.take()
        try:
            self._lock.close()
        finally:
            self._gate.give_back()


class Readers:
    """Begin and end blocks that only read, as many at a time as there are connections."""

    def __init__(self, begin: Begin, end: End) -> None:
        self._end = end
        self.enter = begin

    def leave(self, connection: Connection, error: BaseException | None) -> None:
        """End a block; see :class:`Way`."""
        _conclude(connection, error, connection.commit, self._end)


class Apart(Writers):
    """Give each block that writes a transaction of its own."""

    def enter(self) -> Connection:
        """Begin a block; see :class:`Way`."""
        self._gate.take()
        try:
            self._lock.acquire()
            try:
                return self._begin()
            except BaseException:
                self._lock.release()
                raise
        except BaseException:
            self._gate.give_back()
            raise

    def leave(self, connection: Connection, error: BaseException | None) -> None:
        """End a block; see :class:`Way`."""
        try:
            _conclude(connection, error, connection.commit_changes, self._end)
        finally:
            self._lock.release()
            self._gate.give_back()


def _conclude(connection: Connection, error: BaseException | None, commit: Callable[[], None], end: End) -> None:
    """Commit unless there is an ``error``, give the connection back, and raise what the commit raised."""
    failure = error
    if failure is None:
        try:
            commit()
        except BaseException as problem:
            failure = problem
    end(connection, failure)
    if error is None and failure is not None:
        raise failure


class Scope:
    """Run one transaction; wait for locks and connections for ``seconds`` in all. The driver's errors are translated.

    A class, because a generator costs more time than many transactions.
    """

    __slots__ = ("_connection", "_patience", "_seconds", "_translate", "_way")

    def __init__(self, way: Way, translate: Translate, seconds: float) -> None:
        self._way = way
        self._translate = translate
        self._seconds = seconds

    def __enter__(self) -> Connection:
        self._patience = patience(self._seconds)
        self._patience.__enter__()
        try:
            self._connection = self._way.enter()
        except BaseException as error:
            self._patience.__exit__(None, None, None)
            self._raise_translated(error)
            raise
        return self._connection

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        try:
            self._way.leave(self._connection, error)
        except BaseException as problem:
            self._raise_translated(problem)
            raise
        finally:
            self._patience.__exit__(None, None, None)
        if error is not None:
            self._raise_translated(error)

    def _raise_translated(self, error: BaseException) -> None:
        translated = self._translate(error)
        if translated is not None:
            raise translated from error

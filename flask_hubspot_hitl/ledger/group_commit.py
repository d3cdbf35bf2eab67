"""Group commit: the threads of one process that write to SQLite take turns within one transaction.

SQLite has one writer at a time, and a commit waits for the disk. A thread that has written while others wait hands
them its open transaction; the last one commits for all, and every thread returns only after that commit. A block that
fails is taken back alone, to its savepoint. Knows transactions, and nothing of what is written in them.
"""

from __future__ import annotations

import threading
import time

from ..errors import LedgerUnavailable
from .connection import Connection
from .transactions import Begin, End, Writers
from .trouble import of_sqlite
from .turns import Turns, held_lock
from .writer_lock import WriterLock

MOST_BLOCKS = 64
"""Blocks in one transaction at most: all threads in it wait for the last one."""
LONGEST_SECONDS = 0.005
"""Seconds for which a transaction may be handed on; longer ones delay other processes' writers and all threads in it.
"""


class _Group:
    """Hold one shared transaction and the threads that wait for its commit."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.blocks = 0
        self.members: list[threading.Lock] = []
        self.failure: BaseException | None = None
        self._since: float | None = None

    def has_room(self, longest: float) -> bool:
        """Return True while another thread may join the transaction."""
        now = time.monotonic()
        self._since = self._since or now
        return self.blocks < MOST_BLOCKS and now - self._since < longest


class Together(Writers):
    """Have the threads of this process that write share transactions.

    :param turns: has one turn.
    :param lock: keeps other processes out.
    """

    def __init__(self, turns: Turns, lock: WriterLock, begin: Begin, end: End) -> None:
        super().__init__(turns, lock, begin, end)
        self.longest_seconds = LONGEST_SECONDS
        self._turns = turns
        self._group: _Group | None = None

    def enter(self) -> Connection:
        """Begin a block, waiting for the turn as long as the caller's patience lasts.

        :raises LedgerUnavailable: when others have been writing all the time.
        """
        self._turns.take(abandon=self._decline)
        try:
            if self._group is None:
                self._lock.acquire()
                try:
                    self._group = _Group(self._begin())
                except BaseException:
                    self._lock.release()
                    raise
            else:
                self._group.connection.driver.execute("SAVEPOINT block")
            return self._group.connection
        except BaseException:
            self._decline()
            raise

    def leave(self, _connection: Connection, error: BaseException | None) -> None:
        """End a block, and return when it is on disk; with the ``error`` it ended in, when it is taken back.

        :raises LedgerUnavailable: when the commit that another thread made for it failed; what the driver says when
            the own one did. Then nothing is stored.
        """
        group = self._group
        if group is None:
            raise RuntimeError("no block was begun")
        try:
            _end_block(group, error)
        except BaseException as problem:
            self._finish(group, problem)
            raise
        if not group.blocks:
            self._finish(group, error)
            return
        committed = self._hand_over(group)
        if committed is None:
            self._finish(group, None)
            if error is None and group.failure is not None:
                raise group.failure
        elif error is None:
            committed.acquire()
            failure = group.failure
            if isinstance(failure, LedgerUnavailable):  # anew: each thread's has a traceback of its own
                raise LedgerUnavailable(*failure.args) from failure
            if failure is not None:
                raise of_sqlite(failure).error() from failure

    def _decline(self) -> None:
        """Pass on a turn that this thread can't use, and commit the transaction that came with it, if one did."""
        if self._group is not None:
            self._finish(self._group, None)
        else:
            self._turns.give_back()

    def _hand_over(self, group: _Group) -> threading.Lock | None:
        """Hand the open transaction to the next waiting thread.

        :returns: a lock that is released after the commit, or None when no thread was waiting.
        """
        if not self._turns.waiting or not group.has_room(self.longest_seconds):
            return None
        committed = held_lock()
        group.members.append(committed)
        if self._turns.hand_over():
            return committed
        group.members.remove(committed)
        return None

    def _finish(self, group: _Group, error: BaseException | None) -> None:
        """Commit the transaction, or roll it back when there is an ``error``; then wake the next thread."""
        self._group = None
        try:
            if error is None:
                try:
                    group.connection.commit()
                except BaseException as problem:
                    error = problem
            self._end(group.connection, error)
        finally:
            group.failure = error
            self._lock.release()
            self._turns.give_back()
            for member in group.members:
                member.release()

    def after_fork(self) -> None:
        """Reset in a forked child: the parent's threads do not exist there, and its transaction must not be touched."""
        super().after_fork()
        self._inherited, self._group = self._group, None


def _end_block(group: _Group, error: BaseException | None) -> None:
    """Keep what a block has written in the transaction, or take it back when there is an ``error``."""
    group.connection.must_be_whole()
    driver = group.connection.driver
    if error is None:
        if group.blocks:
            driver.execute("RELEASE block")
        group.blocks += 1
    elif group.blocks:
        driver.execute("ROLLBACK TO block")
        driver.execute("RELEASE block")

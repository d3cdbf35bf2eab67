"""Group commit: the threads of one process that write to SQLite take turns within one transaction.

SQLite has one writer at a time, and a commit waits for the disk. Whoever has written while others wait for their turn
leaves the transaction open for the next one; the last one commits for all, and nobody goes on before that. A block
that fails is taken back alone, to its savepoint. Knows transactions, and nothing of what is written in them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import LedgerUnavailable
from .connection import Connection
from .patience import patience
from .trouble import of_sqlite
from .turns import Turns, held_lock
from .writer_lock import WriterLock

MOST_BLOCKS = 64
LONGEST_SECONDS = 0.005
"""So long a transaction is handed on, by default: other processes write, too, and all in it wait for its end."""


class _Group:
    """A transaction, and who waits for its commit."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.blocks = 0
        self.members: list[threading.Lock] = []
        self.failure: BaseException | None = None
        self._since: float | None = None

    def has_room(self, longest: float) -> bool:
        """True while one more may write in it."""
        now = time.monotonic()
        self._since = self._since or now
        return self.blocks < MOST_BLOCKS and now - self._since < longest


class Writers:
    """The threads of this process that write. There is one turn; ``lock`` keeps other processes out; ``begin`` opens a
    transaction, and ``end`` takes its connection when it is over, with the error when it has to be taken back.
    """

    def __init__(
        self,
        turns: Turns,
        lock: WriterLock,
        begin: Callable[[], Connection],
        end: Callable[[Connection, BaseException | None], None],
    ) -> None:
        self._lock = lock
        self._begin = begin
        self._end = end
        self.longest_seconds = LONGEST_SECONDS
        self._turns = turns
        self._group: _Group | None = None

    def enter(self) -> Connection:
        """Begin a block; who may wait for it as long as there is :func:`.patience.patience`.

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

    def leave(self, error: BaseException | None) -> None:
        """End a block, and return when it is on disk; with the ``error`` it ended in, when it is taken back.

        :raises LedgerUnavailable: when the commit that another thread made for it failed; what the driver says when
            the own one did. Then nothing is stored.
        """
        group = self._group
        if group is None:
            raise RuntimeError("no block was begun")
        driver = group.connection.driver
        try:
            if not driver.in_transaction:  # as after an error of the disk: SQLite has taken everything back
                raise LedgerUnavailable("the database can't be used just now (the transaction was lost)")
            if error is None:
                if group.blocks:
                    driver.execute("RELEASE block")
                group.blocks += 1
            elif group.blocks:
                driver.execute("ROLLBACK TO block")
                driver.execute("RELEASE block")
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
        """Whose turn it is can't use it; others may wait for the commit of the transaction that came with it."""
        if self._group is not None:
            self._finish(self._group, None)
        else:
            self._turns.give_back()

    def _hand_over(self, group: _Group) -> threading.Lock | None:
        """Leave the transaction to the next who waits: then what opens when it is committed, otherwise None."""
        if not group.has_room(self.longest_seconds):
            return None
        committed = held_lock()
        group.members.append(committed)
        if self._turns.hand_over():
            return committed
        group.members.remove(committed)
        return None

    def _finish(self, group: _Group, error: BaseException | None) -> None:
        """Commit, or take everything back when there is an ``error``; then it is the next one's turn."""
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
        """In the child, which has none of the parent's other threads, and must not touch its transaction."""
        self._inherited, self._group = self._group, None
        self._lock.after_fork()

    def abandon(self) -> None:
        """Close the lock's file at once; nobody can be writing any more."""
        self._lock.close()

    def close(self, *, seconds: float) -> None:
        """Close the lock's file; who is writing needs it to the end, and is waited for."""
        with patience(seconds):
            self._turns.take()
        try:
            self._lock.close()
        finally:
            self._turns.give_back()

"""Open the ledger: the one door for everything above, with its transactions and its wake-ups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import sqlalchemy as sa

from ..clock import Clock, wall_ms
from ..errors import LaneTaken, LedgerUnavailable
from . import wiping
from .at_work import lease_at_work
from .connection import Connection
from .database import Database
from .notify import FileWatch, Listener, Notifier, QuietWatch, Watch
from .patience import LONGEST, patience
from .speed import FAST, Speed
from .states import KindOf, no_kind
from .store import Transaction, statements_of
from .transactions import Scope


class _Opened:
    """Be the context manager of a transaction; a class, because a generator costs more time than many transactions."""

    __slots__ = ("_check", "_make", "_scope")

    def __init__(self, scope: Scope, make: Callable[[Connection], Transaction], check: Callable[[], None]) -> None:
        self._scope = scope
        self._make = make
        self._check = check

    def __enter__(self) -> Transaction:
        self._check()
        return self._make(self._scope.__enter__())

    def __exit__(self, *error: Any) -> None:
        self._scope.__exit__(*error)


class Ledger:
    """Open one app's database: ``with ledger.read() as tx`` and ``with ledger.write() as tx``.

    :param schema: where new tables go on PostgreSQL, see :mod:`.migrations`; by default where the search path leads.
    :param is_testing: tells whether the app is being tested: then nothing is held open between two uses.
    :param kind_of: returns the state that the events of a topic have; by default nothing is known of states.
    :param speed: what makes it fast; :data:`.speed.PLAIN` is the plain path, which promises the same.
    :param on_open: called each time a store has been made or found, within the transaction that did so.
    """

    def __init__(
        self,
        url: str | sa.URL,
        clock: Clock,
        *,
        pool_size: int = 20,
        schema: str | None = None,
        is_testing: Callable[[], bool] = lambda: False,
        kind_of: KindOf = no_kind,
        speed: Speed = FAST,
        on_open: Callable[[Transaction], None] = lambda tx: None,
    ) -> None:
        self._kind_of = kind_of
        self._on_open = on_open
        self._database = Database(url, clock, pool_size=pool_size, schema=schema, is_testing=is_testing, speed=speed)
        self._statements = statements_of(self._database.insert, is_sqlite=self._database.is_sqlite)
        self._notifier = Notifier(self._database, self._channel)
        self.is_sqlite = self._database.is_sqlite
        self.why_not: Callable[[], str | None] = lambda: None
        """Returns why this is not the right store; called before each transaction until it returns None."""
        self._is_right = False
        self.migrated_from: int | None = None
        """The version that :meth:`create` found and brought up to this one's; None when there was nothing to do."""

    def create(self, *, anew: bool = True) -> None:
        """Make the tables or bring them up to this version. Nothing is held open afterwards: servers fork now.

        :param anew: whether to make them where there are none; otherwise an empty database is left as it is.
        :raises LedgerUnavailable: when the database can't be reached, or a newer version made it.
        """
        try:
            self.migrated_from = self._database.create_schema(
                anew=anew, then=lambda connection: self._on_open(self._transaction(connection))
            )
        finally:
            self._database.let_go()

    def now_ms(self) -> int:
        """Return the time in epoch ms, which goes on steadily, see :mod:`.timekeeping`."""
        return self._database.now_ms()

    def sleep(self, seconds: float) -> None:
        """Wait by the clock of :meth:`now_ms`."""
        self._database.clock.sleep(seconds)

    def wall_ms(self) -> int:
        """Return the time of day in epoch ms, with which a signature's time, or HubSpot's, is compared."""
        return wall_ms(self._database.clock)

    def was_set_back(self) -> bool:
        """Return True once after PostgreSQL's clock was set back."""
        keeper = self._database.timekeeper
        if keeper is None or not keeper.was_set_back:
            return False
        keeper.was_set_back = False
        return True

    @property
    def deployment_id(self) -> str:
        """Return the random mark, made with the database, of what is ours at HubSpot."""
        found = self.find()
        if not found:
            raise LedgerUnavailable("the database can't be used: it is empty, and what was here before is not in it")
        return found

    def find(self) -> str:
        """Return the same mark; an empty string as long as the database is empty.

        :raises LedgerUnavailable: when the database can't be reached.
        """
        if not self._database.deployment_id:
            self.create(anew=False)
        return self._database.deployment_id

    def exposed(self) -> str | None:
        """Return what is wrong with the rights of a SQLite file's folder, in words; None when nothing is."""
        return self._database.files.exposed() if self.is_sqlite else None

    def wipe(self, *, anew: bool = False) -> bool:
        """Have what was erased leave the files of a SQLite database.

        :param anew: write the whole database anew where that was never done: rows that were deleted by versions before
            schema 5 were not overwritten. Nobody else can write meanwhile.
        :returns: False when others used the database all the time. True on PostgreSQL: dead rows are the server's.
        """
        if not self.is_sqlite:
            return True
        with self.read() as tx:
            anew = anew and not tx.get_meta(wiping.OVERWRITTEN)
        is_clean = wiping.wipe(self._database.files, anew=anew)
        if is_clean and anew:
            with self.write() as tx:
                tx.set_overwritten()
        return is_clean

    def _check(self) -> None:
        if not self._is_right:
            with patience(LONGEST):
                reason = self.why_not()
            if reason is not None:
                raise LedgerUnavailable(reason)
            self._is_right = True

    def read(self) -> AbstractContextManager[Transaction]:
        """Return a transaction that only reads.

        :raises LedgerUnavailable: when the database can't be reached.
        """
        return _Opened(self._database.read(), self._transaction, self._check)

    def write(self) -> AbstractContextManager[Transaction]:
        """Return a transaction that is committed at the end of the block.

        :raises LedgerUnavailable: when the database can't be reached or written; nothing was changed.
        """
        return _Opened(self._database.write(), self._transaction, self._check)

    @contextmanager
    def write_at_work(self, *lanes: str) -> Iterator[Transaction]:
        """Write what a task stores while it runs, which is refused once the task's lane was taken away.

        So nothing of a person comes back that was erased while the task waited for another service's answer: an erasure
        takes the lanes in the transaction in which it deletes the rows. Outside of a task it is :meth:`write`.

        :param lanes: those that will be put into: all are locked in one order.
        :raises LaneTaken: when the lane was taken away.
        :raises LedgerUnavailable: when the database can't be reached or written; nothing was changed.
        """
        lease = lease_at_work()
        with self.write() as tx:
            if lease is not None:
                if lanes:
                    tx.queue.reserve(lease.lane, *lanes, now=self.now_ms())
                if not tx.queue.holds(lease):
                    raise LaneTaken
            yield tx

    def _transaction(self, connection: Connection) -> Transaction:
        return Transaction(connection, self._database, self._statements, self._kind_of)

    def notify(self) -> None:
        """Wake the dispatchers of other processes, because something was committed that may be due now."""
        self._notifier.notify()

    def watch(self, say_once: Callable[[str, object], None], *, poll: float | None = None) -> Watch:
        """Return what a dispatcher waits with for commits of other processes.

        :param say_once: logs sparingly.
        :param poll: seconds between two polls where no notification arrives.
        """
        given = {} if poll is None else {"poll": poll}
        if self._database.is_testing():
            return QuietWatch(**given)
        if self.is_sqlite:
            return FileWatch(self._database.files, **given)
        return Listener(self._database, self._channel, say_once, **given)

    def _channel(self) -> str:
        return f"hubspot_hitl_{self.deployment_id}"

    def rest(self) -> None:
        """While the app is tested, give back all connections that are not in use."""
        self._database.rest()

    def close(self) -> None:
        """Give all connections back."""
        self._notifier.close()
        self._database.close()

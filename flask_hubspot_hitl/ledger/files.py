"""Keep a SQLite database's files private, open them only where they are, and notice when they are taken away.

SQLite goes on with the files that it has opened, whatever becomes of their names: what is committed into a file that
was moved, replaced or deleted is gone after the next restart. Knows SQLite, and nothing of what is stored in it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from ..errors import LedgerUnavailable
from .patience import LONGEST
from .trouble import Misconfigured

_SUFFIXES = ("", "-wal", "-shm")
_ID = "SELECT value FROM hitl_meta WHERE name = 'deployment_id'"
Identity = tuple[tuple[int, int] | None, ...]
"""Device and inode of the database, of its log and of the log's index; None for one that is not there."""
COPIED_OVER = (-1, -1)
"""In place of the database's: it is the same file, with another database in it."""


class FileConnection(sqlite3.Connection):
    """Refuse a commit when the connection's files are no longer where other processes look for them."""

    place: Files
    opened: Identity

    def commit(self) -> None:
        """Commit; see ``sqlite3.Connection.commit``.

        :raises LedgerUnavailable: when what was committed may be in no file any more.
        """
        had_changes = self.in_transaction
        super().commit()
        if had_changes and not self.is_in_place(all_files=True):
            raise LedgerUnavailable(self.place.why_not(self.opened))

    def is_in_place(self, *, all_files: bool = False) -> bool:
        """Return True while the path leads to the database that is open here, or all paths to all its files."""
        return self.place.identity() == self.opened if all_files else self.place.database() == self.opened[0]

    def save(self) -> None:
        """Bring the log into the database that it belongs to: a log that was deleted goes with its last connection,
        and one that was left behind would be taken for the log of the database that is there now.
        """
        if self.place.database() == COPIED_OVER:
            return  # it belongs to what is no longer there
        with contextlib.suppress(sqlite3.Error):  # others read or write just now, or the disk is full
            self.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()


class Files:
    """Hold the paths of one database's files. Once ``deployment_id`` is known, no other store is opened there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._given = str(path)
        self._name, *self._beside = _names(self._given)
        self.deployment_id: str | None = None
        self._last: Identity = (None, None, None)
        self._looked_at: tuple[int, ...] = ()
        self._was_ours = False

    @property
    def lock(self) -> Path:
        """Return the file that keeps writers of several processes apart."""
        return self.path.with_name(self.path.name + ".lock")

    def make(self) -> None:
        """Make the folder 0700 and the files 0600 before SQLite opens them.

        :raises LedgerUnavailable: when they can't be made; :class:`.trouble.Misconfigured` when the path is a folder's.
        """
        if self.path.is_dir():
            raise Misconfigured(f"{self.path} is a folder: name a file in it")
        try:
            if not self.path.parent.exists():
                self.path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
                self.path.parent.chmod(0o700)
            for file in (self.path, self.lock):
                # Never opened when it is there: to close it again would end all locks that this process has on it.
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                file.chmod(0o600)
        except OSError as error:
            raise LedgerUnavailable(
                f"the database file {self.path} can't be made or opened: {error.strerror}"
            ) from error

    def exposed(self) -> str | None:
        """Return what is wrong with the folder's rights, in words; None when no other user may look into it."""
        try:
            mode = self.path.parent.stat().st_mode & 0o777
        except OSError:
            return None
        if os.name == "nt" or not mode & 0o077:
            return None
        return f"the database's folder {self.path.parent} is open to other users of this machine (mode {mode:04o})"

    def identity(self) -> Identity:
        """Return which files the paths lead to now."""
        return (self.database(), *map(_identity, self._beside))

    def database(self) -> tuple[int, int] | None:
        """Return which file the database's path leads to now."""
        try:
            facts = os.lstat(self._name)  # of a link that took its place, SQLite would put the log elsewhere
        except OSError:
            return None
        found = facts.st_dev, facts.st_ino
        if self._name != self._given and _identity(self._given) != found:
            return _identity(self._given)
        if found == self._last[0] and not self._holds_ours(facts.st_mtime_ns, facts.st_size):
            return COPIED_OVER
        return found

    def _holds_ours(self, *changed: int) -> bool:
        """Return False when the database's file, without its log, holds another store, or was ours and is no database.

        It is looked at when it has ``changed``, which it seldom does: when the log is brought into it.
        """
        if self.deployment_id is None or changed == self._looked_at:
            return True
        try:
            uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
                rows = connection.execute(_ID).fetchall()
        except sqlite3.DatabaseError as error:
            # Nobody keeps the log from being brought into it meanwhile: then what is read may be half of each.
            if self._was_ours and ("no such table" in str(error) or "not a database" in str(error)):
                return False
            rows = []
        if rows not in ([], [(self.deployment_id,)]):
            return False
        self._was_ours = self._was_ours or bool(rows)
        self._looked_at = changed
        return True

    def connect(self) -> FileConnection:
        """Return a connection to the database that is there; none is made.

        :raises LedgerUnavailable: when it is gone, or another store is in its place.
        :raises sqlite3.Error: when it can't be opened.
        """
        self._follow()
        before = self.database()
        if before in (None, COPIED_OVER):
            raise LedgerUnavailable(self.why_not(self._last))
        if self.deployment_id is not None and self._last[0] not in (None, before):
            # Even a copy of the same store: what others have written since, or have in their memory, is not in it.
            raise LedgerUnavailable(
                f"another file is at {self.path} than the one this process began with: put the old one back, or stop "
                "the app, delete the -wal and -shm beside it, and start it again to use this one"
            )
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=LONGEST,
            isolation_level=None,
            check_same_thread=False,
            factory=FileConnection,
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            connection.execute("PRAGMA synchronous=FULL").close()
            connection.execute("PRAGMA secure_delete=ON").close()  # what is deleted is overwritten at once
            connection.execute("SELECT 1 FROM sqlite_master").close()  # opens the log
            connection.place, connection.opened = self, self.identity()
            if connection.opened[0] != before:
                raise LedgerUnavailable(self.why_not((before, None, None)))
            self._recognise(connection)
            self._last = connection.opened
        except BaseException:
            connection.close()
            raise
        return connection

    def _follow(self) -> None:
        """Name the files as SQLite does: it follows a link, and has the log beside what the link leads to.

        :raises LedgerUnavailable: while a log is still in use where the path led before; two logs would destroy it.
        """
        name, log, index = _names(self._given)
        if name == self._name:
            return
        before = _identity(self._beside[0])
        if before is not None and before != _identity(log):
            raise LedgerUnavailable(
                f"the path {self.path} leads to {name} now, and to {self._name} before, where its log is still in use: "
                "put the file back, or stop every process of the app before you move the file"
            )
        self._name, self._beside = name, [log, index]

    def _recognise(self, connection: sqlite3.Connection) -> None:
        if self.deployment_id is None:
            return
        try:
            rows = connection.execute(_ID).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            rows = []
        if rows != [(self.deployment_id,)]:
            raise LedgerUnavailable(
                f"another database is at {self.path} now: put the old one back, or restart the app to use this one"
            )

    def why_not(self, opened: Identity) -> str:
        """Return the reason why files that were ``opened`` are of no use any more."""
        now = self.identity()
        if now[0] is None:
            return f"the database file {self.path} is gone: put it back"
        if now[0] == COPIED_OVER:
            return (
                f"another file was copied over the database {self.path} while it was in use: stop the app, delete its "
                "-wal and -shm, and put a backup there"
            )
        if now[0] != opened[0]:
            return f"the database file {self.path} was replaced while it was in use"
        return f"a file beside {self.path} (-wal or -shm) was deleted or replaced while it was in use: never touch them"


def _names(path: str) -> list[str]:
    """What SQLite calls its files."""
    return [f"{os.path.realpath(path)}{suffix}" for suffix in _SUFFIXES]


def _identity(name: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(name)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino

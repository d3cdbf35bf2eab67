"""Lock out the SQLite writers of other processes; SQLite's own busy handler sleeps for long and is unfair."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import LedgerUnavailable
from .patience import remaining

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: the busy timeout alone keeps the writers of processes apart
    fcntl = None  # type: ignore[assignment]


_SHORTEST_NAP, _LONGEST_NAP = 0.0001, 0.005
"""Seconds between two attempts to take the lock. Transactions take tenths of a millisecond; much longer naps leave the
disk idle."""
_NEXT_NAP = 0.0005
"""Seconds, at most, between two attempts of the process that is next in line."""


class WriterLock:
    """Hold ``flock`` on a file, for one thread at a time. The kernel frees it when the process is killed.

    A waiting process holds a second lock, of another kind, so that a process that writes all the time can't take the
    first one again before it.

    :param path: the file; None where the database itself keeps writers apart, and nothing has to be locked.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self) -> None:
        """Wait for other processes, as long as there is :func:`.patience.patience`.

        :raises LedgerUnavailable: when others have been writing all the time.
        """
        if self._path is None:
            return
        while not self._is_locked():
            self.close()  # somebody has deleted the file, and others lock a new one

    def _is_locked(self) -> bool:
        if fcntl is None:
            return True
        if self._file is None:
            try:
                self._file = os.open(str(self._path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise LedgerUnavailable(f"the lock file {self._path} can't be opened: {error.strerror}") from error
        _wait_for(fcntl.lockf, self._file, longest_nap=_LONGEST_NAP)
        try:
            _wait_for(fcntl.flock, self._file, longest_nap=_NEXT_NAP)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        return os.fstat(self._file).st_nlink > 0

    def release(self) -> None:
        """Let another process write."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; it is opened again for the next transaction that writes.

        In a forked child at once: a file's lock lives as long as any copy of its handle, also when the parent is
        killed.
        """
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _wait_for(lock: Callable[[int, int], object], file: int, *, longest_nap: float) -> None:
    """Poll for the lock instead of blocking, because a stopped process may hold it for ever."""
    nap = _SHORTEST_NAP
    while True:
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except (BlockingIOError, PermissionError):  # which of the two a lock raises depends on its kind
            if not remaining():
                raise LedgerUnavailable("the database is busy: another process has been writing all the time") from None
            time.sleep(nap)
            nap = min(nap * 1.25, longest_nap)

"""Keeps SQLite's writers apart, of all threads and all processes: its own busy handler naps, and is unfair."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from ..errors import LedgerUnavailable
from .patience import remaining

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: the busy timeout alone keeps the writers of processes apart
    fcntl = None  # type: ignore[assignment]


_SHORTEST_NAP, _LONGEST_NAP = 0.0001, 0.005
"""Seconds. A transaction takes some tenths of a millisecond: whoever naps for much longer leaves the disk idle."""


class WriterLock:
    """A lock of this process, and ``flock`` on a file; the kernel frees the latter when a process is killed.

    Who waits for it does so while there is :func:`.patience.patience`. A thread that comes back at once may be served
    before one that waits: handing the lock on in order was tried, and halved the rate of webhooks, because the next
    thread has to wait for the interpreter first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: int | None = None

    def acquire(self) -> None:
        """:raises LedgerUnavailable: when others have been writing all the time."""
        if not self._lock.acquire(timeout=remaining()):
            raise LedgerUnavailable("the database is busy: another thread has been writing all the time")
        try:
            if fcntl is not None:
                self._lock_file()
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let the next one write."""
        try:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._lock.release()

    def _lock_file(self) -> None:
        """A process that is stopped while it holds the lock must not hang us: hence the naps."""
        if self._file is None:
            try:
                self._file = os.open(str(self._path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise LedgerUnavailable(f"the database's lock file can't be opened: {error.strerror}") from error
        nap = _SHORTEST_NAP
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if not remaining():
                    raise LedgerUnavailable(
                        "the database is busy: another process has been writing all the time"
                    ) from None
                time.sleep(nap)
                nap = min(nap * 1.25, _LONGEST_NAP)

    def after_fork(self) -> None:
        """In the child. A file's lock lives as long as any copy of its handle, also when the parent is killed."""
        self._lock = threading.Lock()
        self._close_file()

    def close(self, *, timeout: float) -> None:
        """Close the file; who is writing needs it to the end, and is waited for ``timeout`` seconds."""
        if self._lock.acquire(timeout=timeout):
            try:
                self._close_file()
            finally:
                self._lock.release()

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

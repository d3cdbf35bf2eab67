"""Tell whether the ledger can be written, for an open route: one small write a second, however often it is asked."""

from __future__ import annotations

import threading
import time

from ..errors import LedgerUnavailable
from ..process import Process
from . import Ledger, patience

EVERY_SECONDS = 1.0
"""Seconds between two proofs of one process."""
PROOF_SECONDS = 3.0
"""Seconds for which a proof waits for the database, as a webhook does."""


class Health:
    """Write to the ledger, and share the result."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._begin()
        self._process = Process(self._begin)

    def _begin(self) -> None:
        self._proving = threading.Lock()
        self._proved_at = float("-inf")
        self._trouble: LedgerUnavailable | None = None

    def trouble(self) -> LedgerUnavailable | None:
        """Return why the ledger can't be written, or None. One thread tries; the others get the last result."""
        self._process.check()  # the parent may have been at it when this process was forked
        if time.monotonic() - self._proved_at < EVERY_SECONDS:
            return self._trouble
        is_first = self._proved_at < 0
        if not self._proving.acquire(timeout=2 * PROOF_SECONDS if is_first else 0):
            return self._trouble if not is_first else LedgerUnavailable("the database has not answered yet")
        try:
            if time.monotonic() - self._proved_at >= EVERY_SECONDS:
                self._trouble = self._prove()
                self._proved_at = time.monotonic()
            return self._trouble
        finally:
            self._proving.release()

    def _prove(self) -> LedgerUnavailable | None:
        try:
            with patience(PROOF_SECONDS), self._ledger.write() as tx:
                tx.prove()
        except LedgerUnavailable as error:
            return error
        return None

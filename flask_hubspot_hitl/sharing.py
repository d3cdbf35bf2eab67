"""One portal's tokens in the database: encrypted, and renewed by one process at a time."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from .errors import HubSpotUnavailable, LedgerUnavailable
from .hubspot.oauth import Tokens
from .ledger import Ledger
from .ledger.crypto import Cipher, Undecipherable

logger = logging.getLogger(__name__)

#: Longer than a refresh may take: only a process that died keeps it so long. Milliseconds.
LEASE_MS = 20_000


class DatabaseTokens:
    """See :class:`.hubspot.oauth.TokenStore`. Tokens that stem from another configured refresh token don't count.

    A row that can't be read with the keys at hand is left alone: each process then keeps its tokens to itself.
    """

    def __init__(self, ledger: Ledger, portal_id: str, cipher: Cipher, configured: str) -> None:
        self._ledger = ledger
        self._portal_id = portal_id
        self._cipher = cipher
        self._source = hashlib.sha256(configured.encode("utf-8", "replace")).hexdigest()
        self._said = False

    def load(self) -> Tokens | None:
        """What was stored last, by any process."""
        try:
            with self._ledger.read() as tx:
                row = tx.tokens.get(self._portal_id)
            value = {} if row is None or row.secret is None else self._cipher.decrypt(self._portal_id, row.secret)
        except LedgerUnavailable as error:
            raise _unavailable(error) from error
        except Undecipherable:
            if not self._said:
                self._said = True
                logger.warning(
                    "The stored tokens of portal %s can't be read: was SECRET_KEY or HUBSPOT_HITL_ENCRYPTION_KEY "
                    "changed? They are left alone, and each process refreshes for itself",
                    self._portal_id,
                )
            return None
        if value.get("source") != self._source:
            return None
        return Tokens(str(value["access_token"]), str(value["refresh_token"]), int(value["expires_at_ms"]))

    def claim(self) -> int | None:
        """The lease, as its fence; None while another process has it."""
        try:
            with self._ledger.write() as tx:
                now = self._ledger.now_ms()
                return tx.tokens.claim(self._portal_id, now=now, until=now + LEASE_MS)
        except LedgerUnavailable as error:
            raise _unavailable(error) from error

    def finish(self, lease: int, tokens: Tokens | None) -> None:
        """Give the lease back and store ``tokens``."""
        secret = None if tokens is None or self._said else self._encrypted(tokens)
        try:
            with self._ledger.write() as tx:
                held = tx.tokens.release(self._portal_id, fence=lease, secret=secret)
        except LedgerUnavailable as error:
            raise _unavailable(error) from error
        if not held:
            logger.warning("Refreshing portal %s's token took so long that another process did it too", self._portal_id)

    def _encrypted(self, tokens: Tokens) -> str:
        value: dict[str, Any] = {
            "access_token": tokens.access_token,
            "refresh_token": tokens.refresh_token,
            "expires_at_ms": tokens.expires_at_ms,
            "source": self._source,
        }
        return self._cipher.encrypt(self._portal_id, value)


def _unavailable(error: LedgerUnavailable) -> HubSpotUnavailable:
    return HubSpotUnavailable(f"the stored token can't be used just now: {error}")

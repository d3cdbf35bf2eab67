"""Keep one portal's tokens in the database: encrypted, and renewed by one process at a time."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from ..errors import HubSpotUnavailable, LedgerUnavailable
from ..hubspot.oauth import RENEW_BEFORE_MS, Tokens
from ..ledger import InstallationState, Ledger
from ..ledger.crypto import Cipher, Undecipherable
from . import installations

logger = logging.getLogger(__name__)

#: Milliseconds that a lease holds: longer than a refresh may take, so that only a dead process's lease runs out.
LEASE_MS = 20_000
INSTALLED = "oauth"
"""Value of ``source`` for tokens of an OAuth installation; otherwise it is a digest of the configured refresh token."""


class DatabaseTokens:
    """Keep one portal's tokens encrypted in the database; see :class:`.hubspot.tokens.TokenStore`.

    When a row can't be decrypted, or there is no encryption key, each process keeps its own tokens in memory and the
    row is left as it is.

    :param cipher: encrypts the tokens; None when there is no key.
    :param configured: the configured refresh token. Stored tokens made from another configured one are ignored; those
        of an OAuth installation count.
    """

    def __init__(self, ledger: Ledger, portal_id: str, cipher: Cipher | None, configured: str | None) -> None:
        self._ledger = ledger
        self._portal_id = portal_id
        self._cipher = cipher
        self._source = INSTALLED if configured is None else digest(configured)
        self._is_readable = True
        self._said = False

    def load(self) -> Tokens | None:
        """Return the tokens stored last, by any process; those that HubSpot has refused as expired ones."""
        try:
            with self._ledger.read() as tx:
                row = tx.installations.get(self._portal_id)
        except LedgerUnavailable as error:
            raise _unavailable(error) from error
        if row is None or row.secret is None or self._cipher is None:
            return None
        try:
            value = self._cipher.decrypt(self._portal_id, row.secret)
        except Undecipherable:
            self._unreadable()
            return None
        self._is_readable, self._said = True, False
        if self._source != INSTALLED and value.get("source") not in (self._source, INSTALLED):
            return None
        is_dead = row.state == InstallationState.REVOKED
        expires_at_ms = 0 if is_dead else int(value["expires_at_ms"])
        return Tokens(
            access_token=str(value["access_token"]),
            refresh_token=str(value["refresh_token"]),
            expires_at_ms=expires_at_ms,
            renew_at_ms=0 if is_dead else int(value.get("renew_at_ms", expires_at_ms - RENEW_BEFORE_MS)),
        )

    def _unreadable(self) -> None:
        """Report a row that can't be decrypted, once.

        An OAuth installation's tokens are nowhere else, so that for one this raises.
        """
        self._is_readable = False
        text = (
            f"The stored tokens of portal {self._portal_id} can't be read: was SECRET_KEY or "
            "HUBSPOT_HITL_ENCRYPTION_KEY changed? They are left as they are; put the old key among the fallbacks, or "
            "connect the portal again"
        )
        if not self._said:
            self._said = True
            logger.warning("%s", text)
        if self._source == INSTALLED:
            raise HubSpotUnavailable(text)

    def claim(self) -> int | None:
        """Take the lease for refreshing.

        :returns: its fence, or None while another process holds it.
        """
        try:
            with self._ledger.write() as tx:
                now = self._ledger.now_ms()
                return tx.installations.claim(self._portal_id, now=now, until=now + LEASE_MS)
        except LedgerUnavailable as error:
            raise _unavailable(error) from error

    def finish(self, lease: int, tokens: Tokens | None, *, dead: bool = False) -> None:
        """Release the lease; store tokens, or mark the portal as revoked.

        :param lease: its fence, from :meth:`claim`.
        :param tokens: the new tokens; None: the stored ones stay.
        :param dead: whether HubSpot refuses the stored ones.
        """
        secret = None
        if tokens is not None and self._cipher is not None and self._is_readable:
            secret = encrypted(self._cipher, self._portal_id, tokens, source=self._source)
        try:
            with self._ledger.write() as tx:
                now = self._ledger.now_ms()
                held = tx.installations.release(self._portal_id, fence=lease, secret=secret)
                if held and tokens is not None:
                    installations.renewed(tx, self._portal_id, now=now)
                elif held and dead:
                    installations.revoked(tx, self._portal_id, now=now)
        except LedgerUnavailable as error:
            raise _unavailable(error) from error
        if not held:
            logger.warning(
                "Another process stored a newer token of portal %s during this refresh; the newer one is used",
                self._portal_id,
            )


def encrypted(cipher: Cipher, portal_id: str, tokens: Tokens, *, source: str = INSTALLED) -> str:
    """Return tokens as they are stored."""
    value: dict[str, Any] = {
        "access_token": tokens.access_token,
        "refresh_token": tokens.refresh_token,
        "expires_at_ms": tokens.expires_at_ms,
        "renew_at_ms": tokens.renew_at_ms,
        "source": source,
    }
    return cipher.encrypt(portal_id, value)


def digest(token: str) -> str:
    """Return a digest of a configured token, which may be stored and shown."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _unavailable(error: LedgerUnavailable) -> HubSpotUnavailable:
    return HubSpotUnavailable(f"the stored token can't be used just now: {error}")

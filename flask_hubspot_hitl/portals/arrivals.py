"""Remember when each kind of webhook arrived last: where HubSpot shows no subscriptions, nothing else proves them.

Events of threads that are not ours count as well. What has arrived proves nothing any more once the public URL or the
project's files are others: then it is forgotten. Source: docs/hubspot.rst (Project apps).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..errors import LedgerUnavailable
from ..hubspot.events import Kind
from ..ledger import Ledger, Transaction, patience

SUBSCRIBED = {
    Kind.NEW_MESSAGE: "conversation.newMessage",
    Kind.ASSIGNED: "conversation.propertyChange of assignedTo",
    Kind.STATUS: "conversation.propertyChange of status",
    Kind.RESTORED: "conversation.propertyChange of isArchived",
    Kind.DELETED: "conversation.deletion",
    Kind.PRIVACY_DELETED: "conversation.privacyDeletion",
}
"""The subscription that brings each kind."""
ORDINARY = (Kind.NEW_MESSAGE, Kind.ASSIGNED, Kind.STATUS)
"""What every handoff brings; the others may not come for months."""
EVERY_MS = 60_000
"""Milliseconds for which a process does not note the same kind again."""
PATIENCE_SECONDS = 0.1


class Arrivals:
    """Note what arrives, in one process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._noted: dict[Kind, int] = {}

    def note(self, kinds: Collection[Kind], now: int) -> None:
        """Store that webhooks of these kinds have arrived; when that can't be done now, a later one does it.

        :param now: epoch ms.
        """
        new = sorted(
            kind for kind in kinds if kind in SUBSCRIBED and not 0 <= now - self._noted.get(kind, -EVERY_MS) < EVERY_MS
        )
        if not new:
            return
        try:
            with patience(PATIENCE_SECONDS), self._ledger.write() as tx:
                for kind in new:
                    tx.set_meta(f"arrived:{kind}", str(now))
        except LedgerUnavailable:
            return
        self._noted.update(dict.fromkeys(new, now))


def last(tx: Transaction) -> dict[Kind, int]:
    """Return when each kind arrived last, in epoch ms, to the minute; those that did not are missing."""
    found = {kind: tx.get_meta(f"arrived:{kind}") for kind in SUBSCRIBED}
    return {kind: int(at) for kind, at in found.items() if at}


def forget(tx: Transaction) -> None:
    """Forget what has arrived: HubSpot is to be told of another address, or of other subscriptions."""
    for kind in SUBSCRIBED:
        tx.set_meta(f"arrived:{kind}", "")


def serve(tx: Transaction, urls: Sequence[str]) -> None:
    """Store which public URLs are served from now on; the first one is HubSpot's target."""
    before = (tx.get_meta("public_url") or "").split("\n")[0]
    tx.set_meta("public_url", "\n".join(urls))
    if before and before != urls[0]:
        forget(tx)

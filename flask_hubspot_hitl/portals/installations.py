"""Apply what follows when a portal is installed, refused, or connected again.

The functions run inside one transaction and call nobody. A portal is only ever named by HubSpot: by the answer to a
token, or by a signed webhook.
"""

from __future__ import annotations

import uuid

from ..config import Settings
from ..hubspot import scopes as hubspot_scopes
from ..ledger import InstallationState, Ledger, NewEvent, Step, Topic, Transaction, lanes
from ..ledger.crypto import Cipher, Undecipherable
from ..ledger.plans import signal_event

RESUME_MS = 2_000
"""Milliseconds after a portal's reconnection until every call with the old token has ended."""


def wanted_scopes(settings: Settings, kind: hubspot_scopes.AppKind) -> tuple[str, ...]:
    """Return the scopes that an installation has to ask for: those of what is in use, and no more.

    :param kind: the app's kind; see :func:`.app_kind.app_kind`.
    """
    if settings.scopes:
        return settings.scopes
    reads_users = settings.availability == "hubspot"
    return hubspot_scopes.needed(
        kind,
        creates_contacts=settings.contact_policy == "create",
        reads_users=reads_users,
        reads_teams=reads_users and any("team:" in one for one in settings.inbox_members),
        changes_tickets=settings.tickets,
        notes_on_tickets=settings.notes_in in ("ticket", "both"),
    )


# Coming, going, coming back ------------------------------------------------------------------------------


def installed(tx: Transaction, portal_id: str, secret: str, *, scopes: tuple[str, ...] | None, now: int) -> None:
    """Store the tokens of a portal that has installed the app, and resume its queue.

    :param secret: the encrypted tokens.
    :param scopes: what was granted; None when HubSpot did not say.
    :param now: epoch ms.
    """
    tx.installations.install(portal_id, secret, scopes=scopes, now=now)
    _resume(tx, portal_id, now=now)


def renewed(tx: Transaction, portal_id: str, *, now: int) -> None:
    """Mark a portal's token as accepted, and resume its queue if it was refused before.

    :param now: epoch ms.
    """
    if tx.installations.set_state(portal_id, InstallationState.ACTIVE, now=now):
        _resume(tx, portal_id, now=now)


def revoked(tx: Transaction, portal_id: str, *, now: int) -> None:
    """Mark a portal's token as refused for good; its queue is kept and waits.

    :param now: epoch ms.
    """
    if tx.installations.set_state(portal_id, InstallationState.REVOKED, now=now):
        put_signal(tx, "installation_revoked", portal_id, now=now)


def _resume(tx: Transaction, portal_id: str, *, now: int) -> None:
    tx.installations.wake(portal_id, now=now)
    put_signal(tx, "installation_added", portal_id, now=now)
    lane = lanes.resume(portal_id)
    resume = NewEvent(
        dedupe_key=f"{lane}:{uuid.uuid4().hex}",
        lane=lane,
        topic=Topic.RESUME,
        sort_at=now,
        portal_id=portal_id,
        due_at=now + RESUME_MS,
    )
    tx.queue.put([resume], now=now)


def put_signal(
    tx: Transaction, signal: str, portal_id: str, *, now: int, key: str | None = None, **facts: object
) -> None:
    """Queue a signal about a portal.

    :param key: makes repetitions one.
    :param now: epoch ms.
    :param facts: further arguments of the signal.
    """
    news = signal_event(
        [Step(signal=signal, facts={"portal_id": portal_id, **facts})],
        key=f"signal:{key or uuid.uuid4().hex}",
        lane=lanes.portal(portal_id),
        sort_at=now,
        portal_id=portal_id,
    )
    tx.queue.put([news], now=now)


def rekey(ledger: Ledger, cipher: Cipher) -> tuple[int, list[str]]:
    """Re-encrypt every portal's tokens with the cipher's first key.

    :returns: how many, and the portals whose tokens can't be decrypted: they are left as they are.
    """
    done, failed = 0, []
    with ledger.read() as tx:
        portal_ids = [one.portal_id for one in tx.installations.all()]
    for portal_id in portal_ids:
        is_done = False
        while not is_done:  # a refresh may come in between
            with ledger.read() as tx:
                found = tx.installations.get(portal_id)
            old = None if found is None else found.secret
            if old is None:
                break
            try:
                new = cipher.encrypt(portal_id, cipher.decrypt(portal_id, old))
            except Undecipherable:
                failed.append(portal_id)
                break
            with ledger.write() as tx:
                is_done = tx.installations.replace_secret(portal_id, old=old, new=new)
        done += is_done
    return done, failed


def has_token(tx: Transaction, settings: Settings, portal_id: str) -> bool:
    """Return True for a portal that there is a token for, whether or not HubSpot still takes it."""
    if settings.portal_id not in (None, portal_id):
        return False
    if portal_id == settings.portal_id and (settings.access_token or settings.refresh_token):
        return True
    found = tx.installations.get(portal_id)
    return found is not None and found.secret is not None

"""The rules: what an installation is, and what follows when a portal comes, goes, or comes back.

The functions run inside one transaction and call nobody. A portal is only ever named by HubSpot: by the answer to a
token, or by a signed webhook.
"""

from __future__ import annotations

import uuid

from ..config import Settings
from ..hubspot.oauth import CREATE_CONTACTS_SCOPE, FILES_SCOPE, SCOPES
from ..ledger import InstallationState, Ledger, NewEvent, Topic, Transaction, lanes
from ..ledger.crypto import Cipher, Undecipherable

RESUME_MS = 2_000
"""So long after a portal's return everything has ended that was still trying the old token."""


def wanted_scopes(settings: Settings) -> tuple[str, ...]:
    """What an installation has to ask for: what is in use, and nothing more."""
    if settings.scopes:
        return settings.scopes
    return (*SCOPES, FILES_SCOPE, *((CREATE_CONTACTS_SCOPE,) if settings.contact_policy == "create" else ()))


# Coming, going, coming back ------------------------------------------------------------------------------


def installed(tx: Transaction, portal_id: str, secret: str, *, scopes: tuple[str, ...] | None, now: int) -> None:
    """A portal has installed the app, or has installed it again: its tokens are stored, and its queue goes on."""
    tx.installations.install(portal_id, secret, scopes=scopes, now=now)
    _resume(tx, portal_id, now=now)


def renewed(tx: Transaction, portal_id: str, *, now: int) -> None:
    """HubSpot takes a portal's token. If it did not before, the queue goes on."""
    if tx.installations.set_state(portal_id, InstallationState.ACTIVE, now=now):
        _resume(tx, portal_id, now=now)


def revoked(tx: Transaction, portal_id: str, *, now: int) -> None:
    """HubSpot refuses a portal's token for good. Its queue stays, and waits."""
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
    """Have a portal's signal sent, with further ``facts``; with a ``key`` once for that key."""
    news = NewEvent(
        dedupe_key=f"signal:{key or uuid.uuid4().hex}",
        lane=lanes.portal(portal_id),
        topic=Topic.SIGNAL,
        sort_at=now,
        portal_id=portal_id,
        progress={"plan": [{"signal": signal, "portal_id": portal_id, **facts}]},
    )
    tx.queue.put([news], now=now)


def rekey(ledger: Ledger, cipher: Cipher) -> tuple[int, list[str]]:
    """Encrypt every portal's tokens anew, with the cipher's first key.

    Returns how many, and the portals whose tokens can't be read: they are left as they are.
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
    """True for a portal that we have a token for, whether or not HubSpot still takes it."""
    if settings.portal_id not in (None, portal_id):
        return False
    if portal_id == settings.portal_id and (settings.access_token or settings.refresh_token):
        return True
    found = tx.installations.get(portal_id)
    return found is not None and found.secret is not None

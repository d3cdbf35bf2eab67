"""Make one contact for each person, whoever asks and however often: HubSpot itself keeps e-mail addresses apart only.

While one handoff makes a contact others wait; who was made is known for a day, because HubSpot's search does not find
him at once. What is stored is a digest of the number or address, and the contact's id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ..domain import Contact
from ..errors import HubSpotRejected, HubSpotUnavailable
from ..hubspot.client import HubSpotClient
from ..hubspot.phones import newest
from ..ledger import Ledger

INDEX_MS = 120_000
"""Milliseconds after which search finds what was made, docs/hubspot.rst (Contact search). So long nobody makes the
person again whose contact may have been made: the answer was lost, or the process died."""
KNOWN_MS = 86_400_000
"""Milliseconds that it is known who was made."""
LOOK_AGAIN_SECONDS = 2.0
"""When to look again for a contact that another handoff makes, or that may be there."""


def make(ledger: Ledger, client: HubSpotClient, portal_id: str, contact: Contact, name: str | None) -> dict[str, Any]:
    """Return the contact that was made for a person HubSpot's search does not find, or make it.

    :param contact: a parsed one.
    :param name: the person's name.
    :raises HubSpotUnavailable: when it is being made, or may have been made, and is to be looked for again.
    """
    keys = keys_of(portal_id, contact)
    known = _known(ledger, keys)
    if known is not None:
        there = client.contact(known)
        if there is not None:
            return there
        _forget(ledger, keys)
    if not _claim(ledger, keys):
        raise HubSpotUnavailable(
            "creating a contact: it is being made, or was made and its answer was lost; it is looked for again",
            retry_after=LOOK_AGAIN_SECONDS,
        )
    try:
        made = client.create_contact(contact, name)
    except HubSpotRejected:
        _forget(ledger, keys)
        raise
    except HubSpotUnavailable as error:
        # With an e-mail address it may be made again: HubSpot answers with the one that is there.
        if not error.ambiguous or contact.email:
            _forget(ledger, keys)
        # Only the contact may be there, nothing of the handoff.
        error.ambiguous = False
        raise
    with ledger.write_at_work() as tx:  # not for somebody who was erased meanwhile
        for key in keys:
            tx.once.put(key, {"id": str(made["id"])}, expires_at=ledger.now_ms() + KNOWN_MS)
    return made


def keys_of(portal_id: str, contact: Contact) -> list[str]:
    """Return a key for each thing that tells the person; in one order, lest two who make him wait for each other.

    :param contact: a parsed one.
    """
    tells = {newest(number) for number in contact.numbers} | ({contact.email.lower()} if contact.email else set())
    return sorted("contact:" + hashlib.sha256(f"{portal_id}\n{one}".encode()).hexdigest() for one in tells)


def _known(ledger: Ledger, keys: Sequence[str]) -> str | None:
    with ledger.read() as tx:
        now = ledger.now_ms()
        found = [(tx.once.get(key, now=now) or {}).get("id") for key in keys]
    return next((one for one in found if one), None)


def _claim(ledger: Ledger, keys: Sequence[str]) -> bool:
    """Take the right to make a person; False while somebody else has it."""
    with ledger.write_at_work() as tx:
        now = ledger.now_ms()
        taken = [key for key in keys if tx.once.claim(key, expires_at=now + INDEX_MS, now=now)]
        if len(taken) == len(keys):
            return True
        for key in taken:
            tx.once.consume(key, now=now)
    return False


def _forget(ledger: Ledger, keys: Sequence[str]) -> None:
    with ledger.write() as tx:
        for key in keys:
            tx.once.consume(key, now=ledger.now_ms())

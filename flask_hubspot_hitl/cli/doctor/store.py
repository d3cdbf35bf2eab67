"""The database: there, writable, ours, and its secrets readable."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...dispatch import housekeeping
from ...errors import LedgerUnavailable, NotConfigured
from ...ledger import patience
from ...ledger.crypto import Undecipherable
from ...portals.deployment import not_adopted
from ...runtime import Runtime
from .findings import Code, Finding, sentence

PATIENCE_SECONDS = 3.0
"""A database that is only busy is no finding; webhooks wait as long."""


def check(runtime: Runtime) -> Iterator[Finding]:
    """Check the database. Every start brings the schema up to date, so a store that opens is migrated."""
    ledger = runtime.ledger
    exposed = ledger.exposed()
    if exposed is not None:
        yield Code.OPEN_FOLDER.found(sentence(exposed))
    other = ledger.why_not()
    if other is not None:
        yield Code.OTHER_STORE.found(sentence(other.partition(":")[0]))
        return
    try:
        with patience(PATIENCE_SECONDS), ledger.read() as tx:
            served = tx.get_meta("public_url")
    except LedgerUnavailable as error:
        yield Code.DATABASE.found(sentence(error))
        return
    try:
        with patience(PATIENCE_SECONDS), ledger.write() as tx:
            tx.set_meta("doctor", str(ledger.now_ms()))
    except LedgerUnavailable as error:
        yield Code.READ_ONLY.found(sentence(error))
    reason = not_adopted(served, runtime.settings.public_url)
    if reason is not None:
        yield Code.NOT_ADOPTED.found(sentence(reason.partition(";")[0]))
    yield from _check_secrets(runtime)
    yield from _check_old(runtime)


def _check_old(runtime: Runtime) -> Iterator[Finding]:
    """Tell what the first pruning after an upgrade will delete."""
    now = runtime.ledger.now_ms()
    before = housekeeping.too_old(runtime.settings, now)
    with runtime.ledger.read() as tx:
        from_ms = housekeeping.prunes_from(tx)
        count = 0 if before is None or from_ms <= now else tx.people.prunable(before=before + from_ms - now)
    if count:
        days = math.ceil((from_ms - now) / housekeeping.DAY_MS)
        yield Code.OLD_CONVERSATIONS.found(f"{count} handoff(s) that ended long ago will go in {days} day(s).")


def _check_secrets(runtime: Runtime) -> Iterator[Finding]:
    try:
        cipher = runtime.services.cipher()
    except NotConfigured:
        return  # the app's check says so
    with runtime.ledger.read() as tx:
        found = tx.installations.all()
    for one in found:
        try:
            if cipher is None:
                raise Undecipherable("there is no key")
            cipher.decrypt(one.portal_id, one.secret or "")
        except Undecipherable as error:
            yield Code.UNREADABLE_TOKEN.found(sentence(error), portal_id=one.portal_id)

"""The database: there, writable, ours, and its secrets readable."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ...dispatch import housekeeping
from ...errors import LedgerUnavailable, NotConfigured
from ...handoffs.words import count, sentence
from ...ledger import patience
from ...ledger.crypto import Undecipherable
from ...portals.deployment import not_adopted
from ...runtime import Runtime
from .findings import Code, Finding

PATIENCE_SECONDS = 3.0
"""A database that is only busy is no finding; webhooks wait as long."""


_FIXES = (
    (r"GRANT |privilege", "As the database's owner, run the GRANT that is named, for the user in the address."),
    (
        r"(?i)permission denied|may not use|can't be opened|read-only",
        "Let the user that runs the app own the file and its folder (chown), on a disk that can be written; commands "
        "have to run as the same user.",
    ),
    (r"disk (is )?full|disk fails", "Make room on the disk; the app need not be restarted."),
    (r"upgrade the package", "Install the version of the package that made the database, or a newer one."),
)
"""What puts it right, by what the error says."""


def unavailable(error: LedgerUnavailable, code: Code = Code.DATABASE) -> Finding:
    """Make the finding for a database that can't be used, with the fix for what the error says."""
    fix = next((fix for pattern, fix in _FIXES if re.search(pattern, str(error))), None)
    return code.found(sentence(error), fix=fix)


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
        yield unavailable(error)
        return
    try:
        with patience(PATIENCE_SECONDS), ledger.write() as tx:
            tx.set_meta("doctor", str(ledger.now_ms()))
    except LedgerUnavailable as error:
        yield unavailable(error, Code.READ_ONLY)
    reason = not_adopted(served, runtime.settings.public_url)
    if reason is not None:
        yield Code.NOT_ADOPTED.found(sentence(reason.partition(";")[0]))
    yield from _check_secrets(runtime)
    yield from _check_old(runtime)


def _check_old(runtime: Runtime) -> Iterator[Finding]:
    """Tell what the first pruning after an upgrade will delete."""
    now = runtime.ledger.now_ms()
    before = housekeeping.too_old(runtime.settings, now)
    if before is None:
        return
    with runtime.ledger.read() as tx:
        from_ms = {
            name: housekeeping.prunes_from(tx, name) for name in (housekeeping.CONVERSATIONS, housekeeping.BRIDGES)
        }
        wait_ms = {name: at - now for name, at in from_ms.items() if at > now}
        counts = {
            name: tx.people.prunable(before=before + wait)
            if name == housekeeping.CONVERSATIONS
            else tx.bridges.unused(before=before + wait, but=housekeeping.DELIVERIES)
            for name, wait in wait_ms.items()
        }
    for name, number in counts.items():
        if number:
            days = count(math.ceil(wait_ms[name] / housekeeping.DAY_MS), "day")
            noun, which = _OLD[name]
            yield Code.OLD_CONVERSATIONS.found(f"{count(number, noun)} {which} will go in {days}.")


_OLD = {
    housekeeping.CONVERSATIONS: ("handoff", "that ended long ago"),
    housekeeping.BRIDGES: ("row", "that bridges keep of users who have not come for long"),
}


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

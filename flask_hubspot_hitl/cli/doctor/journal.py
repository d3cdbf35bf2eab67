"""Check that HubSpot's journal tells us who installs and removes the app, where that is switched on."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import HubSpotRejected, HubSpotUnavailable
from ...handoffs.words import sentence
from ...hubspot.journal import EVENT_TYPES
from ...hubspot.transport import deadline
from ...portals import journal
from ...runtime import Runtime
from .findings import Code, Finding
from .hubspot_app import HUBSPOT_SECONDS

LATE_MS = 900_000
"""Milliseconds without an answer of the journal's that are too long: a look that was refused is repeated after five
minutes, and ``tick`` may be run seldom."""


def check(runtime: Runtime) -> Iterator[Finding]:
    """Ask HubSpot with the app's own token, and look at when that was done last."""
    calls = runtime.services.journal()
    try:
        with deadline(HUBSPOT_SECONDS):
            lacking = set(EVENT_TYPES) - calls.subscribed()
            calls.following(None)
    except HubSpotRejected as error:
        yield Code.JOURNAL_REFUSED.found(sentence(error))
        return
    except HubSpotUnavailable as error:
        yield Code.HUBSPOT_DOWN.found(sentence(error))
        return
    if lacking:
        yield Code.JOURNAL_UNSUBSCRIBED.found(f"There is no subscription to {' and '.join(sorted(lacking))}.")
    with runtime.ledger.read() as tx:
        place = journal.load(tx)
    now = runtime.ledger.now_ms()
    if place.read_at is not None and now - place.read_at > LATE_MS:
        why = f": {place.problem}" if place.problem else ""
        yield Code.JOURNAL_LATE.found(sentence(f"It was read {(now - place.read_at) // 60_000} minutes ago{why}"))

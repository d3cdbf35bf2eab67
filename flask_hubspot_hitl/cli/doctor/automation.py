"""Check whether bots or AI agents of HubSpot's have conversations that were handed to humans."""

from __future__ import annotations

from collections.abc import Iterator

from ...runtime import Runtime
from .findings import Code, Finding

LATELY_MS = 7 * 86_400_000
"""Milliseconds for which a conversation that a machine had at its end is told of."""


def check(runtime: Runtime, portal_id: str) -> Iterator[Finding]:
    """Look at what was stored of who has what in a portal; where a machine counts as an operator, that is meant so."""
    if runtime.settings.automation_as_operator:
        return
    with runtime.ledger.read() as tx:
        held = tx.inboxes.held_by_machines(portal_id, since=runtime.ledger.now_ms() - LATELY_MS)
    for machine, count in sorted(held.items()):
        yield Code.MACHINES.found(f"{machine} has, or had at the end, {count} within a week.", portal_id=portal_id)

"""An app comes into a portal and goes: what becomes of its tokens, and what the journal tells of it.

Source: docs/hubspot.rst (Token errors; Journal).
"""

from __future__ import annotations

from ..engine.simulation import Simulation
from ..model.journal import EVENT_TYPES, JournalFile
from ..model.world import JSON, Install, now_ms


def tell(sim: Simulation, action: str, app_id: str, portal_id: str) -> None:
    """Write into the journal that an app came or went, if the app has subscribed to that; perhaps more than once."""
    journal, now = sim.world.journal, now_ms()
    if not journal.subscribed(app_id, EVENT_TYPES[action]):
        return
    event: JSON = {
        "type": "app_lifecycle_event",
        "eventTypeId": EVENT_TYPES[action],
        "action": action,
        "portalId": int(portal_id),
        "occurredAt": now,
        "properties": {},
    }
    for _ in range(1 + sim.chaos.journal_repeats):
        journal.files.append(JournalFile(app_id, [event], now + journal.passed_ms))


def uninstall(sim: Simulation, made: Install) -> None:
    """Take an app out of a portal: every token of the portal dies, and no webhook tells of it, but the journal does."""
    del sim.world.installs[made.app_id, made.portal_id]
    for value, found in list(sim.world.tokens.items()):
        if (found.app_id, found.portal_id) == (made.app_id, made.portal_id):
            del sim.world.tokens[value]
    tell(sim, "APP_UNINSTALL", made.app_id, made.portal_id)

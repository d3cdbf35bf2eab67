"""Plan what ``setup`` makes of the app's subscriptions to HubSpot's journal.

Of ours it may import ``errors`` and its neighbours here, and ``hubspot.journal``; nothing is changed here.
"""

from __future__ import annotations

from ...errors import HubSpotRejected
from ..journal import EVENT_TYPES, SCOPES, JournalCalls
from . import changes
from .plan import ByHand, SetupPlan


def extend(plan: SetupPlan, calls: JournalCalls) -> None:
    """Add the subscriptions that are missing to a plan.

    :raises HubSpotUnavailable: when HubSpot can't be read.
    """
    try:
        there = calls.subscribed()
    except HubSpotRejected as error:
        steps = [
            "Check HUBSPOT_HITL_CLIENT_ID and HUBSPOT_HITL_CLIENT_SECRET: the app asks for the journal by them alone.",
            f"The scopes {', '.join(SCOPES)} are given to the app itself, and are not for its list of scopes.",
            "If HubSpot goes on refusing them, unset HUBSPOT_HITL_JOURNAL: a removed app is noticed at the next call.",
        ]
        plan.by_hand.append(ByHand(f"HubSpot does not let this app subscribe to its journal ({error}).", steps))
        return
    plan.changes.extend(changes.SubscribeToJournal(action) for action in EVENT_TYPES if action not in there)

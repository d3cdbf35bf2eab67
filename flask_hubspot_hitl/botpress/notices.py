"""Provide the texts that a Botpress user knows from its HITL plugin: around a session, and the close command.

Names and defaults: docs/botpress.rst (Plugin settings). ``"NULL"`` suppresses a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULTS = {
    "onHitlHandoffMessage": ("I have escalated this conversation to a human agent. They should be with you shortly."),
    "onHumanAgentAssignedMessage": "A human agent has joined the conversation.",
    "onHitlStoppedMessage": "The human agent closed the conversation. I will continue assisting you.",
    "onUserHitlCancelledMessage": "( The user has ended the session. )",
    "onIncompatibleMsgTypeMessage": (
        "Sorry, the user can not receive this type of message. Please resend your message as a text message."
    ),
    "onUserHitlCloseMessage": "You have ended the session with the human agent. I will continue assisting you.",
    "onAgentAssignedTimeoutMessage": (
        "No human agent is available at the moment. Please try again later. "
        "I will continue assisting you for the time being."
    ),
    "onMessageNotDelivered": "Sorry, this message could not be delivered. Please send it again in another way.",
    "userHitlCloseCommand": "/end",
}
"""Texts by Botpress's own names, but for ``onMessageNotDelivered``, which is ours."""
HANDOFF = "onHitlHandoffMessage"
ASSIGNED = "onHumanAgentAssignedMessage"
STOPPED = "onHitlStoppedMessage"
CANCELLED = "onUserHitlCancelledMessage"
INCOMPATIBLE = "onIncompatibleMsgTypeMessage"
CLOSED = "onUserHitlCloseMessage"
TIMED_OUT = "onAgentAssignedTimeoutMessage"
NOT_DELIVERED = "onMessageNotDelivered"
CLOSE_COMMAND = "userHitlCloseCommand"
LIMIT = 2_000
"""Characters of a text at most."""


def notice(name: str, *overrides: Mapping[str, Any] | None) -> str:
    """Return a text, or "" when it is suppressed.

    The first override that has it wins; an empty one does not count.
    """
    for given in overrides:
        value = (given or {}).get(name)
        if isinstance(value, str) and value.strip():
            return "" if value.strip() == "NULL" else value[:LIMIT]
    return DEFAULTS[name]


def known(given: object) -> dict[str, str]:
    """Return those of a session's overrides that we use, as they may be stored."""
    found = given if isinstance(given, Mapping) else {}
    return {name: text[:LIMIT] for name in DEFAULTS if isinstance(text := found.get(name), str)}


def is_close_command(text: str, *overrides: Mapping[str, Any] | None) -> bool:
    """Return True when the whole message is the close command, whatever its case."""
    command = notice(CLOSE_COMMAND, *overrides)
    return bool(command) and text.strip().casefold() == command.strip().casefold()

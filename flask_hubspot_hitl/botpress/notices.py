"""Provide the texts that a Botpress user knows from its HITL plugin: around a session, and the close command.

Names and defaults: docs/botpress.rst (Plugin settings); :mod:`.texts`. ``"NULL"`` suppresses a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .texts import TEXTS

LANGUAGES = tuple(TEXTS)
DEFAULTS = TEXTS["en"]
LANGUAGE = "language"
"""Among a session's overrides: the language of the texts that are not overridden."""
HANDOFF = "onHitlHandoffMessage"
ASSIGNED = "onHumanAgentAssignedMessage"
STOPPED = "onHitlStoppedMessage"
CANCELLED = "onUserHitlCancelledMessage"
INCOMPATIBLE = "onIncompatibleMsgTypeMessage"
CLOSED = "onUserHitlCloseMessage"
TIMED_OUT = "onAgentAssignedTimeoutMessage"
NOBODY = "onNobodyAvailableMessage"
NOBODY_UNTIL = "onNobodyAvailableUntilMessage"
WAITING = "onWaitingMessage"
NOT_DELIVERED = "onMessageNotDelivered"
CLOSE_COMMAND = "userHitlCloseCommand"
LIMIT = 2_000
"""Characters of a text at most."""


def notice(name: str, *overrides: Mapping[str, Any] | None) -> str:
    """Return a text, or "" when it is suppressed.

    The first override that has it wins; an empty one does not count. Without one it is in the first language named.
    """
    for given in overrides:
        value = (given or {}).get(name)
        if isinstance(value, str) and value.strip():
            return "" if value.strip() == "NULL" else value[:LIMIT]
    language = next(filter(None, (language_of((given or {}).get(LANGUAGE)) for given in overrides)), "en")
    return TEXTS[language][name]


def known(given: object, language: object = None) -> dict[str, str]:
    """Return those of a session's overrides that we use, as they may be stored.

    :param language: such as ``de`` or ``pt-BR``; one that we do not have is left out.
    """
    found = given if isinstance(given, Mapping) else {}
    texts = {name: text[:LIMIT] for name in DEFAULTS if isinstance(text := found.get(name), str)}
    spoken = language_of(language) or language_of(found.get(LANGUAGE))
    return texts | ({LANGUAGE: spoken} if spoken else {})


def language_of(tag: object) -> str | None:
    """Return the language of a tag such as ``pt-BR``, if we have it."""
    language = tag.strip().replace("_", "-").partition("-")[0].lower() if isinstance(tag, str) else ""
    return language if language in TEXTS else None


def is_close_command(text: str, *overrides: Mapping[str, Any] | None) -> bool:
    """Return True when the whole message is the close command, whatever its case."""
    command = notice(CLOSE_COMMAND, *overrides)
    return bool(command) and text.strip().casefold() == command.strip().casefold()

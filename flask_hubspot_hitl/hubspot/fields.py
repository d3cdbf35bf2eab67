"""Read the fields of HubSpot's objects by one rule: tolerant of the type wherever the meaning is beyond doubt.

A number may be text and the other way round, spaces around do not count, and one thing may stand for a list of it.
Every function returns None for what is missing or can't be read; the caller decides whether that matters. Pure
functions; of ours it imports only :mod:`.text`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .text import scrub

_DIGITS = re.compile("[0-9]{1,19}")
_MOMENT = re.compile("[0-9]{9,19}")
_ACTOR = re.compile(r"[A-Z]-[^\s]{1,254}")
_LATEST_MS = 253_402_300_799_999  # the last millisecond a datetime can hold
_LARGEST = 2**63 - 1


def text(value: object) -> str | None:
    """Return text without spaces around; a number or a truth value in words. "" counts as missing."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _plain(value)
    return (scrub(value).strip() or None) if isinstance(value, str) else None


def word(value: object) -> str | None:
    """Return one of HubSpot's own words, which are in capitals."""
    found = text(value)
    return None if found is None else found.upper()


def number(value: object) -> int | None:
    """Return a whole number of zero or more that fits 64 bits."""
    found = None if isinstance(value, bool) else text(value)
    if found is None or not _DIGITS.fullmatch(found) or int(found) > _LARGEST:
        return None
    return int(found)


def identifier(value: object) -> str | None:
    """Return an id that is a number: of a portal, an app, a channel, an account, a thread; as it is written."""
    found = None if isinstance(value, bool) else text(value)
    return found if found is not None and _DIGITS.fullmatch(found) else None


def name(value: object, limit: int = 500) -> str | None:
    """Return an id that may be any text of at most ``limit`` characters, or a whole number: of a message, a file."""
    found = text(value) if isinstance(value, str) else identifier(value)
    return found if found is not None and len(found) <= limit else None


def names(value: object) -> list[str] | None:
    """Return a list of such ids; None when one of them can't be read."""
    given = value if isinstance(value, list) else [value]
    found = [one for one in map(name, given) if one is not None]
    return found if len(found) == len(given) else None


def actor(value: object) -> str | None:
    """Return an actor's id: bare digits are a user's; empty, ``null`` and ``none`` are nobody.

    :raises ValueError: when it is neither.
    """
    found = None if isinstance(value, bool) else text(value)
    if found is None and value is not None and not isinstance(value, str):
        raise ValueError("not an actor id")
    if found is None or found.lower() in ("null", "none"):
        return None
    if _DIGITS.fullmatch(found):
        return f"A-{found}"
    if not _ACTOR.fullmatch(found):
        raise ValueError("not an actor id")
    return found


PERSON = "A-"
"""What the actor ids of live agents begin with. Source: docs/hubspot.rst (Actors)."""
MACHINES = ("L-", "B-")
"""What the actor ids of AI agents and of bots begin with. Source: docs/hubspot.rst (Actors)."""


def holder(value: object) -> str | None:
    """Return whom an assignment names: an agent, or a machine; None for nobody, and for what can't hold a thread.

    :raises ValueError: when it can't be read.
    """
    found = actor(value)
    return found if found is not None and found.startswith((PERSON, *MACHINES)) else None


def moment(value: object) -> int | None:
    """Return a time in epoch milliseconds: of ISO-8601 text, a number, or its digits in text."""
    if isinstance(value, str):
        value = value.strip()
        if _MOMENT.fullmatch(value):
            value = int(value)
        else:
            try:
                found = datetime.fromisoformat(value)
                found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
                value = round(found.timestamp() * 1000)
            except (ValueError, OverflowError):
                return None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    is_time = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LATEST_MS
    return value if is_time else None  # type: ignore[return-value]


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: object) -> list[Mapping[str, Any]]:
    """Return a list of objects, also when there is just one without a list around; what is none is left as empty."""
    given = [value] if isinstance(value, Mapping) else value
    return [mapping(one) for one in given] if isinstance(given, list) else []


def _plain(value: float) -> str | None:
    if not math.isfinite(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) <= _LARGEST else str(value)

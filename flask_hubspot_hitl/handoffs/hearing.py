"""Find out who hears an app's signals, and warn when nobody hears those that every host must."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

from blinker import NamedSignal
from flask import Flask

from .. import signals

logger = logging.getLogger(__name__)

UNHEARD = (
    "No receiver is connected to %s: what it tells reaches nobody, and agents' messages fail after five minutes. "
    "Connect a function where the app is made, such as 'operator_message.connect(show, app)'; signals hold it weakly"
)

SIGNALS: dict[str, NamedSignal] = {
    name: value for name, value in vars(signals).items() if isinstance(value, NamedSignal)
}
CORE = ("operator_assigned", "operator_message", "conversation_completed")
"""The signals that every host must hear."""


def hears(name: str, app: Flask) -> bool:
    """Return True when a receiver is connected to a signal."""
    return any(SIGNALS[name].receivers_for(app))


def unheard(app: Flask) -> list[str]:
    """Return the names of the core signals that nothing is connected to."""
    return [name for name in CORE if not hears(name, app)]


def warn_of_unheard(app: Flask) -> None:
    """Log which core signals nothing is connected to, if any."""
    if names := unheard(app):
        logger.warning(UNHEARD, ", ".join(names))


def receivers_of(name: str, app: Flask) -> list[tuple[str, Callable[..., Any]]]:
    """Return the live receivers of a signal for one app, in the order they were connected in.

    Each has a name that is the same in every process; two of one name are told apart by an ordinal.
    """
    signal = SIGNALS[name]
    live = list(signal.receivers_for(app))
    connected = [one() if isinstance(one, weakref.ref) else one for one in list(signal.receivers.values())]
    found = [one for one in connected if one in live]
    named: list[tuple[str, Callable[..., Any]]] = []
    seen: dict[str, int] = {}
    for receiver in found:
        label = _label(receiver)
        seen[label] = seen.get(label, 0) + 1
        named.append((label if seen[label] == 1 else f"{label}#{seen[label]}", receiver))
    return named


def _label(receiver: Callable[..., Any]) -> str:
    where = receiver if hasattr(receiver, "__qualname__") else type(receiver)
    return f"{where.__module__}:{where.__qualname__}"

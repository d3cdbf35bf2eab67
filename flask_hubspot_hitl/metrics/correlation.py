"""Remember the correlation id of HubSpot's last answer while an event is run. Imports nothing of ours.

HubSpot's support finds a call by it. What calls HubSpot tells it here; the runner, which knows no HubSpot, reads it.
"""

from __future__ import annotations

from contextvars import ContextVar


class Heard:
    """Hold what was heard; shared with the threads in which a call is made."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: str | None = None
        """HubSpot's id of the last call that was answered; None when there was no such call, or no id."""


_here: ContextVar[Heard | None] = ContextVar("hubspot_hitl_correlation", default=None)


def listen() -> Heard:
    """Begin anew, in this context and those that are copied from it."""
    heard = Heard()
    _here.set(heard)
    return heard


def hear(correlation_id: str | None) -> None:
    """Take what an answer said.

    :param correlation_id: has the form of an id; None: the answer had none, and what was heard before stays.
    """
    heard = _here.get()
    if heard is not None and correlation_id is not None:
        heard.last = correlation_id

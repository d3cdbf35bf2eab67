"""Keep the bot out of a conversation that the humans have taken while it was thinking."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Self

from flask import Flask

from ..config import Off
from ..domain import Handoff, HandoffState
from ..ledger import HandoffRecord
from ..signals import bot_reply_dropped
from . import availability, receivers, verbs

logger = logging.getLogger(__name__)


class BotTurn:
    """Tell whether what the bot has to say in one turn may still be said.

    It ends nothing and locks nothing: a reply that was let through a moment before the humans came stays said.
    Use it as ``with hitl.bot_turn(…) as turn`` or ``async with``; the database is asked when the turn begins and at
    each reply, which takes some milliseconds.
    """

    def __init__(self, app: verbs.App | Off, host: Flask, conversation_id: str) -> None:
        self._app = app
        self._host = host
        self._conversation_id = conversation_id
        self._began: tuple[Any, ...] | None = None
        self._own: tuple[str, int] | None = None
        self.dropped = 0
        """How many replies were dropped."""

    def __enter__(self) -> Self:
        """Begin the turn.

        :raises LedgerUnavailable: the database can't be read.
        :raises ValueError: the conversation's id is empty or too long.
        :raises TypeError: the id is of the wrong type.
        """
        self._began = _state(self._newest())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the turn; nothing more may be said in it."""
        self._began = None

    async def __aenter__(self) -> Self:
        """Begin the turn, see :meth:`__enter__`."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the turn; nothing more may be said in it."""
        self.__exit__(kind, error, trace)

    def start(self, *, require_available: bool = False, **how: Any) -> Handoff:
        """Hand the conversation over, as :meth:`HubSpotHITL.start` does with the same keywords.

        What the bot says in this turn afterwards, such as that somebody will come, is let through while no operator
        has the conversation, and none has written.

        :param require_available: begin no handoff when nobody is there for it.
        :param how: further keywords of ``start``.
        """
        if isinstance(self._app, Off):
            raise self._app.error()
        opening = verbs.check_opening(self._app, self._conversation_id, **how)
        if require_available:
            availability.require(self._app.services, opening)
        handoff = verbs.start(self._app, opening)
        self._own = handoff.id, self._said_by_agents(handoff.id)
        return handoff

    def reply(self, text: str) -> bool:
        """Ask whether the bot may say this now; deliver it at once if so.

        :param text: what the bot would say; it is told to ``bot_reply_dropped`` and nowhere kept.
        :returns: False when a handoff has begun since the turn did, or was open then, also when it has ended since. The
            reply is dropped then, and ``bot_reply_dropped`` tells so.
        :raises LedgerUnavailable: the database can't be read.
        :raises RuntimeError: the turn has not begun, or is over.
        """
        if self._began is None:
            raise RuntimeError("reply() is for inside 'with hitl.bot_turn(…) as turn:'")
        record = self._newest()
        if self._may_speak(record):
            return True
        self.dropped += 1
        handoff = None if record is None else record.handoff
        logger.info("A reply of the bot's was dropped: the humans have the conversation (%s)", handoff and handoff.id)
        with self._host.app_context():  # a bot's thread may have none
            errors = receivers.tell(self._host, bot_reply_dropped, handoff=handoff, text=text)
        for error in errors:
            logger.warning("A receiver of bot_reply_dropped raised %s", type(error).__name__)
        return False

    def _may_speak(self, record: HandoffRecord | None) -> bool:
        if record is not None and self._own is not None and record.handoff.id == self._own[0]:
            is_free = record.handoff.state in (HandoffState.STARTING, HandoffState.WAITING)
            return is_free and self._said_by_agents(record.handoff.id) == self._own[1]
        is_open = record is not None and record.handoff.is_open
        return not is_open and _state(record) == self._began

    def _newest(self) -> HandoffRecord | None:
        return None if isinstance(self._app, Off) else verbs.newest(self._app, self._conversation_id)

    def _said_by_agents(self, handoff_id: str) -> int:
        if isinstance(self._app, Off):
            return 0
        with self._app.services.ledger.read() as tx:
            return len(tx.records.operator_rows(handoff_id))


def _state(record: HandoffRecord | None) -> tuple[Any, ...]:
    """Return what differs when a handoff was open between two looks."""
    if record is None:
        return ()
    return (record.handoff.id, record.handoff.is_open, record.handoff.closed_at)

"""Build what the bot is told when the humans have ended: the ``hitl.ended`` object."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from ..domain import Author, CloseReason, Handoff, Message, MessageStatus
from ..handoffs.silence import DETAIL as SILENT

COMMAND = "the user's close command"
"""The ``detail`` of a handoff that the user ended by the close command."""
TRANSCRIPT_BYTES = 48_000
"""Bytes of JSON in ASCII that the transcript may have; Botpress takes events of 64 KB."""


def ended_event(handoff: Handoff, transcript: list[Message]) -> dict[str, Any]:
    """Build the ``hitl.ended`` object: reason, agent, and as much of the newest transcript as fits in 64 KB.

    ``unread`` marks what the agents never got.
    """
    silent = "timeout" if nobody_came(handoff) else "user_silent" if handoff.detail == SILENT else "agent_closed"
    reasons: dict[CloseReason | None, str] = {CloseReason.TIMEOUT: silent, CloseReason.USER: "user_ended"}
    said: list[dict[str, Any]] = []
    size = 0
    for message in reversed(transcript):
        text = message.text_with_choices[:5_000]
        size += len(json.dumps(text)) + 100
        if size > TRANSCRIPT_BYTES:
            break
        at = (message.created_at or datetime.now(UTC)).isoformat()
        who = "agent" if message.author is Author.OPERATOR else "user"
        line: dict[str, Any] = {"from": who, "text": text, "at": at}
        if message.status is MessageStatus.FAILED:
            line["unread"] = True
        said.insert(0, line)
    agent = {"name": handoff.operator.name} if handoff.operator and handoff.operator.name else {}
    reason = "bot_ended" if ended_by_bot(handoff) else reasons.get(handoff.reason, "agent_closed")
    return {**failed_event(handoff.id), "reason": reason, "agent": agent, "transcript": said}


def nobody_came(handoff: Handoff) -> bool:
    """Return True when it ended because no agent took it in time."""
    return handoff.reason is CloseReason.TIMEOUT and handoff.assigned_at is None and handoff.detail != SILENT


def ended_by_bot(handoff: Handoff) -> bool:
    """Return True when neither the user nor an agent ended it."""
    return handoff.reason is CloseReason.USER and handoff.detail not in (None, COMMAND)


def unavailable_event(opens_at: datetime | None) -> dict[str, Any]:
    """Build the ``hitl.ended`` object of a handoff that was not opened: nobody is there until ``opens_at``."""
    return {**failed_event(""), "reason": "unavailable", "opensAt": opens_at and opens_at.isoformat()}


def failed_event(session: str) -> dict[str, Any]:
    """Build the ``hitl.ended`` object of a handoff that could not be opened; ``session`` may be empty."""
    return {"kind": "hitl.ended", "v": 1, "session": session, "reason": "error", "agent": {}, "transcript": []}

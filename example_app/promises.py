"""What the bot may promise: whether somebody of the team is there, and else when somebody is back."""

from __future__ import annotations

from datetime import datetime

from flask import current_app

from flask_hubspot_hitl import HITLError, LedgerUnavailable

from .extensions import hitl


def can_be_asked() -> bool:
    """Whether this app is set up to ask who is there (``HUBSPOT_HITL_AVAILABILITY``)."""
    return current_app.config.get("HUBSPOT_HITL_AVAILABILITY") in ("hubspot", "hours")


def nobody_is_there() -> str | None:
    """What to say while nobody is there; None when somebody is, or when that is not known."""
    if not can_be_asked():
        return None
    try:
        there = hitl.availability()
    except LedgerUnavailable:
        raise
    except HITLError:
        current_app.logger.exception("It can't be found out who is there")
        return None
    return words(there.opens_at) if there.open is False else None


def words(opens_at: datetime | None) -> str:
    """Say that nobody is there, and when somebody is back."""
    if opens_at is None:
        return "Nobody of our team is here right now. I will try to help you myself."
    return f"Nobody of our team is here right now. Somebody is back on {opens_at:%A at %H:%M} UTC."

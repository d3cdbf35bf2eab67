"""Remember the contract's users and sessions, and guess where no id tells which user or session is meant.

``user:<id>`` stays while the user comes: Botpress makes one once. ``session:<id>`` (``pending``, ``open``, ``closed``)
goes when the session is over; ``close`` is when a ticket was closed that could not be told from others.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...domain import Contact
from ...ledger import Ledger, Transaction
from ...ledger.states import Facts
from ..relay import Relay

logger = logging.getLogger(__name__)

NAME = "hitl-api"
"""The bridge's name: of its memory, its handoffs, and its topic."""
CANCELLED = "( The user has ended the session. )"
"""What Botpress's plugin tells the agent when the user ends; it comes just before or after the ticket is closed."""
CANCEL_MS = 15_000
"""Milliseconds between the user's cancel text and the closing of the ticket that belong together."""
RECENT_USER_MS = 10_000
"""Milliseconds after which a new user is no longer taken for that of a new session."""
SESSIONS = 1_000
"""Newest users and sessions that are searched for one that no id names."""
_HINT = re.compile(r"^\s*([A-Za-z_][\w -]{0,30}?)\s*:\s*(\S.*?)\s*$")
_HINTS = {"email": "email", "e-mail": "email", "phone": "phone", "name": "name", "userid": "user_id", "inbox": "inbox"}
_FAKE_EMAIL = re.compile(r"^([^@]+)@no-reply\.[^@]*botpress\.com$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Facts):
    """Hold one session. ``state`` is ``pending``, ``open`` or ``closed``; times are epoch ms."""

    title: str
    description: str
    hints: dict[str, str]
    history: list[Any] = field(repr=False)
    """The conversation before, as Botpress tells it."""
    user: str | None
    """The id of its user, once that is known."""
    state: str = "pending"
    at: int
    cancelled_at: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the session as it is stored: with every key, which versions before this one rely on."""
        return asdict(self)


class Tickets:
    """Hold the bridge's memory on one app."""

    def __init__(self, ledger: Ledger, relay: Relay) -> None:
        self._ledger = ledger
        self._relay = relay

    # Users -----------------------------------------------------------------------------------------------

    def add_user(self, tx: Transaction, user_id: str, user: Mapping[str, str]) -> None:
        """Remember a user that Botpress has made."""
        now = self._ledger.now_ms()
        tx.bridges.put(NAME, f"user:{user_id}", {**user, "at": now}, now=now)

    def user(self, tx: Transaction, user_id: str | None) -> dict[str, Any] | None:
        """Return what is known of a user, or None."""
        found: dict[str, Any] | None = tx.bridges.get(NAME, f"user:{user_id}")
        return found

    def find_user(self, tx: Transaction, hints: Mapping[str, str]) -> str | None:
        """Return the user whom the description names, else the one made just before who has no session yet."""
        now = self._ledger.now_ms()
        users = [(key.removeprefix("user:"), one) for key, one in tx.bridges.newest(NAME, "user:", limit=SESSIONS)]
        for user_id, user in users:
            email = user["email"]
            fake = _FAKE_EMAIL.match(email)
            if hints.get("email") and email.lower() == hints["email"].lower():
                return user_id
            if hints.get("user_id") and fake and fake[1] == hints["user_id"]:
                return user_id
        taken = {one.user for _, one in self.sessions(tx)}
        fresh = [user_id for user_id, one in users if now - one["at"] <= RECENT_USER_MS and user_id not in taken]
        return fresh[0] if len(fresh) == 1 and not hints.get("email") else None

    # Sessions --------------------------------------------------------------------------------------------

    def sessions(self, tx: Transaction) -> list[tuple[str, Session]]:
        """Return the newest sessions that are not over, with their ids."""
        found = tx.bridges.newest(NAME, "session:", limit=SESSIONS)
        return [(key.removeprefix("session:"), Session.from_json(one)) for key, one in found]

    def session(self, tx: Transaction, session_id: str, *, lock: bool = False) -> Session | None:
        """Return a session; None when it is over, or was never ours."""
        found = tx.bridges.get(NAME, f"session:{session_id}", lock=lock)
        return None if found is None else Session.from_json(found)

    def lock(self, tx: Transaction, session_id: str) -> Session | None:
        """Lock and return a session. Its lane is locked first: the dispatcher locks in that order."""
        self._relay.reserve(tx, session_id, now=self._ledger.now_ms())
        return self.session(tx, session_id, lock=True)

    def put(self, tx: Transaction, session_id: str, session: Session) -> None:
        """Remember a session as it is now, and that its user was here."""
        now = self._ledger.now_ms()
        tx.bridges.put(NAME, f"session:{session_id}", session.to_json(), now=now)
        if session.user is not None:
            tx.bridges.touch(NAME, f"user:{session.user}", now=now)

    def opened(self, tx: Transaction, session_id: str) -> None:
        """Remember that the session's handoff is open."""
        session = self.session(tx, session_id, lock=True)
        if session is not None and session.state == "pending":
            self.put(tx, session_id, replace(session, state="open"))

    def forget(self, tx: Transaction, session_id: str) -> None:
        """Forget a session that is over, with its title and description."""
        tx.bridges.delete(NAME, f"session:{session_id}")

    # Which ticket was closed -----------------------------------------------------------------------------

    def closed_one(self, tx: Transaction) -> tuple[str, Session] | None:
        """Return the session that a closing without a known id means: the one just cancelled, else the only open one.

        With None, the closing is remembered for a cancel text that is still to come.
        """
        now = self._ledger.now_ms()
        open_ones = [pair for pair in self.sessions(tx) if pair[1].state != "closed"]
        cancelled = [pair for pair in open_ones if now - pair[1].cancelled_at <= CANCEL_MS]
        found = max(cancelled, key=lambda pair: pair[1].cancelled_at, default=None)
        if found is None and len(open_ones) == 1:
            found = open_ones[0]
        if found is None:
            if open_ones:
                logger.warning(
                    "Botpress closed one of %d tickets and does not say which; none is closed unless the user's cancel "
                    "text follows. Close its thread in HubSpot by hand",
                    len(open_ones),
                )
            tx.bridges.put(NAME, "close", now, now=now)
        return found

    def was_closed(self, tx: Transaction) -> bool:
        """Return True, once, when a ticket was closed just before that could not be told from others."""
        closed_at = tx.bridges.get(NAME, "close", lock=True) or 0
        if self._ledger.now_ms() - closed_at > CANCEL_MS:
            return False
        tx.bridges.delete(NAME, "close")
        return True


def hints_of(description: str) -> dict[str, str]:
    """Return the ``key: value`` lines of a ticket's description that we know."""
    found: dict[str, str] = {}
    for line in description.splitlines():
        match = _HINT.match(line)
        if match and (name := _HINTS.get(match[1].lower().replace(" ", ""))):
            found.setdefault(name, match[2][:500])
    return found


def contact_from(user: Mapping[str, str], hints: Mapping[str, str]) -> Contact | None:
    """Return the contact of a user; e-mail addresses that Botpress made up don't count. None when there is none."""
    emails = [one for one in (hints.get("email"), user.get("email")) if one and not _FAKE_EMAIL.match(one)]
    phones = [one for one in (hints.get("phone"), user.get("phone")) if one]
    if not emails and not phones:
        return None
    return Contact(phone=phones[0] if phones else None, email=emails[0] if emails else None)

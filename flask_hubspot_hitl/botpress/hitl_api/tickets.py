"""Remember the contract's users and sessions, and guess where no id tells which user or session is meant.

``user:<id>`` stays while the user comes: Botpress makes one once. ``session:<id>`` (``pending``, ``open``, ``closed``)
goes when the session is over. A closing names no session, so it is put together with the user's cancel text: ``close``
is when a ticket was closed that could not be told from others, ``cancels`` when sessions were cancelled that were over,
``closed`` which session was closed last.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...domain import Contact
from ...errors import ContactInvalid
from ...hubspot.contacts import parse_contact
from ...ledger import Ledger, Transaction
from ...ledger.states import Facts
from ..delivery import ONCE
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
_PERSONAL = ("email", "phone", "user_id")
"""Hints that tell whose a session is."""
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
    guess: str | None = None
    """The id of the user whom it may be, until a message tells."""

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

    def named_user(self, tx: Transaction, hints: Mapping[str, str]) -> str | None:
        """Return the user whom the description names."""
        for user_id, user in self._users(tx):
            email = user["email"]
            fake = _FAKE_EMAIL.match(email)
            if hints.get("email") and email.lower() == hints["email"].lower():
                return user_id
            if hints.get("user_id") and fake and fake[1] == hints["user_id"]:
                return user_id
        return None

    def guess_user(self, tx: Transaction, hints: Mapping[str, str]) -> str | None:
        """Return the one user made just before who has no session yet; nobody when the description tells of a person.

        Botpress makes a user once: the session may be that of one who returns.
        """
        if any(hints.get(name) for name in _PERSONAL):
            return None
        now = self._ledger.now_ms()
        taken = {user_id for _, one in self.sessions(tx) for user_id in (one.user, one.guess)}
        fresh = [key for key, one in self._users(tx) if now - one["at"] <= RECENT_USER_MS and key not in taken]
        return fresh[0] if len(fresh) == 1 else None

    def _users(self, tx: Transaction) -> list[tuple[str, dict[str, Any]]]:
        return [(key.removeprefix("user:"), one) for key, one in tx.bridges.newest(NAME, "user:", limit=SESSIONS)]

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

    def stopping(self, tx: Transaction, session_id: str) -> None:
        """Forget a session that is over, and remember that Botpress has to be told: until then its user may end it too.

        The row is the delivery's (:class:`.Delivery`), which goes on with it.
        """
        self.forget(tx, session_id)
        tx.bridges.add(NAME, ONCE + stop_key(session_id), {"done": 0}, now=self._ledger.now_ms())

    def _untold(self, tx: Transaction) -> int:
        """Return how many sessions are over of which Botpress does not know that."""
        told = tx.bridges.newest(NAME, ONCE + stop_key(""), limit=SESSIONS)
        return sum(not one["done"] for _, one in told)

    # Which ticket was closed -----------------------------------------------------------------------------

    def closed_one(self, tx: Transaction) -> tuple[str, Session] | None:
        """Return the session that a closing without a known id means: the one just cancelled, else the only open one.

        None when that is one which was over before it was cancelled. Else, with None, the closing is remembered for a
        cancel text that is still to come: also when the only open one may not be the only one that Botpress has.
        """
        now = self._ledger.now_ms()
        open_ones = [pair for pair in self.sessions(tx) if pair[1].state != "closed"]
        cancelled = [pair for pair in open_ones if now - pair[1].cancelled_at <= CANCEL_MS]
        if cancelled:
            return max(cancelled, key=lambda pair: pair[1].cancelled_at)
        if self._was_cancelled(tx):
            return None
        untold = self._untold(tx) if len(open_ones) == 1 else 0
        if len(open_ones) == 1 and not untold:
            return open_ones[0]
        if open_ones:
            logger.warning(
                "Botpress closed one of %d tickets and does not say which; none is closed unless the user's cancel "
                "text follows. Close its thread in HubSpot by hand",
                len(open_ones) + untold,
            )
        tx.bridges.put(NAME, "close", now, now=now)
        return None

    def closed(self, tx: Transaction, session_id: str) -> None:
        """Remember that a session was closed: its cancel text, when it comes after that, is no other closing's."""
        now = self._ledger.now_ms()
        tx.bridges.put(NAME, "closed", {"conversation": session_id, "at": now}, now=now)

    def was_closed(self, tx: Transaction) -> bool:
        """Return True, once, when a ticket was closed just before that could not be told from others."""
        closed_at = tx.bridges.get(NAME, "close", lock=True) or 0
        if self._ledger.now_ms() - closed_at > CANCEL_MS:
            return False
        tx.bridges.delete(NAME, "close")
        return True

    def cancelled_late(self, tx: Transaction, session_id: str) -> None:
        """Use up the closing that belongs to the cancel text of a session that is over, or the next one."""
        now = self._ledger.now_ms()
        closed = tx.bridges.get(NAME, "closed", lock=True)
        if closed and closed["conversation"] == session_id and now - closed["at"] <= CANCEL_MS:
            tx.bridges.delete(NAME, "closed")
        elif not self.was_closed(tx):
            tx.bridges.add(NAME, "cancels", [], now=now)  # so that there is a row to lock
            tx.bridges.put(NAME, "cancels", [*self._cancels(tx, lock=True), now], now=now)

    def _was_cancelled(self, tx: Transaction) -> bool:
        """Return True, once for each, when a session that was over has been cancelled just before."""
        if not self._cancels(tx, lock=False):  # no lock is kept then: that of a session has to come first
            return False
        cancels = self._cancels(tx, lock=True)
        tx.bridges.put(NAME, "cancels", cancels[1:], now=self._ledger.now_ms())
        return bool(cancels)

    def _cancels(self, tx: Transaction, *, lock: bool) -> list[int]:
        now = self._ledger.now_ms()
        return [at for at in tx.bridges.get(NAME, "cancels", lock=lock) or [] if now - at <= CANCEL_MS]


def stop_key(session_id: str) -> str:
    """Return what the delivery is called that tells Botpress of a session's end."""
    return f"stop:{session_id}"


def hints_of(description: str, *, allow_special_domains: bool) -> dict[str, str]:
    """Return the ``key: value`` lines of a ticket's description that we know, and whose values can be such.

    Others are the bot's words for the agent. For ``allow_special_domains`` see :func:`.parse_contact`.
    """
    found: dict[str, str] = {}
    for line in description.splitlines():
        match = _HINT.match(line)
        name = _HINTS.get(match[1].lower().replace(" ", "")) if match else None
        if match is None or name is None or name in found:
            continue
        value = match[2][:500]
        if name == "inbox":
            is_right = value.isascii() and value.isdecimal()
        else:
            is_right = name not in ("email", "phone") or _is_address(value, allow_special_domains)
        if is_right:
            found[name] = value
    return found


def contact_from(user: Mapping[str, str], hints: Mapping[str, str], *, allow_special_domains: bool) -> Contact | None:
    """Return the contact of a user, whom the hints are about too; None when there is none.

    E-mail addresses that Botpress made up don't count, nor what is no address. A phone number may stand in the place
    of an e-mail address.
    """
    given = (hints.get("email"), hints.get("phone"), user.get("email"), user.get("phone"))
    right = [one for one in given if one and not _FAKE_EMAIL.match(one) and _is_address(one, allow_special_domains)]
    if not right:
        return None
    email = next((one for one in right if "@" in one), None)
    return Contact(phone=next((one for one in right if "@" not in one), None), email=email)


def _is_address(text: str, allow_special_domains: bool) -> bool:
    """Return True for an e-mail address or a phone number with country code."""
    try:
        parse_contact(text, allow_special_domains=allow_special_domains)
    except ContactInvalid:
        return False
    return True

"""What the chat bridge remembers of each of the host's users, in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...ledger import Ledger, Transaction

NAME = "chat"
"""The bridge's name: of its memory, its handoffs, and its topic."""
_TOLD = (("name", "name"), ("pictureUrl", "picture_url"), ("profile", "profile"))
"""Botpress's names of what it is told of a user, and ours."""


@dataclass(frozen=True, slots=True)
class ChatUser:
    """A user of the host's channel. ``id`` is the host's own and names the conversation in ``hitl.get`` and so on."""

    id: str
    name: str | None = field(default=None, repr=False)
    picture_url: str | None = field(default=None, repr=False)
    profile: str | None = field(default=None, repr=False)
    contact: str | None = field(default=None, repr=False)
    """A phone number with country code or an e-mail address, when the host knows it; the bot may tell it instead."""


def user_of(given: ChatUser | Mapping[str, Any] | str) -> ChatUser:
    """A user, its fields as a mapping, or just the id.

    :raises ValueError: when there is no id.
    """
    if isinstance(given, Mapping):
        known = {name: given[name] for name in ChatUser.__slots__ if given.get(name) is not None}
        given = ChatUser(**{**known, "id": str(known.get("id", ""))})
    user = ChatUser(given) if isinstance(given, str) else given
    if not user.id:
        raise ValueError("a user needs an id")
    return user


class Users:
    """``user:<id>`` is what is known of a user; ``conversation:<id>``, in Botpress's ids, its user's id;
    ``starting:<id>`` how much is still to be worked off before it is known who has the conversation.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # Who they are ----------------------------------------------------------------------------------------

    def learn(self, tx: Transaction, user: ChatUser) -> None:
        """Remember what the host tells of a user; what it leaves out stays as it was."""
        told = {name: value for name, value in asdict(user).items() if value is not None}
        known = self.known(tx, user.id, lock=True)
        if not told.items() <= known.items():
            self._put(tx, user.id, {**known, **told})

    def known(self, tx: Transaction, user_id: str, *, lock: bool = False) -> dict[str, Any]:
        """All that is known: the host's fields, ``conversation``, and ``told``, the profile that Botpress has."""
        return tx.bridges.get(NAME, f"user:{user_id}", lock=lock) or {}

    def get(self, user_id: str) -> ChatUser:
        """A user as the host told of them."""
        with self._ledger.read() as tx:
            known = self.known(tx, user_id)
        return ChatUser(user_id, **{name: known.get(name) for name in ChatUser.__slots__ if name != "id"})

    def profile(self, known: Mapping[str, Any]) -> dict[str, str]:
        """What Botpress should know of a user."""
        return {theirs: known[ours] for theirs, ours in _TOLD if known.get(ours)}

    # Their conversations with the bot --------------------------------------------------------------------

    def link(self, tx: Transaction, user_id: str, conversation_id: str, profile: Mapping[str, str]) -> None:
        """Botpress has this conversation, and this profile, of a user."""
        known = self.known(tx, user_id, lock=True)
        self._put(tx, user_id, {**known, "told": profile, "conversation": conversation_id})
        tx.bridges.put(NAME, f"conversation:{conversation_id}", user_id, now=self._ledger.now_ms())

    def unlink(self, tx: Transaction, user_id: str, conversation_id: str) -> None:
        """Botpress no longer has this conversation: the next message makes another."""
        known = self.known(tx, user_id, lock=True)
        if known.get("conversation") == conversation_id:
            kept = {name: value for name, value in known.items() if name not in ("told", "conversation")}
            self._put(tx, user_id, kept)

    def owner(self, tx: Transaction, conversation_id: str) -> str | None:
        """Whose conversation it is."""
        found: str | None = tx.bridges.get(NAME, f"conversation:{conversation_id}")
        return found

    def _put(self, tx: Transaction, user_id: str, value: dict[str, Any]) -> None:
        tx.bridges.put(NAME, f"user:{user_id}", value, now=self._ledger.now_ms())

    # Between the bot and a human -------------------------------------------------------------------------

    def count(self, tx: Transaction, user_id: str, *, starts: int = 0, held: int = 0, stops: int = 0) -> None:
        """Count what has come (or, negative, was worked off) of the bot's calls for a human, of messages held back for
        them, and of the bot's wishes to end."""
        before = self._counts(tx, user_id, lock=True)
        come = {"starts": starts, "held": held, "stops": stops}
        after = {name: max(0, before.get(name, 0) + number) for name, number in come.items()}
        if any(after.values()):
            tx.bridges.put(NAME, f"starting:{user_id}", after, now=self._ledger.now_ms())
        else:
            tx.bridges.delete(NAME, f"starting:{user_id}")

    def is_starting(self, tx: Transaction, user_id: str, *, lock: bool = False) -> bool:
        """True while a call for a human, or a message held back for one, is not worked off."""
        counts = self._counts(tx, user_id, lock=lock)
        return bool(counts.get("starts") or counts.get("held"))

    def is_with_human(self, tx: Transaction, user_id: str) -> bool:
        """True when what the bot says now is not for the user: a human has the conversation, or will."""
        if self.is_starting(tx, user_id):
            return True
        return not self._counts(tx, user_id).get("stops") and tx.records.open_of(user_id) is not None

    def _counts(self, tx: Transaction, user_id: str, *, lock: bool = False) -> dict[str, int]:
        return tx.bridges.get(NAME, f"starting:{user_id}", lock=lock) or {}

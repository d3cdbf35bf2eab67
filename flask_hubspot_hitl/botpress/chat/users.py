"""Remember each of the host's users in the ledger, for the chat bridge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...ledger import Ledger, Transaction

NAME = "chat"
"""The bridge's name: of its memory, its handoffs, and its topic."""
_TOLD = (("name", "name"), ("pictureUrl", "picture_url"), ("profile", "profile"))
"""Pairs of Botpress's names and ours, of what Botpress is told of a user."""


@dataclass(frozen=True, slots=True)
class ChatUser:
    """A user of the host's channel.

    :param id: the host's own id; it names the conversation in ``hitl.get`` and so on.
    :param name: the name, for the bot and the agent.
    :param picture_url: the URL of a picture, for the bot.
    :param profile: what else the bot may know, as text.
    :param contact: a phone number with country code or an e-mail address, when the host knows it; the bot may tell it
        instead.
    """

    id: str
    name: str | None = field(default=None, repr=False)
    picture_url: str | None = field(default=None, repr=False)
    profile: str | None = field(default=None, repr=False)
    contact: str | None = field(default=None, repr=False)


def user_of(given: ChatUser | Mapping[str, Any] | str) -> ChatUser:
    """Make a user of its fields as a mapping, or of just the id.

    :param given: a user, a mapping, or an id.
    :returns: the user.
    :raises ValueError: there is no id.
    """
    if isinstance(given, Mapping):
        known = {name: given[name] for name in ChatUser.__slots__ if given.get(name) is not None}
        given = ChatUser(**{**known, "id": str(known.get("id", ""))})
    user = ChatUser(given) if isinstance(given, str) else given
    if not user.id:
        raise ValueError("a user needs an id")
    return user


class Users:
    """Remember users, their conversations with the bot, and what is not worked off yet.

    ``user:<id>`` holds what is known of a user; ``conversation:<id>``, in Botpress's ids, its user's id;
    ``starting:<id>`` how much is still to be worked off before it is known whether the bot or a human has the
    conversation.
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
        else:
            self.touch(tx, user.id)

    def touch(self, tx: Transaction, user_id: str) -> None:
        """Note that the user, or the bot to the user, has written: what is remembered stays."""
        if tx.bridges.touch(NAME, f"user:{user_id}", now=self._ledger.now_ms()):
            self._put(tx, user_id, self.known(tx, user_id))

    def known(self, tx: Transaction, user_id: str, *, lock: bool = False) -> dict[str, Any]:
        """Return all that is known: the host's fields, ``conversation``, and ``told``, the profile at Botpress."""
        return tx.bridges.get(NAME, f"user:{user_id}", lock=lock) or {}

    def get(self, user_id: str) -> ChatUser:
        """Return a user as the host told of them."""
        with self._ledger.read() as tx:
            known = self.known(tx, user_id)
        return ChatUser(user_id, **{name: known.get(name) for name in ChatUser.__slots__ if name != "id"})

    def profile(self, known: Mapping[str, Any]) -> dict[str, str]:
        """Return what Botpress should know of a user, in its own names."""
        return {theirs: known[ours] for theirs, ours in _TOLD if known.get(ours)}

    # Their conversations with the bot --------------------------------------------------------------------

    def link(self, tx: Transaction, user_id: str, conversation_id: str, profile: Mapping[str, str]) -> None:
        """Remember that Botpress has this conversation, and this profile, of a user."""
        known = self.known(tx, user_id, lock=True)
        self._put(tx, user_id, {**known, "told": profile, "conversation": conversation_id})

    def unlink(self, tx: Transaction, user_id: str, conversation_id: str) -> None:
        """Forget a conversation that Botpress no longer has: the next message makes another."""
        known = self.known(tx, user_id, lock=True)
        if known.get("conversation") == conversation_id:
            kept = {name: value for name, value in known.items() if name not in ("told", "conversation")}
            self._put(tx, user_id, kept)

    def owner(self, tx: Transaction, conversation_id: str) -> str | None:
        """Return the id of a conversation's user; None when it is not known."""
        found: str | None = tx.bridges.get(NAME, f"conversation:{conversation_id}")
        return found

    def _put(self, tx: Transaction, user_id: str, value: dict[str, Any]) -> None:
        """Store both rows, because both go at the same age."""
        now = self._ledger.now_ms()
        tx.bridges.put(NAME, f"user:{user_id}", value, now=now)
        if "conversation" in value:
            tx.bridges.put(NAME, f"conversation:{value['conversation']}", user_id, now=now)

    # Between the bot and a human -------------------------------------------------------------------------

    def count(self, tx: Transaction, user_id: str, *, starts: int = 0, held: int = 0, stops: int = 0) -> None:
        """Count the bot's calls for a human, the messages held back for them, and the bot's wishes to end.

        A positive number has come, a negative one was worked off.
        """
        before = self._counts(tx, user_id, lock=True)
        come = {"starts": starts, "held": held, "stops": stops}
        after = {name: max(0, before.get(name, 0) + number) for name, number in come.items()}
        if any(after.values()):
            tx.bridges.put(NAME, f"starting:{user_id}", after, now=self._ledger.now_ms())
        else:
            tx.bridges.delete(NAME, f"starting:{user_id}")

    def is_starting(self, tx: Transaction, user_id: str, *, lock: bool = False) -> bool:
        """Return True while a call for a human, or a message held back for one, is not worked off."""
        counts = self._counts(tx, user_id, lock=lock)
        return bool(counts.get("starts") or counts.get("held"))

    def is_with_human(self, tx: Transaction, user_id: str) -> bool:
        """Return True when what the bot says now is not for the user: a human has the conversation, or will."""
        if self.is_starting(tx, user_id):
            return True
        return not self._counts(tx, user_id).get("stops") and tx.records.open_of(user_id) is not None

    def _counts(self, tx: Transaction, user_id: str, *, lock: bool = False) -> dict[str, int]:
        return tx.bridges.get(NAME, f"starting:{user_id}", lock=lock) or {}

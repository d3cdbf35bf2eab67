"""Route what the user says: to the agents while a handoff is open, else to the bot; and tell the bot by events."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...dispatch.tasks import Done, Outcome
from ...handoffs import verbs
from ...ledger import Event, Transaction
from .. import notices
from ..delivery import Payload
from ..messages import to_agent
from ..relay import BridgeState, NotYet, Told
from ..service import BotpressRejected
from .from_bot import FromBot, digest
from .shared import Part, Shared
from .users import ChatUser

GONE = frozenset({403, 404})
"""Botpress's statuses when it no longer has the conversation, or its user: because the bot was made anew, for one."""


class FromUser(Part):
    """Route the user's messages. Lane ``bot:<user>`` holds what goes to the bot, in order."""

    def __init__(self, shared: Shared, from_bot: FromBot) -> None:
        super().__init__(shared)
        self._from_bot = from_bot
        shared.relay.add("route", self._route_again, lost=self._unheld)
        shared.relay.add("to_bot", self._to_bot, lost=self._not_to_bot)
        shared.relay.add("event_to_bot", self._event_to_bot)

    def user_message(self, user: ChatUser, payload: Payload, message_id: str | None) -> bool:
        """Implement :meth:`.ChatBridge.user_message`."""
        with self._ledger.write() as tx:
            self._users.learn(tx, user)
            is_starting = self._users.is_starting(tx, user.id)
        if is_starting and self._hold(user.id, payload, message_id):
            return True
        return self._route(user.id, payload, message_id)

    def _hold(self, user_id: str, payload: Payload, message_id: str | None) -> bool:
        """Keep a message until the handoff has opened or failed; False when that is over.

        While any is held the next ones are too, so that none overtakes another.
        """
        with self._ledger.write() as tx:
            now = self._ledger.now_ms()
            self._relay.reserve(tx, user_id, now=now)
            if not self._users.is_starting(tx, user_id, lock=True):
                return False
            told = Told(operation="route", key=user_id, payload=payload, message_id=message_id or "")
            if self._relay.put(tx, told, now=now, dedupe=_dedupe("held", user_id, message_id)):
                self._users.count(tx, user_id, held=1)
        self._relay.wake()
        return True

    def _route_again(self, event: Event, told: Told) -> Outcome:
        self._route(told.key, told.payload, told.message_id or f"event-{event.id}")
        return Done(lambda tx: self._unheld(tx, event, told))

    def _unheld(self, tx: Transaction, event: Event, told: Told) -> None:
        self._users.count(tx, told.key, held=-1)

    def _route(self, user_id: str, payload: Payload, message_id: str | None) -> bool:
        """Give a message to the agent or the bot; decided in the transaction that could end the handoff."""
        said = to_agent(payload)
        if self._sessions.ends(user_id, said.text, message_id):
            return True

        def to_bot(tx: Transaction) -> None:
            self.put_message(tx, user_id, payload, key=_dedupe("to-bot", user_id, message_id))

        return verbs.send(
            self._runtime, user_id, said.text, attachments=said.files, message_id=message_id, otherwise=to_bot,
            write=lambda: self._relay.write(f"bot:{user_id}"),
        )  # fmt: skip

    # To the bot ------------------------------------------------------------------------------------------

    def put_message(self, tx: Transaction, user_id: str, payload: Payload, *, key: str | None, **more: Any) -> None:
        """Have a message sent to the bot in the user's name; the same ``key`` twice is one message."""
        told = Told(operation="to_bot", key=f"bot:{user_id}", payload=payload, more=more)
        self._relay.put(tx, told, now=self._ledger.now_ms(), dedupe=key)

    def put_event(self, tx: Transaction, user_id: str, event: Payload, *, key: str) -> None:
        """Have a custom event sent to the bot; the same ``key`` twice is one event."""
        told = Told(operation="event_to_bot", key=f"bot:{user_id}", event=event)
        self._relay.put(tx, told, now=self._ledger.now_ms(), dedupe=key)

    def _to_bot(self, event: Event, told: Told) -> Outcome:
        user_id = told.key.removeprefix("bot:")
        conversation_id = self._conversation(user_id)
        say = partial(self._api.say, user_id, conversation_id, **told.more)
        find = partial(self._api.find, user_id, conversation_id)
        sent_at = self._ledger.now_ms()
        try:
            self._delivery.send(f"to-bot:{event.id}", [told.payload], say, to=conversation_id, find=find)
        except BotpressRejected as error:
            self._renew(event, user_id, conversation_id, error)
        return Done(lambda tx: self._from_bot.watch(tx, user_id, conversation_id, since=sent_at))

    def _not_to_bot(self, tx: Transaction, event: Event, told: Told) -> None:
        """Tell the user that Botpress does not take a message; what we say in the user's name is left at that."""
        if not told.more:
            user_id = told.key.removeprefix("bot:")
            said = self._sessions.said(notices.NOT_DELIVERED, None)
            self._from_bot.put_notice(tx, user_id, f"undelivered:{event.id}", said)

    def _event_to_bot(self, event: Event, told: Told) -> None:
        user_id = told.key.removeprefix("bot:")
        conversation_id = self._conversation(user_id)
        send = partial(self._api.send_event, user_id, conversation_id)
        try:
            self._delivery.send(f"event:{event.id}", [told.event], send)
        except BotpressRejected as error:
            self._renew(event, user_id, conversation_id, error)

    def _renew(self, event: Event, user_id: str, conversation_id: str, error: BotpressRejected) -> None:
        """Try once more in a new conversation, when Botpress no longer has this one; else the error goes on."""
        state = event.state(BridgeState)
        if error.status not in GONE or state.is_renewed:
            raise error
        state.is_renewed = True
        with self._relay.write() as tx:
            self._users.unlink(tx, user_id, conversation_id)
        raise NotYet(0.0)

    def _conversation(self, user_id: str) -> str:
        """Return the user's conversation with the bot, made if needed; bring the user's profile there up to date."""
        with self._ledger.read() as tx:
            known = self._users.known(tx, user_id)
        profile, conversation_id = self._users.profile(known), known.get("conversation")
        is_told = known.get("told") == profile
        if not is_told:
            self._api.put_user(user_id, profile)
        if conversation_id is not None and is_told:
            return str(conversation_id)
        conversation_id = conversation_id or self._api.new_conversation(user_id)
        with self._relay.write() as tx:
            self._users.link(tx, user_id, conversation_id, profile)
        return str(conversation_id)


def _dedupe(what: str, user_id: str, message_id: str | None) -> str | None:
    return None if message_id is None else f"{what}:{digest(user_id, message_id)}"

"""Define every signal. Imports nothing of ours.

The sender is the real :class:`flask.Flask` object. Receivers take the keywords named here and ``**extra``, because
keywords may be added. A receiver that returns has accepted; one that raises :class:`~flask_hubspot_hitl.DeliveryFailed`
refuses for good; any other exception means: call this receiver again later. ``message.message_id`` is the idempotency
key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from blinker import ANY, NamedSignal, Namespace

_Receiver = TypeVar("_Receiver", bound=Callable[..., Any])
_KEPT = "hubspot_hitl_receivers"


class _AppsSignal(NamedSignal):
    """A signal that holds a receiver for as long as the one app it is connected for, and not for ever.

    Blinker holds what is connected with ``weak=False``, as ``connect_via`` does: a function of ``create_app`` that
    uses its ``app`` would keep each app of a test suite alive.
    """

    def connect(self, receiver: _Receiver, sender: Any = ANY, weak: bool = True) -> _Receiver:
        """Connect a receiver, as :meth:`blinker.Signal.connect` does; ``weak=False`` lasts as long as the sender."""
        extensions = getattr(sender, "extensions", None)
        if weak or not isinstance(extensions, dict) or any(one is receiver for one in self.receivers.values()):
            return super().connect(receiver, sender, weak)
        try:
            super().connect(receiver, sender, weak=True)
        except TypeError:  # there are no weak references to it
            return super().connect(receiver, sender, weak=False)
        extensions.setdefault(_KEPT, {}).setdefault(self.name, []).append(receiver)
        return receiver

    def disconnect(self, receiver: Callable[..., Any], sender: Any = ANY) -> None:
        """Disconnect a receiver, as :meth:`blinker.Signal.disconnect` does."""
        senders = [one() for one in list(self._weak_senders.values())] if sender is ANY else [sender]
        super().disconnect(receiver, sender)
        for one in senders:
            kept = getattr(one, "extensions", {}).get(_KEPT, {}).get(self.name, [])
            kept[:] = [other for other in kept if other != receiver]


class _Signals(Namespace):
    def signal(self, name: str, doc: str | None = None) -> NamedSignal:
        return self.setdefault(name, _AppsSignal(name, doc))


_signals = _Signals()

operator_assigned = _signals.signal("operator-assigned")
"""An agent took the conversation: ``handoff``, ``operator``, ``previous``.

:param handoff: the :class:`Handoff`, as it was then; so it is in all signals.
:param operator: the :class:`Operator` who has it now.
:param previous: the :class:`Operator` who had it before, or None."""

operator_message = _signals.signal("operator-message")
"""An agent wrote: ``handoff``, ``message``.

:param handoff: the :class:`Handoff`.
:param message: the :class:`Message`, with text, html, attachments, operator and message_id."""

operator_started = _signals.signal("operator-started")
"""An agent began a conversation, if AGENTS_MAY_START is set: ``portal_id``, ``contact``, ``message``, ``event``.

A receiver says whose it is, by ``hitl.accept(event, conversation_id)``, or raises ``DeliveryFailed``. Once accepted,
the message comes again as that of a handoff.

:param portal_id: the HubSpot account.
:param contact: a :class:`Contact` with the number or address that the agent writes to, or None.
:param message: the :class:`Message`.
:param event: a str that names it for hitl.accept."""

conversation_completed = _signals.signal("conversation-completed")
"""The conversation is the bot's again: ``handoff``, ``reason``, ``detail``, ``transcript``, ``operators``,
``seconds_to_assignment``, ``seconds_to_answer``, ``seconds_open``.

:param handoff: the :class:`Handoff`.
:param reason: a :class:`CloseReason`.
:param detail: further words for the reason, or None.
:param transcript: the handoff's :class:`Message` objects, oldest first.
:param operators: each :class:`Operator` who had the conversation or wrote, in the order in which they came; machines
    are left out.
:param seconds_to_assignment: from the handoff's beginning until a person took it first, a float; None when nobody did.
:param seconds_to_answer: until a person wrote first; None when nobody did.
:param seconds_open: until this end; None when it is not known."""

operator_unassigned = _signals.signal("operator-unassigned")
"""The agent gave the conversation back to the queue: ``handoff``.

:param handoff: the :class:`Handoff`."""

automation_assigned = _signals.signal("automation-assigned")
"""A machine of HubSpot's took the conversation, and no human will answer: ``handoff``, ``actor``.

With ``AUTOMATION_AS_OPERATOR`` it comes behind that of an assignment. Source: docs/hubspot.rst (Actors).

:param handoff: the :class:`Handoff`.
:param actor: its actor id: ``L-…``, an AI agent; ``B-…``, a bot of a chatflow."""

inbox_changed = _signals.signal("inbox-changed")
"""An agent moved the conversation to another inbox: ``handoff``, ``inbox_id``, ``previous``.

No webhook tells of it: it is seen when the thread is read, within the hour. Source: docs/hubspot.rst (Merges and
transfers).

:param handoff: the :class:`Handoff`.
:param inbox_id: the inbox or help desk it is in now.
:param previous: the one it was in before, or None where that was not known."""

conversation_reopened = _signals.signal("conversation-reopened")
"""A closed conversation belongs to the humans again: ``handoff``.

:param handoff: the :class:`Handoff`."""

handoff_started = _signals.signal("handoff-started")
"""HubSpot opened the thread: ``handoff``.

:param handoff: the :class:`Handoff`."""

handoff_failed = _signals.signal("handoff-failed")
"""The thread could not be opened: ``handoff``, ``error``.

:param handoff: the :class:`Handoff`.
:param error: why, a str."""

assignment_timed_out = _signals.signal("assignment-timed-out")
"""Nobody took the conversation within ``ASSIGNMENT_TIMEOUT`` (seconds): ``handoff``.

:param handoff: the :class:`Handoff`."""

idle_warning = _signals.signal("idle-warning")
"""The user has not written for ``IDLE_WARNING`` (seconds) since an agent did: ``handoff``, ``ends_at``.

Sent once for each such silence; the user's next message sets it back.

:param handoff: the :class:`Handoff`.
:param ends_at: when the handoff ends, not before, if the user writes nothing, a datetime in UTC; None: it does not end
    for it."""

queue_changed = _signals.signal("queue-changed")
"""The place of a conversation that waits for an agent has changed: ``handoff``, ``waiting``.

Sent at most once in five seconds for each handoff; ``hitl.waiting`` tells the first place. Only our own channel counts.

:param handoff: the :class:`Handoff`.
:param waiting: a :class:`Waiting`: how many are ahead, and the estimate in seconds."""

assignment_refused = _signals.signal("assignment-refused")
"""HubSpot does not assign the thread as the host asked: ``handoff``, ``actor_id``, ``error``.

The handoff stays with whom it was.

:param handoff: the :class:`Handoff`, which goes on.
:param actor_id: the agent who was asked for, ``A-987``; None when the conversation was to be taken back.
:param error: why, a str."""

ticket_refused = _signals.signal("ticket-refused")
"""HubSpot does not change the ticket as the host asked: ``handoff``, ``properties``, ``error``.

The agents read it in a note.

:param handoff: the :class:`Handoff`, which goes on.
:param properties: a dict: what the ticket should have had, by HubSpot's names.
:param error: why, a str; a rule of the portal's own, for one."""

message_delivered = _signals.signal("message-delivered")
"""HubSpot has a message of the user: ``handoff``, ``message``.

:param handoff: the :class:`Handoff`.
:param message: the :class:`Message`."""

message_failed = _signals.signal("message-failed")
"""A message of the user will not reach HubSpot, over to the bot: ``handoff``, ``message``, ``error``.

:param handoff: the :class:`Handoff`.
:param message: the :class:`Message`.
:param error: why, a str."""

webhook_rejected = _signals.signal("webhook-rejected")
"""A request to the webhook was refused: ``reason``, ``remote_addr``. Sent at once, not through the ledger.

:param reason: a value of :class:`.hubspot.signature.Verdict`, or "body_gone"; no receiver can change the answer.
:param remote_addr: the address that the request came from."""

bot_reply_dropped = _signals.signal("bot-reply-dropped")
"""What the bot said in a turn of ``hitl.bot_turn()`` came too late: ``handoff``, ``text``. Sent at once.

:param handoff: the conversation's newest :class:`Handoff`, or None where it was erased.
:param text: what the bot would have said."""

event_dead = _signals.signal("event-dead")
"""An event was given up, see ``flask hubspot-hitl dead list``: ``event``, ``error``.

:param event: a dict: id, topic, portal_id, thread_id, handoff_id, attempts.
:param error: why, a str."""

bridge_refused = _signals.signal("bridge-refused")
"""Botpress refuses the key of a bridge; what waits for it is kept for 24 hours: ``bridge``, ``error``.

Sent once, until Botpress takes the key again.

:param bridge: chat, studio or hitl-api.
:param error: which call was refused, a str."""

installation_added = _signals.signal("installation-added")
"""A portal has installed the app, or has come back: ``portal_id``.

:param portal_id: the HubSpot account."""

installation_revoked = _signals.signal("installation-revoked")
"""HubSpot refuses a portal's tokens for good: ``portal_id``.

:param portal_id: the HubSpot account; its queue waits until it is connected again."""

channel_account_changed = _signals.signal("channel-account-changed")
"""Our channel came to an inbox, changed there, or was removed from it: ``portal_id``, ``change``, ``account``.

:param portal_id: the HubSpot account.
:param change: created, updated or removed.
:param account: a dict: account_id, channel_id, inbox_id, name, authorized."""

person_erased = _signals.signal("person-erased")
"""What was kept of a person, or of one of their threads, was erased: erase what you keep: ``conversation_ids``, ``by``.

:param conversation_ids: a list of your own ids, as the handoffs were given them; nothing else is left to tell.
:param by: command (``flask hubspot-hitl erase``), or hubspot, which has deleted a thread for privacy."""

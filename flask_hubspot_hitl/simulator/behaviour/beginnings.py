"""An agent begins a conversation with a contact, where the channel allows it (docs/hubspot.rst: Capabilities).

Knows no HTTP; called with the lock held.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from ..model.errors import ApiError
from ..model.world import JSON, Channel, ChannelAccount, Message, Thread
from . import events, people, threads

if TYPE_CHECKING:
    from ..engine.simulation import Simulation


def allows(channel: Channel) -> bool:
    """Whether agents may begin conversations in a channel."""
    return not channel.archived and bool(channel.capabilities.get("allowConversationStart", False))


def account_for(sim: Simulation, portal_id: str, account_id: str | None) -> ChannelAccount:
    """The account that an agent may begin with: the one given, or the portal's first. Raises ApiError (400)."""
    for account in sim.world.accounts.values():
        if account.portal_id != portal_id or account.archived or account_id not in (None, account.id):
            continue
        if allows(sim.world.channels[account.channel_id]):
            return account
    raise ApiError.invalid("channelAccountId", "no channel here lets agents begin: its allowConversationStart is false")


def begin(sim: Simulation, account: ChannelAccount, to: str, actor_id: str, draft: threads.Draft) -> Message:
    """Make a thread with a contact, by phone number or e-mail address, and write its first message.

    HubSpot names the thread itself. Raises ApiError (400).
    """
    identifier = {"type": "HS_EMAIL_ADDRESS" if "@" in to else "HS_PHONE_NUMBER", "value": to}
    people.check_identifier(identifier, "to")
    contact = people.find_contact(sim.world, account.portal_id, identifier)
    if contact is None:
        raise ApiError.invalid("to", "no contact has this phone number or e-mail address")
    customer: JSON = {"actorId": f"V-{contact.id}", "deliveryIdentifier": identifier}
    name = people.contact_name(contact)
    if name is not None:
        customer["name"] = name
    place = (account.portal_id, account.inbox_id, account.channel_id, account.id)
    key = str(uuid.uuid4())
    thread = Thread(sim.ids.thread(), *place, key, customer, draft.created_ms, contact.id)
    if sim.world.inboxes[account.inbox_id].type == "HELP_DESK":
        thread.ticket_id = sim.ids.large()
    sim.world.threads[thread.id] = thread
    sim.world.routes[account.id, key] = thread.id
    events.app_event(sim, thread, "conversation.creation", draft.at, changeFlag="NEW")
    return threads.reply(sim, thread, actor_id, draft)

"""Call HubSpot for one portal: one method for each operation.

Of ours it may import ``errors``, ``domain`` and ``clock`` (and its neighbours here); no Flask, no database.

Every method may raise ``HubSpotUnavailable`` (try later; ``ambiguous`` when HubSpot may have done it all the same),
``TokenRevoked``, ``HubSpotRejected``, ``HubSpotNotFound``, ``HubSpotConflict``, and ``ValueError`` for an invalid id.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..domain import Contact, Operator
from ..errors import HubSpotConflict, HubSpotError, HubSpotNotFound, HubSpotUnavailable
from .bodies import build_incoming, file_attachment, iso_time, opaque
from .calls import SoFar, page_of, read_pages
from .contacts import SEARCH_PROPERTIES, pick, searches
from .content import safe_url
from .options import ClientOptions
from .paths import MAX_SEGMENT
from .phones import dialable
from .text import scrub
from .tickets import TicketCalls, note_html
from .tokens import TokenProvider
from .transport import Gate

__all__ = ["HubSpotClient", "build_incoming", "file_attachment", "iso_time", "opaque"]

#: Milliseconds that an operator is cached, and that a failed look-up is not repeated.
OPERATOR_FOR_MS = 3_600_000
OPERATOR_RETRY_MS = 300_000
#: Operators that are cached.
OPERATORS = 1_000


class HubSpotClient(TicketCalls):
    """Call HubSpot's API for one portal; see :class:`.options.ClientOptions` for the settings."""

    def __init__(self, options: ClientOptions, *, tokens: TokenProvider, gate: Gate | None = None) -> None:
        super().__init__(options, tokens=tokens, gate=gate)
        self._operators: OrderedDict[str, tuple[Operator, int]] = OrderedDict()
        self._failed: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    # Messages (HubSpot OpenAPI, custom channels)

    def publish(self, channel_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Publish a message, made by :func:`build_incoming`; returns ``PublicConversationsMessage``.

        Safe to repeat only because the body has an ``integrationIdempotencyId``.
        """
        path = self.paths.channel_messages(channel_id)
        return self.call("POST", path, doing="publishing a message", body=body)

    def get_channel_message(self, channel_id: str, message_id: str) -> dict[str, Any]:
        """Return a message of our channel, ``PublicConversationsMessage``."""
        return self.call("GET", self.paths.channel_message(channel_id, message_id), doing="reading a message")

    def set_message_status(
        self, channel_id: str, message_id: str, status_type: str, error_message: str | None = None
    ) -> None:
        """Set the receipt of an agent's message: ``SENT``, ``READ``, or ``FAILED`` with a reason."""
        body = {"statusType": status_type}
        if error_message:
            body["errorMessage"] = scrub(error_message)
        path = self.paths.channel_message(channel_id, message_id)
        self.call("PATCH", path, doing="setting the status of a message", body=body, answer=False)

    # Threads (HubSpot OpenAPI, conversations)

    def get_thread(self, thread_id: str, *, archived: bool = False) -> dict[str, Any]:
        """Return a ``PublicThread``: ``status``, ``assignedTo``, ``inboxId``, ``archived``…

        Archived ones are found apart.
        """
        params = {"archived": "true"} if archived else None
        return self.call("GET", self.paths.thread(thread_id), doing="reading a thread", params=params)

    def threads_page(
        self,
        *,
        limit: int,
        after: str | None = None,
        inbox_id: str | None = None,
        status: str | None = None,
        archived: bool = False,
        since_ms: int | None = None,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return one page of ``PublicThread``, and the cursor of the next page; None on the last.

        :param limit: the most threads on the page; HubSpot may give fewer, or refuse.
        :param inbox_id: None: of all inboxes.
        :param status: ``OPEN`` or ``CLOSED``; None: both.
        :param archived: those that are archived, instead of those that are not.
        :param since_ms: epoch ms; only threads with a later message, the oldest first.
        """
        params: dict[str, Any] = {"limit": limit, "after": after, "inboxId": inbox_id, "threadStatus": status}
        if archived:
            params["archived"] = "true"
        if since_ms is not None:
            params |= {"latestMessageTimestampAfter": iso_time(since_ms), "sort": "latestMessageTimestamp"}
        query = {name: value for name, value in params.items() if value is not None}
        return page_of(self.call("GET", self.paths.threads(), doing="listing threads", params=query))

    def set_thread_status(self, thread_id: str, status: str) -> None:
        """Set a thread to ``CLOSED`` or ``OPEN``; HubSpot sends the change back as an event."""
        path = self.paths.thread(thread_id)
        self.call("PATCH", path, doing="setting the status of a thread", body={"status": status}, answer=False)

    def assign_thread(self, thread_id: str, actor_id: str) -> None:
        """Give the thread to an agent, ``A-<user id>``."""
        path = self.paths.thread_assignee(thread_id)
        self.call("PUT", path, doing="assigning a thread", body={"actorId": actor_id}, answer=False)

    def unassign_thread(self, thread_id: str) -> None:
        """Give a thread back to its inbox; harmless when nobody has it. Source: docs/hubspot.rst (Threads)."""
        path = self.paths.thread_assignee(thread_id)
        self.call("DELETE", path, doing="unassigning a thread", answer=False)

    def thread_messages(self, thread_id: str, so_far: SoFar | None = None) -> list[dict[str, Any]]:
        """Return the whole history of a thread, of every ``type``, in HubSpot's order.

        :param so_far: how far it was read before; it holds that, too, when a page can't be read.
        """
        path = self.paths.thread_messages(thread_id)
        return self.read_list(path, doing="reading the messages of a thread", params={"limit": 100}, so_far=so_far)

    def thread_message(self, thread_id: str, message_id: str) -> dict[str, Any]:
        """Return one entry of a thread."""
        return self.call("GET", self.paths.thread_message(thread_id, message_id), doing="reading a message")

    def original_content(self, thread_id: str, message_id: str) -> dict[str, Any]:
        """Return ``{"text", "richText"}`` of a message that HubSpot cut (its ``truncationStatus`` says so)."""
        path = self.paths.original_content(thread_id, message_id)
        return self.call("GET", path, doing="reading the full text of a message")

    def add_note(self, thread_id: str, text: str, *, title: str | None = None) -> dict[str, Any]:
        """Leave a comment that only agents see (``PublicCommentEgg``). Not idempotent: repeating repeats it.

        :param title: stands above the text, which is a block of its own then, to be copied.
        """
        plain = text if title is None else f"{title}\n\n{text}"
        body = {"type": "COMMENT", "text": scrub(plain), "richText": note_html(text, title), "attachments": []}
        return self.call("POST", self.paths.thread_messages(thread_id), doing="adding a note", body=body)

    # People

    def actor(self, actor_id: str) -> Operator:
        """Return who an actor is (``PublicActor``); an answer is cached for an hour."""
        known = self.known_operator(actor_id)
        if known is not None:
            return known
        found = self.call("GET", self.paths.actor(actor_id), doing="reading an actor")
        name, email = (_text(found.get(key)) for key in ("name", "email"))
        operator = Operator(actor_id, name, email, avatar=safe_url(found.get("avatar")))
        with self._lock:
            _remember(self._operators, actor_id, (operator, self.options.connection.clock.now_ms() + OPERATOR_FOR_MS))
            self._failed.pop(actor_id, None)
        return operator

    def known_operator(self, actor_id: str) -> Operator | None:
        """Return an actor from the cache, without a call."""
        with self._lock:
            known = self._operators.get(actor_id)
        return known[0] if known and self.options.connection.clock.now_ms() < known[1] else None

    def operator(self, actor_id: str) -> Operator:
        """Return an actor as an operator; never raises.

        Without an answer the name is None, for the next five minutes.
        """
        with self._lock:
            ask = self.options.connection.clock.now_ms() >= self._failed.get(actor_id, 0)
        if ask:
            try:
                return self.actor(actor_id)
            except (HubSpotError, ValueError):
                with self._lock:
                    _remember(self._failed, actor_id, self.options.connection.clock.now_ms() + OPERATOR_RETRY_MS)
        return Operator(actor_id)

    def search_contacts(
        self, filter_groups: Sequence[Mapping[str, Any]], properties: Iterable[str] = SEARCH_PROPERTIES
    ) -> list[dict[str, Any]]:
        """Return the contacts that match, oldest first. HubSpot's index lags a moment behind its writes."""
        body = {
            "filterGroups": list(filter_groups),
            "properties": list(properties),
            "sorts": ["createdate"],
            "limit": 100,
        }

        def page(after: str | None) -> dict[str, Any]:
            path = self.paths.contact_search()
            return self.call("POST", path, doing="searching contacts", body=body | {"after": after or "0"}, reads=True)

        return list(read_pages(page, "searching contacts"))

    def contact(self, contact_id: str) -> dict[str, Any] | None:
        """Return a contact by id, or None; the id of one that was merged gives the one that is left."""
        return self._contact(contact_id)

    def _contact(self, name: str, **params: str) -> dict[str, Any] | None:
        params["properties"] = ",".join(SEARCH_PROPERTIES)
        try:
            return self.call("GET", self.paths.contact(name), doing="reading a contact", params=params)
        except HubSpotNotFound:
            return None

    def find_contact(self, contact: Contact) -> dict[str, Any] | None:
        """Return HubSpot's contact for a parsed :class:`Contact`, or None when HubSpot knows no such person.

        An e-mail address is read by itself first: that finds who was made a moment ago, and search does not.
        """
        if contact.email and len(contact.email) <= MAX_SEGMENT:
            owner = self._contact(contact.email, idProperty="email")
            if owner is not None:
                return owner
        found = [one for groups in searches(contact) for one in self.search_contacts(groups)]
        return pick(found, contact)

    def create_contact(self, contact: Contact, name: str | None = None) -> dict[str, Any]:
        """Create a contact, or return the one HubSpot has already (its 409).

        Not idempotent without an e-mail address: repeating makes another one.
        """
        first, _, last = (name or "").strip().rpartition(" ")
        phone = dialable(contact.numbers[0]) if contact.numbers else None
        if phone and contact.extension:
            phone = f"{phone} ext. {contact.extension}"
        given = {"email": contact.email, "phone": phone, "firstname": first or last}
        given["lastname"] = last if first else None
        body = {"properties": {key: scrub(value) for key, value in given.items() if value}, "associations": []}
        try:
            return self.call("POST", self.paths.contacts(), doing="creating a contact", body=body)
        except HubSpotConflict as error:
            conflict = error
        named = re.search(r"Existing ID: ([0-9]{1,19})", str(conflict))
        found = None if named is None else self.contact(named[1])
        found = found or self.find_contact(contact)
        if found is None:
            raise conflict
        return found

    # Inboxes, and our channel's accounts in them

    def inboxes(self) -> list[dict[str, Any]]:
        """Return every inbox and help desk: ``id``, ``name``, ``type`` (``INBOX`` or ``HELP_DESK``)."""
        return self.read_list(self.paths.inboxes(), doing="listing inboxes")

    def channel_accounts(self, channel_id: str) -> list[dict[str, Any]]:
        """Return every account of the channel in this portal, ``PublicChannelAccount``."""
        return self.read_list(self.paths.channel_accounts(channel_id), doing="listing channel accounts")

    def channel_account(self, channel_id: str, account_id: str) -> dict[str, Any]:
        """Return one ``PublicChannelAccount``: ``inboxId``, ``authorized``, ``active``, ``archived``…"""
        path = self.paths.channel_account(channel_id, account_id)
        return self.call("GET", path, doing="reading a channel account")

    def stage_account(
        self, channel_id: str, account_token: str, *, name: str, identifier: Mapping[str, str]
    ) -> dict[str, Any]:
        """Say which account an admin's connection is to become (``PublicChannelAccountStagingToken``).

        The answer's ``genericChannelId`` and ``inboxId`` (numbers) tell what the token stands for at HubSpot.
        """
        body = {"accountName": scrub(name), "deliveryIdentifier": dict(identifier)}
        path = self.paths.staging_token(channel_id, account_token)
        return self.call("PATCH", path, doing="connecting an inbox", body=body)

    def account_info(self) -> dict[str, Any]:
        """Return the account that the token belongs to (``PortalInformation``).

        It has ``portalId``; ``uiDomain``, the host of the portal's pages; …
        """
        return self.call("GET", self.paths.account_info(), doing="reading the account's details")

    def create_channel_account(self, channel_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Connect the channel to an inbox, ``PublicChannelAccountEgg``; a 409 when its identifier is in use."""
        path = self.paths.channel_accounts(channel_id)
        return self.call("POST", path, doing="connecting the inbox", body=body)

    def authorize_channel_account(self, channel_id: str, account_id: str, authorized: bool) -> None:
        """Say that our side of an account works, or that it does not any more: HubSpot then switches it off."""
        path, body = self.paths.channel_account(channel_id, account_id), {"authorized": authorized}
        self.call("PATCH", path, doing="authorising a channel account", body=body, answer=False)

    # Files (HubSpot OpenAPI, files)

    def upload_file(self, name: str, content: bytes, content_type: str | None, folder: str) -> str:
        """Store a private file for a year; returns its id, for ``attachments``. ``folder`` is made if missing."""
        options = {
            "access": "PRIVATE",
            "ttl": "P1Y",
            "overwrite": False,
            "duplicateValidationStrategy": "NONE",
        }
        files = {
            "file": (name, content, content_type or "application/octet-stream"),
            "fileName": (None, name),
            "folderPath": (None, folder),
            "options": (None, json.dumps(options), "application/json"),
        }
        stored = self.call("POST", self.paths.files(), doing="uploading a file", files=files)
        file_id = stored.get("id")
        if not isinstance(file_id, str | int) or not str(file_id):
            raise HubSpotUnavailable("uploading a file: HubSpot's answer holds no file id", ambiguous=True)
        return str(file_id)

    def signed_url(self, file_id: str) -> dict[str, Any]:
        """Return ``url`` (anybody may read it until ``expiresAt``), ``name``, ``extension``, ``size``, ``type``."""
        return self.call("GET", self.paths.file_signed_url(file_id), doing="reading the address of a file")


def _text(value: object) -> str | None:
    return (scrub(value).strip() or None) if isinstance(value, str) else None


def _remember(cache: OrderedDict[str, Any], key: str, value: Any) -> None:
    """Cache a value and drop the oldest; the caller holds the lock."""
    cache[key] = value
    cache.move_to_end(key)
    while len(cache) > OPERATORS:
        cache.popitem(last=False)

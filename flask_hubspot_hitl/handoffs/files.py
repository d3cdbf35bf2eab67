"""Links to the files of a conversation: those that last, and those that HubSpot signs for an hour.

A link that lasts leads to our own page, which has HubSpot sign a new one at each visit. Whoever has the link can read
the file, as with HubSpot's own, until the conversation is erased.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import IO

from itsdangerous import BadSignature

from ..domain import Attachment, Author, Message
from ..errors import HubSpotNotFound, HubSpotRejected, HubSpotUnavailable, NotConfigured
from ..hubspot import addresses
from ..hubspot.content import parse_time, safe_url
from ..hubspot.transport import deadline
from ..ledger import HandoffRecord, Transaction
from ..portals.clients import Services
from ..portals.remote_files import Fetcher, NotFetched

PURPOSE = "file"
CALL_SECONDS = 10.0
"""Seconds that HubSpot gets to sign a link; somebody waits for the page."""
EARLY_MS = 600_000
"""Milliseconds before its end at which a signed link is asked for anew."""
KEPT_MS = 3_000_000
"""Milliseconds for which a signed link without a known end is used."""
KEPT = 1_000
"""Signed links that one process keeps."""
_PAGES = ("text/html", "application/xhtml+xml")


def lasting(services: Services, handoff_id: str, messages: Iterable[Message]) -> list[Message]:
    """Return messages with links that last for the files that HubSpot has.

    Without a key to sign them with, HubSpot's own links stay, which end after an hour.
    """
    try:
        signer = services.signer(PURPOSE)
    except NotConfigured:
        return list(messages)

    def linked(message: Message, file: Attachment) -> Attachment:
        if file.file_id is None or (message.author is not Author.OPERATOR and file.url is not None):
            return file
        token = signer.dumps([handoff_id, file.file_id])
        return replace(file, url=services.settings.file_url(token))

    return [
        replace(one, attachments=tuple(linked(one, file) for file in one.attachments)) if one.attachments else one
        for one in messages
    ]


def _has(tx: Transaction, record: HandoffRecord, file_id: str) -> bool:
    messages = tx.records.messages_of(record.handoff.id)
    return any(file.file_id == file_id for one in messages for file in one.attachments)


class Links:
    """Follow the links of one app, and sign for what is asked for at once. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._signed: OrderedDict[tuple[str, str], tuple[str, int]] = OrderedDict()
        self._lock = threading.Lock()

    def follow(self, token: str) -> str:
        """Return where the file is that a lasting link names.

        :raises HubSpotNotFound: when it is no link of ours, or the file or its conversation is gone.
        :raises HubSpotUnavailable: when HubSpot can't be asked.
        :raises HubSpotRejected: when HubSpot refuses to give the file.
        :raises NotConfigured: when there is no key, or no token for the portal any more.
        :raises LedgerUnavailable: when the database can't be read.
        """
        try:
            handoff_id, file_id = map(str, self._services.signer(PURPOSE).loads(token))
        except (BadSignature, TypeError, ValueError):
            raise HubSpotNotFound("following a link: it is none of ours") from None
        with self._services.ledger.read() as tx:
            record = tx.records.get(handoff_id)
            if record is None or not _has(tx, record, file_id):
                raise HubSpotNotFound("following a link: its conversation is no longer kept")
        return self.signed(record.handoff.portal_id, file_id)

    def signed(self, portal_id: str, file_id: str) -> str:
        """Return a link that HubSpot has signed, good for ten minutes at least.

        :raises HubSpotUnavailable: when HubSpot can't be asked.
        :raises HubSpotRejected: when HubSpot has no such file, or gives no address for it.
        :raises NotConfigured: when there is no token for the portal.
        """
        now, key = self._services.ledger.now_ms(), (portal_id, file_id)
        with self._lock:
            url, until = self._signed.get(key, ("", 0))
        if now < until:
            return url
        with deadline(CALL_SECONDS):
            answer = self._services.client(portal_id).signed_url(file_id)
        found = safe_url(answer.get("url"))
        if found is None:
            raise HubSpotRejected("reading the address of a file: HubSpot's answer holds no https address")
        try:
            ends = parse_time(answer.get("expiresAt"))
        except ValueError:
            ends = now + KEPT_MS + EARLY_MS
        with self._lock:
            self._signed[key] = found, ends - EARLY_MS
            self._signed.move_to_end(key)
            while len(self._signed) > KEPT:
                self._signed.popitem(last=False)
        return found

    def address(self, conversation_id: str, file: Attachment) -> str:
        """Do :meth:`HubSpotHITL.attachment_url` for one app; ``conversation_id`` was checked."""
        if file.file_id is None:
            if file.url is None:
                raise ValueError("the attachment has neither file_id nor url")
            return file.url
        with self._services.ledger.read() as tx:  # a host may have the id from a stranger
            records = tx.records.all_of(conversation_id)
            portals = [one.handoff.portal_id for one in records if _has(tx, one, file.file_id)]
        if not portals:
            raise HubSpotNotFound("reading the address of a file: no message that is kept of the conversation has it")
        return self.signed(portals[0], file.file_id)

    def open(self, conversation_id: str, file: Attachment) -> IO[bytes]:
        """Do :meth:`HubSpotHITL.open_attachment` for one app; ``conversation_id`` was checked."""
        url, settings = self.address(conversation_id, file), self._services.settings
        try:
            host = addresses.parse(addresses.spell(url)).host
        except addresses.AddressRefused as refused:
            raise HubSpotRejected(f"fetching a file: its address {refused}") from None
        fetcher = Fetcher(
            (host,), limit=settings.max_attachment_bytes, proxy=settings.proxy, private_hosts=settings.private_hosts
        )
        try:
            found, content = fetcher.fetch(replace(file, url=url))
        except NotFetched as why:
            error = HubSpotUnavailable if why.later else HubSpotRejected
            raise error(f"fetching a file: {why}") from None
        finally:
            fetcher.close()
        if found.content_type in _PAGES and file.content_type not in _PAGES:
            raise HubSpotRejected("fetching a file: a web page came in its place, such as a log-in")
        return io.BytesIO(content)

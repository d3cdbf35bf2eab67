"""Find what is kept of one person, asked for by phone number, e-mail address, conversation or HubSpot's contact, and
write it down for them.

Only what names the person is taken: a contact, an address that was written from, an id that holds a number or an
address. That somebody else's message mentions them is no link.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..clock import to_datetime
from ..dispatch.housekeeping import DELIVERIES
from ..domain import Contact
from ..errors import ContactInvalid
from ..hubspot import phones
from ..hubspot.contacts import parse_contact
from ..ledger import Belongings, Transaction
from ..ledger.codec import contact_from_json, loads
from ..ledger.people import OVERLAP, OVERLAP_MS, LooseEvent, Whose
from ..portals.contacts import keys_of

FORMAT = "flask-hubspot-hitl/export/1"
"""What an export says that it is; docs/export.schema.json describes it."""
_NUMBERS = re.compile(
    r"(?:\+|(?:tel|sms|whatsapp):\+?)([1-9]\d{6,14})(?!\d)|(?<!\d)([1-9]\d{6,14})(?::\d+)?@(?:s\.whatsapp|c\.us)",
    re.IGNORECASE,
)
"""Numbers in an id of the host's that say themselves that they are numbers."""
TYPED_LIMIT = 80
"""Characters of a text that may be a phone number, and nothing else."""
_NO_DIGIT = re.compile(r"\D+")
TAIL = 4
"""Digits at the end of a number that no country has changed; parsing every text there is would take long."""
_OWN = ("user", "session", "starting")
"""Rows of bridges that are named for a user or a conversation."""
_LINKS = ("user", "conversation")
"""Fields of bridges' rows that name another row."""
_SAYS = ("text", "richText", "html", "markdown", "transcript", "title", "subtitle", "caption")
"""Fields of an event's content that hold what was said, and so do not tell whose it is."""
_JSON = ("contact", "sender", "attributes", "attachments", "value")
"""Exported columns that hold JSON."""


class By(StrEnum):
    """By what a person is looked for."""

    PHONE = "phone"
    EMAIL = "email"
    CONVERSATION = "conversation"
    CONTACT = "contact_id"


@dataclass(frozen=True, slots=True)
class Who:
    """A person who is looked for.

    :param value: a number in E.164, an address in lower case, or an id.
    :param portal_id: whose contact it is; ids of contacts are a portal's own.
    """

    by: By
    value: str = field(repr=False)
    portal_id: str | None = None

    def has(self, one: Whose) -> bool:
        """Return True when a handoff is this person's."""
        if self.by is By.CONVERSATION:
            return one.conversation_id == self.value
        sender = one.sender or {}
        if self.by is By.CONTACT:
            return one.portal_id == self.portal_id and sender.get("contact_id") == self.value
        said = (*(one.contact or {}).values(), sender.get("value"))
        return any(self.is_written(text) for text in said) or self.is_named_in(one.conversation_id)

    def is_written(self, text: object) -> bool:
        """Return True when a text is the number or address that is looked for, and nothing else."""
        if not isinstance(text, str):
            return False
        if self.by is By.EMAIL:
            return text.strip().lower() == self.value
        if self.by is not By.PHONE or len(text) > TYPED_LIMIT:
            return False
        digits = _NO_DIGIT.sub("", text)
        if self.value[-TAIL:] not in (digits if text.isascii() else "".join(str(int(one)) for one in digits)):
            return False
        try:
            found = phones.read_messenger_id(text) if phones.is_messenger_id(text) else phones.read(text).value
        except ContactInvalid:
            return False
        return phones.newest(found) == phones.newest(self.value)

    def is_named_in(self, text: str) -> bool:
        """Return True when an id holds the number, marked as one, or the address."""
        if self.by is By.EMAIL:
            return re.search(rf"(?<![\w.+-]){re.escape(self.value)}(?![\w-]|\.\w)", text.lower()) is not None
        if self.by is not By.PHONE:
            return False
        if self.is_written(text) or self.is_written(text.partition(":")[2]):
            return True
        numbers = (f"+{one[1] or one[2]}" for one in _NUMBERS.finditer(text))
        return any(phones.newest(one) == phones.newest(self.value) for one in numbers)


def who_of(by: By, text: str, *, portal_id: str | None = None, allow_special_domains: bool = False) -> Who:
    """Return whom somebody means.

    :param portal_id: needed for a contact's id.
    :raises ContactInvalid: when a phone number or an e-mail address can't be read; the text does not hold it.
    """
    if by in (By.CONVERSATION, By.CONTACT):
        return Who(by, text, portal_id)
    given = Contact(phone=text) if by is By.PHONE else Contact(email=text)
    found = parse_contact(given, allow_special_domains=allow_special_domains)
    if found.numbers:
        return Who(By.PHONE, found.numbers[0])
    return Who(By.EMAIL, str(found.email).lower())


def find(tx: Transaction, who: Who) -> Belongings:
    """Return the rows that are a person's.

    Their handoffs, all others of the same conversations, what bridges remember of these, the events of all of them, and
    the memory of the contact that was made. Reads every handoff and every row of bridges.
    """
    found = Belongings()
    if who.by is By.CONVERSATION:
        found.conversations.add(who.value)
    tx.people.mark_seen(found)
    _look(tx, who, found, Belongings())
    return found


def find_newer(tx: Transaction, who: Who, found: Belongings) -> bool:
    """Add what was stored since :func:`find`; return True for handoffs and conversations: they have lanes of their own.

    Only what is new is read, as long as there are none.

    :param who: who was looked for then.
    """
    before = len(found.handoffs) + len(found.conversations)
    seen = Belongings(
        seen=max(0, found.seen - OVERLAP),
        seen_handoff=max(0, found.seen_handoff - OVERLAP),
        seen_at=max(0, found.seen_at - OVERLAP_MS),
    )
    tx.people.mark_seen(found)
    _look(tx, who, found, seen, is_whole=False)
    is_more = len(found.handoffs) + len(found.conversations) > before
    if is_more:
        _look(tx, who, found, Belongings())
    return is_more


def _look(tx: Transaction, who: Who, found: Belongings, seen: Belongings, *, is_whole: bool = True) -> None:
    """Add what is theirs among the rows that are newer than those that were ``seen``.

    :param is_whole: False: without the events of handoffs that were found before, which takes a look at all there are.
    """
    linked: set[tuple[str, str]] = set()
    before = -1
    while before != (before := len(found.handoffs) + len(found.conversations) + len(found.bridges) + len(linked)):
        for one in tx.people.handoffs(after=seen.seen_handoff):
            if one.conversation_id in found.conversations or who.has(one):
                found.handoffs.add(one.id)
                found.conversations.add(one.conversation_id)
                contact = (contact_from_json(one.contact) if one.contact else None) or Contact()
                found.once |= set(keys_of(one.portal_id, contact))
                found.written |= {text for text in (contact.email, *contact.numbers) if text}
        for bridge, key, value in tx.people.bridge_rows(since=seen.seen_at):
            if (bridge, key) in linked or _is_theirs(who, found, key, value):
                _take_row(found, linked, bridge, key, value)
    if who.by in (By.PHONE, By.EMAIL):
        asked = Contact(phone=who.value) if who.by is By.PHONE else Contact(email=who.value)
        found.once |= {key for portal in tx.people.portals() for key in keys_of(portal, asked)}
    if is_whole:
        tx.people.complete(found)
    loose = tx.people.loose_events(after=seen.seen)
    theirs = (who, *(Who(By.EMAIL if "@" in text else By.PHONE, text.lower()) for text in sorted(found.written)))
    found.events |= {one.id for one in loose if _is_their_event(theirs, found, one)}


def of_handoff(tx: Transaction, handoff_id: str) -> Belongings:
    """Return the rows of one handoff, with what bridges keep of what was said in it.

    What a bridge remembers of the user is not the thread's, and stays.
    """
    found = Belongings()
    record = tx.records.get(handoff_id)
    if record is not None:
        handoff = record.handoff
        found.handoffs.add(handoff.id)
        found.once |= set(keys_of(handoff.portal_id, handoff.contact or Contact()))
        tx.people.mark_seen(found)
        tx.people.complete(found)
        found.events |= tx.people.loose_events_about(handoff.id)
        told = ((name, key) for name, key, _ in tx.people.bridge_rows(prefix=DELIVERIES))
        found.bridges |= {(name, key) for name, key in told if found.is_named_in(key)}
    return found


def _is_theirs(who: Who, found: Belongings, key: str, value: Any) -> bool:
    """Return True when a bridge's row is named for the person, or tells of them."""
    if found.is_named_in(key) or who.is_named_in(key):
        return True
    names = [value] if isinstance(value, str) else [one for name, one in _texts(value) if name in _LINKS]
    return not found.conversations.isdisjoint(names) or any(
        who.is_written(text) for name, text in _texts(value) if name not in _SAYS
    )


def _take_row(found: Belongings, linked: set[tuple[str, str]], bridge: str, key: str, value: Any) -> None:
    found.bridges.add((bridge, key))
    kind, _, own = key.partition(":")
    if kind in _OWN and own:
        found.conversations.add(own)
    fields = value if isinstance(value, Mapping) else {}
    linked |= {(bridge, f"{name}:{fields[name]}") for name in _LINKS if isinstance(fields.get(name), str)}


def _is_their_event(theirs: Sequence[Who], found: Belongings, one: LooseEvent) -> bool:
    """Return True when an event names the person.

    :param theirs: whom was asked for, and their handoffs' contacts: by these only what nobody works with is taken.
    """
    whose = theirs if one.lane is None else theirs[:1]
    if found.is_named_in(one.lane or "") or found.is_named_in(one.dedupe_key):
        return True
    threads = {thread for _, thread in found.threads}
    for name, text in _texts(one.payload):
        if (name not in _SAYS and any(who.is_written(text) for who in whose)) or (
            name in ("objectId", "conversationsThreadId") and text in threads
        ):
            return True
        if name in ("key", "conversation", "user") and text in found.conversations:
            return True
    return False


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Return every text of a JSON value, with the name of the field that it is in."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, name)
    elif isinstance(value, str):
        yield name, value
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, str(value)


# For the person -----------------------------------------------------------------------------------------------


def export(tx: Transaction, who: Who, *, now: int) -> dict[str, Any]:
    """Return all that is kept of a person, as docs/export.schema.json describes it.

    Left out are the agents, and what is there a second time for as long as there is work with it.

    :param now: epoch ms.
    """
    rows = tx.people.rows(find(tx, who))
    listed = {kind: [_exported(row) for row in found] for kind, found in rows.items()}
    for one in listed["events"]:
        payload = one.pop("payload")
        one["said"] = [text for name, text in _texts(payload) if name in _SAYS and text.strip()]
    for one in listed["remembered"]:
        if str(one["key"]).startswith("compared:"):  # with a thread, by its agent too
            one["value"] = None
    return {"format": FORMAT, "made_at": _moment(now), "asked_by": who.by.value, **listed}


def _exported(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name.endswith("_at") and value is not None:
            found[name] = _moment(value)
        elif name in (*_JSON, "payload"):
            found[name] = loads(value)
        elif isinstance(value, bytes | memoryview):
            found[name] = base64.b64encode(value).decode()
        else:
            found[name] = value
    return found


def _moment(ms: int) -> str:
    return to_datetime(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")

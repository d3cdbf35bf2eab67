"""Tell what happened in one handoff, moment by moment, without a word that was said: for the admin.

It is read from what is stored for other reasons: the handoff's own times, its messages, its events, and the audit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..clock import to_ms
from ..domain import Handoff, HandoffState
from ..errors import ContactInvalid
from ..hubspot import phones
from ..hubspot.text import scrub
from ..ledger import EventState, HandoffRecord, Transaction, codec
from .people import By, who_of
from .states import kind_of
from .words import count, date, span

MOST = 500
"""Events, messages and deeds of a timeline, at most each; the newest."""
MOST_TEXT = 200
"""Characters of what is looked for that count."""
OPEN = "open"
"""Stands for all states of an open handoff in a search."""
STATES = {EventState.DONE: "done", EventState.DEAD: "given up", EventState.PARKED: "held back"}
"""What a person reads of an event's state, where it is not in the making."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of a timeline."""

    at: int
    """Epoch ms."""
    what: str
    state: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    """Names and values: ids, codes, numbers and times."""
    dead_id: int | None = None
    """The id of an event that was given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What happened in one handoff, the oldest first, and the conversation's other handoffs."""

    handoff: Handoff
    moments: list[Moment]
    others: list[Handoff]
    is_cut: bool
    """There was more than :data:`MOST`."""


def search(
    tx: Transaction, text: str, state: str, *, before: int | None, limit: int, allow_special_domains: bool = False
) -> list[tuple[int, Handoff]]:
    """Return handoffs with their numbers, the newest first.

    :param text: the id of a conversation, a thread, a contact or a handoff, a phone number or an e-mail address, in
        full; "": any. A number has its country code, with or without ``+``.
    :param state: ``open``, or a state's name; anything else: any.
    :param before: only those with a lower number.
    """
    states = tuple(one for one in HandoffState if one.value == state)
    if state == OPEN:
        states = (HandoffState.STARTING, HandoffState.WAITING, HandoffState.ASSIGNED)
    return tx.timeline.handoffs(
        limit=limit, before=before, states=states, texts=_spellings(text, allow_special_domains=allow_special_domains)
    )


def _spellings(text: str, *, allow_special_domains: bool) -> tuple[str, ...]:
    """Return what is looked for as it was typed, and as a number or an address would be stored.

    A number also as it was, or is, before or behind a change of its country's.
    """
    asked = scrub(text[:MOST_TEXT]).strip()
    if not asked:
        return ()
    try:
        who = who_of(By.EMAIL if "@" in asked else By.PHONE, asked, allow_special_domains=allow_special_domains)
        found = phones.forms(who.value) if who.by is By.PHONE else [who.value]
    except ContactInvalid:
        found = _digits_alone(asked)
    return tuple(sorted({asked, *found}))


def _digits_alone(text: str) -> list[str]:
    """Return the forms of a number as messengers give it; [] for what can only be an id."""
    try:
        return phones.forms(phones.read_messenger_id(text))
    except ContactInvalid:
        return []


def read(tx: Transaction, handoff_id: str) -> Timeline | None:
    """Return what happened in a handoff; None when there is none of this id."""
    record = tx.records.get(scrub(handoff_id))
    if record is None:
        return None
    handoff = record.handoff
    events = tx.timeline.events(handoff.id, tx.timeline.threads(handoff.id), limit=MOST)
    messages = tx.timeline.messages(handoff.id, limit=MOST)
    deeds = tx.audit.newest(limit=MOST, handoff_id=handoff.id)
    moments = [*_of_handoff(record), *map(_of_message, messages), *map(_of_event, events), *map(_of_deed, deeds)]
    same = tx.timeline.handoffs(limit=20, texts=(handoff.conversation_id,))
    return Timeline(
        handoff=handoff,
        moments=sorted(moments, key=lambda one: one.at),
        others=[one for _, one in same if one.id != handoff.id and one.conversation_id == handoff.conversation_id],
        is_cut=MOST in (len(events), len(messages), len(deeds)),
    )


def _of_handoff(record: HandoffRecord) -> Iterator[Moment]:
    handoff = record.handoff
    agent = () if handoff.operator is None else (("agent", handoff.operator.actor_id),)
    assigned_at = None if handoff.assigned_at is None else to_ms(handoff.assigned_at)
    yield Moment(at=0 if handoff.opened_at is None else to_ms(handoff.opened_at), what="handoff", state="opened")
    for at, state, facts in (
        (record.taken_at, "taken by a person first", ()),
        (assigned_at, "assigned", agent),
        (record.answered_at, "answered by a person first", ()),
        (record.silent_since, "the user's turn since", ()),
    ):
        if at is not None:
            yield Moment(at=at, what="handoff", state=state, facts=facts)
    if record.closed_ms:
        reason = () if handoff.reason is None else (("reason", handoff.reason.value),)
        yield Moment(at=record.closed_ms, what="handoff", state="ended", facts=reason)


def _of_message(row: dict[str, Any]) -> Moment:
    facts = (
        ("id", row["message_id"]),
        ("id at HubSpot", row["hubspot_id"]),
        ("event", row["event_id"]),
        ("error", row["error"]),
    )
    return Moment(at=row["created_at"], what=f"message of {row['author']}", state=row["status"], facts=_given(facts))


def _of_event(row: dict[str, Any]) -> Moment:
    state = EventState(row["state"])
    took = None if row["done_at"] is None else max(0, row["done_at"] - row["received_at"]) / 1000
    facts = (
        ("event", row["id"]),
        ("settled", None if took is None else f"{date(row['done_at'])}, after {span(took)}"),
        ("failed", count(row["attempts"], "time") if row["attempts"] else None),
        ("begun and not finished", count(row["starts"], "time") if row["starts"] else None),
        ("HubSpot's correlation id", row["correlation_id"]),
        *((one["receiver"], _verdict(one)) for one in _receivers(row)),
        ("error", row["error"]),
    )
    is_dead = state in (EventState.DEAD, EventState.QUARANTINED)
    return Moment(
        at=row["received_at"],
        what=row["topic"],
        state=STATES.get(state, "waits" if state is EventState.PENDING else "not readable"),
        facts=_given(facts),
        dead_id=row["id"] if is_dead else None,
    )


def _receivers(row: dict[str, Any]) -> list[dict[str, Any]]:
    verdicts: list[dict[str, Any]] = kind_of(row["topic"]).from_json(codec.loads(row["progress"])).verdicts()
    return verdicts


def _verdict(one: dict[str, Any]) -> str:
    return ", ".join(
        str(part) for part in (one["verdict"] or "not yet", count(one["attempts"], "failure"), one["error"]) if part
    )


def _of_deed(row: dict[str, Any]) -> Moment:
    facts = (("event", row["event_id"]), ("by", row["who"] or "somebody"))
    return Moment(at=row["done_at"], what="by hand", state=row["what"], facts=_given(facts))


def _given(facts: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in facts if value is not None and value != "")

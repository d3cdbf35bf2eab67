"""Provide Hypothesis strategies of webhooks and contacts: ``from flask_hubspot_hitl.testing import strategies``.

Nothing else imports this module, so that the kit works without Hypothesis. Everything generated is something HubSpot
may send: all its documented types, whatever may be missing, every answer to what its documentation leaves open, unknown
fields, and any text. A webhook must answer each with a 2xx. With a function-scoped fixture in the same test, suppress
``HealthCheck.function_scoped_fixture``. Sources: docs/hubspot.rst (Agent messages; Batches; Values; Unknowns).
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..domain import Contact
from ..hubspot.phones import RENUMBERINGS, Renumbering
from .payloads import Json, app_event, assigned_event, channel_event, new_message_event, status_event

DAY_MS = 86_400_000
"""Milliseconds: how old an event may be."""
ODD_TEXTS = (
    "",
    " \n\t ",
    "<b>bold</b> & <script>alert(1)</script>",
    "https://example.test/?a=1&b=%20",
    "שלום \u202eevil\u202c 👩‍👩‍👧‍👦 e\u0301",
    "\x00\x01\ufeff\uffff",
    "{{ 7 * 7 }} %s {0} ${x}",
    "x" * 20_000,
)
"""Texts that break careless code."""
KINDS = ("assigned", "status", "restored", "message", "creation", "deletion", "privacyDeletion")
"""What an item of the app's feed may tell."""
UNKNOWN_FIELDS: tuple[Json, ...] = (
    {},
    {"isSensitive": False},
    {"brandNew": {"a": [1, 2.5, None, {"b": "\u202e"}]}, "x-y": True},
    {"__proto__": None, "": "", "é": [[]]},
)
"""Fields that HubSpot does not document today."""
_MISSING = object()


def texts() -> SearchStrategy[str]:
    """Generate whatever a person may write, without lone surrogates.

    :returns: a strategy of texts.
    """
    return st.sampled_from(ODD_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def thread_ids() -> SearchStrategy[str]:
    """Generate a thread's id: a number, as text, that fits 64 bits.

    :returns: a strategy of ids.
    """
    return st.integers(1, 2**63 - 1).map(str)


def message_ids() -> SearchStrategy[str]:
    """Generate a message's id, which is opaque: 32 hex digits.

    :returns: a strategy of ids.
    """
    return st.text("0123456789abcdef", min_size=32, max_size=32)


def actor_ids() -> SearchStrategy[str]:
    """Generate the actor ids of agents, visitors, bots, and the system.

    :returns: a strategy of ids.
    """
    numbered = st.tuples(st.sampled_from("AVIBL"), st.integers(1, 2**53)).map(lambda parts: f"{parts[0]}-{parts[1]}")
    return numbered | st.just("S-hubspot")


def phone_numbers() -> SearchStrategy[str]:
    """Generate phone numbers in E.164, many of them in the form they had before their country renumbered.

    :returns: a strategy of numbers that ``start`` takes.
    """
    usual = st.from_regex(r"\+(?:1415555[0-9]{4}|34911[0-9]{6}|447700[0-9]{6})", fullmatch=True)
    return usual | st.sampled_from(RENUMBERINGS).flatmap(_renumbered)


def contacts() -> SearchStrategy[Contact]:
    """Generate contacts as a host knows them: by number, by what WhatsApp delivered, by e-mail address, by several.

    :returns: a strategy of contacts that ``start`` takes.
    """
    emails = st.from_regex(r"[a-z]{1,12}(\.[a-z]{1,12})?@example\.(com|org)", fullmatch=True)
    ids = phone_numbers().map(lambda number: number[1:])
    return st.builds(
        Contact,
        phone=st.none() | phone_numbers(),
        email=st.none() | emails,
        whatsapp=st.none() | ids,
    ).filter(lambda one: one.value is not None)


def _renumbered(rule: Renumbering) -> SearchStrategy[str]:
    forms = [rf"\+{rule.code}{rule.head}{middle}{rule.tail}" for middle in (rule.old, rule.new)]
    return st.sampled_from(forms).flatmap(lambda form: st.from_regex(re.compile(form, re.ASCII), fullmatch=True))


def webhook_payloads(*, thread_id: str | None = None, now_ms: int | None = None) -> SearchStrategy[Json | list[Json]]:
    """Generate a whole body of either feed: the channel's object, or the app's array.

    :param thread_id: the thread of every event; by default any.
    :param now_ms: epoch milliseconds; the events are up to a day older. By default now.
    :returns: a strategy of what JSON can hold.
    """
    events = app_events(thread_id=thread_id, now_ms=now_ms)
    return channel_messages(thread_id=thread_id, now_ms=now_ms) | st.lists(events, min_size=1, max_size=8)


def app_events(*, thread_id: str | None = None, now_ms: int | None = None) -> SearchStrategy[Json]:
    """Generate an item of the app's feed: ``conversation.*``, in both spellings, of every type; numbers for ids.

    :param thread_id: the thread of every event; by default any.
    :param now_ms: epoch milliseconds; the events are up to a day older. By default now.
    :returns: a strategy of items.
    """
    return _app_events(_threads(thread_id), _now(now_ms))


@st.composite
def _app_events(draw: st.DrawFn, threads: SearchStrategy[str], now_ms: int) -> Json:
    at, thread = draw(st.integers(now_ms - DAY_MS, now_ms)), draw(threads)
    fields: Json = {
        "eventId": draw(st.integers(1, 2**53)),
        "attemptNumber": draw(st.integers(0, 10)),
        **draw(_unknown_fields()),
    }
    kind = draw(st.sampled_from(KINDS))
    if kind == "assigned":
        value = draw(actor_ids() | st.sampled_from(("987", "", None, _MISSING)))
        event = assigned_event(value, at=at, thread=thread, **fields)
        if value is _MISSING:
            del event["propertyValue"]
    elif kind == "status":
        event = status_event(draw(st.sampled_from(("OPEN", "CLOSED"))), at=at, thread=thread, **fields)
    elif kind == "restored":
        value = draw(st.sampled_from(("false", "False", False)))
        event = app_event(at=at, thread=thread, propertyName="isArchived", propertyValue=value, **fields)
    elif kind == "message":
        fields["messageType"] = draw(st.sampled_from(("MESSAGE", "COMMENT", "WELCOME_MESSAGE")))
        event = new_message_event(draw(message_ids()), at=at, thread=thread, **fields)
    else:
        event = app_event(kind, at=at, thread=thread, **fields)
    if draw(st.booleans()):
        event["subscriptionType"] = event["subscriptionType"].replace("conversation.", "conversations.")
    return event


def channel_messages(*, thread_id: str | None = None, now_ms: int | None = None) -> SearchStrategy[Json]:
    """Generate ``OUTGOING_CHANNEL_MESSAGE_CREATED``: an agent wrote, with text, html, files, or none of them.

    :param thread_id: the thread of every event; by default any.
    :param now_ms: epoch milliseconds; the events are up to a day older. By default now.
    :returns: a strategy of the channel feed's objects.
    """
    return _channel_messages(_threads(thread_id), _now(now_ms))


@st.composite
def _channel_messages(draw: st.DrawFn, threads: SearchStrategy[str], now_ms: int) -> Json:
    text, actor = draw(texts()), draw(actor_ids())
    sender = {"actorId": actor} | draw(st.just({}) | texts().map(lambda name: {"name": name}))
    event = channel_event(
        draw(message_ids()),
        text=text,
        thread=draw(threads),
        created=draw(_iso_times(now_ms)),
        integration_threads=draw(st.lists(st.uuids().map(str), max_size=2)),
        createdBy=actor,
        senders=draw(st.sampled_from(([sender], []))),
        status=draw(st.sampled_from(({"statusType": "SENT"}, "SENT"))),
        truncationStatus=draw(st.sampled_from(("NOT_TRUNCATED", "TRUNCATED_TO_MOST_RECENT_REPLY", "TRUNCATED"))),
        attachments=draw(st.lists(_attachments(), max_size=3)),
        **draw(_unknown_fields()),
    )
    rich = draw(st.sampled_from((_MISSING, None)) | texts())
    event["message"]["richText"] = rich
    for name, gone in (
        ("richText", rich is _MISSING),
        ("status", draw(st.booleans())),
        ("client", draw(st.booleans())),
    ):
        if gone:
            del event["message"][name]
    if draw(st.booleans()):
        del event["channelIntegrationThreadIds"]
    return event | draw(_unknown_fields())


def _attachments() -> SearchStrategy[Json]:
    files = st.fixed_dictionaries(
        {"type": st.just("FILE"), "fileId": st.integers(1, 2**40).map(str)},
        optional={
            "fileUsageType": st.sampled_from(("IMAGE", "AUDIO", "VOICE_RECORDING", "STICKER", "OTHER")),
            "name": texts(),
            "url": st.integers(1, 10**6).map(lambda number: f"https://files.example.test/{number}?Signature=a%2Fb"),
        },
    )
    replies = st.fixed_dictionaries({"type": st.just("QUICK_REPLIES"), "quickReplies": st.just([])})
    return files | replies | st.just({"type": "SOMETHING_NEW", "more": {"a": [1, None]}})


def _unknown_fields() -> SearchStrategy[Json]:
    """Generate fields that HubSpot may add one day."""
    return st.sampled_from(UNKNOWN_FIELDS).map(dict)


def _iso_times(now_ms: int) -> SearchStrategy[str]:
    def iso(ms: int) -> str:
        whole = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return whole.replace(".000Z", "Z")

    return st.integers(now_ms - DAY_MS, now_ms).map(iso)


def _threads(thread_id: str | None) -> SearchStrategy[str]:
    return thread_ids() if thread_id is None else st.just(thread_id)


def _now(now_ms: int | None) -> int:
    return time.time_ns() // 1_000_000 if now_ms is None else now_ms

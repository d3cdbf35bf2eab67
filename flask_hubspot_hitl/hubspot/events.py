"""A webhook's body → events. Pure functions; of ours they import ``fields``, ``text`` and ``strict_json`` only.

Two feeds come to one URL: an array is the app's (``conversation.*``), an object is the channel's. Unknown fields
and types are never fatal. An item that can't be read is :class:`Poison` and does not hold back its batch.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from . import fields, strict_json
from .text import scrub

MAX_ITEMS = 1_000
MAX_DEPTH = 32
AHEAD_MS = 300_000
"""Milliseconds: an event's time further in the future counts as its time of arrival (docs/rules.rst B5)."""

_INT_MAX = 2**63 - 1
_DIGITS = 19
"""A number of fewer characters fits into 64 bits for certain; HubSpot's ids and times do."""


class Unreadable(ValueError):
    """The body is not JSON of a shape that HubSpot sends."""


class TooManyItems(ValueError):
    """The array has more than :data:`MAX_ITEMS` items."""


class Kind(StrEnum):
    """Name what an event is about."""

    MESSAGE = "message"
    ASSIGNED = "assigned"
    STATUS = "status"
    RESTORED = "restored"
    DELETED = "deleted"
    PRIVACY_DELETED = "privacy-deleted"
    NEW_MESSAGE = "new-message"
    ACCOUNT = "account"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """One event of HubSpot's. ``value`` is the assignee's actor id or None, the status, or the message id."""

    kind: Kind
    dedupe_key: str
    occurred_ms: int
    portal_id: str
    thread_id: str = ""
    app_id: str | None = None
    channel_id: str | None = None
    account_id: str | None = None
    value: str | None = None
    payload: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """An item that can't be read: why, a digest of it, and what can be stored of it."""

    reason: str
    dedupe_key: str
    payload: Any = field(repr=False)


class _NotANumber:
    """Stands for NaN and the infinities, and integers too long to read, in parsed JSON."""


_NOT_A_NUMBER = _NotANumber()


def parse_body(raw: bytes, *, now_ms: int) -> list[Inbound | Poison]:
    """Return every item of a webhook's body, in its order.

    :raises Unreadable: when it is not UTF-8 JSON, or neither an array nor an object.
    :raises TooManyItems: when the array is longer than :data:`MAX_ITEMS`.
    """
    odd: list[str] = []  # what stands for a number and is none, or too large for a database

    def refuse(token: str) -> _NotANumber:
        odd.append(token)
        return _NOT_A_NUMBER

    def integer(digits: str) -> Any:
        fits = len(digits) < _DIGITS or (len(digits) <= _DIGITS + 1 and abs(int(digits)) <= _INT_MAX)
        return int(digits) if fits else refuse(digits)

    def decimal(digits: str) -> Any:
        return number if math.isfinite(number := float(digits)) else refuse(digits)

    try:
        value = strict_json.loads(raw, parse_constant=refuse, parse_int=integer, parse_float=decimal)
    except ValueError:
        raise Unreadable("the body is not JSON") from None
    if isinstance(value, dict):
        items, reader = [value], _channel_event
    elif isinstance(value, list):
        items, reader = value, _app_event
    else:
        raise Unreadable("the body is neither an array nor an object")
    if len(items) > MAX_ITEMS:
        raise TooManyItems(f"more than {MAX_ITEMS} events")
    # Of most bodies one look at the bytes tells that there is nothing to scrub, which costs more than the rest.
    inner = raw.count(b"{") + raw.count(b"[") - len(items)
    is_clean = not odd and b"\\u" not in raw and inner < MAX_DEPTH
    return [_read(item, reader, now_ms, is_clean) for item in items]


def _read(item: Any, reader: Callable[[dict[str, Any], int], Inbound], now_ms: int, is_clean: bool) -> Inbound | Poison:
    try:
        payload = item if is_clean else scrub_json(item)
    except ValueError as error:
        return _poison(str(error), item)
    if not isinstance(payload, dict):
        return _poison("not an object", payload)
    try:
        return reader(payload, now_ms)
    except ValueError as error:
        return _poison(str(error), payload)


def _poison(reason: str, item: Any) -> Poison:
    kept = _pruned(item)
    return Poison(reason=reason, dedupe_key=_digest("poison", kept), payload=kept)


def _pruned(value: Any, depth: int = 0) -> Any:
    """Return the storable part of an unreadable item: at most MAX_DEPTH deep, NaN and infinities as None."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            return None
        if isinstance(value, list):
            return [_pruned(item, depth + 1) for item in value]
        return {scrub(key): _pruned(item, depth + 1) for key, item in value.items()}
    if isinstance(value, _NotANumber) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def scrub_json(value: Any, depth: int = 0) -> Any:
    """``value`` without what a database can't hold: NUL and lone surrogates go; numbers must fit 64 bits.

    :raises ValueError: for NaN, a number out of range, or nesting deeper than :data:`MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, int):
        if abs(value) > _INT_MAX:
            raise ValueError("a number out of range")
        return value
    if isinstance(value, dict):
        return {scrub(key): scrub_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [scrub_json(item, depth + 1) for item in value]
    if isinstance(value, _NotANumber) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("a number that is none")
    return value


_encode = json.JSONEncoder(ensure_ascii=True, default=str).encode


def _digest(*parts: Any) -> str:
    return f"in:{hashlib.sha256(_encode(parts).encode()).hexdigest()[:40]}"


def _id(payload: Mapping[str, Any], name: str) -> str:
    found = _optional_id(payload, name)
    if found is None:
        raise ValueError(f"{name} is missing")
    return found


def _optional_id(payload: Mapping[str, Any], name: str) -> str | None:
    value = payload.get(name)
    found = fields.identifier(value)
    if found is None and value is not None:
        raise ValueError(f"{name} is not an id")
    return found


def _text(payload: Mapping[str, Any], name: str) -> str | None:
    value = payload.get(name)
    found = fields.text(value)
    if found is None and value not in (None, "") and not (isinstance(value, str) and not value.strip()):
        raise ValueError(f"{name} is not text")
    return found


def _not_ahead(occurred_ms: int, now_ms: int) -> int:
    return now_ms if occurred_ms > now_ms + AHEAD_MS else occurred_ms


_CONVERSATION = re.compile(r"conversations?\.(\w+)")
_PROPERTIES = {"assignedTo": Kind.ASSIGNED, "status": Kind.STATUS, "isArchived": Kind.RESTORED}
_OTHER_TYPES = {
    "newMessage": Kind.NEW_MESSAGE,
    "deletion": Kind.DELETED,
    "privacyDeletion": Kind.PRIVACY_DELETED,
}


def _app_event(payload: dict[str, Any], now_ms: int) -> Inbound:
    """Read an item of the app's feed. Source: docs/hubspot.rst (Batches); ids are numbers, times epoch ms."""
    subscription = _text(payload, "subscriptionType") or _text(payload, "eventType") or ""
    match = _CONVERSATION.fullmatch(subscription)
    kind = Kind.OTHER
    value: str | None = None
    if match and match[1] == "propertyChange":
        kind = _PROPERTIES.get(_text(payload, "propertyName") or "", Kind.OTHER)
        value = None if kind is Kind.OTHER else _property_value(payload, kind)
        if kind is Kind.RESTORED and (value or "").lower() != "false":
            kind = Kind.OTHER
    elif match:
        kind = _OTHER_TYPES.get(match[1], Kind.OTHER)
        if kind is Kind.NEW_MESSAGE:
            value = fields.name(payload.get("messageId"))
            if fields.word(payload.get("messageType")) == "COMMENT" or not value:
                kind = Kind.OTHER
    if kind is Kind.OTHER:
        return Inbound(kind=kind, dedupe_key="", occurred_ms=now_ms, portal_id="", value=subscription[:100])
    occurred = fields.moment(payload.get("occurredAt"))
    if occurred is None:
        raise ValueError("occurredAt is not a time")
    portal_id, thread_id = _id(payload, "portalId"), _id(payload, "objectId")
    names = ("appId", "subscriptionId", "subscriptionType", "eventId", "messageId", "propertyName",
             "propertyValue", "changeFlag", "changeSource")  # fmt: skip
    # eventId is not unique and attemptNumber grows: what identifies an event is all that stays the same.
    key = _digest("app", portal_id, thread_id, occurred, *(payload.get(name) for name in names))
    if kind is Kind.NEW_MESSAGE:
        key = _digest("new-message", portal_id, thread_id, value)
    return Inbound(
        kind=kind,
        dedupe_key=key,
        occurred_ms=_not_ahead(occurred, now_ms),
        portal_id=portal_id,
        thread_id=thread_id,
        app_id=_optional_id(payload, "appId"),
        value=value,
        payload=payload,
    )


def _property_value(payload: Mapping[str, Any], kind: Kind) -> str | None:
    if kind is Kind.ASSIGNED:
        return fields.actor(payload.get("propertyValue"))
    found = _text(payload, "propertyValue")
    return found.upper() if found is not None and kind is Kind.STATUS else found


def _channel_event(payload: dict[str, Any], now_ms: int) -> Inbound:
    """Read the channel feed's object. Source: docs/hubspot.rst (Channel webhooks); ids are strings, times ISO 8601."""
    kind_name = (_text(payload, "type") or "").upper()
    if kind_name.startswith("CHANNEL_ACCOUNT_"):
        portal, account = _id(payload, "portalId"), _id(payload, "channelAccountId")
        return Inbound(
            kind=Kind.ACCOUNT,
            dedupe_key=_digest("account", portal, account, kind_name, payload.get("eventTimestamp")),
            occurred_ms=now_ms,
            portal_id=portal,
            channel_id=_optional_id(payload, "channelId"),
            account_id=account,
            value=kind_name,
            payload=payload,
        )
    if kind_name != "OUTGOING_CHANNEL_MESSAGE_CREATED":
        return Inbound(kind=Kind.OTHER, dedupe_key="", occurred_ms=now_ms, portal_id="", value=kind_name[:100])
    message = payload.get("message")
    if not isinstance(message, dict):
        raise ValueError("message is not an object")
    message_id = fields.name(message.get("id"))
    if message_id is None:
        raise ValueError("message.id is missing")
    threads = fields.names(payload.get("channelIntegrationThreadIds"))
    if message_id != message.get("id") or threads != payload.get("channelIntegrationThreadIds"):
        payload = {**payload, "channelIntegrationThreadIds": threads, "message": {**message, "id": message_id}}
    portal_id, thread_id = _id(payload, "portalId"), _id(message, "conversationsThreadId")
    channel_id = _optional_id(payload, "channelId") or _optional_id(message, "channelId")
    account_id = _optional_id(message, "channelAccountId")
    created = fields.moment(message.get("createdAt")) or fields.moment(payload.get("eventTimestamp"))
    if created is None:
        raise ValueError("message.createdAt is not a time")
    return Inbound(
        kind=Kind.MESSAGE,
        dedupe_key=_digest("channel", portal_id, channel_id, account_id, thread_id, message_id, threads),
        occurred_ms=_not_ahead(created, now_ms),
        portal_id=portal_id,
        thread_id=thread_id,
        channel_id=channel_id,
        account_id=account_id,
        value=message_id,
        payload=payload,
    )

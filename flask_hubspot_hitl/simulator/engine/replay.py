"""Delivers what a recording holds once more: signed afresh, in order or not, to any app's webhook."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from ...hubspot import signature, strict_json
from ..model.world import now_ms

TIMEOUT_SECONDS = 10.0
FEEDS = ("app", "channel")
"""Not what workflows send: signed as ours, it would be something else than it was."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One recorded delivery: its feed (``app`` or ``channel``) and its body."""

    feed: str
    body: str


def read(lines: Iterable[str]) -> list[Delivery]:
    """The deliveries of a recording, in its order.

    Raises ValueError, naming the line, when it is not one.
    """
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = strict_json.loads(line.encode("utf-8", "replace"))
            if entry["dir"] == "webhook-out" and entry["feed"] in FEEDS and not entry.get("dropped"):
                found.append(Delivery(entry["feed"], entry["body"].encode("utf-8", "replace").decode()))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ValueError(f"line {number} is not one that --record writes") from None
    return found


def arrange(deliveries: Sequence[Delivery], *, shuffle: bool, duplicate: bool, seed: int) -> list[Delivery]:
    """The deliveries as they shall go out: each twice, or in an order that ``seed`` decides, or both."""
    chosen = [one for one in deliveries for _ in range(2 if duplicate else 1)]
    if shuffle:
        random.Random(seed).shuffle(chosen)
    return chosen


def deliver(deliveries: Iterable[Delivery], *, url: str, to: str, secret: str) -> Iterator[tuple[Delivery, int | None]]:
    """Post each to ``to``, signed now for ``url``; yields it with the status, None when there was no answer."""
    with requests.Session() as session:
        session.trust_env = False
        for one in deliveries:
            body = one.body.encode()
            headers = {"Content-Type": "application/json"}
            for version in ("v1", "v3"):
                headers |= signature.headers(version, secret=secret, uri=url, body=body, timestamp=now_ms())
            try:
                with session.post(
                    to, data=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True
                ) as answer:
                    yield one, answer.status_code
            except requests.RequestException:
                yield one, None


def title(body: str) -> str:
    """What a delivery is, in a few words without anybody's text."""
    try:
        parsed: Any = strict_json.loads(body.encode("utf-8", "replace"), parse_constant=float)
    except ValueError:
        return "not JSON"
    items = parsed if isinstance(parsed, list) else [parsed]
    return ", ".join(_title(item) for item in items) or "empty"


def _title(item: Any) -> str:
    if not isinstance(item, dict):
        return "not an object"
    name = str(item.get("subscriptionType") or item.get("type") or "no type").removeprefix("conversation.")
    message: Any = item.get("message") if isinstance(item.get("message"), dict) else {}
    if "propertyName" in item:
        name = f"{item['propertyName']}={item.get('propertyValue')}"
    elif item.get("messageType"):
        name = f"{name} {item['messageType']}"
    thread = item.get("objectId") or message.get("conversationsThreadId")
    return f"{name} thread {thread}" if thread else name

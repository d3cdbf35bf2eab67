"""A process that erases while late events come in, for a test that kills it: ``run(url, number, ready)``."""

from __future__ import annotations

import threading
from multiprocessing.synchronize import Event

from flask_hubspot_hitl.clock import SystemClock, to_datetime
from flask_hubspot_hitl.config import Settings
from flask_hubspot_hitl.handoffs import erasing, people
from flask_hubspot_hitl.handoffs.intake import Intake
from flask_hubspot_hitl.hubspot.events import parse_body
from flask_hubspot_hitl.ledger import Ledger

from .helpers import CHANNEL, PORTAL, body_of, channel_event

SETTINGS = Settings(
    client_secret=("x",), public_url=("https://bot.example.test",), portal_id=PORTAL, channel_id=CHANNEL
)


def open_ledger(url: str) -> Ledger:
    """The store."""
    ledger = Ledger(url, SystemClock())
    ledger.create()
    return ledger


def late(ledger: Ledger, thread: str, first: int, count: int) -> None:
    """Take in agents' messages, as the webhook does."""
    intake = Intake(SETTINGS, ledger)
    for number in range(first, first + count):
        now = ledger.now_ms()
        created = to_datetime(now).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = channel_event(f"{thread}-{number}", text="a quokka for Zanzibar", thread=thread, created=created)
        intake.accept(parse_body(body_of(event), now_ms=now))


def run(url: str, thread: str, phone: str, ready: Event) -> None:
    """Erase, with events coming in before, during and after it, again and again."""
    ledger = open_ledger(url)
    others = [threading.Thread(target=late, args=(ledger, thread, first, 10_000)) for first in (0, 10_000)]
    for one in others:
        one.daemon = True
        one.start()
    ready.set()
    with ledger.read() as tx:
        found = people.find(tx, people.who_of(people.By.PHONE, phone))
    erasing.erase(ledger, found, by="command")
    for one in others:
        one.join()

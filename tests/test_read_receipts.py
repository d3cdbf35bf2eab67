"""The agent sees READ when the user has read: once a message, never SENT behind it, whatever comes first."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest
from flask import Flask

from flask_hubspot_hitl import Author, DeliveryFailed, HubSpotHITL, Message, MessageStatus, operator_message
from flask_hubspot_hitl.clock import ManualClock, SystemClock
from flask_hubspot_hitl.handoffs import read_receipts, rules, steps
from flask_hubspot_hitl.ledger import Ledger, lanes

from .conftest import MakeApp
from .databases import waiting_for_locks
from .helpers import HubSpot, Json, Recorder, begin_handoff, wait_until
from .story import Story

Record = Callable[[Flask], Recorder]


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str) -> Story:
    app = make_app(clock=clock, dispatcher="inline")
    return Story(app, hubspot, clock, record(app))


def read(story: Story, message: Json | str | None = None, conversation_id: str = "c1") -> int:
    key = message["message"]["id"] if isinstance(message, dict) else message
    with story.app.app_context():
        return HubSpotHITL().mark_read(conversation_id, key)


def receipts(hubspot: HubSpot, message: Json | None = None) -> list[str]:
    """The receipts that HubSpot was sent, of all messages or of one."""
    sent = [one for one in hubspot.requests() if one["method"] == "PATCH" and "/messages/" in one["path"]]
    mine = [one for one in sent if message is None or one["path"].endswith(message["message"]["id"])]
    return [one["request_body"]["statusType"] for one in mine]


def test_the_agent_sees_read_once(story: Story) -> None:
    thread = story.start().thread_id
    first, second, third = (story.says(thread, f"message {number}", at=story.now + number) for number in range(3))
    assert read(story, second) == 2
    assert [read(story, second), read(story, first)] == [0, 0]
    story.run()
    shown = [story.message_status(thread, one)["statusType"] for one in (first, second, third)]
    assert shown == ["READ", "READ", "SENT"]
    assert story.transcript() == [
        ("operator", "message 0", "read"), ("operator", "message 1", "read"), ("operator", "message 2", "sent"),
    ]  # fmt: skip
    assert read(story) == 1
    story.run()
    assert [receipts(story.hubspot, one) for one in (first, second, third)] == [["SENT", "READ"]] * 3


def test_what_is_not_there_is_not_read(story: Story) -> None:
    assert read(story) == 0
    thread = story.start().thread_id
    assert read(story) == 0
    story.says(thread)
    assert read(story, "another's") == 0
    assert read(story, conversation_id="c2") == 0
    for wrong, error in (("", ValueError), ("x" * 501, ValueError), (b"1", TypeError)):
        with story.app.app_context(), pytest.raises(error):
            HubSpotHITL().mark_read("c1", wrong)  # type: ignore[arg-type]
    assert receipts(story.hubspot) == ["SENT"]


def test_after_the_end_the_user_may_still_read(story: Story) -> None:
    thread = story.start().thread_id
    said = story.says(thread)
    story.status(thread, "CLOSED", at=story.now + 10)
    assert read(story) == 1
    story.run()
    assert story.message_status(thread, said)["statusType"] == "READ"


def test_a_receipt_that_waits_is_left_out_for_read(story: Story) -> None:
    thread = story.start().thread_id
    away = {"match": "PATCH .*/messages/", "times": None, "mode": "status", "status": 503}
    story.hubspot.chaos(faults=[away])
    said = story.says(thread)
    assert read(story, said) == 1
    asked = len(receipts(story.hubspot, said))
    story.hubspot.chaos(faults=[])
    for _ in range(3):
        story.run(60)
    assert receipts(story.hubspot, said)[asked:] == ["READ"]


def test_a_receiver_may_say_that_it_was_read(story: Story) -> None:
    """It shows the message and sees it read at once: there is no SENT any more. Of refusals the agent still hears."""

    @operator_message.connect_via(story.app)
    def show(sender: Flask, message: Message, **extra: object) -> None:
        assert HubSpotHITL().mark_read("c1", message.message_id) == (message.text != "again")

    thread = story.start().thread_id
    said = story.says(thread)
    assert read(story, said) == 0
    story.run()
    assert receipts(story.hubspot, said) == ["READ"]

    @operator_message.connect_via(story.app)
    def refuse(sender: Flask, message: Message, **extra: object) -> None:
        raise DeliveryFailed("no")

    refused = story.says(thread, "hm")
    story.run()
    assert receipts(story.hubspot, refused)[-1] == "FAILED"
    assert read(story, refused) == 0
    assert story.message_status(thread, refused)["statusType"] == "FAILED"


def test_whoever_reads_at_the_same_time_it_is_told_once(story: Story) -> None:
    thread = story.start().thread_id
    events = [story.says(thread, f"message {number}", at=story.now + number) for number in range(12)]
    counts: list[int] = []

    def look(seed: int) -> None:
        dice = random.Random(seed)
        counts.extend(read(story, dice.choice(events)) for _ in range(10))

    readers = [threading.Thread(target=look, args=[seed]) for seed in range(6)]
    for one in readers:
        one.start()
    for one in readers:
        one.join()
    counts.append(read(story, events[-1]))
    assert sum(counts) == len(events)
    story.run()
    assert [receipts(story.hubspot, one) for one in events] == [["SENT", "READ"]] * len(events)


def test_it_waits_for_a_receiver_that_ends_just_then_and_is_not_broken_off(postgresql_url: str) -> None:
    """PostgreSQL would break off one of two that wait for each other: for the same messages and the same receipts."""
    ledger = Ledger(postgresql_url, SystemClock())
    ledger.create()
    with ledger.write() as tx:
        record = begin_handoff(tx, "c1", now=ledger.now_ms())
        rules.opened(tx, record, thread_id="77", timeout_ms=0, now=ledger.now_ms())
        rows = [
            tx.records.insert_message(record.handoff.id, Message(key, Author.OPERATOR, text="x", status=status))
            for key, status in (("1", MessageStatus.SENT), ("2", MessageStatus.QUEUED))
        ]
    counts: list[int] = []

    def look() -> None:
        with ledger.write() as tx:
            counts.append(read_receipts.mark_read(tx, "c1", "2", now=ledger.now_ms()))

    reader = threading.Thread(target=look)
    with ledger.write() as tx:  # as the dispatcher ends the second message's event, in its lane
        tx.queue.reserve(lanes.signals(record.handoff), now=ledger.now_ms())
        assert tx.records.set_status(int(rows[1] or 0), MessageStatus.SENT, unless=[MessageStatus.READ])
        reader.start()
        wait_until(lambda: waiting_for_locks(postgresql_url), what="the reader to wait for it")
        steps.put_receipt(tx, record, "2", error=None, now=ledger.now_ms())
    reader.join()
    assert counts == [2]
    ledger.close()

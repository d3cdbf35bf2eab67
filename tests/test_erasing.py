"""What is kept of a person goes, from every table and every file, whatever the person's lanes are waiting for
(docs/rules.rst I).
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_hubspot_hitl import CloseReason, Contact, conversation_completed, operator_message, person_erased
from flask_hubspot_hitl.botpress.relay import Relay, Told
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.handoffs import erasing, people, rules
from flask_hubspot_hitl.ledger import EventState, Ledger, NewEvent, lanes, schema
from flask_hubspot_hitl.ledger.holdings import HOLDINGS, Holds

from .conftest import MakeApp
from .erasing_process import late, open_ledger, run
from .helpers import HubSpot, Recorder, app_event, begin_handoff, signed_post, state_of, wait_until
from .people_helpers import CANARIES, PHONE, command, fill, left, stored
from .story import Story

Record = Callable[[Flask], Recorder]
SAID = (Holds.WORDS, Holds.COPY, Holds.AGENT)


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str) -> Story:
    app = make_app(clock=clock, dispatcher="inline", contact_policy="create")
    return Story(app, hubspot, clock, record(app))


# The table --------------------------------------------------------------------------------------------------


def test_i1_every_column_of_every_table_says_what_it_holds_of_a_person() -> None:
    said = {name: set(held.columns) for name, held in HOLDINGS.items()}
    assert said == {name: set(table.columns.keys()) for name, table in schema.metadata.tables.items()}


def test_i1_what_holds_something_of_a_person_is_in_an_export() -> None:
    for name, held in HOLDINGS.items():
        if held.called is None and name != schema.lane.name:  # a lane is deleted with its events
            assert set(held.columns.values()) == {Holds.OURS}, name


def test_i1_every_column_that_holds_somebody_is_empty_afterwards(story: Story) -> None:
    """Whatever text stands in such a column: it goes."""
    thread = fill(story)
    engine = state_of(story.app).ledger._database.engine
    marks = []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:  # the server ends what idles
        for name, held in HOLDINGS.items():
            table = schema.metadata.tables[name]
            for column, holds in held.columns.items():
                if holds in SAID and isinstance(table.c[column].type, sa.Text) and name != schema.bridge.name:
                    marks.append(f"mark-{name}-{column}-")
                    value = f'{{"name":"{marks[-1]}","objectId":"{thread}"}}'
                    value = f"[{value}]" if column in ("attachments", "operators") else value
                    connection.execute(sa.update(table).values({column: value}))
    assert len(marks) > 10
    assert [one for one in marks if one not in stored(_url(story))] == []
    command(story, "erase", "--phone", PHONE, "--yes", "--json")
    story.run(700)
    assert [one for one in marks if one in stored(_url(story))] == []


def _url(story: Story) -> str:
    return str(story.state.settings.database_url)


# By command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "whom",
    [
        ("--phone", PHONE),
        ("--phone", "whatsapp:34911222333"),
        ("--conversation", f"wa:{PHONE}"),
        ("--contact-id", "?"),
    ],
)
def test_i2_nothing_of_them_is_left_anywhere(
    story: Story, whom: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fill(story)
    other = story.start("c2", contact="omar@example.test", name="Omar").thread_id
    story.send("I am somebody else", "c2")
    if whom[1] == "?":
        with story.state.ledger.read() as tx:
            [sender] = [one.sender for one in tx.people.handoffs() if one.conversation_id != "c2"]
        whom = (whom[0], str((sender or {})["contact_id"]))
    assert set(left(_url(story))) >= set(CANARIES[:4])
    named = [one["correlation_id"] for one in command(story, "export", *whom)["events"] if one["correlation_id"]]
    assert len(named) > 2, "HubSpot's names of the calls that were made for them"
    told = command(story, "erase", *whom, "--json")
    assert not told["erased"]
    assert set(left(_url(story))) >= set(CANARIES[:4]), "it was only told"
    done = command(story, "erase", *whom, "--yes", "--json")
    assert done["rows"] == told["rows"]
    assert done["files_wiped"]
    story.run()
    assert left(_url(story)) == [], "once the host was told"
    assert [one for one in (*named, "sam@acme.test") if one in stored(_url(story))] == [], "nor what the admin shows"
    assert story.recorder.of("person_erased")[-1]["conversation_ids"] == [f"wa:{PHONE}"]
    said = "\n".join(one.getMessage() for one in caplog.records if not one.name.startswith("werkzeug"))
    assert [one for one in CANARIES if one in said] == []
    assert [text for _, text, _ in story.transcript("c2")] == ["I am somebody else"]
    assert story.is_active("c2")
    assert story.hubspot.thread(other)["messages"]
    again = command(story, "erase", *whom, "--yes", "--json")
    assert sum(again["rows"].values()) == 0


def test_i2_other_forms_of_the_number_are_the_same_person(story: Story) -> None:
    story.start("c1", contact="+5215512345678")
    story.start("c2", contact="+525512345679")
    told = command(story, "erase", "--phone", "+525512345678", "--json")
    assert told["conversations"] == ["c1"]


@pytest.mark.parametrize("name", ["in", "424242", "out", "receipt", "prune", "user", "starting", "bot", "once"])
def test_i2_a_conversation_may_be_called_like_anything_of_ours(story: Story, name: str) -> None:
    """Hosts name conversations as they like: nobody else's lanes and rows have such a name."""
    story.start(name, contact="omar@example.test", name="Omar")
    rosas = story.start("rosa").id
    topic = lanes.bridge_topic("chat")
    keys = [
        lanes.outbound(rosas),
        lanes.receipts(rosas),
        lanes.bridge(topic, "rosa"),
        lanes.bridge(topic, "bot", "rosa"),
    ]
    said = {"operation": "to_bot", "key": "bot:rosa", "payload": {"text": "quokka"}}
    with story.state.ledger.write() as tx:
        thread = lanes.thread("424242", str(story.handoff("rosa").thread_id))  # type: ignore[union-attr]
        events = [
            NewEvent(dedupe_key=f"{name}:{key}", lane=key, topic=topic, sort_at=0, payload=said)
            for key in [*keys, thread]
        ]
        tx.queue.put(events, now=story.now)
        for key in ("user:rosa", "starting:rosa", "once:ended:rosa"):
            tx.bridges.put("chat", key, {"name": "quokka"}, now=story.now)
    document = command(story, "export", "--conversation", name)
    assert [len(document[kind]) for kind in ("handoffs", "bridges")] == [1, 0]
    assert "quokka" not in json.dumps(document)
    done = command(story, "erase", "--conversation", name, "--yes", "--json")
    assert done["conversations"] == [name]
    left_over = rows_of(story.state.ledger)
    assert all(f"{name}:{key}" in left_over for key in [*keys, thread])
    with story.state.ledger.read() as tx:
        assert len(list(tx.people.bridge_rows())) == 3


@pytest.mark.parametrize("whom", [("--conversation", "rosa"), ("--contact-id", "?")])
def test_i2_what_nobody_can_read_is_found_by_the_contacts_number(story: Story, whom: tuple[str, str]) -> None:
    story.start("rosa")
    unread = {"message": {"senders": [{"deliveryIdentifier": {"value": PHONE}}], "quokka": 1}}
    given: dict[str, Any] = {"lane": None, "state": EventState.QUARANTINED, "topic": "unreadable", "sort_at": story.now}
    with story.state.ledger.write() as tx:
        tx.queue.put([NewEvent(dedupe_key="unread", payload=unread, **given)], now=story.now)
        [sender] = [one.sender or {} for one in tx.people.handoffs()]
    command(story, "erase", whom[0], whom[1].replace("?", str(sender["contact_id"])), "--yes", "--json")
    assert "quokka" not in rows_of(story.state.ledger)


def test_i2_who_says_somebodys_number_is_nobody_elses(story: Story) -> None:
    """Omar types Rosa's number, and nothing else, into his chat with the bot."""
    story.start("rosa")
    lane = lanes.bridge(lanes.bridge_topic("chat"), "bot", "omar")
    said = {"operation": "to_bot", "key": "bot:omar", "payload": {"type": "text", "text": PHONE}}
    ended = {"event": {"transcript": [{"author": "user", "text": PHONE}, {"author": "user", "text": "wombat"}]}}
    with story.state.ledger.write() as tx:
        tx.queue.put(
            [NewEvent(dedupe_key="omar-said", lane=lane, topic="botpress-chat", sort_at=0, payload=said)], now=story.now
        )
        tx.bridges.put("studio", "once:ended:omar", ended, now=story.now)
    assert "wombat" not in json.dumps(command(story, "export", "--phone", PHONE))
    assert command(story, "erase", "--phone", PHONE, "--yes", "--json")["conversations"] == ["rosa"]
    assert "omar-said" in rows_of(story.state.ledger)
    with story.state.ledger.read() as tx:
        assert [key for _, key, _ in tx.people.bridge_rows()] == ["once:ended:omar"]


def test_i3_a_thread_deleted_for_privacy_takes_nothing_of_another_conversation_of_the_user(story: Story) -> None:
    """An old thread is deleted, while the bridge has things to do for the same user: only the thread's own go."""
    old = story.start("c1", name="Rosa Zanzibar")
    story.stop("c1")
    story.run()
    topic, later = lanes.bridge_topic("chat"), story.now + 60_000
    lane = lanes.bridge(topic, "bot", "c1")
    said = {"operation": "to_bot", "key": "bot:c1", "payload": {"text": "a question to the bot, of today"}}
    ended = {"operation": "event_to_bot", "key": "bot:c1", "event": {"transcript": [{"text": "quokka"}]}}
    with story.state.ledger.write() as tx:
        given: dict[str, Any] = {"lane": lane, "topic": topic, "sort_at": story.now, "due_at": later}
        events = [
            NewEvent(dedupe_key="botpress-chat:to-bot:7", payload=said, **given),
            NewEvent(dedupe_key=f"botpress-chat:ended:{old.id}:bot", payload=ended, **given),
        ]
        tx.queue.put(events, now=story.now)
    story.event("privacyDeletion", old.thread_id, at=story.now)
    assert [one["conversation_ids"] for one in story.recorder.of("person_erased")] == [["c1"]]
    assert left(_url(story)) == []
    assert "of today" in rows_of(story.state.ledger)
    assert [one["event"]["topic"] for one in story.recorder.of("event_dead")] == ["botpress-chat"], "the thread's own"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Say whom"),
        (("--phone", PHONE, "--email", "a@example.test"), "Say whom"),
        (("--phone", "911222333"), "does not say its country"),
        (("--email", "nobody"), "Error"),
        (("--contact-id", "x"), "must be a number"),
        (("--email", "rosa@example.com", "--portal", "7"), "in all portals"),
    ],
)
def test_i2_a_person_has_to_be_named_once_and_clearly(story: Story, arguments: tuple[str, ...], said: str) -> None:
    for name in ("erase", "export"):
        result = story.app.test_cli_runner().invoke(args=["hubspot-hitl", name, *arguments])
        assert result.exit_code == 2
        assert said in result.output
        assert "911222333" not in result.output


# What was not delivered --------------------------------------------------------------------------------------


def test_i3_what_was_not_delivered_is_told_without_its_content(story: Story) -> None:
    def fails(sender: Flask, **_: Any) -> None:
        raise RuntimeError("quokka")

    thread = story.start("c1", name="Rosa Zanzibar").thread_id
    operator_message.connect(fails, sender=story.app)
    event = story.says(thread, "your quokka")
    story.hubspot.chaos(faults=[{"match": "POST .*/messages$", "times": 50, "mode": "status", "status": 503}])
    story.send("my quokka", message_id="wamid-9f31")
    command(story, "erase", "--conversation", "c1", "--yes", "--json")
    story.hubspot.chaos(faults=[])
    story.run()
    [failed] = story.recorder.of("message_failed")
    assert (failed["message"].message_id, failed["message"].text, failed["error"]) == (
        "wamid-9f31", "", erasing.NOT_DELIVERED,
    )  # fmt: skip
    [dead] = story.recorder.of("event_dead")
    assert (dead["event"]["topic"], dead["event"]["thread_id"]) == ("message", thread)
    [ended] = story.recorder.of("conversation_completed")
    handoff = ended["handoff"]
    assert (handoff.conversation_id, handoff.name, handoff.contact, ended["transcript"]) == ("c1", None, None, [])
    assert ended["reason"] is CloseReason.DELETED
    status = story.message_status(thread, event)
    assert (status["statusType"], status["failureDetails"]["errorMessage"]) == ("FAILED", erasing.REFUSED)
    assert left(_url(story)) == []


def test_i3_what_was_stored_between_the_look_and_the_lock_goes_too(story: Story) -> None:
    fill(story)
    ledger = story.state.ledger
    who = people.who_of(people.By.PHONE, PHONE)
    with ledger.read() as tx:
        found = people.find(tx, who)
    story.start("c9", contact=PHONE, name="Rosa Zanzibar")
    story.send("another quokka", "c9")
    story.run()
    with ledger.write() as tx:
        tx.bridges.put("chat", "user:c8", {"id": "c8", "contact": PHONE}, now=story.now)
        tx.bridges.put("chat", "user:c7", {"id": "c7", "contact": "+34911000111"}, now=story.now)
    erasing.erase(ledger, found, by="command", who=who)
    story.run()
    assert left(_url(story)) == []
    assert "c9" in story.recorder.of("person_erased")[-1]["conversation_ids"]
    with ledger.read() as tx:
        assert [key for _, key, _ in tx.people.bridge_rows()] == ["user:c7"]


def test_i3_an_end_that_was_not_told_yet_is_told(story: Story) -> None:
    is_down = True

    def fails(sender: Flask, **_: Any) -> None:
        if is_down:
            raise RuntimeError

    thread = story.start("c1").thread_id
    conversation_completed.connect(fails, sender=story.app)
    story.status(thread, "CLOSED", at=story.now)
    assert len(story.recorder.of("conversation_completed")) == 1
    is_down = False
    command(story, "erase", "--conversation", "c1", "--yes", "--json")
    story.run()
    assert [one["reason"] for one in story.recorder.of("conversation_completed")] == [CloseReason.AGENT] * 2


# What comes late ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["hubspot", "command"])
def test_i4_what_comes_late_is_refused_and_not_stored(story: Story, how: str) -> None:
    thread = story.start("c1", name="Rosa Zanzibar").thread_id
    event = story.write(thread, "your quokka")
    if how == "hubspot":
        story.event("privacyDeletion", thread, at=story.now)
    else:
        command(story, "erase", "--conversation", "c1", "--yes", "--json")
        story.run()
    for _ in range(2):
        story.post(event)
        story.run()
    assert story.recorder.of("operator_message") == []
    assert left(_url(story)) == []
    status = story.message_status(thread, event)
    assert (status["statusType"], status["failureDetails"]["errorMessage"]) == ("FAILED", erasing.REFUSED)
    told = [one for one in story.hubspot.requests() if one["method"] == "PATCH"]
    assert len(told) == 1, "once, however often HubSpot delivers it"


def test_i4_a_thread_that_was_not_known_yet_is_refused_too(story: Story) -> None:
    """HubSpot's answer to the opening was lost: the agents have the thread, and we never knew it."""
    story.hubspot.chaos(faults=[{"match": "POST .*/messages$", "times": 1, "mode": "drop_after"}])
    handoff = story.start("c1", name="Rosa Zanzibar")
    assert handoff.thread_id is None
    [thread] = [one["id"] for one in story.hubspot.threads()]
    event = story.write(thread, "your quokka")
    command(story, "erase", "--conversation", "c1", "--yes", "--json")
    story.post(event)
    story.run()
    assert left(_url(story)) == []
    assert story.message_status(thread, event)["failureDetails"]["errorMessage"] == erasing.REFUSED


# A receiver that fails or hangs ------------------------------------------------------------------------------


def test_i5_a_user_who_is_erased_while_a_bridge_works_for_them_is_in_no_log(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    relay = Relay(story.app, "test")
    fill(story)
    caplog.clear()

    def erase(*_: object) -> None:
        command(story, "erase", "--phone", PHONE, "--yes", "--json")

    relay.add("show", erase)
    with story.state.ledger.write() as tx:
        relay.put(tx, Told(operation="show", key=f"wa:{PHONE}", payload={"text": "quokka"}), now=story.now)
    story.run()
    said = [one.getMessage() for one in caplog.records]
    assert [one for one in said if "lease of lane botpress-test:… ended" in one]
    assert [one for one in CANARIES if one in "\n".join(said)] == []
    assert left(_url(story)) == []


def test_i5_a_receiver_that_fails_holds_nothing_up(story: Story) -> None:
    def fails(sender: Flask, **_: Any) -> None:
        raise RuntimeError

    thread = story.start("c1", name="Rosa Zanzibar").thread_id
    operator_message.connect(fails, sender=story.app)
    story.says(thread, "your quokka")
    story.event("privacyDeletion", thread, at=story.now)
    assert left(_url(story)) == []
    [erased] = story.recorder.of("person_erased")
    assert (erased["conversation_ids"], erased["by"]) == (["c1"], "hubspot")


def test_i5_a_receiver_that_hangs_holds_nothing_up(
    make_app: MakeApp, hubspot: HubSpot, record: Record, database_url: str
) -> None:
    app = make_app(dispatcher_threads=2)
    seen = record(app)
    story = Story(app, hubspot, ManualClock(), seen)
    inside, go_on = threading.Event(), threading.Event()

    def hangs(sender: Flask, **_: Any) -> None:
        inside.set()
        go_on.wait(60)

    operator_message.connect(hangs, sender=app)
    thread = story.start("c1", name="Rosa Zanzibar").thread_id
    try:
        assert signed_post(app, story.write(thread, "your quokka")).status_code == 204
        assert inside.wait(60)
        gone = app_event("privacyDeletion", at=state_of(app).ledger.now_ms(), thread=str(thread))
        assert signed_post(app, [gone]).status_code == 204
        wait_until(lambda: seen.of("person_erased"), what="the host to be told")
        wait_until(lambda: left(database_url) == [], what="nothing to be left")
    finally:
        go_on.set()
    wait_until(lambda: not _leased(app), what="the receiver's thread to be free")
    assert left(database_url) == [], "what it gives back late is not accepted"


def _leased(app: Flask) -> int:
    with state_of(app).ledger.read() as tx:
        return int(tx.status(now=state_of(app).ledger.now_ms())["leased"])


def test_i5_the_host_is_told_until_it_has_accepted(story: Story) -> None:
    is_down = True

    def fails(sender: Flask, **_: Any) -> None:
        if is_down:
            raise RuntimeError

    person_erased.connect(fails, sender=story.app)
    fill(story)
    command(story, "erase", "--phone", PHONE, "--yes", "--json")
    story.run()
    assert set(left(_url(story))) == {"34911222333"}, "the host's own id, which says whom to erase"
    is_down = False
    story.run(600)
    assert left(_url(story)) == []


def test_i5_a_v1_hint_erases_only_what_hubspot_says_is_gone(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    app = make_app(clock=clock, dispatcher="inline", signature_versions="v3,v1")
    story = Story(app, hubspot, clock, record(app))
    thread = story.start().thread_id
    story.send("hello")
    gone = [app_event("privacyDeletion", at=story.now, thread=str(thread))]
    story.post(gone, version="v1")
    assert [text for _, text, _ in story.transcript()] == ["hello"]
    hubspot.act(thread, "purge")
    story.clock.advance(1)
    story.post([app_event("privacyDeletion", at=story.now, thread=str(thread))], version="v1")
    assert story.transcript() == []


# Killed ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_i3_killed_at_any_moment_it_is_done_whole_or_not_at_all(database_url: str, kills: int) -> None:
    """A process erases while agents' messages come in; it is killed, and the command is given again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.erasing_process"])
    ledger = open_ledger(database_url)
    chance = random.Random(7)
    done, longest, number = 0, 0.3, 0
    while number < kills or (not 0 < done < number and number < 3 * kills):
        number += 1
        thread, phone = str(5_000 + number), f"+349112{number:05}"
        with ledger.write() as tx:
            given = {"contact": Contact(phone=phone), "name": "Zanzibar", "title": "a quokka"}
            record = begin_handoff(tx, f"wa:{phone}", now=ledger.now_ms(), **given)
            rules.opened(tx, record, thread_id=thread, timeout_ms=0, now=ledger.now_ms())
            rules.accept_message(tx, f"wa:{phone}", "my quokka", attachments=[], message_id=None, now=ledger.now_ms())
        ready = context.Event()
        child = context.Process(target=run, args=(database_url, thread, phone, ready))
        child.start()
        assert ready.wait(60)
        time.sleep(chance.uniform(0, longest))
        child.kill()
        child.join(60)
        with ledger.read() as tx:
            found = people.find(tx, people.who_of(people.By.PHONE, phone))
            counts = tx.people.count(found)
        is_done = not found.handoffs
        assert counts["messages"] == counts["handoffs"] == counts["threads"] == int(not is_done)
        assert ("quokka" in rows_of(ledger)) is not is_done, "late messages are not stored once it is done"
        erasing.erase(ledger, found, by="command")
        late(ledger, thread, 50_000, 2)
        assert "quokka" not in rows_of(ledger)
        assert ledger.wipe()
        assert [one for one in ("quokka", "Zanzibar") if one in stored(database_url)] == []
        done += is_done
        longest *= 0.7 if is_done else 1.4 if done else 2
    print(f"{number} kills, {done} after it was done")
    assert 0 < done < number, "the kills did not fall on both sides"
    ledger.close()


def rows_of(ledger: Ledger) -> str:
    """Every row of every table."""
    with ledger.read() as tx:
        return repr([tx._connection.execute(sa.select(table)).all() for table in schema.metadata.sorted_tables])

"""docs/rules.rst C, case by case: from the host to HubSpot. Each test is named after its rule or defect."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import (
    Attachment,
    CloseReason,
    Contact,
    ContactInvalid,
    ContactNotFound,
    Handoff,
    HandoffState,
    HistoryEntry,
    HubSpotHITL,
    HubSpotRejected,
    InboxNotConnected,
)
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.dispatch.tasks import Outcome
from flask_hubspot_hitl.handoffs import rules
from flask_hubspot_hitl.ledger import Lease, Transaction

from . import helpers
from .conftest import MakeApp
from .databases import waiting_for_locks
from .helpers import PATHS, HubSpot, Json, Recorder, seconds_of, state_of, wait_until
from .story import PHONE, Story

Record = Callable[[Flask], Recorder]
PUBLISH = "POST .*/custom-channels/.*/messages$"


def fault(match: str, mode: str = "status", **more: Any) -> Json:
    """A rule for the stand-in's ``faults``; by default it answers 503 for ever."""
    return {"match": match, "times": None, "mode": mode, "status": 503, **more}


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Story:
    app = make_app(clock=clock, dispatcher="inline")
    return Story(app, hubspot, clock, record(app))


def texts(story: Story, thread: str | None) -> list[str]:
    """What the user wrote, as the agent sees it, without the first message."""
    messages = story.hubspot.thread(thread)["messages"]
    return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]


def rows(story: Story) -> int:
    """How many handoffs are stored."""
    with story.state.ledger.read() as tx:
        return sum(tx.records.count_by_state().values())


# C1: start


def test_c1_start_opens_a_thread_for_the_contact(story: Story) -> None:
    handoff = story.start(title="Refund", description="Paid twice", attributes={"order": 7})
    assert handoff.state is HandoffState.WAITING
    thread = story.hubspot.thread(handoff.thread_id)
    first = thread["messages"][0]
    assert all(word in first["text"] for word in ("Rosa", "Refund", "Paid twice"))
    assert thread["associatedContactId"] == "55512001"
    assert first["senders"][0]["deliveryIdentifier"] == {"type": "HS_PHONE_NUMBER", "value": PHONE}
    assert handoff.attributes == {"order": 7}
    assert handoff.contact == Contact(phone=PHONE)


def test_c1_a_second_start_returns_the_open_handoff(story: Story) -> None:
    first, second = story.start(), story.start(title="other")
    assert second == first
    assert len(story.hubspot.threads()) == 1


@pytest.mark.parametrize("mode", ["thread", "external", "inline"])
def test_c1_start_runs_in_the_caller_under_every_mode(
    make_app: MakeApp, hubspot: HubSpot, record: Record, mode: str
) -> None:
    app = make_app(dispatcher=mode)
    story = Story(app, hubspot, ManualClock(), record(app))
    assert story.start().state is HandoffState.WAITING
    if mode == "external":
        assert story.recorder.names() == [], "signals are the worker's"
        assert app.test_cli_runner().invoke(args=["hubspot-hitl", "tick"]).exit_code == 0
    story.recorder.wait_for("handoff_started")


def test_c1_with_hubspot_down_it_is_starting_and_messages_queue_behind_the_first(story: Story) -> None:
    story.hubspot.chaos(faults=[fault(".*")])
    handoff = story.start()
    assert (handoff.state, handoff.thread_id) == (HandoffState.STARTING, None)
    assert story.is_active()
    assert story.send("one")
    assert story.send("two")
    story.run(60)
    assert story.recorder.names() == []
    story.hubspot.chaos(faults=[])
    story.run(600)
    found = story.handoff()
    assert found is not None
    assert found.state is HandoffState.WAITING
    assert texts(story, found.thread_id) == ["one", "two"]
    assert story.recorder.names() == ["handoff_started", "message_delivered", "message_delivered"]


def test_c1_with_hubspot_slow_start_returns_in_time(make_app: MakeApp, hubspot: HubSpot, record: Record) -> None:
    app = make_app(dispatcher="thread", start_timeout="0.5")
    story = Story(app, hubspot, ManualClock(), record(app))
    started: list[Handoff] = []

    def start() -> None:
        hubspot.chaos(faults=[fault(PUBLISH, "delay", times=1, seconds=1.5)])
        started.append(story.start(f"c{len(started)}"))
        assert started[-1].state is HandoffState.STARTING

    assert seconds_of(start, less_than=1.2) < 1.2
    story.recorder.wait_for("handoff_started", len(started))
    assert len(hubspot.threads()) == len(started), "the answer was lost, the thread is the same"


def taken_by_another(story: Story, lane: str) -> Lease | None:
    """What another process gets that claims a lane."""
    with story.state.ledger.write() as tx:
        return tx.queue.claim_lane(lane, owner="another", now=story.now, ttl_ms=15_000)


def test_c1_start_has_its_lane_for_as_long_as_it_may_try(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(clock=clock, dispatcher="external", start_timeout=60, lease_ttl=15)
    story = Story(app, hubspot, clock, record(app))
    runner, taken = story.state.dispatcher.runner, []

    def slow(lease: Lease, perform: Callable[[Lease], Outcome] = runner.perform) -> Outcome:
        clock.advance(60)
        taken.append(taken_by_another(story, lease.lane))
        return perform(lease)

    monkeypatch.setattr(runner, "perform", slow)
    assert story.start().state is HandoffState.WAITING
    assert taken == [None]


def test_c1_start_leaves_a_handoff_to_who_has_its_lane_by_then(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(clock=clock, dispatcher="external")
    story = Story(app, hubspot, clock, record(app))
    runner, perform = story.state.dispatcher.runner, story.state.dispatcher.runner.perform

    def frozen(lease: Lease) -> Outcome:
        outcome = perform(lease)
        clock.advance(3_600)
        assert taken_by_another(story, lease.lane) is not None
        return outcome

    monkeypatch.setattr(runner, "perform", frozen)
    assert story.start(contact="+14155550199").state is HandoffState.STARTING
    assert story.is_active()
    monkeypatch.undo()
    clock.advance(16)
    story.run()
    assert story.recorder.names() == ["handoff_failed", "event_dead"], "found out later"


@pytest.mark.parametrize("verb", ["send", "stop"])
def test_c1_a_start_that_fails_and_another_verb_do_not_wait_for_each_other(
    make_app: MakeApp, hubspot: HubSpot, postgresql_url: str, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    app = make_app(dispatcher="external", database_url=postgresql_url)
    story = Story(app, hubspot, ManualClock(), Recorder(Flask("nobody")))
    has_locked = threading.Event()

    def count(tx: Transaction, handoff_id: str, original: Any = Transaction.message_count) -> int:
        has_locked.set()
        wait_until(lambda: waiting_for_locks(postgresql_url), what=f"{verb} to wait")
        return int(original(tx, handoff_id))

    def act() -> None:
        assert has_locked.wait(60)
        assert not getattr(story, verb)()

    monkeypatch.setattr(Transaction, "message_count", count)
    with ThreadPoolExecutor(1) as pool:
        acting = pool.submit(act)
        with pytest.raises(ContactNotFound):
            story.start(contact="+14155550199")
        acting.result(60)
    assert rows(story) == 0


def test_c1_a_contact_that_hubspot_does_not_know_leaves_nothing_behind(story: Story) -> None:
    with pytest.raises(ContactNotFound, match="CONTACT_POLICY"):
        story.start(contact="+14155550199")
    assert not story.is_active()
    assert rows(story) == 0
    assert story.hubspot.threads() == []
    assert not any("custom-channels" in one["path"] and one["method"] == "POST" for one in story.hubspot.requests())
    story.run(3600)
    assert story.recorder.names() == []


def test_c1_a_contact_found_missing_later_is_handoff_failed(story: Story) -> None:
    story.hubspot.chaos(faults=[fault(".*")])
    story.start(contact="+14155550199")
    story.send("are you there?")
    story.hubspot.chaos(faults=[])
    story.run(600)
    assert story.names() == ["message_failed", "handoff_failed"]
    assert "knows no contact" in story.recorder.of("handoff_failed")[0]["error"]
    assert story.recorder.of("handoff_failed")[0]["handoff"].state is HandoffState.FAILED
    assert not story.is_active()
    assert not story.send("and now?")


def test_c1_what_cannot_succeed_raises_and_leaves_nothing_behind(story: Story) -> None:
    story.hubspot.chaos(faults=[fault(PUBLISH, status=403)])
    with pytest.raises(HubSpotRejected):
        story.start()
    assert rows(story) == 0
    story.hubspot.chaos(faults=[])
    assert story.start().thread_id


def test_d34_a_start_that_was_cut_short_is_taken_up_again(story: Story) -> None:
    """As after a kill between the insert and the publish: the row and its lane are there, nobody holds them."""
    with story.state.ledger.write() as tx:
        opening = helpers.opening("c1", contact=Contact(phone=PHONE))
        rules.begin(tx, opening, deployment_id=story.state.ledger.deployment_id, now=story.now)
    assert story.start().state is HandoffState.STARTING
    story.run()
    found = story.handoff()
    assert found is not None
    assert found.state is HandoffState.WAITING


# Contacts


@pytest.mark.parametrize("contact", ["not a number", "0911222333", "911222333", "@", "a@b@c", "", "+1", "rosa@"])
def test_c5_a_contact_that_is_none_is_refused_before_anything(story: Story, contact: str) -> None:
    with pytest.raises(ContactInvalid) as caught:
        story.start(contact=contact)
    assert len(contact) < 4 or contact not in str(caught.value)
    assert rows(story) == 0
    assert story.hubspot.requests() == []


@pytest.mark.parametrize(
    "contact",
    ["+34 911 222 333", "rosa@example.test", "ROSA@example.test", Contact(email=PHONE), Contact(phone=PHONE)],
)
def test_c5_every_spelling_finds_the_contact(story: Story, contact: str | Contact) -> None:
    thread = story.start(contact=contact).thread_id
    assert story.hubspot.thread(thread)["associatedContactId"] == "55512001"


def test_policy_create_makes_the_contact_and_anonymous_needs_none(
    make_app: MakeApp, hubspot: HubSpot, record: Record, clock: ManualClock
) -> None:
    here: dict[str, Any] = {"clock": clock, "dispatcher": "inline", "public_url": "http://127.0.0.1:5000"}
    app = make_app(contact_policy="create", **here)
    story = Story(app, hubspot, clock, record(app))
    thread = story.start("a", contact="+14155550199", name="Ada Lovelace").thread_id
    contact_id = hubspot.thread(thread)["associatedContactId"]
    again = story.start("b", contact="+14155550199").thread_id
    assert hubspot.thread(again)["associatedContactId"] == contact_id
    app = make_app(contact_policy="anonymous", **here)
    story = Story(app, hubspot, clock, record(app))
    first = hubspot.thread(story.start("c", contact=None).thread_id)["messages"][0]
    assert first["senders"][0]["deliveryIdentifier"]["type"] == "CHANNEL_SPECIFIC_OPAQUE_ID"
    first = hubspot.thread(story.start("d", contact="+14155550188").thread_id)["messages"][0]
    assert "+14155550188" in first["text"], "the agent sees whom to call"


# C2: ids


def test_c2_ids_carry_the_deployment_and_are_fresh_for_each_handoff(story: Story) -> None:
    story.start("a")
    story.start("b")
    ids = [one["integrationThreadId"] for one in story.hubspot.threads()]
    assert all(one.startswith(f"{story.state.ledger.deployment_id}.") for one in ids)
    assert len(set(ids)) == 2


def test_c2_the_same_message_id_twice_is_one_message_and_the_first_content_wins(story: Story) -> None:
    thread = story.start().thread_id
    assert story.send("first", message_id="m1")
    assert story.send("second", message_id="m1")
    assert texts(story, thread) == ["first"]
    story.stop()
    assert story.send("third", message_id="m1"), "it is the humans' still"
    assert not story.send("fourth", message_id="m2")


def test_d22_two_conversations_of_one_user_do_not_cross(story: Story) -> None:
    one, two = story.start("a"), story.start("b")
    story.send("for a", "a")
    story.send("for b", "b")
    assert texts(story, one.thread_id) == ["for a"]
    assert texts(story, two.thread_id) == ["for b"]
    story.says(two.thread_id, "hello b")
    assert [m["handoff"].conversation_id for m in story.recorder.of("operator_message")] == ["b"]


# C3: retries


@pytest.mark.parametrize("mode", ["drop", "drop_after", "status", "status_after"])
def test_d26_a_lost_answer_never_doubles_or_loses_a_message(story: Story, mode: str) -> None:
    thread = story.start().thread_id
    story.hubspot.chaos(faults=[fault(PUBLISH, mode, times=2)])
    for number in range(4):
        story.send(f"m{number}")
    for _ in range(4):
        story.run(60)
    assert texts(story, thread) == ["m0", "m1", "m2", "m3"]
    assert len(story.recorder.of("message_delivered")) == 4


def test_c3_retry_after_is_honoured_and_costs_no_attempt(story: Story) -> None:
    thread = story.start().thread_id
    story.hubspot.chaos(faults=[fault(PUBLISH, status=429, retry_after=30)])
    story.send("patience")
    for _ in range(20):
        before = len(story.hubspot.requests())
        story.run(29)
        assert len(story.hubspot.requests()) == before, "not before HubSpot said so"
        story.run(2)
        assert len(story.hubspot.requests()) > before
    story.hubspot.chaos(faults=[])
    story.run(31)
    assert texts(story, thread) == ["patience"]


def test_c3_a_dead_token_costs_no_attempt_and_age_gives_up(story: Story) -> None:
    story.start()
    story.hubspot.chaos(revoked=True)
    story.send("hello?")
    for _ in range(30):
        story.run(900)
    assert story.names() == ["handoff_started", "installation_revoked"]
    for _ in range(90):
        story.run(900)
    assert story.names() == ["handoff_started", "installation_revoked", "message_failed"]
    assert "24 hours" in story.recorder.of("message_failed")[0]["error"]
    assert story.transcript() == [("user", "hello?", "failed")]


def test_c3_a_refused_message_fails_and_the_next_goes_on(story: Story) -> None:
    thread = story.start().thread_id
    story.hubspot.chaos(faults=[fault(PUBLISH, status=400, times=1)])
    story.send("refused")
    story.send("fine")
    assert [one["message"].text for one in story.recorder.of("message_failed")] == ["refused"]
    assert texts(story, thread) == ["fine"]


# C4: at the end


def test_c4_what_is_unpublished_at_the_end_becomes_message_failed(story: Story) -> None:
    thread = story.start().thread_id
    story.hubspot.chaos(faults=[fault(PUBLISH)])
    story.send("one")
    story.send("two")
    story.hubspot.chaos(faults=[fault(PUBLISH, status=429)])
    story.run(60)
    story.stop()
    failed = [one["message"].text for one in story.recorder.of("message_failed")]
    assert failed[-1:] == ["two"], "it surely did not reach HubSpot"
    assert story.names()[-1] == "conversation_completed"
    story.hubspot.chaos(faults=[])
    story.run(600)
    delivered = [one["message"].text for one in story.recorder.of("message_delivered")]
    failed = [one["message"].text for one in story.recorder.of("message_failed")]
    assert sorted(failed + delivered) == ["one", "two"], "each went to exactly one side"
    assert texts(story, thread) == delivered


def test_c4_stop_is_signalled_once_and_hubspots_echo_is_silent(story: Story) -> None:
    thread = story.start().thread_id
    story.stop(reason="user", detail="done")
    assert not story.is_active()
    assert story.names() == ["handoff_started", "conversation_completed"]
    ended = story.recorder.of("conversation_completed")[0]
    assert (ended["reason"], ended["detail"]) == (CloseReason.USER, "done")
    assert story.hubspot.thread(thread)["status"] == "CLOSED"
    story.status(thread, "CLOSED", at=story.now + 1)
    story.stop()
    assert story.names() == ["handoff_started", "conversation_completed"]


def test_c4_a_queued_close_is_dropped_when_the_agent_has_written_since(story: Story) -> None:
    thread = story.start().thread_id
    story.hubspot.chaos(faults=[fault("PATCH .*/threads/")])
    story.stop()
    story.clock.advance(1)
    story.says(thread, "wait!", at=story.now)
    assert story.is_active()
    story.hubspot.chaos(faults=[])
    story.run(600)
    assert story.hubspot.thread(thread)["status"] == "OPEN"
    assert story.is_active()


def test_c4_stopping_while_starting_leaves_no_thread_behind(story: Story) -> None:
    story.hubspot.chaos(faults=[fault(".*", status=429)])
    story.start()
    story.send("never mind")
    story.stop()
    assert story.names() == ["message_failed", "conversation_completed"]
    story.hubspot.chaos(faults=[])
    story.run(600)
    assert story.hubspot.threads() == []


def test_c4_stopping_while_the_opening_is_uncertain_closes_the_thread(story: Story) -> None:
    story.hubspot.chaos(faults=[fault(PUBLISH, "drop_after", times=1)])
    assert story.start().state is HandoffState.STARTING
    story.stop()
    story.run(600)
    (thread,) = story.hubspot.threads()
    assert thread["status"] == "CLOSED"
    assert story.names() == ["conversation_completed"]


def test_c4_another_thread_id_in_the_answer_is_followed(story: Story) -> None:
    first = story.start().thread_id
    story.hubspot.chaos(closed_publish="new_thread", deliver=False)
    story.hubspot.act(first, "close")
    story.send("still here")
    second = story.hubspot.threads()[-1]["id"]
    assert second != first
    handoff = story.handoff()
    assert handoff is not None
    assert handoff.thread_id == second
    story.assigned(first, "A-987", at=story.now)
    story.says(second, "in the new thread")
    assert story.names()[-2:] == ["operator_assigned", "operator_message"]


def test_c4_send_racing_with_the_end_goes_to_exactly_one_side(
    make_app: MakeApp, hubspot: HubSpot, record: Record, database_url: str
) -> None:
    app = make_app(dispatcher="thread", rate_limit=100_000)  # the messages of all turns spend the usual one
    story = Story(app, hubspot, ManualClock(), record(app))
    barrier = threading.Barrier(5)
    for turn in range(12):
        conversation = f"race-{turn}"
        thread = story.start(conversation).thread_id
        accepted: list[str] = []

        def chat(worker: int, conversation: str = conversation, accepted: list[str] = accepted) -> None:
            barrier.wait()
            for number in range(5):
                if story.send(f"{worker}.{number}", conversation):
                    accepted.append(f"{worker}.{number}")

        threads = [threading.Thread(target=chat, args=(worker,)) for worker in range(4)]
        for one in threads:
            one.start()
        barrier.wait()
        time.sleep(turn * 0.004)
        story.stop(conversation)
        for one in threads:
            one.join(60)
        assert not story.send("after", conversation)
        story.recorder.wait_for("conversation_completed", count=turn + 1)

        def settled(conversation: str = conversation, accepted: list[str] = accepted) -> bool:
            return sorted(story.recorder_texts(conversation)) == sorted(accepted)

        wait_until(settled, what="every accepted message to be delivered or failed")
        delivered = story.recorder_texts(conversation, "message_delivered")
        assert sorted(texts(story, thread)) == sorted(delivered)


# C6: routing


def test_c6_an_agent_who_has_left_is_told_and_the_handoff_goes_on(story: Story) -> None:
    story.hubspot.chaos(faults=[fault("PUT .*/assignee", status=404)])
    handoff = story.start("a", assign_to="4040")
    story.run(1)
    (refused,) = story.recorder.of("assignment_refused")
    assert (refused["handoff"].id, refused["actor_id"]) == (handoff.id, "A-4040")
    assert "404" in refused["error"]
    assert story.is_active("a")
    assert story.hubspot.thread(handoff.thread_id).get("assignedTo") is None


def test_c6_the_host_assigns_and_takes_back(story: Story) -> None:
    hitl = HubSpotHITL()
    with story.app.app_context():
        assert not hitl.assign("a", "A-987")
        assert not hitl.unassign("a")
    thread = story.start("a").thread_id

    def seat() -> str | None:
        found: str | None = story.hubspot.thread(thread).get("assignedTo")
        return found

    with story.app.app_context():
        assert hitl.assign("a", "988")
        assert seat() == "A-988"
        assert hitl.assign("a", "A-987")
        assert seat() == "A-987"
        assert hitl.unassign("a")
        assert hitl.unassign("a"), "nobody has it, and that is no error"
        assert seat() is None
        for wrong in ("", "none", "B-1", "L-2", "Rosa"):
            with pytest.raises(ValueError, match=r"actor|agent"):
                hitl.assign("a", wrong)
        story.hubspot.chaos(faults=[fault("DELETE .*/assignee", status=403)])
        assert hitl.unassign("a")
    story.run(1)
    (refused,) = story.recorder.of("assignment_refused")
    assert (refused["actor_id"], story.is_active("a")) == (None, True)


def test_c6_inbox_and_agent(story: Story) -> None:
    handoff = story.start("a", assign_to="988")
    assert story.hubspot.thread(handoff.thread_id)["assignedTo"] == "A-988"
    with pytest.raises(InboxNotConnected, match="700200999"):
        story.start("b", inbox_id="700200999")
    assert not story.is_active("b")
    client = story.state.services.client("424242")
    client.call(
        "POST",
        client.paths.channel_accounts("100458"),
        doing="connecting the help desk",
        body={
            "inboxId": "700200999",
            "name": "desk",
            "authorized": True,
            "deliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "desk"},
        },
    )
    handoff = story.start("b", inbox_id=700200999)
    assert story.hubspot.thread(handoff.thread_id)["inboxId"] == "700200999"
    story.says(handoff.thread_id, "from the help desk")
    assert story.names()[-1] == "operator_message"


# History


def test_d07_the_agent_sees_the_history_as_a_note_and_the_user_does_not(story: Story) -> None:
    turns = [HistoryEntry("user" if n % 2 else "bot", f"turn {n}") for n in range(30)]
    thread = story.start(history=iter(turns)).thread_id
    messages = story.hubspot.thread(thread)["messages"]
    (note,) = [one for one in messages if one["type"] == "COMMENT"]
    places = [note["text"].index(f"turn {n}") for n in range(30)]
    assert places == sorted(places)
    assert story.recorder.of("operator_message") == []


def test_d52_a_long_history_keeps_the_newest_and_says_what_was_left_out(story: Story) -> None:
    thread = story.start(history=[("user", f"turn {n} " + "x" * 90) for n in range(300)]).thread_id
    (note,) = [one["text"] for one in story.hubspot.thread(thread)["messages"] if one["type"] == "COMMENT"]
    assert len(note) < 10_300
    assert "turn 299 " in note
    assert "turn 0 " not in note
    assert any(char.isdigit() for char in note.splitlines()[0])


def test_history_goes_as_a_message_where_notes_are_refused(story: Story) -> None:
    story.hubspot.chaos(notes="refused")
    thread = story.start("a", history=[("user", "before")]).thread_id
    assert any("before" in text for text in texts(story, thread))
    thread = story.start("b", history=[("user", "before")]).thread_id
    messages = story.hubspot.thread(thread)["messages"]
    assert "before" in messages[0]["text"], "the second one knows, and puts it in the first message"
    assert len(messages) == 1


@pytest.mark.parametrize(("how", "seen"), [("message", True), ("none", False)])
def test_history_setting(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, how: str, seen: bool
) -> None:
    app = make_app(clock=clock, dispatcher="inline", history=how)
    story = Story(app, hubspot, clock, record(app))
    (message,) = hubspot.thread(story.start(history=[("user", "before")]).thread_id)["messages"]
    assert ("before" in message["text"]) is seen


# Content


def test_a_file_of_the_users_reaches_the_agent(story: Story) -> None:
    thread = story.start().thread_id
    files = [
        Attachment(name="../../invoice.txt", content_type="text/plain", content=b"hello"),
        Attachment(name="photo.png", content_type="image/png", content=io.BytesIO(b"\x89PNG")),
    ]
    assert story.send("see these", attachments=files)
    assert story.send("", attachments=files[:1])
    sent = [one for one in story.hubspot.thread(thread)["messages"] if one.get("direction") == "INCOMING"][1:]
    assert [(a["name"], a["fileUsageType"]) for a in sent[0]["attachments"]] == [
        ("invoice.txt", "OTHER"),
        ("photo.png", "IMAGE"),
    ]
    assert len(sent[1]["attachments"]) == 1
    (delivered, _) = story.recorder.of("message_delivered")
    assert [one.name for one in delivered["message"].attachments] == ["invoice.txt", "photo.png"]


@pytest.mark.parametrize("part", [1, 2, 3])
def test_d27_a_failure_at_part_k_resumes_at_k(story: Story, part: int) -> None:
    thread = story.start().thread_id
    faults = [{"match": "POST /files", "times": None, "mode": "status", "status": 503}]
    files = [Attachment(name=f"{n}.txt", content=b"x") for n in range(3)]
    story.hubspot.chaos(faults=[])
    uploads = _after(story, "POST", PATHS.files(), part - 1, faults)
    story.send("three", attachments=files)
    story.run(60)
    story.hubspot.chaos(faults=[])
    story.run(600)
    assert uploads() == 3, "none is uploaded twice"
    (message,) = [one for one in story.hubspot.thread(thread)["messages"] if one.get("text") == "three"]
    assert len(message["attachments"]) == 3


def _after(story: Story, method: str, path: str, count: int, faults: list[Json]) -> Callable[[], int]:
    """Let ``count`` calls pass, then switch the faults on. Returns how many succeeded in all."""
    stop = threading.Event()

    def done() -> int:
        return sum(
            one["method"] == method and one["path"] == path and one["status"] < 300 for one in story.hubspot.requests()
        )

    if count == 0:
        story.hubspot.chaos(faults=faults)
        return done
    passing = [{"match": f"{method} {path}$", "times": count, "mode": "delay", "seconds": 0}]
    story.hubspot.chaos(faults=[*passing, *faults])
    stop.set()
    return done


def test_a_file_that_is_too_large_or_empty_handed_is_refused(story: Story) -> None:
    story.start()
    with pytest.raises(ValueError, match="MAX_ATTACHMENT_BYTES"):
        story.send("x", attachments=[Attachment(name="a", content=b"x" * 20_971_521)])
    with pytest.raises(ValueError, match="content"):
        story.send("x", attachments=[Attachment(name="a")])
    with pytest.raises(ValueError, match="text or an attachment"):
        story.send("  ")
    with pytest.raises(TypeError):
        story.send(5)  # type: ignore[arg-type]


def test_d05_links_and_inline_images_reach_the_host(story: Story) -> None:
    thread = story.start().thread_id
    rich = '<p onclick="x()">see <a href="https://acme.test/doc">here</a><img src="https://acme.test/i.png"></p><script>1</script>'
    story.says(thread, "see here", richText=rich)
    message = story.recorder.of("operator_message")[0]["message"]
    assert message.text == "see here\n[picture not shown: https://acme.test/i.png]"
    assert message.attachments == ()
    assert "https://acme.test/doc" in message.html
    assert "https://acme.test/i.png" in message.html
    assert "script" not in message.html
    assert "onclick" not in message.html


@pytest.mark.parametrize("text", ["look", ""])
def test_d05_pictures_in_an_agents_text_arrive_as_files_once_each(story: Story, text: str) -> None:
    thread = story.start().thread_id
    cat = {"name": "cat.png", "contentType": "image/png", "content": "aGk="}
    dog = {"name": "dog.png", "contentType": "image/png", "content": "aGk="}
    event = story.write(thread, text, inlineImages=[cat, dog])
    file_id = event["message"]["richText"].rpartition("/dog.png")[0].rpartition("/")[2]
    event["message"]["attachments"] = [{"type": "FILE", "fileId": file_id, "name": "dog.png"}]  # listed as well
    story.post(event)
    (message,) = [one["message"] for one in story.recorder.of("operator_message")]
    assert sorted(str(one.name) for one in message.attachments) == ["cat.png", "dog.png"]
    assert {one.content_type for one in message.attachments} == {"image/png"}
    assert message.text == text
    with story.app.app_context():
        [cats] = [one for one in message.attachments if one.name == "cat.png"]
        assert story.hitl.open_attachment("c1", cats).read() == b"hi"


def test_d06_a_file_without_an_address_gets_a_signed_one_and_a_lost_one_a_notice(story: Story) -> None:
    thread = story.start().thread_id
    story.hubspot.chaos(attachment_url=False)
    content = {"name": "a.txt", "contentType": "text/plain", "content": "aGk="}
    story.says(thread, "file", attachments=[content])
    (file,) = story.recorder.of("operator_message")[0]["message"].attachments
    assert file.url is not None
    assert file.url.startswith(story.hubspot.url)
    story.hubspot.chaos(faults=[fault("GET .*/signed-url", status=404)])
    story.says(thread, "gone", attachments=[content])
    message = story.recorder.of("operator_message")[1]["message"]
    assert "could not be fetched" in message.text


@pytest.mark.parametrize(
    ("text", "files", "seen"), [("only text", 0, True), ("", 1, True), ("both", 1, True), ("", 0, True)]
)
def test_d25_attachment_only_text_only_both_neither(story: Story, text: str, files: int, seen: bool) -> None:
    thread = story.start().thread_id
    event = story.write(thread, text or "x", attachments=[{"name": "a.txt", "content": "aGk="}] * files)
    story.post({**event, "message": {**event["message"], "text": text, "richText": ""}})
    message = story.recorder.of("operator_message")[0]["message"]
    assert len(message.attachments) == files
    assert bool(message.text or message.attachments) is seen
    if text:
        assert message.text == text


def test_anything_else_hubspot_sends_becomes_readable_text(story: Story) -> None:
    thread = story.start().thread_id
    event = story.write(thread, "look")
    odd = [
        {"type": "LOCATION", "latitude": 41.4, "longitude": 2.17, "name": "Sagrada Família"},
        {"type": "QUICK_REPLIES", "quickReplies": [{"value": "yes", "valueType": "TEXT", "label": "Yes, please"}]},
        {"type": "FROM_THE_FUTURE", "x": 1},
    ]
    story.post({**event, "message": {**event["message"], "attachments": odd}})
    message = story.recorder.of("operator_message")[0]["message"]
    assert message.text.startswith("look\n")
    assert "Sagrada Família" in message.text
    assert "Yes, please" in message.text
    assert len(message.text.splitlines()) >= 4


def test_d41_an_agents_text_is_verbatim_whatever_it_looks_like(story: Story) -> None:
    thread = story.start().thread_id
    for text in ("  leading and trailing  ", "[bot] magic", "Olá 👋 – é", "a\nb\n\nc", "<b>not html</b>"):
        story.says(thread, text)
        assert story.recorder.of("operator_message")[-1]["message"].text == text


def test_state_is_found_without_the_app_being_busy(story: Story) -> None:
    story.start()
    assert state_of(story.app).dispatcher.run_due() == 0


def _nested(depth: int) -> Json:
    value: Json = {}
    for _ in range(depth):
        value = {"in": value}
    return value


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"attributes": {"at": object()}}, "attributes must be a mapping of what JSON can hold"),
        ({"attributes": {"score": float("nan")}}, "attributes must be a mapping of what JSON can hold"),
        ({"attributes": {("a", "b"): 1}}, "attributes must be a mapping of what JSON can hold"),
        ({"attributes": ["a"]}, "attributes must be a mapping of what JSON can hold"),
        ({"attributes": _nested(100_000)}, "attributes must be a mapping of what JSON can hold"),
        ({"assign_to": "Noor"}, "assign_to must be an agent's actor id, such as A-987"),
    ],
)
def test_a_start_says_which_argument_is_wrong_and_stores_nothing(story: Story, fields: Json, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        story.start(**fields)
    assert not story.is_active()


@pytest.mark.parametrize("attachments", [None, 5, Attachment(name="a.txt", content=b"1")])
def test_a_send_takes_a_list_of_files(story: Story, attachments: Any) -> None:
    story.start()
    with pytest.raises(TypeError, match=r"attachments must be a list, not \w+: write attachments=\[…\]"):
        story.send("hello", attachments=attachments)

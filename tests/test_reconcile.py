"""``reconcile``: what was missed is fed through the same door, once, and in HubSpot's order."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import CloseReason
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp, Serve, close_app
from .databases import slow_on_postgresql
from .helpers import HubSpot, Json, Recorder, state_of, wait_until
from .story import PHONE, Story

Record = Callable[[Flask], Recorder]
HOUR = 3_600
PUBLIC_URL = "http://127.0.0.1:5000"


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Story:
    app = make_app(clock=clock, dispatcher="inline", assignment_timeout=300)
    return Story(app, hubspot, clock, record(app))


def reconcile(app: Flask, *more: str) -> Json:
    """The command; what it said."""
    answer = app.test_cli_runner().invoke(args=["hubspot-hitl", "reconcile", "--json", *more])
    assert answer.exit_code == 0, answer.output
    found: Json = json.loads(answer.stdout)
    return found


def looks(hubspot: HubSpot) -> int:
    """How often the inbox's threads were listed."""
    return sum(one["method"] == "GET" and one["path"].endswith("/threads") for one in hubspot.requests())


def told(recorder: Recorder, conversation_id: str) -> list[tuple[Any, ...]]:
    """One conversation's signals, with all that a host may act on."""
    found: list[tuple[Any, ...]] = []
    for name, facts in list(recorder.calls):
        if facts["handoff"].conversation_id == conversation_id:
            message, handoff = facts.get("message"), facts["handoff"]
            texts = [one.text for one in facts["transcript"]] if "transcript" in facts else None
            who = message and message.operator
            line = (name, handoff.state, handoff.operator, message and message.text, who)
            found.append((*line, facts.get("operator"), facts.get("previous"), facts.get("reason"), texts))
    return found


# Missed while down


def assign_write_close(hubspot: HubSpot, thread: str) -> None:
    hubspot.act(thread, "assign", actorId="A-987")
    for number in range(5):
        hubspot.act(thread, "reply", text=f"message {number}")
    hubspot.act(thread, "close")


def everything(hubspot: HubSpot, thread: str) -> None:
    hubspot.act(thread, "reply", text="hello")  # claims it
    hubspot.act(thread, "comment", text="secret")
    hubspot.act(thread, "assign", actorId="A-988")
    hubspot.act(thread, "reply", text="I take over", actorId="A-988")
    hubspot.act(thread, "unassign")
    hubspot.act(thread, "close")
    hubspot.act(thread, "reopen")
    hubspot.act(thread, "reply", text="one more thing")
    hubspot.act(thread, "close")


@pytest.mark.parametrize("happen", [assign_write_close, everything])
def test_after_an_outage_the_signals_equal_those_of_a_run_that_was_never_down(
    make_app: MakeApp,
    hubspot: HubSpot,
    serve: Serve,
    record: Record,
    database_url: str,
    happen: Callable[[HubSpot, str], None],
) -> None:
    app = make_app(dispatcher="inline")
    recorder, host = record(app), Story(app, hubspot, ManualClock(), Recorder(app))
    serve(app)
    hubspot.chaos(deliver=True)
    up = host.start("up")
    happen(hubspot, str(up.thread_id))
    wait_until(lambda: not host.is_active("up") and told(recorder, "up")[-1][0] == "conversation_completed")
    down = host.start("down")
    hubspot.chaos(drop_deliveries=True)  # nobody answers, and HubSpot has given up
    happen(hubspot, str(down.thread_id))
    assert [one[0] for one in told(recorder, "down")] == ["handoff_started"]
    assert reconcile(app)["events"] >= 7
    assert told(recorder, "down") == told(recorder, "up")
    assert "secret" not in str(told(recorder, "down"))
    heard = len(recorder.calls)
    assert reconcile(app)["events"] == 0
    assert len(recorder.calls) == heard


def test_a_restarted_dispatcher_feeds_what_was_missed(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    host = Story(make_app(clock=clock, dispatcher="external"), hubspot, clock, Recorder(Flask("nobody")))
    thread = str(host.start().thread_id)
    assign_write_close(hubspot, thread)
    app = make_app(clock=clock, dispatcher="thread")
    recorder = record(app)
    state_of(app).dispatcher.ensure_started()
    recorder.wait_for("conversation_completed")
    texts = [one["message"].text for one in recorder.of("operator_message")]
    assert texts == [f"message {number}" for number in range(5)]


# One signal, whichever comes first


@pytest.mark.parametrize("skew", [-300, 0, 300])
@pytest.mark.parametrize("first", ["webhook", "reading"])
def test_a_webhook_and_a_reading_of_one_change_are_one_signal(story: Story, first: str, skew: int) -> None:
    thread = story.start().thread_id
    at = story.now
    hubspot = story.hubspot
    hubspot.act(thread, "assign", actorId="A-987", occurredAt=at + 1_000)
    hubspot.act(thread, "assign", actorId="A-988", occurredAt=at + 2_000)
    message = story.write(thread, "bye", at=at + 3_000, actorId="A-988")
    hubspot.act(thread, "close", occurredAt=at + 4_000)
    if first == "reading":
        reconcile(story.app)
    story.assigned(thread, "A-987", at=at + 1_000 + skew)
    story.assigned(thread, "A-988", at=at + 2_000 + skew)
    story.post(message)
    story.status(thread, "CLOSED", at=at + 4_000 + skew)
    if first == "webhook":
        reconcile(story.app)
        reconcile(story.app, "--thread", str(thread))
    assert story.names() == [
        "handoff_started", "operator_assigned", "operator_assigned", "operator_message", "conversation_completed",
    ]  # fmt: skip


@pytest.mark.parametrize("skew", [-700, 0, 700])
def test_quick_changes_that_webhooks_have_told_are_not_told_again(story: Story, skew: int) -> None:
    """HubSpot's history has other times for them than its webhooks, further apart than the changes are."""
    thread = story.start().thread_id
    at = story.now
    for turn, actor in enumerate(["A-987", "A-988", "A-987", "A-988"]):
        story.hubspot.act(thread, "assign", actorId=actor, occurredAt=at + 300 * turn)
        story.assigned(thread, actor, at=at + 300 * turn + skew)
    reconcile(story.app)
    assert story.names().count("operator_assigned") == 4
    story.hubspot.act(thread, "unassign", occurredAt=at + 1_200)
    reconcile(story.app)
    assert story.names()[-1] == "operator_unassigned"


def test_a_thread_that_an_agents_message_reopened_is_not_closed_again(story: Story) -> None:
    thread = story.start().thread_id
    at = story.now
    story.hubspot.act(thread, "close", occurredAt=at + 200)
    story.status(thread, "CLOSED", at=at)
    story.says(thread, "one more thing", at=at + 5_000)
    assert story.is_active()
    reconcile(story.app)
    assert story.is_active(), "HubSpot still has the thread closed, and we know since when"


# What only the thread's own fields tell


def test_without_a_history_the_threads_own_fields_are_believed(story: Story) -> None:
    thread = story.start().thread_id
    faults = [{"match": "GET .*/threads/.*/messages", "times": None, "mode": "status", "status": 404}]
    story.hubspot.chaos(faults=faults)
    story.hubspot.act(thread, "assign", actorId="A-988")
    reconcile(story.app)
    assert story.recorder.of("operator_assigned")[0]["operator"].name == "Teo Lindqvist"
    story.hubspot.act(thread, "unassign")
    reconcile(story.app)
    reconcile(story.app)
    story.hubspot.act(thread, "close")
    reconcile(story.app)
    reconcile(story.app)
    assert story.names() == ["handoff_started", "operator_assigned", "operator_unassigned", "conversation_completed"]
    assert story.recorder.of("conversation_completed")[0]["reason"] is CloseReason.AGENT


def test_an_archived_thread_completes_and_a_restored_one_comes_back(story: Story) -> None:
    thread = story.start().thread_id
    story.hubspot.act(thread, "archive")
    reconcile(story.app)
    reconcile(story.app)
    story.event("deletion", thread, at=story.now)
    assert story.names() == ["handoff_started", "conversation_completed"]
    assert story.recorder.of("conversation_completed")[0]["reason"] is CloseReason.ARCHIVED
    story.clock.advance(60)
    story.hubspot.act(thread, "restore")
    reconcile(story.app)
    reconcile(story.app)
    assert story.names()[2:] == ["conversation_reopened"]


@pytest.mark.parametrize("before", ["open", "closed", "archived"])
def test_a_thread_that_is_not_found_ends_the_handoff_and_erases_nothing(
    story: Story, before: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Only HubSpot's own word tells of a deletion for privacy."""
    thread = story.start().thread_id
    story.send("my secret")
    if before != "open":
        story.hubspot.act(thread, "close" if before == "closed" else "archive")
        reconcile(story.app)
    heard = len(story.names())
    story.hubspot.act(thread, "purge")
    for _ in range(3):
        reconcile(story.app)
        story.clock.advance(86_400)
    assert [text for _, text, _ in story.transcript()] == ["my secret"]
    if before == "open":
        [ended] = story.recorder.of("conversation_completed")
        assert ended["reason"] is CloseReason.ARCHIVED
        assert "flask hubspot-hitl erase" in caplog.text
    else:
        assert story.names()[heard:] == [], "it had ended already"
    story.event("privacyDeletion", thread, at=story.now)
    assert story.transcript() == []
    assert story.names()[-1] == "person_erased"


# After the end


def test_reopened_while_down(story: Story) -> None:
    thread = story.start().thread_id
    at = story.now
    story.hubspot.act(thread, "close", occurredAt=at)
    story.status(thread, "CLOSED", at=at)
    story.hubspot.act(thread, "reopen", occurredAt=at + 10_000)
    reconcile(story.app)
    assert story.names()[-1] == "conversation_reopened"


def test_a_message_after_the_end_that_was_missed(story: Story) -> None:
    thread = story.start().thread_id
    at = story.now
    story.hubspot.act(thread, "close", occurredAt=at)
    story.status(thread, "CLOSED", at=at)
    story.write(thread, "one more thing", at=at + 10_000)
    reconcile(story.app)
    assert [name for name in story.names() if name != "operator_assigned"][-2:] == [
        "conversation_reopened",
        "operator_message",
    ]


def test_a_handoff_that_the_host_ended_stays_ended(story: Story) -> None:
    story.start()
    story.stop()
    story.start("c2")
    story.hubspot.chaos(faults=[{"match": "PATCH .*", "times": None, "mode": "status", "status": 503}])
    story.stop("c2")
    assert story.names().count("conversation_completed") == 2
    assert reconcile(story.app)["events"] == 0, "also while HubSpot does not know of it"


def test_another_accounts_messages_and_comments_are_not_ours(story: Story) -> None:
    thread = story.start().thread_id
    story.hubspot.act(thread, "comment", text="secret")
    assert reconcile(story.app, "--all") == {"threads": 1, "read": 1, "events": 0, "failed": []}


# When


@slow_on_postgresql
def test_dispatchers_that_start_together_look_once_and_once_every_hour(
    make_app: MakeApp, hubspot: HubSpot, record: Record, database_url: str
) -> None:
    clock = ManualClock(1_800_000_000_000)
    settings: dict[str, Any] = {"clock": clock, "public_url": PUBLIC_URL}
    story = Story(make_app(dispatcher="external", **settings), hubspot, clock, Recorder(Flask("nobody")))
    story.start("c1")
    story.start("c2")
    apps = [make_app(dispatcher="thread", dispatcher_threads=1, **settings) for _ in range(4)]
    for app in apps:
        record(app)

    def settled() -> bool:
        with story.state.ledger.read() as tx:
            return not any(tx.queue.has_pending(f"reconcile:{name}") for name in ("start", "portal:424242"))

    for app in apps:
        state_of(app).dispatcher.ensure_started()
    wait_until(lambda: looks(hubspot) == 1 and settled(), what="the look at start")
    for hour in (2, 3):
        clock.advance(HOUR + 1)
        wait_until(lambda count=hour: looks(hubspot) == count and settled(), what="the hour's look")  # type: ignore[misc]
    with story.state.ledger.read() as tx:
        assert tx.status(now=clock.now_ms())["pending"] == 0, "what waits for its hour is not waiting for us"
    assert looks(hubspot) == 3
    clock.advance(600)
    record(last := make_app(dispatcher="thread", **settings))
    state_of(last).dispatcher.ensure_started()
    wait_until(lambda: looks(hubspot) == 4 and settled(), what="the look of one that starts later")


def test_a_sweep_waits_for_hubspot(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> None:
    story = Story(make_app(clock=clock, dispatcher="external"), hubspot, clock, Recorder(Flask("nobody")))
    hubspot.act(story.start().thread_id, "assign")
    hubspot.chaos(faults=[{"match": "GET .*/threads/.*", "times": 2, "mode": "status", "status": 503}])
    app = make_app(clock=clock, dispatcher="thread")
    recorder = record(app)
    state_of(app).dispatcher.ensure_started()

    def assigned() -> bool:
        clock.advance(1)
        return bool(recorder.of("operator_assigned"))

    wait_until(assigned)


def test_a_gap_reads_the_whole_thread(story: Story) -> None:
    thread = story.start().thread_id
    event = story.write(thread, "lost by the webhooks")
    story.new_message(thread, event["message"]["id"], at=story.now)
    story.run(31)
    assert story.names() == ["handoff_started", "operator_assigned", "operator_message"]


# The command


def test_the_command_for_one_thread(story: Story) -> None:
    one, two = story.start("c1").thread_id, story.start("c2").thread_id
    for thread in (one, two):
        story.hubspot.act(thread, "assign")
    assert reconcile(story.app, "--thread", str(two)) == {"threads": 1, "read": 1, "events": 1, "failed": []}
    assert [facts["handoff"].thread_id for facts in story.recorder.of("operator_assigned")] == [two]
    runner = story.app.test_cli_runner()
    assert runner.invoke(args=["hubspot-hitl", "reconcile", "--thread", "999"]).exit_code == 1
    said = runner.invoke(args=["hubspot-hitl", "reconcile"])
    assert (said.exit_code, said.stdout) == (0, "2 threads compared, 1 read in full, 1 missed event queued.\n")


def test_the_command_fails_when_hubspot_can_not_be_read(story: Story) -> None:
    for name in ("c1", "c2"):
        story.hubspot.act(story.start(name).thread_id, "assign")
    story.hubspot.chaos(faults=[{"match": "GET .*/threads/.*", "times": 1, "mode": "status", "status": 503}])
    answer = story.app.test_cli_runner().invoke(args=["hubspot-hitl", "reconcile", "--json"])
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["threads"] == 1
    assert "1 thread could not be read" in answer.stderr
    assert len(story.recorder.of("operator_assigned")) == 1, "the other one is fed all the same"


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize(
    ("path", "label"), [("/messages", "Reading threads"), ("/threads", "Comparing with HubSpot's lists")]
)
def test_the_command_shows_a_bar_when_it_takes_long(story: Story, path: str, label: str, quiet: bool) -> None:
    for name in ("c1", "c2", "c3"):
        story.start(name)
    story.hubspot.chaos(faults=[{"match": f"GET .*{path}$", "times": 1, "mode": "delay", "seconds": 1.1}])
    more = [*(["--json"] if quiet else []), *(["--all"] if label == "Reading threads" else [])]
    answer = story.app.test_cli_runner().invoke(args=["hubspot-hitl", "reconcile", *more])
    assert (label in answer.stderr) is not quiet
    assert label not in answer.stdout


# The assignment timer


@slow_on_postgresql
def test_d08_the_timer_fires_once_with_several_workers_and_restarts(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str
) -> None:
    settings: dict[str, Any] = {"clock": clock, "public_url": PUBLIC_URL, "assignment_timeout": 300}
    host = Story(make_app(dispatcher="external", **settings), hubspot, clock, Recorder(Flask("nobody")))
    recorders: list[Recorder] = []

    def workers() -> list[Flask]:
        apps = [make_app(dispatcher="thread", dispatcher_threads=2, **settings) for _ in range(3)]
        for app in apps:
            recorders.append(record(app))
            state_of(app).dispatcher.ensure_started()
        return apps

    def count() -> int:
        return sum(len(one.of("assignment_timed_out")) for one in recorders)

    apps = workers()
    for session in (1, 2):
        thread = host.start().thread_id
        clock.advance(200)
        for app in apps:  # a restart in the middle
            close_app(app)
        apps = workers()
        clock.advance(101)
        wait_until(lambda wanted=session: count() == wanted)  # type: ignore[misc]
        for app in apps:  # and one just after
            close_app(app)
        apps = workers()
        clock.advance(900)
        host.status(thread, "CLOSED", at=host.now)
        wait_until(lambda: not host.is_active())
        assert count() == session


def test_the_timer_asks_hubspot_before_it_says_that_nobody_came(story: Story) -> None:
    thread = story.start(contact=PHONE).thread_id
    story.hubspot.act(thread, "assign", occurredAt=story.now + 60_000)
    story.run(301)
    assert story.names() == ["handoff_started", "operator_assigned"]


def test_the_timer_does_not_wait_long_for_hubspot(story: Story) -> None:
    story.start()
    story.hubspot.chaos(faults=[{"match": "GET .*/threads/.*", "times": None, "mode": "status", "status": 503}])
    story.run(301)
    assert story.names() == ["handoff_started"]
    for _ in range(8):
        story.run(5)
    assert story.names() == ["handoff_started", "assignment_timed_out"]


def test_threads_that_a_wrong_token_cannot_find_are_not_ended(story: Story) -> None:
    story.start()
    gone = [
        {"match": "GET .*/threads/", "times": None, "mode": "status", "status": 404},
        {"match": "GET .*/channel-accounts/", "times": None, "mode": "status", "status": 404},
    ]
    story.hubspot.chaos(faults=gone)
    result = story.app.test_cli_runner().invoke(args=["hubspot-hitl", "reconcile"])
    assert result.exit_code == 1
    assert story.is_active()
    story.hubspot.chaos(faults=gone[:1])
    story.app.test_cli_runner().invoke(args=["hubspot-hitl", "reconcile"])
    story.run()
    assert not story.is_active(), "the account is there, the thread is not"

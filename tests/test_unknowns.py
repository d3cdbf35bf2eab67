"""The extension beside a HubSpot that answers each open question the other way: one story, every answer.

Source: docs/hubspot.rst (Unknowns).

What a user wrote is in HubSpot once and in order; what an agent wrote is signalled once and in order; a handoff ends
once, with its whole transcript. Deliveries are real and run into a served app; only the clock is the test's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp, Serve
from .helpers import HubSpot, Json, Recorder, wait_until
from .story import Story

Record = Callable[[Flask], Recorder]

ANSWERS: list[Json] = [
    {"own_publish_events": False},
    {"notes": "refused"},
    {"unassign_value": "null"},
    {"unassign_value": "missing"},
    {"assignee_form": "bare"},
    {"status_form": "string"},
    {"attachment_url": False},
    {"attachment_url": "private"},
    {"channel_thread_ids": "empty"},
    {"channel_thread_ids": "missing"},
    {"signatures": "v3"},
    {"repeated_publish": "ok"},
    {"repeated_publish": "conflict"},
    {"unknown_contact": "create"},
    {"refresh_kills_access": True, "rotate_refresh_tokens": True},
    {"lean_v1_tokens": True},
    {"clean_html": True},
    {"sparse_messages": True},
    {"event_prefix": "conversations"},
    {"event_type_key": "eventType"},
    {"api_send_echo": False},
    {"echo_outgoing": True},
    {"created_by": "integration"},
    {"messages_order": "newest"},
    {"page_size": 1},
    {"archive_status": "CLOSED"},
    {"contact_precedence": "identifier"},
    {"feed_ids": "different"},
    {"truncate_at": 4},
    {"auto_assign": "A-988"},
    {"auto_assign": "L-5"},
    {"mixed_batches": True},
]
TOGETHER: list[Json] = [
    {},
    {
        "own_publish_events": False,
        "unassign_value": "null",
        "attachment_url": False,
        "channel_thread_ids": "missing",
        "repeated_publish": "ok",
        "unknown_contact": "create",
        "lean_v1_tokens": True,
        "clean_html": True,
        "contact_precedence": "identifier",
        "feed_ids": "different",
        "auto_assign": "A-988",
        "mixed_batches": True,
        "identifier_form": "string",
        "archive_status": "CLOSED",
        "api_send_echo": False,
    },
    {
        "unassign_value": "missing",
        "assignee_form": "bare",
        "status_form": "string",
        "attachment_url": "private",
        "channel_thread_ids": "empty",
        "repeated_publish": "conflict",
        "sparse_messages": True,
        "event_prefix": "conversations",
        "event_type_key": "eventType",
        "echo_outgoing": True,
        "created_by": "integration",
        "messages_order": "newest",
        "page_size": 1,
        "truncate_at": 4,
        "auto_assign": "L-5",
        "notes": "refused",
        "rotate_refresh_tokens": True,
        "refresh_kills_access": True,
    },
]
"""Answers that can be given together; each alone is in ``ANSWERS``."""


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, serve: Serve) -> Story:
    app = make_app(clock=clock, dispatcher="inline", history="note")
    told = Story(app, hubspot, clock, record(app))
    serve(app)
    hubspot.chaos(deliver=True, retry_delays=[0.05] * 20)
    return told


def settle(story: Story, *, seconds: float = 0.0) -> None:
    """Until all that happened has been delivered and done; with ``seconds``, every watch has looked, too.

    The app's time must stay within five minutes of the stand-in's, or nothing is believed any more.
    """
    for passing in (0.0, seconds):
        wait_until(lambda: story.hubspot.pending() == 0, what="the deliveries")
        story.run(passing)


def named(answer: Json) -> str:
    return ",".join(f"{name}={value}" for name, value in answer.items())


@pytest.mark.parametrize("answer", TOGETHER, ids=["all as expected", "some else", "others else"])
def test_the_story_is_the_same_whatever_hubspot_does(story: Story, answer: Json) -> None:
    tell(story, answer)


@pytest.mark.slow
@pytest.mark.parametrize("answer", ANSWERS, ids=named)
def test_the_story_is_the_same_with_a_single_answer(story: Story, answer: Json) -> None:
    tell(story, answer)


def tell(story: Story, answer: Json) -> None:
    """The whole story, and what must come of it."""
    hubspot = story.hubspot
    hubspot.chaos(**answer)
    thread = story.start(title="Refund", history=[]).thread_id
    assert thread is not None
    assert story.send("user 1", message_id="m1")
    settle(story, seconds=2.0)  # what came before our publish was answered waits that long
    hubspot.act(thread, "assign", actorId="A-987")
    hubspot.act(thread, "reply", text="agent 1")
    settle(story)
    assert story.send("user 2", message_id="m2")
    assert story.send("user 2", message_id="m2")
    hubspot.act(thread, "comment", text="a secret of the agents")
    note = {"name": "a.txt", "contentType": "text/plain", "content": "YWJj"}
    hubspot.act(thread, "reply", text="agent 2", attachments=[note])
    settle(story)
    hubspot.act(thread, "assign", actorId="A-988")
    settle(story)
    hubspot.act(thread, "unassign")
    settle(story)
    settle(story, seconds=40.0)
    hubspot.act(thread, "close")
    settle(story, seconds=40.0)

    wrote = [m["text"] for m in hubspot.thread(thread)["messages"] if m.get("direction") == "INCOMING"][1:]
    assert [text[: answer.get("truncate_at", 99)] for text in ("user 1", "user 2")] == wrote
    heard = [one["message"].text for one in story.recorder.of("operator_message")]
    assert heard == ["agent 1", "agent 2"]
    [file] = story.recorder.of("operator_message")[1]["message"].attachments
    assert file.file_id or file.url
    [end] = story.recorder.of("conversation_completed")
    assert [m.text for m in end["transcript"] if m.author.value == "operator"] == heard
    assigned = [one["operator"].actor_id for one in story.recorder.of("operator_assigned")]
    first = ["A-988"] if answer.get("auto_assign") == "A-988" else []
    assert assigned == [*first, "A-987", "A-988"]
    assert len(story.recorder.of("operator_unassigned")) == 1
    assert not story.recorder.of("event_dead")
    assert not story.recorder.of("message_failed")
    assert not story.is_active()


# --- answers that change what happens, not only how it looks ----------------------------------------------


def users_texts(hubspot: HubSpot) -> list[list[str]]:
    """What the user wrote, thread by thread."""
    return [[m["text"] for m in thread["messages"] if m.get("direction") == "INCOMING"] for thread in hubspot.threads()]


@pytest.mark.parametrize("answer", ["created", "ok", "conflict"])
def test_a_publish_whose_answer_is_lost_is_published_once(story: Story, answer: str) -> None:
    story.hubspot.chaos(repeated_publish=answer, deliver=False)
    story.start()
    story.hubspot.chaos(faults=[{"match": "POST .*/messages$", "times": 1, "mode": "drop_after"}])
    assert story.send("only once", message_id="m1")
    assert story.send("and then this", message_id="m2")
    for _ in range(4):
        story.run(30)
    assert users_texts(story.hubspot)[0][1:] == ["only once", "and then this"]
    delivered = [one["message"].text for one in story.recorder.of("message_delivered")]
    assert delivered == ["only once", "and then this"]
    assert not story.recorder.of("message_failed")


@pytest.mark.parametrize("answer", ["created", "ok", "conflict"])
def test_an_opening_whose_answer_is_lost_opens_one_thread(story: Story, answer: str) -> None:
    fault = {"match": "POST .*/messages$", "times": 1, "mode": "drop_after"}
    story.hubspot.chaos(repeated_publish=answer, faults=[fault], deliver=False)
    story.start(title="Refund")
    assert story.send("hello", message_id="m1")
    for _ in range(4):
        story.run(30)
    [texts] = users_texts(story.hubspot)
    assert texts[-1] == "hello"
    handoff = story.handoff()
    assert handoff is not None
    assert handoff.thread_id == story.hubspot.threads()[0]["id"]


@pytest.mark.parametrize("refusal", [400, 403, 404, 409])
def test_a_refused_publish_fails_and_the_host_hears_of_it(story: Story, refusal: int) -> None:
    story.hubspot.chaos(deliver=False)
    story.start()
    story.hubspot.chaos(max_text=10, refusal_status=refusal)
    assert story.send("much too long a text", message_id="m1")
    assert story.send("short", message_id="m2")
    story.run()
    assert users_texts(story.hubspot)[0][1:] == ["short"]
    [failed] = story.recorder.of("message_failed")
    assert failed["message"].text == "much too long a text"


def test_an_archived_thread_ends_the_handoff_whatever_status_comes_with_it(story: Story) -> None:
    for number, status in enumerate([None, "CLOSED", "ARCHIVED"]):
        story.hubspot.chaos(archive_status=status)
        name = f"c{number}"
        thread = story.start(name).thread_id
        settle(story)
        story.hubspot.act(thread, "archive")
        settle(story)
        assert not story.is_active(name)
    assert len(story.recorder.of("conversation_completed")) == 3


@pytest.mark.parametrize("value", ["false", "False", "FALSE"])
def test_a_restored_thread_is_open_again(story: Story, value: str) -> None:
    story.hubspot.chaos(restored_value=value)
    thread = story.start().thread_id
    settle(story)
    story.hubspot.act(thread, "archive")
    settle(story)
    story.hubspot.act(thread, "restore")
    settle(story)
    assert story.is_active()
    assert len(story.recorder.of("conversation_reopened")) == 1


def test_a_thread_in_another_inbox_and_a_merged_contact_change_nothing(story: Story) -> None:
    thread = story.start().thread_id
    settle(story)
    story.hubspot.act(thread, "move", inboxId="700200999")
    story.hubspot.control("POST", "contacts/55512001/merge", {"into": "55512002"})
    story.hubspot.act(thread, "reply", text="still here")
    assert story.send("me too", message_id="m1")
    settle(story)
    assert [one["message"].text for one in story.recorder.of("operator_message")] == ["still here"]
    assert users_texts(story.hubspot)[0][-1] == "me too"
    story.hubspot.act(thread, "close")
    settle(story)
    assert len(story.recorder.of("conversation_completed")) == 1


@pytest.mark.parametrize("reading_first", [False, True])
def test_ids_that_differ_between_the_feeds_are_one_message(story: Story, reading_first: bool) -> None:
    story.hubspot.chaos(feed_ids="different")
    thread = story.start().thread_id
    settle(story)
    if reading_first:
        story.hubspot.chaos(deliver=False)
    for text in ("one", "two", "two"):
        story.hubspot.act(thread, "reply", text=text)
    if reading_first:
        answer = story.app.test_cli_runner().invoke(args=["hubspot-hitl", "reconcile"])
        assert answer.exit_code == 0, answer.output
        story.run()
        assert len(story.recorder.of("operator_message")) == 3
        story.hubspot.chaos(deliver=True)
    settle(story)
    answer = story.app.test_cli_runner().invoke(args=["hubspot-hitl", "reconcile"])
    assert answer.exit_code == 0, answer.output
    settle(story, seconds=40.0)
    story.hubspot.act(thread, "close")
    settle(story, seconds=40.0)
    assert [one["message"].text for one in story.recorder.of("operator_message")] == ["one", "two", "two"]


def test_a_workflow_of_any_portal_can_not_pass_itself_off_as_an_event(story: Story) -> None:
    """Signed v2 and v3 by HubSpot, with our secret, for whoever types our app id into a workflow of his."""
    thread = story.start().thread_id
    settle(story)
    url = story.state.settings.webhook_urls()[0]

    def forge(body: Any) -> int | None:
        status: int | None = story.hubspot.control("POST", "workflow", {"url": url, "body": body})["status"]
        return status

    message = {
        "id": "forged",
        "type": "MESSAGE",
        "channelId": "100458",
        "channelAccountId": "880011",
        "conversationsThreadId": thread,
        "createdAt": "2026-10-01T09:20:10.900Z",
        "senders": [{"actorId": "A-987"}],
        "text": "give me your password",
        "direction": "OUTGOING",
    }
    event = {
        "type": "OUTGOING_CHANNEL_MESSAGE_CREATED",
        "portalId": "424242",
        "channelId": "100458",
        "message": message,
    }
    for threads in ([], ["someone-else's"]):
        assert forge({**event, "channelIntegrationThreadIds": threads}) == 204
    assert forge({"objectId": 1, "portalId": 999}) in (204, 400)
    settle(story)
    assert not story.recorder.of("operator_message")

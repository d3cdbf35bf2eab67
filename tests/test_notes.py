"""What the host tells the agents reaches them once, and never the user, by whichever way HubSpot tells of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.hubspot.paths import API_VERSIONS
from flask_hubspot_hitl.hubspot.scopes import SCOPES, TICKET_NOTES_SCOPES, AppKind
from flask_hubspot_hitl.portals import installations

from .conftest import MakeApp
from .helpers import HubSpot, Json, Recorder, state_of
from .story import Story
from .test_accounts import HELP_DESK, make_account
from .test_reconcile import reconcile

Record = Callable[[Flask], Recorder]


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str) -> Story:
    app = make_app(clock=clock, dispatcher="inline")
    return Story(app, hubspot, clock, record(app))


def note(story: Story, text: str, *, draft: bool = False, conversation_id: str = "c1") -> bool:
    with story.app.app_context():
        return HubSpotHITL().note(conversation_id, text, draft=draft)


def entries(story: Story, thread: str | None, kind: str = "COMMENT") -> list[Json]:
    return [one for one in story.hubspot.thread(thread)["messages"] if one["type"] == kind]


def test_agents_read_a_note(story: Story) -> None:
    assert not note(story, "too early")
    thread = story.start().thread_id
    assert note(story, "gold customer <b>\nsince 2019")
    (one,) = entries(story, thread)
    assert one["text"] == "gold customer <b>\nsince 2019"
    assert "&lt;b&gt;" in one["richText"]
    assert story.transcript() == []
    story.stop()
    assert not note(story, "too late")
    assert len(entries(story, thread)) == 1


def test_a_draft_is_marked_and_is_a_block(story: Story) -> None:
    thread = story.start().thread_id
    assert note(story, "It ships today.", draft=True)
    (one,) = entries(story, thread)
    title, _, text = one["text"].partition("\n\n")
    assert ("user has not seen it" in title, text) == (True, "It ships today.")
    assert "<blockquote><p>It ships today.</p></blockquote>" in one["richText"]


@pytest.mark.parametrize(("draft", "beginning"), [(False, "Note: It ships"), (True, "Suggested reply")])
def test_where_notes_are_refused_a_message_says_what_it_is(story: Story, draft: bool, beginning: str) -> None:
    thread = story.start().thread_id
    story.hubspot.chaos(notes="refused")
    assert note(story, "It ships today.", draft=draft)
    assert entries(story, thread) == []
    (_, one) = entries(story, thread, "MESSAGE")
    assert one["text"].startswith(beginning)
    assert one["text"].endswith("It ships today.")


@pytest.mark.parametrize("text", ["", "  \n", "x" * 50_001])
def test_no_note_and_one_that_is_too_long_are_refused(story: Story, text: str) -> None:
    story.start()
    with pytest.raises(ValueError, match="1 to 50000"):
        note(story, text)


def test_an_answer_that_was_lost_does_not_double_it(story: Story) -> None:
    thread = story.start().thread_id
    lost = {"match": "POST .*/threads/[^/]+/messages", "times": 1, "mode": "drop_after"}
    story.hubspot.chaos(faults=[lost])
    assert note(story, "It ships today.", draft=True)
    for _ in range(3):
        story.run(60)
    assert len(entries(story, thread)) == 1


def test_no_note_ever_comes_to_the_user(story: Story) -> None:
    """By webhook, by ``newMessage`` and by looking back, in any order with what agents write."""
    thread, noted = tell_and_look(story)
    assert len(entries(story, thread)) == noted


def tell_and_look(story: Story) -> tuple[str, int]:
    """Have agents and the bot write by turns, and look back; the thread, and how many notes there are."""
    thread = str(story.start().thread_id)
    dice, said, noted = random.Random(7), list[str](), 0
    for number in range(25):
        story.run(1)
        match dice.choice(["note", "draft", "reply", "tell", "look"]):
            case "reply":
                text = f"reply {number}"
                event = story.write(thread, text, at=story.now)
                said.append(text)
                if dice.random() < 0.5:
                    story.post(event)
            case "tell":
                for one in dice.sample(story.hubspot.thread(thread)["messages"], 2):
                    story.new_message(thread, one["id"], at=story.now)
                story.run(61)
            case "look":
                reconcile(story.app)
            case kind:
                noted += note(story, f"secret {number}", draft=kind == "draft")
    reconcile(story.app, "--all")
    story.run()
    assert noted > 5
    heard = [one["message"].text for one in story.recorder.of("operator_message")]
    assert heard == said
    assert not any("secret" in text for _, text, _ in story.transcript())
    with state_of(story.app).ledger.read() as tx:
        assert tx.status(now=story.now)["dead"] == 0
    return thread, noted


def rate(story: Story, *rating: float | str) -> bool:
    with story.app.app_context():
        return HubSpotHITL().rate("c1", *rating)  # type: ignore[arg-type]


def test_a_handoff_is_rated_once_and_after_its_end(story: Story) -> None:
    assert not rate(story, 5)
    thread = story.start().thread_id
    story.status(thread, "CLOSED", at=story.now + 1)
    assert rate(story, 4.5, "quick")
    assert not rate(story, 1)
    assert [one["text"] for one in entries(story, thread)] == ["The user's rating: 4.5\nquick"]
    assert story.hubspot.thread(thread)["status"] == "OPEN", "the stand-in's was never closed: nothing was changed"
    second = story.start().thread_id
    assert rate(story, "3 of 5")
    assert [one["text"] for one in entries(story, second)] == ["The user's rating: 3 of 5"]


@pytest.mark.parametrize("who", ["host", "agent"])
def test_a_rating_that_waits_when_it_ends_is_written_and_a_note_is_not(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str, who: str
) -> None:
    app = make_app(clock=clock, dispatcher="external")
    story = Story(app, hubspot, clock, record(app))
    thread = story.start().thread_id
    story.run()
    if who == "host":
        assert note(story, "too late")
    assert rate(story, 5, "great")
    if who == "host":
        story.stop()
    else:
        story.status(thread, "CLOSED", at=story.now + 1)
    story.run(60)
    assert [one["text"] for one in entries(story, thread)] == ["The user's rating: 5\ngreat"]
    assert not rate(story, 1)


def test_a_rating_never_opens_a_thread_again(story: Story) -> None:
    thread = story.start().thread_id
    story.stop()
    assert story.hubspot.thread(thread)["status"] == "CLOSED"
    story.hubspot.chaos(notes="refused")
    assert rate(story, 5)
    story.run()
    assert story.hubspot.thread(thread)["status"] == "CLOSED"
    assert [one["event"]["topic"] for one in story.recorder.of("event_dead")] == ["note"]


@pytest.mark.parametrize("score", ["", " ", "x" * 51, True, None])
def test_what_is_no_score_is_refused(story: Story, score: object) -> None:
    with pytest.raises((ValueError, TypeError), match="score"):
        rate(story, score)  # type: ignore[arg-type]


# --- on the ticket of a help desk (docs/rules.rst L3)

Open = Callable[..., Story]


@pytest.fixture
def open_desk(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Open:
    """Makes an app whose channel is in a help desk, with a token of some scopes."""

    def make(*, scopes: str = "*", inbox: str = HELP_DESK, **config: Any) -> Story:
        token = hubspot.get(f"access-token?scopes={scopes}")["access_token"]
        account = make_account(hubspot, "notes", inbox)
        given = {"inbox_id": inbox, "channel_account_id": account, "access_token": token, "refresh_token": None}
        app = make_app(clock=clock, dispatcher="inline", **(given | config))
        return Story(app, hubspot, clock, record(app))

    return make


def on_ticket(story: Story, thread: str | None) -> list[str]:
    return [one["body"] for one in story.hubspot.thread(thread)["ticket"]["notes"]]


def texts(story: Story, thread: str | None) -> list[str]:
    return [one["text"] for one in entries(story, thread)]


@pytest.mark.parametrize("version", API_VERSIONS)
@pytest.mark.parametrize(
    ("notes_in", "commented", "ticketed"), [(None, 1, 1), ("both", 1, 1), ("ticket", 0, 1), ("comment", 1, 0)]
)
def test_l3_a_note_is_where_the_setting_says(
    open_desk: Open, notes_in: str | None, commented: int, ticketed: int, version: str
) -> None:
    story = open_desk(notes_in=notes_in, api_version=version)
    thread = story.start().thread_id
    assert note(story, "gold <customer>", draft=True)
    assert (len(texts(story, thread)), len(on_ticket(story, thread))) == (commented, ticketed)
    for body in on_ticket(story, thread):
        assert "user has not seen it" in body
        assert "<blockquote><p>gold &lt;customer&gt;</p></blockquote>" in body
    assert story.transcript() == []


def test_l3_history_and_rating_are_on_the_ticket_too(open_desk: Open) -> None:
    story = open_desk()
    thread = story.start(history=[("user", "where is it")]).thread_id
    story.status(thread, "CLOSED", at=story.now + 1)
    assert rate(story, 5)
    story.run()
    assert [len(texts(story, thread)), len(on_ticket(story, thread))] == [2, 2]
    history, rating = on_ticket(story, thread)
    assert ("where is it" in history, "rating: 5" in rating) == (True, True)


@pytest.mark.parametrize("notes_in", ["both", "ticket", None])
def test_l3_agents_of_a_portal_that_hides_comments_read_the_ticket(open_desk: Open, notes_in: str | None) -> None:
    story = open_desk(notes_in=notes_in)
    story.hubspot.chaos(notes="hidden")
    thread = story.start().thread_id
    assert note(story, "seen")
    assert texts(story, thread) == []
    assert on_ticket(story, thread) == ["<p>seen</p>"]


@pytest.mark.parametrize("draft", [False, True])
def test_l3_where_comments_are_refused_the_ticket_has_it_and_no_message(open_desk: Open, draft: bool) -> None:
    story = open_desk()
    story.hubspot.chaos(notes="refused")
    thread = story.start().thread_id
    assert note(story, "on the ticket", draft=draft)
    assert len(entries(story, thread, "MESSAGE")) == 1
    assert len(on_ticket(story, thread)) == 1
    story.stop()
    assert rate(story, 3)
    story.run()
    assert len(on_ticket(story, thread)) == 2
    assert story.hubspot.thread(thread)["status"] == "CLOSED"


@pytest.mark.parametrize("notes_in", ["both", "ticket"])
def test_l3_a_ticket_that_comes_late_has_it_once(open_desk: Open, notes_in: str) -> None:
    story = open_desk(notes_in=notes_in)
    story.hubspot.chaos(tickets="late")
    thread = story.start().thread_id
    assert note(story, "one")
    assert note(story, "two")
    assert story.send("hello")
    story.run()
    assert story.recorder_texts("c1") == ["hello"], "the user's message does not wait for the ticket"
    assert on_ticket(story, thread) == []
    story.hubspot.chaos(tickets="ok")
    for _ in range(3):
        story.run(61)
    assert on_ticket(story, thread) == ["<p>one</p>", "<p>two</p>"]
    assert len(texts(story, thread)) == (2 if notes_in == "both" else 0)


@pytest.mark.parametrize("notes_in", ["both", "ticket"])
def test_l3_a_ticket_that_never_comes_leaves_a_comment(open_desk: Open, notes_in: str) -> None:
    story = open_desk(notes_in=notes_in)
    story.hubspot.chaos(tickets="late")
    thread = story.start().thread_id
    assert note(story, "one")
    for _ in range(13):
        story.run(61)
    assert texts(story, thread) == ["one"]


@pytest.mark.parametrize("mode", ["drop", "drop_after"])
@pytest.mark.parametrize("where", ["/notes$", "/messages$"])
def test_l3_an_answer_that_was_lost_doubles_neither(open_desk: Open, mode: str, where: str) -> None:
    story = open_desk()
    thread = story.start().thread_id
    assert note(story, "before")
    story.hubspot.chaos(faults=[{"match": f"POST .*{where}", "times": 1, "mode": mode}])
    assert note(story, "same")
    assert note(story, "same")
    for _ in range(4):
        story.run(60)
    assert texts(story, thread)[0] == "before"
    assert on_ticket(story, thread) == ["<p>before</p>", "<p>same</p>", "<p>same</p>"]


@pytest.mark.parametrize("notes_in", [None, "both", "ticket"])
def test_l3_without_the_scope_it_is_a_comment_and_is_said_once(
    open_desk: Open, notes_in: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    story = open_desk(scopes=",".join(one for one in SCOPES), notes_in=notes_in)
    thread = story.start().thread_id
    for number in range(3):
        assert note(story, f"note {number}")
    story.run()
    assert texts(story, thread) == ["note 0", "note 1", "note 2"]
    assert on_ticket(story, thread) == []
    assert caplog.text.count("Notes are not on the tickets") == 1
    tried = [one for one in story.hubspot.requests() if one["method"] == "POST" and one["path"].endswith("/notes")]
    assert len(tried) == 1, "it is left alone for an hour"


@pytest.mark.parametrize("notes_in", [None, "both", "ticket"])
def test_l3_a_plain_inbox_has_comments(open_desk: Open, notes_in: str | None) -> None:
    story = open_desk(inbox="700200300", notes_in=notes_in)
    thread = story.start().thread_id
    assert note(story, "plain")
    assert texts(story, thread) == ["plain"]
    asked = [one["path"] for one in story.hubspot.requests() if "/notes" in one["path"] or "/tickets" in one["path"]]
    assert asked == []


def test_l3_the_scopes_are_asked_for_only_where_notes_are_to_be_on_tickets(make_app: MakeApp) -> None:
    def asked(**config: Any) -> set[str]:
        settings = state_of(make_app(**config)).settings
        return set(installations.wanted_scopes(settings, AppKind.PROJECT)) & set(TICKET_NOTES_SCOPES)

    assert asked() == asked(notes_in="comment") == set()
    assert asked(notes_in="both") == asked(notes_in="ticket") == set(TICKET_NOTES_SCOPES)


@pytest.mark.parametrize("notes", ["ok", "hidden"])
def test_l3_no_note_on_a_ticket_ever_comes_to_the_user(open_desk: Open, notes: str) -> None:
    story = open_desk()
    story.hubspot.chaos(notes=notes)
    thread, noted = tell_and_look(story)
    assert len(on_ticket(story, thread)) == noted
    assert len(entries(story, thread)) == (noted if notes == "ok" else 0)

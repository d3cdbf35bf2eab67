"""Sessions of the chat bridge, step by step, with a clock of our own: what races, what comes twice, what gets lost."""

from __future__ import annotations

import pytest

from flask_hubspot_hitl.botpress import notices
from flask_hubspot_hitl.botpress.chat.handoff import RESUMED

from .botpress_story import ENDS, ORDERS, Page, make_story
from .conftest import MakeApp, Record
from .helpers import Botpress, HubSpot
from .story import Story


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record) -> Story:
    """Nothing runs but by ``story.run()``."""
    return make_story(make_app, hubspot, botpress, record, dispatcher="external")


def test_what_is_written_while_the_handoff_opens_reaches_the_agent_in_order(
    database_url: str, story: Story, botpress: Botpress
) -> None:
    page = Page(story, botpress)
    page.calls_a_human()
    assert [page.says(f"line {number}", str(number)) for number in range(3)] == [True] * 3
    assert page.says("line 1", "1") is True
    story.run()
    assert page.says("line 3") is True
    story.run()
    assert page.to_agent() == [f"line {number}" for number in range(4)]
    assert page.to_bot() == ["hello"]
    assert page.shown == [("system", notices.DEFAULTS[notices.HANDOFF])]


def test_what_is_written_while_a_handoff_fails_reaches_the_bot_in_order(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.calls_a_human(email="nobody@example.com", messages={notices.TIMED_OUT: "Nobody is here"})
    assert page.says("line 0") is True
    assert page.says("line 1") is True
    story.run()
    assert page.says("line 2") is False
    story.run()
    assert page.to_bot() == ["hello", "line 0", "line 1", "line 2"]
    assert page.to_agent() == []
    assert ("system", "Nobody is here") in page.shown
    assert [(one["kind"], one["reason"]) for one in page.events()] == [("hitl.ended", "error")]


def test_two_calls_for_a_human_open_one_handoff(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    for _ in range(2):
        page.calls_a_human(createdAt="2026-01-01T00:00:00Z")
        page.calls_a_human()
    story.run()
    page.calls_a_human()
    assert page.says("hi") is True
    story.run()
    assert len(story.hubspot.threads()) == 1
    assert page.to_agent() == ["hi"]
    assert page.shown == [("system", notices.DEFAULTS[notices.HANDOFF])]


def test_a_bot_that_keeps_talking_does_not_reach_the_user(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.calls_a_human()
    page.signal("message_created", {"type": "text", "text": "Before it opens"}, id="msg_1")
    story.run()
    page.signal("message_created", {"type": "text", "text": "Are you there?"}, id="msg_2")
    page.signal("event_created", {"kind": "hitl.stop"})
    story.run()
    page.signal("message_created", {"type": "text", "text": "Are you there?"}, id="msg_2")
    page.signal("message_created", {"type": "text", "text": "Me again"}, id="msg_3")
    story.run(200)  # the bot's answers are read once more, in case a signal was lost
    assert [text for author, text in page.shown if author == "bot" and text != "You said: hello"][:1] == ["Me again"]
    assert [one["reason"] for one in page.events()] == ["bot_ended"]


def test_what_the_bot_says_after_it_has_ended_reaches_the_user(story: Story, botpress: Botpress) -> None:
    """Also before the end is carried out."""
    page = Page(story, botpress)
    page.calls_a_human()
    story.run()
    page.signal("message_created", {"type": "text", "text": "Not this"})
    page.signal("event_created", {"kind": "hitl.stop"})
    page.signal("message_created", {"type": "text", "text": "I am back"})
    story.run(200)
    assert page.shown[1:] == [("bot", "I am back")]


def test_what_the_bot_says_can_be_kept_until_the_end(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress, bot_messages="park")
    page.calls_a_human()
    story.run()
    page.signal("message_created", {"type": "text", "text": "Are you there?"})
    story.run()
    assert ("bot", "Are you there?") not in page.shown
    page.signal("event_created", {"kind": "hitl.stop"})
    story.run()
    story.run(10)
    assert page.shown.count(("bot", "Are you there?")) == 1


@pytest.mark.parametrize("resume", ["message", "none"])
def test_the_bot_can_be_told_of_the_end_in_other_ways(story: Story, botpress: Botpress, resume: str) -> None:
    page = Page(story, botpress, resume=resume)
    page.calls_a_human()
    story.run()
    assert page.says("/END") is True
    story.run()
    assert page.to_bot() == ["hello", *([RESUMED] if resume == "message" else [])]
    assert page.events() == []
    assert page.shown[-1] == ("system", notices.DEFAULTS[notices.CLOSED])
    assert page.to_agent() == [notices.DEFAULTS[notices.CANCELLED]]


def test_nobody_takes_the_conversation(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.calls_a_human(assignmentTimeout=60)
    story.run()
    story.run(59)
    assert story.is_active("u1")
    story.run(2)
    assert not story.is_active("u1")
    assert page.shown[-1] == ("system", notices.DEFAULTS[notices.TIMED_OUT])
    assert [one["reason"] for one in page.events()] == ["timeout"]


@pytest.mark.parametrize("what", ["given back", "written", "not told"])
def test_who_was_taken_or_answered_is_not_told_that_nobody_comes(story: Story, botpress: Botpress, what: str) -> None:
    page = Page(story, botpress)
    page.calls_a_human(assignmentTimeout=60)
    story.run()
    thread = str(story.hubspot.threads()[-1]["id"])
    if what == "given back":
        story.assigned(thread, at=story.now + 1)
        story.assigned(thread, "", at=story.now + 2)
    elif what == "written":
        story.says(thread, "I look into it", at=story.now + 1)
    else:  # the webhook comes late
        story.hubspot.act(thread, "reply", text="I look into it")
    story.run(61)
    story.run(10)
    assert story.is_active("u1")
    assert page.events() == [one for one in page.events() if one["kind"] == "hitl.assigned"]


def test_a_user_who_was_silent_is_not_told_that_nobody_came(
    make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record
) -> None:
    story = make_story(make_app, hubspot, botpress, record, dispatcher="external", idle_warning=60, idle_timeout=90)
    page = Page(story, botpress)
    page.calls_a_human()
    story.run()
    thread = str(hubspot.threads()[-1]["id"])
    story.assigned(thread, at=story.now + 1)
    story.says(thread, "Which order?", at=story.now + 2)
    story.run(1)
    story.run(61)
    story.run(31)
    story.run(1)
    assert page.shown[-1] == ("system", notices.DEFAULTS[notices.STOPPED])
    assert page.events()[-1]["reason"] == "user_silent"


@pytest.mark.parametrize(("end", "every"), ENDS)
def test_in_every_interleaving_with_the_end_a_message_goes_to_exactly_one_side(
    story: Story, botpress: Botpress, end: str, every: int
) -> None:
    page = Page(story, botpress)
    routed: dict[str, bool] = {}
    for number, order in enumerate(ORDERS[::every]):
        page.calls_a_human()
        story.run()
        thread = story.hubspot.threads()[-1]["id"]
        for step, action in enumerate(order):
            story.clock.advance(0.01)
            if action == "run":
                story.run()
            elif action == "user":
                text = f"{number}: {' '.join(order)}, {step}"
                routed[text] = page.says(text, text)
                page.says(text, text)  # a repetition changes nothing
            elif end == "the user leaves":
                page.says("/end", f"{number} end")
            elif end == "the bot stops":
                page.signal("event_created", {"kind": "hitl.stop"})
            else:
                story.hubspot.act(thread, "close")
                story.status(thread, "CLOSED", at=story.now)
        story.run()
        assert not story.is_active("u1")
    to_agent, to_bot = page.to_agent(), page.to_bot()
    for text, by_agent in routed.items():
        sides = to_agent.count(text), to_bot.count(text)
        assert sides == (0, 1) or (by_agent and sides == (1, 0)), text
    assert set(to_agent) & set(routed)
    assert set(to_bot) & set(routed)


def test_a_bot_that_was_made_anew_gets_the_users_in_new_conversations(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    botpress.reset()
    assert page.says("and now?") is False
    assert page.says("and then?") is False
    story.run()
    assert page.to_bot() == ["and now?", "and then?"]
    made = [one["path"] for one in botpress.from_host("/conversations")]
    assert len(made) == 1


def test_what_a_bot_tells_beside_is_there_for_the_hosts_receivers(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.calls_a_human(meta={"order": 1815})
    story.run()
    handoff = story.handoff("u1")
    assert handoff is not None
    assert handoff.attributes["meta"] == {"order": 1815}
    page.signal("event_created", {"kind": "hitl.stop"})
    page.calls_a_human(meta={"much": "x" * 10_000})
    story.run()
    handoff = story.handoff("u1")
    assert handoff is not None
    assert "meta" not in handoff.attributes

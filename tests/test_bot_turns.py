"""What a model finished after a human took over is not said, at whatever point that happened."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL, NobodyAvailable, bot_reply_dropped
from flask_hubspot_hitl.clock import ManualClock, to_datetime
from flask_hubspot_hitl.handoffs.bot_turns import BotTurn

from .conftest import MakeApp
from .helpers import HubSpot, Recorder
from .story import PHONE, Story

Record = Callable[[Flask], Recorder]


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Story:
    app = make_app(clock=clock, dispatcher="inline", contact_policy="anonymous")
    return Story(app, hubspot, clock, record(app))


def turn_of(story: Story, conversation_id: str = "c1") -> BotTurn:
    with story.app.app_context():
        return HubSpotHITL().bot_turn(conversation_id)


def test_what_comes_late_is_dropped_and_reported(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flask_hubspot_hitl")
    with turn_of(story) as turn:
        assert turn.reply("in time")
        handoff = story.start()
        assert not turn.reply("too late")
        story.stop()
        assert not turn.reply("much too late: the humans have been there")
        assert turn.dropped == 2
    with turn_of(story) as turn:
        assert turn.reply("a new turn")
    dropped = story.recorder.of("bot_reply_dropped")
    assert [(one["handoff"].id, one["text"].split(":")[0]) for one in dropped] == [
        (handoff.id, "too late"), (handoff.id, "much too late"),
    ]  # fmt: skip
    assert "too late" not in caplog.text
    assert handoff.id in caplog.text


def test_the_bot_may_say_that_somebody_will_come(story: Story) -> None:
    with turn_of(story) as turn:
        handoff = turn.start(contact=PHONE, name="Rosa")
        assert turn.reply("Somebody will be with you soon.")
        with turn_of(story) as another:
            assert not another.reply("it was not this turn")
        story.assigned(handoff.thread_id, at=story.now + 1)
        assert not turn.reply("The weather is fine.")


def test_a_turn_hands_over_with_all_that_start_takes(make_app: MakeApp, hubspot: HubSpot) -> None:
    clock = ManualClock()
    clock.advance((datetime(2027, 1, 3, 12, tzinfo=UTC) - to_datetime(clock.now_ms())).total_seconds())  # a Sunday
    hours: dict[str, Any] = {
        "availability": "hours",
        "business_hours": "mon-fri 09:00-17:30",
        "business_time_zone": "Europe/Madrid",
    }
    app = make_app(clock=clock, dispatcher="inline", **hours)
    taken = set(inspect.signature(HubSpotHITL.start).parameters) - {"self", "conversation_id"}
    with app.app_context(), HubSpotHITL().bot_turn("c1") as turn:
        with pytest.raises(NobodyAvailable):
            turn.start(contact=PHONE, require_available=True)
        assert turn.reply("Nobody is there until Monday.")
        how: dict[str, Any] = {**dict.fromkeys(taken), "contact": PHONE, "history": (), "require_available": False}
        assert turn.start(**how).thread_id


def test_the_bot_is_out_once_an_agent_has_written(story: Story) -> None:
    """Also an agent to whom nothing is assigned, and one who has given the conversation back."""
    with turn_of(story) as turn:
        handoff = turn.start(contact=PHONE, name="Rosa")
        story.assigned(handoff.thread_id, at=story.now + 1)
        story.assigned(handoff.thread_id, "", at=story.now + 2)
        assert turn.reply("Somebody else will be with you soon.")
        story.says(handoff.thread_id, "Hi Rosa")
        assert not turn.reply("The weather is fine.")
    with turn_of(story) as turn:
        turn.start(contact=PHONE)
        assert turn.reply("You are in the queue."), "what was written before the turn is no answer to it"


def test_a_receiver_has_an_app_context_in_any_thread(story: Story) -> None:
    heard: list[bool] = []

    @bot_reply_dropped.connect_via(story.app)
    def look(sender: Flask, **extra: object) -> None:
        heard.append(HubSpotHITL().is_active("c1"))

    story.start()
    turn = turn_of(story)

    def think() -> None:
        with turn:
            assert not turn.reply("too late")

    bot = threading.Thread(target=think)
    bot.start()
    bot.join()
    assert heard == [True]


def test_async_turns(story: Story) -> None:
    async def talk() -> list[bool]:
        async with turn_of(story) as turn:
            said = [turn.reply("in time")]
            await asyncio.to_thread(story.start)
            return [*said, turn.reply("too late")]

    assert asyncio.run(talk()) == [True, False]


def test_outside_of_a_turn_nothing_is_said(story: Story) -> None:
    turn = turn_of(story)
    with pytest.raises(RuntimeError, match=r"with hitl\.bot_turn"):
        turn.reply("hello")
    with turn:
        assert turn.reply("hello")
    with pytest.raises(RuntimeError, match=r"with hitl\.bot_turn"):
        turn.reply("hello")
    with pytest.raises(ValueError, match="conversation_id"), turn_of(story, ""):
        pass


def test_a_receiver_that_fails_stops_nobody(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    @bot_reply_dropped.connect_via(story.app)
    def fail(sender: Flask, text: str, **extra: object) -> None:
        heard.append(text)
        raise ValueError(text)

    story.start()
    with turn_of(story) as turn:
        assert not turn.reply("secret words")
    assert heard == ["secret words"]
    assert "secret" not in caplog.text


VERBS = ["begin", "reply", "reply", "start", "assign", "write", "close", "reopen", "stop"]


def test_at_whatever_point_it_happens(story: Story) -> None:
    """A turn may speak as long as no handoff was open at any moment since it began."""
    for seed in range(25):
        play(story, f"c{seed}", random.Random(seed))
    assert len(story.recorder.of("bot_reply_dropped")) > 25


def play(story: Story, name: str, dice: random.Random) -> None:
    """Thirty things that happen to one conversation, and several turns of its bot meanwhile."""
    turns: list[tuple[BotTurn, list[bool]]] = []
    thread: str | None = None
    for _ in range(30):
        story.run(1)
        verb = dice.choice(VERBS)
        match verb:
            case "begin":
                turns.append((turn_of(story, name).__enter__(), [story.is_active(name)]))
            case "reply" if turns:
                turn, was_open = dice.choice(turns)
                assert turn.reply("hello") == (not any(was_open))
            case "start":
                thread = story.start(name, contact=None).thread_id
            case "stop":
                story.stop(name)
            case "assign" if thread:
                story.assigned(thread, dice.choice(["A-987", "A-988"]), at=story.now)
            case "write" if thread:
                story.says(thread, at=story.now)
            case "close" | "reopen" if thread:
                story.status(thread, "CLOSED" if verb == "close" else "OPEN", at=story.now)
        story.run()
        is_open = story.is_active(name)
        for _, was_open in turns:
            was_open.append(is_open)

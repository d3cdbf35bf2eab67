"""What ``conversation_completed`` sums up: who answered, and how long it took (rules K4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp
from .databases import every_database
from .helpers import HubSpot, Recorder
from .story import Story
from .test_reconcile import reconcile

Record = Callable[[Flask], Recorder]
NOOR, COLLEAGUE, BREEZE = "A-987", "A-988", "L-77"
SECONDS = ("seconds_to_assignment", "seconds_to_answer", "seconds_open")


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str) -> Story:
    app = make_app(clock=clock, dispatcher="inline")
    return Story(app, hubspot, clock, record(app))


def summed_up(story: Story) -> tuple[list[str], list[float | None]]:
    """Who took part, and the seconds, as the newest end tells them."""
    told: dict[str, Any] = story.recorder.of("conversation_completed")[-1]
    return [one.actor_id for one in told["operators"]], [told[name] for name in SECONDS]


@every_database
def test_who_took_it_or_wrote_and_how_long_it_took(story: Story) -> None:
    thread = story.start().thread_id
    began = story.now
    story.assigned(thread, BREEZE, at=began + 1_000)
    story.assigned(thread, COLLEAGUE, at=began + 30_000)
    story.assigned(thread, NOOR, at=began + 40_000)
    story.says(thread, at=began + 45_500, actorId=NOOR)
    story.says(thread, at=began + 50_000, actorId=COLLEAGUE)
    story.run(60)
    story.status(thread, "CLOSED", at=story.now)
    assert summed_up(story) == ([COLLEAGUE, NOOR], [30.0, 45.5, 60.0])
    names = [one.name for one in story.recorder.of("conversation_completed")[0]["operators"]]
    assert all(names), names
    story.run(10)
    story.status(thread, "OPEN", at=story.now)
    story.run(20)
    story.stop()
    assert summed_up(story) == ([COLLEAGUE, NOOR], [30.0, 45.5, 90.0])


def test_nobody_came(story: Story) -> None:
    story.start()
    story.run(12)
    story.stop()
    assert summed_up(story) == ([], [None, None, 12.0])


def test_who_writes_first_is_known_though_another_source_tells_it_later(story: Story) -> None:
    thread = story.start().thread_id
    began = story.now
    story.write(thread, "first", at=began + 5_000, actorId=NOOR)
    story.says(thread, "second", at=began + 9_000, actorId=COLLEAGUE)
    reconcile(story.app)
    story.run(20)
    story.status(thread, "CLOSED", at=story.now)
    operators, (_, answer, _) = summed_up(story)
    assert (set(operators), answer) == ({NOOR, COLLEAGUE}, 5.0)


def test_hubspots_clock_behind_ours_gives_no_negative_time(story: Story) -> None:
    thread = story.start().thread_id
    story.assigned(thread, NOOR, at=story.now - 2_000)
    story.says(thread, at=story.now - 1_000, actorId=NOOR)
    story.run(5)
    story.stop()
    assert summed_up(story) == ([NOOR], [0.0, 0.0, 5.0])


def test_of_what_was_erased_nothing_is_told(story: Story) -> None:
    thread = story.start().thread_id
    story.assigned(thread, NOOR, at=story.now)
    story.event("privacyDeletion", thread, at=story.now)
    story.run(1)
    assert summed_up(story) == ([], [None, None, None])

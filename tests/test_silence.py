"""A user who does not write: the warning, the end, and what sets it back (rules K5)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import CloseReason, ConfigError, idle_warning
from flask_hubspot_hitl.clock import ManualClock, to_datetime
from flask_hubspot_hitl.config import PREFIX, Settings

from .conftest import MakeApp, close_app
from .databases import every_database, slow_on_postgresql
from .helpers import HubSpot, Recorder, state_of, wait_until
from .story import Story
from .test_reconcile import PUBLIC_URL

Record = Callable[[Flask], Recorder]
WARNING, TIMEOUT = 60, 100
LIMITS = {"idle_warning": WARNING, "idle_timeout": TIMEOUT}
ENDS = ["idle_warning", "conversation_completed"]


@pytest.fixture
def tell(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str) -> Any:
    def tell(**settings: Any) -> Story:
        app = make_app(clock=clock, dispatcher="inline", **{**LIMITS, **settings})
        return Story(app, hubspot, clock, record(app))

    return tell


@pytest.fixture
def story(tell: Callable[..., Story]) -> Story:
    return tell()


def since(story: Story) -> list[str]:
    """The signals, without those of a handoff's beginning and of what was said."""
    return [name for name in story.names() if name not in ("handoff_started", "operator_assigned", "operator_message")]


@every_database
def test_a_silent_user_is_told_and_then_it_ends(story: Story) -> None:
    thread = story.start().thread_id
    story.assigned(thread, at=story.now)
    story.run(1_000)
    assert since(story) == [], "it is the agent's turn"
    story.says(thread, at=story.now)
    began = story.now
    story.run(WARNING - 1)
    assert since(story) == []
    story.run(1)
    assert since(story) == ["idle_warning"]
    (told,) = story.recorder.of(idle_warning)
    assert told["ends_at"] == to_datetime(began) + timedelta(seconds=TIMEOUT)
    story.run(TIMEOUT - WARNING - 1)
    assert since(story) == ["idle_warning"]
    story.run(1)
    assert since(story) == ENDS
    (ended,) = story.recorder.of("conversation_completed")
    assert (ended["reason"], ended["detail"]) == (CloseReason.TIMEOUT, "the user was silent")
    story.run(1)
    assert story.hubspot.thread(thread)["status"] == "CLOSED"
    story.run(1_000)
    assert since(story) == ENDS


@every_database
def test_the_users_next_message_sets_it_back_before_and_after_the_warning(story: Story) -> None:
    thread = story.start().thread_id
    story.says(thread, at=story.now)
    story.run(WARNING - 1)
    story.send("here I am")
    story.run(1_000)
    assert since(story) == [], "it is the agent's turn"
    story.says(thread, at=story.now)
    story.run(WARNING)
    assert since(story) == ["idle_warning"]
    story.send("still here")
    story.run(1_000)
    assert since(story) == ["idle_warning"]
    story.says(thread, at=story.now)
    story.run(WARNING)
    story.run(TIMEOUT - WARNING)
    assert since(story) == ["idle_warning", *ENDS]


def test_what_an_agent_says_meanwhile_begins_it_anew(story: Story) -> None:
    thread = story.start().thread_id
    story.says(thread, "one", at=story.now)
    story.run(WARNING)
    story.run(20)
    story.says(thread, "two", at=story.now)
    story.run(WARNING - 1)
    assert since(story) == ["idle_warning"], "the first silence would have ended it"
    story.run(1)
    assert since(story) == ["idle_warning"] * 2
    story.run(TIMEOUT - WARNING)
    assert since(story)[2:] == ["conversation_completed"]


def test_what_an_agent_said_while_no_webhook_came_keeps_it_from_ending(story: Story) -> None:
    thread = story.start().thread_id
    story.says(thread, "one", at=story.now)
    story.run(WARNING)
    story.write(thread, "are you there?", at=story.now)
    story.run(TIMEOUT - WARNING)
    assert since(story) == ["idle_warning"]
    assert [one["message"].text for one in story.recorder.of("operator_message")] == ["one", "are you there?"]
    story.run(WARNING)
    story.run(TIMEOUT - WARNING)
    assert since(story)[1:] == ENDS


def test_it_ends_though_hubspot_does_not_answer(story: Story) -> None:
    thread = story.start().thread_id
    story.says(thread, at=story.now)
    story.hubspot.chaos(faults=[{"match": ".*", "mode": "status", "status": 503, "times": None}])
    story.run(WARNING)
    for _ in range(20):
        story.run(10)
    assert since(story) == ENDS


@pytest.mark.parametrize("what", ["unassign", "close", "stop", "erase"])
def test_it_is_over_when_the_agent_or_the_handoff_has_gone(story: Story, what: str) -> None:
    thread = story.start().thread_id
    story.assigned(thread, at=story.now)
    story.says(thread, at=story.now)
    story.run(WARNING)
    if what == "unassign":
        story.assigned(thread, None, at=story.now)
    elif what == "close":
        story.status(thread, "CLOSED", at=story.now)
    elif what == "stop":
        story.stop()
    else:
        story.event("privacyDeletion", thread, at=story.now)
    count = len(story.recorder.of("conversation_completed"))
    story.run(1_000)
    assert len(story.recorder.of("conversation_completed")) == count
    assert len(story.recorder.of(idle_warning)) == 1
    assert story.is_active() is (what == "unassign")


def test_a_reopened_handoff_begins_without_silence(story: Story) -> None:
    thread = story.start().thread_id
    story.says(thread, at=story.now)
    story.run(WARNING - 1)
    story.status(thread, "CLOSED", at=story.now)
    story.run(1)
    story.status(thread, "OPEN", at=story.now)
    story.run(1_000)
    assert since(story) == ["conversation_completed", "conversation_reopened"]
    story.says(thread, "once more", at=story.now)
    story.run(WARNING)
    story.run(TIMEOUT - WARNING)
    assert since(story)[2:] == ENDS


def test_after_a_time_without_a_dispatcher_the_user_is_warned_first_and_has_as_long(story: Story) -> None:
    thread = story.start().thread_id
    story.says(thread, at=story.now)
    story.run(86_400)
    assert since(story) == ["idle_warning"]
    ends_at = story.recorder.of(idle_warning)[0]["ends_at"]
    assert ends_at == to_datetime(story.now) + timedelta(seconds=TIMEOUT - WARNING)
    story.run(TIMEOUT - WARNING - 1)
    assert since(story) == ["idle_warning"]
    story.run(1)
    assert since(story) == ENDS


def test_a_warning_that_comes_late_is_not_told_to_who_has_written(story: Story) -> None:
    tries: list[float] = []

    def broken(sender: Flask, **extra: Any) -> None:
        tries.append(story.now)
        raise RuntimeError

    thread = story.start().thread_id
    with idle_warning.connected_to(broken, story.app):
        story.says(thread, at=story.now)
        story.run(WARNING)
        assert len(tries) == 1
        for _ in range(5):
            story.run(TIMEOUT)
        assert story.is_active(), "a warning that was not taken ends nothing"
        count = len(tries)
        story.send("hello?")
        story.run(10_000)
        assert (len(tries), since(story)) == (count, ["idle_warning"])


def test_it_ends_later_than_told_when_the_warning_took_long(story: Story) -> None:
    is_broken = True

    def broken(sender: Flask, **extra: Any) -> None:
        if is_broken:
            raise RuntimeError

    thread = story.start().thread_id
    with idle_warning.connected_to(broken, story.app):
        story.says(thread, at=story.now)
        story.run(WARNING)
        is_broken = False
        story.run(TIMEOUT * 10)
        story.run(TIMEOUT - WARNING - 1)
        assert story.is_active()
        story.run(1)
        assert not story.is_active()


def test_each_handoff_has_its_own_limits(tell: Callable[..., Story]) -> None:
    story = tell(idle_warning=0, idle_timeout=0)
    how: dict[str, dict[str, float | None]] = {
        "none": {},
        "warned": {"idle_warning": 5},
        "ends": {"idle_warning": 5.5, "idle_timeout": 7},
        "off": {"idle_warning": 0},
    }
    for name, limits in how.items():
        story.says(story.start(name, **limits).thread_id, at=story.now)
    for _ in range(20):
        story.run(5)
    told = story.recorder.of(idle_warning)
    assert {one["handoff"].conversation_id: one["ends_at"] is None for one in told} == {"warned": True, "ends": False}
    assert [name for name in how if not story.is_active(name)] == ["ends"]


def test_a_handoff_may_be_without_though_the_settings_have_limits(story: Story) -> None:
    story.says(story.start(idle_warning=0).thread_id, at=story.now)
    story.run(1_000)
    story.run(1_000)
    assert since(story) == []


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"idle_warning": 100}, ValueError),
        ({"idle_timeout": 60}, ValueError),
        ({"idle_warning": -1}, ValueError),
        ({"idle_warning": float("nan")}, ValueError),
        ({"idle_warning": "60"}, TypeError),
        ({"idle_timeout": True}, TypeError),
    ],
)
def test_limits_that_do_not_go_together_are_refused(story: Story, limits: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        story.start(**limits)
    assert not story.is_active()


@pytest.mark.parametrize("wrong", [{"IDLE_TIMEOUT": "60"}, {"IDLE_TIMEOUT": "60", "IDLE_WARNING": "60"}])
def test_settings_that_do_not_go_together_are_refused(wrong: dict[str, str]) -> None:
    config = {"CLIENT_SECRET": "s", "PUBLIC_URL": "https://bot.example.com", **wrong}
    with pytest.raises(ConfigError, match=f"{PREFIX}IDLE_TIMEOUT must be more than idle_warning"):
        Settings.from_config({PREFIX + name: value for name, value in config.items()})


@slow_on_postgresql
def test_it_is_told_once_with_several_workers_and_restarts(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str
) -> None:
    settings: dict[str, Any] = {"clock": clock, "public_url": PUBLIC_URL, **LIMITS}
    host = Story(make_app(dispatcher="external", **settings), hubspot, clock, Recorder(Flask("nobody")))
    recorders: list[Recorder] = []
    running: list[Flask] = []

    def restart(after: float = 0) -> None:
        """Time passes while nobody runs: a clock that jumps ends the leases of what runs, which is then told again."""
        while running:
            close_app(running.pop())
        clock.advance(after)
        running.extend(make_app(dispatcher="thread", dispatcher_threads=2, **settings) for _ in range(3))
        for app in running:
            recorders.append(record(app))
            state_of(app).dispatcher.ensure_started()

    def heard(name: str) -> list[str]:
        return sorted(one["handoff"].conversation_id for recorder in recorders for one in recorder.of(name))

    names = [f"c{number}" for number in range(4)]
    restart()
    for name in names:
        host.says(host.start(name).thread_id, at=host.now)
    wait_until(lambda: heard("operator_message") == names)
    for signal, seconds in (("idle_warning", WARNING), ("conversation_completed", TIMEOUT - WARNING)):
        restart(seconds / 2)
        restart(seconds / 2)
        wait_until(lambda wanted=signal: heard(wanted) == names)  # type: ignore[misc]
    restart(1_000)
    wait_until(lambda: not any(map(host.is_active, names)))
    restart()
    assert (heard("idle_warning"), heard("conversation_completed")) == (names, names)

"""How a receiver is called: values and a context of its own, and ``async def`` wherever it may run (rules B7)."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, g

from flask_hubspot_hitl import (
    DeliveryFailed,
    HubSpotHITL,
    conversation_completed,
    event_dead,
    operator_message,
    webhook_rejected,
)
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.dispatch.dispatcher import GRACE_SECONDS
from flask_hubspot_hitl.ledger import EventState

from .conftest import MakeApp, Record
from .helpers import HubSpot, Recorder, signed_post, state_of, wait_until
from .processes import Host, need
from .story import PHONE, Story
from .test_processes import GUNICORN

seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> Story:
    app = make_app(clock=clock, dispatcher="inline", max_attempts="2")
    recorder = Recorder(app)
    recorder.close()  # it would be a receiver as well
    return Story(app, hubspot, clock, recorder)


def dead(story: Story) -> int:
    with story.state.ledger.read() as tx:
        return tx.count(EventState.DEAD)


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
def test_a_receiver_that_closes_its_app_does_not_wait_for_itself(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, kind: str
) -> None:
    app = make_app(clock=clock, dispatcher="thread")
    story = Story(app, hubspot, clock, record(app))
    took: list[float] = []

    def closes(sender: Flask, **extra: Any) -> None:
        began = time.monotonic()
        HubSpotHITL().close(sender)
        took.append(time.monotonic() - began)

    async def closes_async(sender: Flask, **extra: Any) -> None:
        closes(sender)

    receiver = closes if kind == "function" else closes_async
    conversation_completed.connect(receiver, app)
    dispatcher = state_of(app).dispatcher
    dispatcher.serving = True
    story.start()
    story.stop()
    wait_until(lambda: took, what="its app to be closed")
    assert took[0] < GRACE_SECONDS / 2
    wait_until(lambda: not any(one.is_alive() for one in dispatcher.pool._threads), what="its threads to end")


# --- values of its own -----------------------------------------------------------------------------------


def test_what_a_receiver_changes_the_next_one_and_its_own_next_attempt_do_not_see(story: Story) -> None:
    given = {"ticket": {"tags": ["new"]}}
    heard: list[Any] = []

    def changes(sender: Flask, handoff: Any, transcript: Any, **extra: Any) -> None:
        heard.append((len(transcript), json.dumps(handoff.attributes)))
        handoff.attributes["ticket"]["tags"].append(object())
        handoff.attributes["mine"] = object()
        transcript.clear()
        extra.clear()
        if len(heard) == 1:
            raise RuntimeError

    def looks(sender: Flask, handoff: Any, transcript: Any, **extra: Any) -> None:
        heard.append((len(transcript), json.dumps(handoff.attributes)))

    conversation_completed.connect(changes, story.app)
    conversation_completed.connect(looks, story.app)
    story.start(attributes=given)
    story.send("hello")
    story.stop()
    story.run(60)
    assert heard == [(1, json.dumps(given))] * 3
    assert dead(story) == 0


def test_a_receiver_that_changes_an_events_dict_does_not_kill_the_event(story: Story) -> None:
    heard: list[Any] = []

    def refuses(sender: Flask, **extra: Any) -> None:
        raise RuntimeError

    def changes(sender: Flask, event: Any, **extra: Any) -> None:
        heard.append(dict(event))
        event["mine"] = object()  # nothing that a database could hold
        if len(heard) == 1:
            raise RuntimeError

    def looks(sender: Flask, event: Any, **extra: Any) -> None:
        heard.append(dict(event))

    operator_message.connect(refuses, story.app)
    event_dead.connect(changes, story.app)
    event_dead.connect(looks, story.app)
    story.says(story.start().thread_id)
    for _ in range(3):
        story.run(600)
    assert len(heard) == 3
    assert heard[0] == heard[1] == heard[2]
    assert dead(story) == 1, "the message; not the news of it"


# --- a context of its own --------------------------------------------------------------------------------


def test_context_variables_and_g_are_a_receivers_own(story: Story) -> None:
    heard: list[tuple[str, str, str]] = []

    def receiver(sender: Flask, handoff: Any, **extra: Any) -> None:
        heard.append((handoff.conversation_id, seen.get(), g.get("seen", "nothing")))
        seen.set(handoff.conversation_id)
        g.seen = handoff.conversation_id

    async def later(sender: Flask, handoff: Any, **extra: Any) -> None:
        await asyncio.sleep(0)
        receiver(sender, handoff)

    operator_message.connect(receiver, story.app)
    operator_message.connect(later, story.app)
    threads = [story.start(name).thread_id for name in ("c1", "c2")]
    for thread in threads:
        story.says(thread)
    assert heard == [(name, "nothing", "nothing") for name in ("c1", "c1", "c2", "c2")]
    assert seen.get() == "nothing", "nor does the caller"


# --- async -----------------------------------------------------------------------------------------------

heard: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    heard.clear()


async def function(sender: Flask, message: Any, **extra: Any) -> None:
    await asyncio.sleep(0)
    assert current_app.name == sender.name
    heard.append(message.text)


class WithMethods:
    async def method(self, sender: Flask, message: Any, **extra: Any) -> None:
        await function(sender, message)

    async def __call__(self, sender: Flask, message: Any, **extra: Any) -> None:
        await function(sender, message)


def decorated(sender: Flask, **values: Any) -> Coroutine[Any, Any, None]:
    return function(sender, **values)


KINDS: dict[str, Callable[..., Any]] = {
    "function": function,
    "method": WithMethods().method,
    "object": WithMethods(),
    "partial": functools.partial(function),
    "decorated": decorated,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_a_loop", [False, True])
def test_every_kind_of_async_receiver_is_run_to_its_end(story: Story, kind: str, in_a_loop: bool) -> None:
    event = story.write(story.start().thread_id, "hello")

    async def view() -> None:  # of a host that dispatches inline, in a coroutine of its own
        story.post(event)

    with operator_message.connected_to(KINDS[kind], story.app):
        if in_a_loop:
            asyncio.run(view())
        else:
            story.post(event)
    assert heard == ["hello"]


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_an_async_receiver_refuses_and_fails_as_others_do(story: Story, in_a_loop: bool) -> None:
    thread = story.start().thread_id
    event = story.write(thread, "hello")

    async def refuses(sender: Flask, message: Any, **extra: Any) -> None:
        await function(sender, message)
        if len(heard) == 1:
            raise asyncio.CancelledError
        raise DeliveryFailed("gone")

    async def view() -> None:
        story.post(event)
        story.run(60)

    with operator_message.connected_to(refuses, story.app):
        if in_a_loop:
            asyncio.run(view())
        else:
            story.post(event)
            story.run(60)
    assert heard == ["hello", "hello"]
    assert story.message_status(thread, event)["failureDetails"]["errorMessage"] == "gone"


def test_a_host_decides_how_coroutines_are_run(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ensure_sync(one: Callable[..., Any]) -> Callable[..., Any]:
        asked.append(one.__name__)
        return lambda *arguments, **values: asyncio.run(one(*arguments, **values))

    monkeypatch.setattr(story.app, "async_to_sync", ensure_sync)
    with operator_message.connected_to(function, story.app):
        story.says(story.start().thread_id, "hello")
    assert (asked, heard) == (["function"], ["hello"])


def test_an_async_receiver_of_webhook_rejected_is_heard_in_a_loop(story: Story) -> None:
    async def rejected(sender: Flask, reason: str, **extra: Any) -> None:
        heard.append(reason)
        raise asyncio.CancelledError

    async def view() -> int:
        return signed_post(story.app, [], secret="wrong").status_code

    with webhook_rejected.connected_to(rejected, story.app):
        assert asyncio.run(view()) == 401
    assert heard == ["bad_signature"]


@pytest.mark.parametrize(("allowed", "status"), [(False, 403), (True, 200)])
def test_an_async_may_install_is_asked_and_not_taken_for_a_yes(make_app: MakeApp, allowed: bool, status: int) -> None:
    async def may_install(portal_id: str | None) -> bool:
        return allowed

    app = make_app(dispatcher="external", may_install=may_install, SECRET_KEY="s", client_id="c", access_token=None)
    assert app.test_client().get("/hubspot/oauth/install").status_code == status


# --- real servers ----------------------------------------------------------------------------------------

ASYNC = "tests.async_app:create_app"
NAMES = [f"a{number}" for number in range(4)]


@pytest.mark.parametrize("database", ["postgresql", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_async_receivers_overlap_under_gunicorns_gevent_worker(
    make_app: MakeApp,
    hubspot: HubSpot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    database: str,
) -> None:
    need("gunicorn")
    need("gevent")
    monkeypatch.setenv("TOGETHER", str(len(NAMES)))
    url = request.getfixturevalue(f"{database}_url")
    host = Host(make_app(dispatcher="external", database_url=url), hubspot, tmp_path)
    request.addfinalizer(host.close)
    with host.app.app_context():
        threads = {name: str(HubSpotHITL().start(name, contact=PHONE).thread_id) for name in NAMES}
    mode = "thread" if database == "postgresql" else "external"  # SQLite under gevent: a worker dispatches
    gunicorn = [one.replace("tests.process_app:create_app", ASYNC) for one in GUNICORN]
    host.run(*gunicorn, "--worker-class", "gevent", mode=mode)
    if mode == "external":
        host.run("-m", "flask", "--app", ASYNC, "hubspot-hitl", "worker", "--threads", "4", mode=mode)
    for name, thread in threads.items():
        hubspot.act(thread, "reply", text=f"to {name}")
    for name in NAMES:
        host.wait_for(conversation=name, text=f"to {name}")

    def answered() -> bool:
        told = [one.get("text") for thread in threads.values() for one in hubspot.thread(thread)["messages"]]
        return all(told.count(f"re: to {name}") == 1 for name in NAMES)

    wait_until(answered, what="what the receivers sent")
    assert len(host.heard(signal="message")) == len(NAMES), "each once, after its failure"
    assert host.dead() == 0

"""What bridges stand on: receivers that can't deliver just now, their memory, their options, and their door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import ConfigError, DeliveryDelayed, operator_message
from flask_hubspot_hitl.botpress.door import BODY_LIMIT, Refused, add_routes, bearer, text_of
from flask_hubspot_hitl.botpress.options import Options
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp
from .helpers import HubSpot, Recorder, state_of
from .story import Story

Record = Callable[[Flask], Recorder]
SECRET = "a-secret-of-the-bot"


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str) -> Story:
    app = make_app(clock=clock, dispatcher="inline", max_attempts=3)
    return Story(app, hubspot, clock, record(app))


def receipts(story: Story) -> list[str]:
    """What the agent was told of the messages, in order."""
    told = [one["request_body"] for one in story.hubspot.requests() if one["method"] == "PATCH"]
    return [one["statusType"] for one in told if "statusType" in one]


def test_a_delayed_delivery_is_no_attempt_and_keeps_the_order(story: Story) -> None:
    is_down = True
    heard: list[str] = []

    def relay(sender: Flask, message: Any, **_: Any) -> None:
        if is_down:
            raise DeliveryDelayed("no connection")
        heard.append(message.text)

    operator_message.connect(relay, sender=story.app)
    thread = story.start().thread_id
    story.says(thread, "one", at=story.now)
    story.says(thread, "two", at=story.now + 1)
    for _ in range(20):
        story.run(60)
    assert heard == []
    assert receipts(story) == []
    is_down = False
    story.run(600)
    assert heard == ["one", "two"]
    assert receipts(story) == ["SENT", "SENT"]


def test_a_delivery_delayed_for_a_day_is_given_up_and_the_agent_told(story: Story) -> None:
    def relay(sender: Flask, **_: Any) -> None:
        raise DeliveryDelayed(retry_after=7_000)

    operator_message.connect(relay, sender=story.app)
    thread = story.start().thread_id
    event = story.says(thread)
    for _ in range(14):
        story.run(7_000)
    assert story.message_status(thread, event)["statusType"] == "FAILED"
    assert story.recorder.of("event_dead")


def test_what_a_bridge_remembers(story: Story) -> None:
    ledger = story.state.ledger
    with ledger.write() as tx:
        assert tx.bridges.get("one", "a") is None
        assert tx.bridges.add("one", "a", {"x": 1}, now=1)
        assert not tx.bridges.add("one", "a", {"x": 2}, now=2)
        tx.bridges.put("one", "a:b", [1], now=3)
        tx.bridges.put("one", "a:b", [2], now=4)
        tx.bridges.put("other", "a", "not ours", now=5)
    with ledger.write() as tx:
        assert tx.bridges.get("one", "a", lock=True) == {"x": 1}
        assert tx.bridges.newest("one", "a") == [("a:b", [2]), ("a", {"x": 1})]
        tx.bridges.delete("one", "a")
        assert tx.bridges.newest("one", "") == [("a:b", [2])]


def test_options_tell_everything_that_is_wrong_at_once() -> None:
    app = Flask("bot")
    app.config["HUBSPOT_HITL_BOTPRESS_SECRET"] = "x" * 15
    app.config["HUBSPOT_HITL_BOTPRESS_TOKEN"] = SECRET
    app.config["HUBSPOT_HITL_BOTPRESS_RESUME"] = "sometimes"
    options = Options(app)
    options.secret("secret", None, example="…")
    options.secret("call_secret", None, example="…")
    assert options.secret("token", None, example="…") == SECRET
    assert options.url("chat_url", "http://127.0.0.1:5000/x/", example="…") == "http://127.0.0.1:5000/x"
    options.url("webhook_url", "http://chat.example.com/x", example="…")
    options.url("api_url", "https://[", example="…")
    options.choice("resume", None, "event", "none")
    options.number("wait", "soon", default=5)
    options.callback("on_message", None)
    with pytest.raises(ConfigError) as raised:
        options.check()
    told = [line.split(" ")[0].removeprefix("HUBSPOT_HITL_BOTPRESS_") for line in raised.value.problems]
    assert told == ["SECRET", "CALL_SECRET", "WEBHOOK_URL", "API_URL", "RESUME", "WAIT", "on_message="]
    assert "x" * 15 not in str(raised.value)


def test_the_door_answers_everything_without_a_500(make_app: MakeApp) -> None:
    app = make_app(dispatcher="inline")

    def view(body: dict[str, Any]) -> Any:
        if body.get("refuse"):
            raise Refused(409, "no")
        return {"id": text_of(body, "id", required=True)}

    add_routes(app, "test", "/test", {"/turn": view, "/ping": view}, check=bearer(SECRET))
    client = app.test_client()
    good = {"Authorization": f"Bearer {SECRET}"}

    def status(data: bytes, headers: dict[str, str] = good, path: str = "turn") -> int:
        return client.post(f"/hubspot/botpress/test/{path}", data=data, headers=headers).status_code

    assert status(b'{"id": 5}') == status(b'{"id": "x"}', path="ping") == 200
    assert status(b'{"refuse": 1}') == 409
    wrong = ["", SECRET, f"Basic {SECRET}", f"Bearer {SECRET}x", "Bearer \udcff"]
    assert {status(b"{}", {"Authorization": one}) for one in wrong} == {401}
    bad = [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"id": NaN}',
        b'{"id": []}',
        b'{"id": ""}',
        b"[" * 90_000,
        b'{"id": {"a": 1e999}}',
    ]
    assert {status(one) for one in bad} == {400}
    assert status(b" " * (BODY_LIMIT + 1)) == 413
    assert state_of(app).dispatcher.mode == "inline"

"""Botpress is down for ten minutes, and users write at the moment a handoff ends."""

from __future__ import annotations

import json
import random
import threading
from typing import Any

import pytest
from werkzeug import Request, Response
from werkzeug.serving import make_server

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.botpress.chat import ChatBridge, ChatUser
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.botpress.notices import DEFAULTS, NOT_DELIVERED
from flask_hubspot_hitl.botpress.service import REFUSED, BotpressUnavailable, Service
from flask_hubspot_hitl.clock import ManualClock

from .botpress_story import Gate, Page, make_story
from .conftest import MakeApp, Record, Serve
from .helpers import Botpress, HubSpot, Json, state_of, wait_until
from .story import Story
from .test_botpress_chat import Channel

DOWN = [{"match": ".*", "mode": "status", "status": 503}]
GONE = [{"match": ".*", "mode": "drop"}]
WRONG_KEY = [{"match": ".*", "mode": "status", "status": 401}]


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record) -> Story:
    return make_story(make_app, hubspot, botpress, record, dispatcher="inline", max_attempts=3)


def sent(story: Story) -> list[str]:
    """The receipts that the agent has got."""
    bodies = [one["request_body"] for one in story.hubspot.requests() if one["method"] == "PATCH"]
    return [one["statusType"] for one in bodies if "statusType" in one]


def status(story: Story) -> Any:
    """What ``status`` tells of refused keys."""
    result = story.app.test_cli_runner().invoke(args=["hubspot-hitl", "status", "--json"])
    return json.loads(result.stdout)["bridges_refused"]


def probes(botpress: Botpress, path: str) -> int:
    return sum(one["method"] == "GET" for one in botpress.from_host(path))


def say_three_lines_while(story: Story, botpress: Botpress, faults: list[Json], *, rounds: int, seconds: float) -> None:
    """The agent writes while Botpress answers so, for so many rounds; then it is right again."""
    assert Gate(story, botpress).start("c1")["status"] == "open"
    thread = story.hubspot.threads()[0]["id"]
    botpress.chaos(faults=faults)
    for number in range(3):
        story.says(thread, f"line {number}", at=story.now + number)
    for _ in range(rounds):
        story.run(seconds)
    assert sent(story) == []
    botpress.chaos(faults=[])
    story.run(600)


@pytest.mark.parametrize("faults", [DOWN, GONE])
def test_studio_is_down_for_ten_minutes(story: Story, botpress: Botpress, faults: list[Json]) -> None:
    say_three_lines_while(story, botpress, faults, rounds=20, seconds=30)
    told = [one["request_body"]["payload"]["text"] for one in botpress.from_host("/messages") if one["status"] == 201]
    assert [text.partition(": ")[2] for text in told] == ["line 0", "line 1", "line 2"]
    assert sent(story) == ["SENT"] * 3


def test_an_answer_that_was_lost_is_looked_for(story: Story, botpress: Botpress) -> None:
    assert Gate(story, botpress).start("c1")["status"] == "open"
    thread = story.hubspot.threads()[0]["id"]
    botpress.chaos(faults=[{"match": "POST /v1/chat/messages", "mode": "drop_after", "times": 1}])
    story.says(thread, "once")
    story.run(600)
    texts = [one["payload"]["text"] for one in botpress.get("messages")]
    assert len(texts) == 1
    assert sent(story) == ["SENT"]


def with_the_older_agent(story: Story, botpress: Botpress) -> tuple[str, str]:
    """A session of the older agent's: its thread, and its id."""
    HitlApiBridge(HubSpotHITL()).init_app(story.app)
    base = f"/hubspot/botpress/hitl-api/{botpress.env()['HUBSPOT_HITL_BOTPRESS_SECRET']}"
    user = {"payload": {"role": "end-user", "email": "+34911222333"}}
    assert story.client.post(f"{base}/createRemoteUser", json=user).status_code == 200
    made = story.client.post(f"{base}/createRemoteConversation", json={"payload": {}}).get_json()
    story.run(5)
    return str(story.hubspot.threads()[0]["id"]), str(made["id"])


@pytest.mark.parametrize("code", [503, 401])
def test_the_older_agent_is_down_or_refuses_us_for_an_hour(story: Story, botpress: Botpress, code: int) -> None:
    thread, session = with_the_older_agent(story, botpress)
    botpress.chaos(faults=[{"match": ".*", "mode": "status", "status": code}])
    story.says(thread, "one", at=story.now)
    story.says(thread, "two", at=story.now + 1)
    for _ in range(60):
        story.run(60)
    assert sent(story) == []
    assert [one["bridge"] for one in status(story)] == (["hitl-api"] if code == 401 else [])
    botpress.chaos(faults=[])
    story.run(600)
    told = [one["request_body"] for one in botpress.from_host("/message-from-agent") if one["status"] == 200]
    assert [one["payload"]["text"] for one in told] == ["one", "two"]
    assert {one["remoteConversationId"] for one in told} == {session}
    assert sent(story) == ["SENT"] * 2
    assert status(story) == []


def test_the_older_agent_refuses_one_message(story: Story, botpress: Botpress) -> None:
    thread, _ = with_the_older_agent(story, botpress)
    botpress.chaos(faults=[{"match": "POST .*/message-from-agent$", "mode": "status", "status": 401, "times": 1}])
    event = story.says(thread, "refused", at=story.now)
    story.says(thread, "taken", at=story.now + 1)
    story.run(1)
    assert story.message_status(thread, event)["failureDetails"]["errorMessage"] == REFUSED
    assert sent(story) == ["FAILED", "SENT"]


def test_the_bots_chat_is_down_for_ten_minutes(story: Story, botpress: Botpress) -> None:
    bridge = ChatBridge(HubSpotHITL(), on_message=print)
    bridge.init_app(story.app)
    botpress.chaos(faults=DOWN)
    with story.app.app_context():
        for number in range(3):
            assert bridge.user_message("u1", f"line {number}", message_id=str(number)) is False
            assert bridge.user_message("u1", f"line {number}", message_id=str(number)) is False
    for _ in range(20):
        story.run(30)
    botpress.chaos(faults=[])
    story.run(600)
    said = [one["payload"]["text"] for one in botpress.get("messages") if one["userId"] == "u1"]
    assert said == ["line 0", "line 1", "line 2"]


def test_an_agent_reaches_the_hosts_channel_while_the_bots_chat_is_down(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.calls_a_human()
    story.run()
    thread = story.hubspot.threads()[0]["id"]
    botpress.chaos(faults=DOWN)
    story.assigned(thread, at=story.now)
    for number in range(3):
        story.says(thread, f"line {number}", at=story.now + number + 1)
    story.run()
    assert [text for author, text in page.shown if author == "operator"] == ["line 0", "line 1", "line 2"]
    assert sent(story) == ["SENT"] * 3
    story.hubspot.act(thread, "close")
    story.status(thread, "CLOSED", at=story.now + 9)
    assert page.says("thanks") is False
    for _ in range(20):
        story.run(30)
    botpress.chaos(faults=[])
    story.run(600)
    taken = [one for one in botpress.from_host("/events") if one["status"] == 200]
    assert [one["request_body"]["payload"]["kind"] for one in taken] == ["hitl.assigned", "hitl.ended"]
    assert page.to_bot() == ["hello", "thanks"]


def test_the_bots_chat_refuses_our_key_for_an_hour(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    botpress.chaos(faults=WRONG_KEY)
    for number in range(3):
        assert page.says(f"line {number}") is False
    for _ in range(60):
        story.run(60)
    assert [author for author, _ in page.shown if author == "system"] == []
    [told] = story.recorder.of("bridge_refused")
    assert (told["bridge"], "401" in told["error"]) == ("chat", True)
    [refused] = status(story)
    assert refused["bridge"] == "chat"
    assert refused["seconds"] >= 3_000
    assert refused["settings"] == "HUBSPOT_HITL_BOTPRESS_ENCRYPTION_KEY"
    assert 5 <= probes(botpress, "/users/me") <= 20, "at 5, 10, 20 seconds and so on, and every five minutes then"
    botpress.chaos(faults=[])
    story.run(600)
    assert page.to_bot() == ["hello", "line 0", "line 1", "line 2"]
    assert status(story) == []
    assert len(story.recorder.of("bridge_refused")) == 1


def test_a_user_whom_the_bots_chat_refuses_while_the_key_is_right(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    botpress.chaos(faults=[{"match": "POST .*/messages$", "mode": "status", "status": 401, "times": 1}])
    page.says("refused")
    page.says("taken")
    story.run(5)
    assert [text for author, text in page.shown if author == "system"] == [DEFAULTS[NOT_DELIVERED]]
    assert page.to_bot() == ["hello", "taken"]
    assert story.recorder.of("bridge_refused") == []
    assert status(story) == []


@pytest.mark.parametrize("code", [401, 403])
def test_a_conversation_that_studio_refuses_while_the_key_is_right(story: Story, botpress: Botpress, code: int) -> None:
    gate = Gate(story, botpress)
    gate.start("c1")
    gate.start("c2")
    first, second = (one["id"] for one in story.hubspot.threads())
    botpress.chaos(faults=[{"match": "POST .*/v1/chat/messages$", "mode": "status", "status": code, "times": 1}])
    event = story.says(first, "refused", at=story.now)
    story.says(second, "taken", at=story.now + 1)
    story.run(5)
    assert story.message_status(first, event)["failureDetails"]["errorMessage"] == REFUSED
    assert [one["payload"]["text"].partition(": ")[2] for one in botpress.get("messages")] == ["taken"]
    assert status(story) == []


def test_while_nobody_can_say_whether_the_key_is_right_it_is_an_outage(story: Story, botpress: Botpress) -> None:
    Gate(story, botpress).start("c1")
    thread = story.hubspot.threads()[0]["id"]
    botpress.chaos(faults=[{"match": "POST .*", "mode": "status", "status": 401}, *DOWN])
    story.says(thread, "late")
    for _ in range(20):
        story.run(60)
    assert sent(story) == []
    assert status(story) == []
    botpress.chaos(faults=[])
    story.run(600)
    assert sent(story) == ["SENT"]


def test_a_quota_that_is_used_up_is_no_messages_fault() -> None:
    @Request.application
    def full(request: Request) -> Response:
        return Response('{"code": 403, "type": "QuotaExceeded"}', 403, content_type="application/json")

    server = make_server("127.0.0.1", 0, full)
    threading.Thread(target=server.handle_request, daemon=True).start()
    service = Service(f"http://127.0.0.1:{server.port}", clock=ManualClock())
    with pytest.raises(BotpressUnavailable):
        service.call("POST", "/v1/chat/messages", doing="sending", body={})
    service.close()
    server.server_close()


def test_a_notice_that_studio_refuses_holds_up_no_agent(story: Story, botpress: Botpress) -> None:
    Gate(story, botpress).start("c1")
    thread = story.hubspot.threads()[0]["id"]
    botpress.chaos(faults=[{"match": "POST .*/v1/chat/messages$", "mode": "status", "status": 400, "times": 1}])
    story.assigned(thread, at=story.now)
    story.says(thread, "taken", at=story.now + 1)
    story.run(1)
    assert sent(story) == ["SENT"]


def test_studio_refuses_our_key_for_an_hour(story: Story, botpress: Botpress) -> None:
    say_three_lines_while(story, botpress, WRONG_KEY, rounds=60, seconds=60)
    assert [one["payload"]["text"].partition(": ")[2] for one in botpress.get("messages")] == [
        "line 0",
        "line 1",
        "line 2",
    ]
    assert sent(story) == ["SENT"] * 3


@pytest.mark.parametrize("status", [400, 403, 413])
def test_a_message_that_the_bots_chat_refuses_is_told_to_the_user_and_holds_up_nobody(
    story: Story, botpress: Botpress, status: int
) -> None:
    page = Page(story, botpress)
    with story.app.app_context():
        page.bridge.user_message("u2", "hello")
    story.run()
    refusal = {"match": "POST .*/messages$", "mode": "status", "status": status}
    botpress.chaos(faults=[{**refusal, "times": 2 if status == 403 else 1}])
    page.says("refused")
    story.run(1)
    page.says("taken")
    with story.app.app_context():
        page.bridge.user_message("u2", "taken too")
    story.run(1)
    assert [text for author, text in page.shown if author == "system"] == [DEFAULTS[NOT_DELIVERED]]
    taken = [one["payload"].get("text") for one in botpress.get("messages")]
    assert {"taken", "taken too"} <= set(taken)
    assert "refused" not in taken


def test_signals_that_were_lost_are_read_back(story: Story, botpress: Botpress) -> None:
    shown: list[str] = []

    def show(user: ChatUser, payload: Json, **extra: Any) -> None:
        shown.append(payload["text"])

    bridge = ChatBridge(HubSpotHITL(), on_message=show)
    bridge.init_app(story.app)
    with story.app.app_context():
        bridge.user_message("u1", "hello")
    story.run()
    assert shown == []
    story.run(11)
    story.run(60)
    assert shown == ["You said: hello"]


def test_a_message_racing_with_the_end_goes_to_exactly_one_side(
    make_app: MakeApp, serve: Serve, botpress: Botpress, hubspot: HubSpot
) -> None:
    channel = Channel(make_app, serve, botpress, hubspot)
    dice = random.Random(5)
    hitl = HubSpotHITL()

    def is_active() -> bool:
        with channel.app.app_context():
            return hitl.is_active("web_9f2c")

    def is_over() -> bool:
        """A message that HubSpot takes after the agent's close opens the thread again: the agent closes it again."""
        threads = hubspot.threads()
        if threads[-1]["status"] != "CLOSED":
            hubspot.act(threads[-1]["id"], "close")
        with state_of(channel.app).ledger.read() as tx:
            pending = tx.status(now=state_of(channel.app).ledger.now_ms())["pending"]
        return not is_active() and threads[-1]["status"] == "CLOSED" and pending == 0

    for turn in range(3):
        channel.says("a human please")
        wait_until(is_active, what="the handoff")
        thread = channel.thread()["id"]
        delay = dice.random() * 0.05
        closing = threading.Timer(delay, hubspot.act, args=[thread, "close"])
        closing.start()
        for number in range(8):
            channel.says(f"turn {turn} line {number}", message_id=f"{turn}-{number}")
        closing.join()
        wait_until(is_over, what="the end")
    wanted = {f"turn {turn} line {number}" for turn in range(3) for number in range(8)}

    def sides() -> tuple[list[str], list[str]]:
        human = [
            one["text"]
            for thread in hubspot.threads()
            for one in thread["messages"]
            if one.get("direction") == "INCOMING" and one["text"] in wanted
        ]
        bot = [one["payload"].get("text") for one in botpress.get("messages")]
        return human, [text for text in bot if text in wanted]

    wait_until(lambda: len(sides()[0]) + len(sides()[1]) >= len(wanted), what="every message to arrive")
    human, bot = sides()
    assert sorted(human + bot) == sorted(wanted)

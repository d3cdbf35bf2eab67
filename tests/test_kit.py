"""The test kit as a host uses it: the story, the checks that must be able to fail, and what a failure says."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from flask import Flask, request, session
from hypothesis import HealthCheck, given, settings

from flask_hubspot_hitl import (
    Attachment,
    DeliveryFailed,
    HubSpotHITL,
    conversation_completed,
    message_failed,
    operator_assigned,
    operator_message,
)
from flask_hubspot_hitl.handoffs import verbs
from flask_hubspot_hitl.hubspot.events import Poison, parse_body
from flask_hubspot_hitl.runtime import get_runtime
from flask_hubspot_hitl.testing import (
    Agent,
    CapturedSignals,
    HubSpot,
    Server,
    User,
    payloads,
    running_hubspot,
    strategies,
    wait_until,
)
from flask_hubspot_hitl.testing.fixtures import AssertNothingLost, Settle, SignedWebhook

from .helpers import PATHS, PATIENCE

ROOT = Path(__file__).parents[1]
GONE = "The user has left the chat."
NOW = 1_790_000_000_000


def create_app(config: dict[str, str]) -> Flask:
    """A host's factory: a bot that takes what agents write, unless it is about teapots."""
    app = Flask("host")
    app.config.from_mapping(config)
    HubSpotHITL(app)
    app.secret_key = "for the tests"
    said: list[str] = app.extensions.setdefault("said", [])

    @app.post("/count")
    def count() -> dict[str, object]:
        session["count"] = session.get("count", 0) + 1
        return {"count": session["count"], "origin": request.headers.get("Origin")}

    @operator_message.connect_via(app, weak=False)
    def take(sender: Flask, message: object, **extra: object) -> None:
        text = str(getattr(message, "text", ""))
        if "teapot" in text:
            raise DeliveryFailed(GONE)
        if "broken" in text:
            raise RuntimeError("the host is broken")
        said.append(text)

    return app


@pytest.fixture
def hitl_app_factory() -> Callable[[dict[str, str]], Flask]:
    return create_app


# --- the story -------------------------------------------------------------------------------------------


def test_a_whole_story(
    user: User, agent: Agent, hitl_app: Flask, settle: Settle, assert_nothing_lost: AssertNothingLost
) -> None:
    assert not user.says("anybody there?"), "no handoff is open: it is the bot's"
    handoff = user.calls_a_human(title="Refund", history=[("user", "I want my money back")])
    assert handoff.name == user.name
    agent.sees("Refund")
    agent.sees("I want my money back")
    agent.assign()
    taken = user.waits_for("assigned")
    assert taken is not None
    assert taken.operator is not None
    assert taken.operator.name == agent.name
    assert user.says("Order 1815", attachments=[Attachment(name="order.txt", content=b"1 teapot")])
    agent.sees("Order 1815")
    assert agent.sees("order.txt")["text"] == "Order 1815"
    agent.reply("I am <looking>", html="I am <b>looking</b>")
    assert user.sees("I am <looking>").html == "I am <b>looking</b>"
    agent.attach("receipt.txt", b"on its way", content_type="text/plain", text="Here")
    file = user.sees("receipt.txt").attachments[0]
    assert requests.get(str(file.url), timeout=30).content == b"on its way"
    agent.offer("Which one?", "Red", ("Blue", "blue"), ("All", "https://acme.test/all"))
    assert user.sees("Which one?").text == "Which one?\n[choices: Red, Blue, All]"
    agent.comment("between us")
    settle()
    assert agent.has_seen("between us")
    assert not user.has_seen("between us")
    agent.unassign()
    user.waits_for("waiting")
    agent.colleague.assign()
    other = user.waits_for("assigned")
    assert other is not None
    assert other.operator is not None
    assert other.operator.actor_id == agent.colleague.actor_id
    agent.close()
    user.waits_for("bot")
    assert not user.says("are you there?")
    agent.reopen()
    user.waits_for("assigned")
    assert user.says("good")
    agent.sees("good")
    user.leaves()
    wait_until(lambda: agent.thread["status"] == "CLOSED", "the thread to close", explain=agent.tell)
    assert_nothing_lost()
    assert hitl_app.extensions["said"] == ["I am <looking>", "Here", "Which one?\n[choices: Red, Blue, All]"]


def test_two_users_and_their_agents(user: User, agent: Agent, assert_nothing_lost: AssertNothingLost) -> None:
    other = user.another()
    assert other.conversation_id != user.conversation_id
    for one in (user, other):
        one.calls_a_human()
    agent.helping(user).reply("for the first")
    agent.helping(other).colleague.reply("for the second")
    assert user.sees("for the first").operator != other.sees("for the second").operator
    assert not user.has_seen("for the second")
    agent.archive()
    other.waits_for("bot")
    assert user.handoff is not None
    assert_nothing_lost()


def test_a_user_is_a_browser_too(user: User) -> None:
    for number in (1, 2):
        assert user.post("/count").json() == {"count": number, "origin": user.url}
    assert user.another().post("/count").json()["count"] == 1
    assert user.get("/count").status_code == 405


def test_signals_are_captured(captured_signals: CapturedSignals, user: User, agent: Agent, hitl_app: Flask) -> None:
    user.calls_a_human()
    agent.reply("hi")
    assert [one["message"].text for one in captured_signals.wait_for(operator_message)] == ["hi"]
    assert captured_signals.wait_for("operator_assigned")[0]["operator"].name == agent.name
    agent.close()
    assert captured_signals.wait_for(conversation_completed)[0]["reason"] == "agent"
    assert captured_signals.of(message_failed) == []
    assert captured_signals.names().index("operator_assigned") < captured_signals.names().index("operator_message")
    with pytest.raises(ValueError, match="operator_assigned"):
        captured_signals.of("operator_asigned")
    with pytest.raises(AssertionError, match=r"2 × operator_message\n\nSignals so far: .*conversation_completed"):
        captured_signals.wait_for(operator_message, count=2, timeout=0.1)
    captured_signals.close()
    assert not list(operator_assigned.receivers_for(hitl_app)), "the host's own are for another signal"


def test_webhooks_are_signed_as_told(signed_webhook: SignedWebhook, hitl_server: Server) -> None:
    event = [payloads.status_event("CLOSED", at=NOW)]
    assert signed_webhook(event).status_code == 204
    assert signed_webhook(json.dumps(event).encode(), headers={"X-More": "1"}).status_code == 204
    assert signed_webhook(b"[").status_code == 400
    assert signed_webhook(event, secret="another").status_code == 401
    assert signed_webhook(event, timestamp=NOW).status_code == 401
    assert signed_webhook(event, url=f"{hitl_server.url}/elsewhere").status_code == 401
    assert signed_webhook(event, version="v1").status_code == 401, "not switched on"


# --- checks that can fail --------------------------------------------------------------------------------


def test_refused_messages_are_lost_unless_allowed(
    user: User, agent: Agent, assert_nothing_lost: AssertNothingLost
) -> None:
    user.calls_a_human()
    sent = agent.reply("a teapot?")
    assert agent.sees_failed(sent) == GONE
    assert agent.sees_failed(sent, "has left") == GONE
    with pytest.raises(AssertionError, match=rf"user-1: the agent's 'a teapot\?' failed: {GONE}"):
        assert_nothing_lost()
    assert_nothing_lost(allow_failed=True)
    fine = agent.reply("coffee")
    user.sees("coffee")
    with pytest.raises(AssertionError, match="to see message"):
        agent.sees_failed(fine, timeout=0.1)


def test_what_hubspot_never_delivered_is_lost(
    user: User, agent: Agent, hubspot: HubSpot, assert_nothing_lost: AssertNothingLost
) -> None:
    user.calls_a_human()
    agent.assign()
    user.waits_for("assigned")
    hubspot.chaos(drop_deliveries=True)
    agent.reply("lost words")
    agent.colleague.assign()
    with pytest.raises(AssertionError) as failure:
        assert_nothing_lost(allow_failed=True)
    assert "user-1: the agent's 'lost words' never reached the app" in str(failure.value)
    assert f"user-1: assigned to {agent.colleague.actor_id} in HubSpot, and to {agent.actor_id} in the app" in str(
        failure.value
    )
    agent.close()
    with pytest.raises(AssertionError, match="HubSpot's thread is over, and the app's handoff is assigned"):
        assert_nothing_lost()


def test_a_reopening_that_was_not_heard_is_lost(
    user: User, agent: Agent, hubspot: HubSpot, assert_nothing_lost: AssertNothingLost
) -> None:
    user.calls_a_human()
    agent.close()
    user.waits_for("bot")
    assert_nothing_lost()
    hubspot.chaos(drop_deliveries=True)
    agent.reopen()
    with pytest.raises(AssertionError, match="the agent reopened the thread, and the app's handoff is closed"):
        assert_nothing_lost()


def test_what_hubspot_refused_of_the_user_is_lost(
    user: User, agent: Agent, hubspot: HubSpot, assert_nothing_lost: AssertNothingLost
) -> None:
    user.calls_a_human()
    agent.sees(user.name)
    hubspot.chaos(faults=[{"match": "POST .*/custom-channels/.*/messages", "status": 400}])
    assert user.says("no luck")
    with pytest.raises(AssertionError, match="user-1: the user's 'no luck' is failed: "):
        assert_nothing_lost()
    assert_nothing_lost(allow_failed=True)


def test_what_hubspot_has_twice_is_told(
    user: User, agent: Agent, hubspot: HubSpot, assert_nothing_lost: AssertNothingLost
) -> None:
    user.calls_a_human()
    user.says("one")
    agent.sees("one")
    assert_nothing_lost()
    fault = {"match": "POST .*/custom-channels/.*/messages", "mode": "drop_after", "times": 1}
    hubspot.chaos(remember_publishes_seconds=0, faults=[fault])
    user.says("two")
    wait_until(lambda: [one.get("text") for one in agent.thread["messages"]].count("two") == 2, "a second copy")
    with pytest.raises(AssertionError, match="user-1: HubSpot has the user's 'two' twice") as failure:
        assert_nothing_lost(allow_failed=True)
    assert "'one'" not in str(failure.value).partition("\n\n")[0]


def test_who_repeats_words_says_nothing_twice(
    user: User, agent: Agent, hubspot: HubSpot, hitl_app: Flask, assert_nothing_lost: AssertNothingLost
) -> None:
    """The opening, a note and the farewell are messages of the user's too, as HubSpot sees it."""
    hubspot.chaos(notes="refused")
    user.calls_a_human(title="Refund", history=[("user", "hello")])
    agent.sees("hello")
    hubspot.chaos(faults=[{"match": "POST .*/custom-channels/.*/messages", "mode": "drop_after", "times": 1}])
    said = [one["text"] for one in agent.thread["messages"] if one.get("direction") == "INCOMING"]
    with hitl_app.app_context():
        assert HubSpotHITL().note(user.conversation_id, "wants money")
    for text in (*said, "Note: wants money", "hello", "hello", "bye"):
        user.says(text)
    agent.sees("bye")
    verbs.stop(get_runtime(hitl_app), user.conversation_id, farewell="bye")
    wait_until(lambda: agent.thread["status"] == "CLOSED", "the thread to close", explain=agent.tell)
    texts = [one.get("text") for one in agent.thread["messages"] if one.get("direction") == "INCOMING"]
    assert [texts.count(one) for one in (said[0], "Note: wants money", "hello", "bye")] == [2, 2, 2, 2]
    assert_nothing_lost()


def test_deliveries_that_are_refused_are_lost(
    user: User, agent: Agent, hubspot: HubSpot, assert_nothing_lost: AssertNothingLost
) -> None:
    user.calls_a_human()
    assert_nothing_lost()
    hubspot.chaos(signatures="wrong", retry_delays=[0.01])
    agent.reply("unheard")
    with pytest.raises(AssertionError, match=r"not accepted: channel: OUTGOING.* 'unheard'  401  \(attempt 2\)\n"):
        assert_nothing_lost(allow_failed=True)


def test_what_can_not_be_read_is_lost(signed_webhook: SignedWebhook, assert_nothing_lost: AssertNothingLost) -> None:
    assert_nothing_lost()
    assert signed_webhook(["not an object"]).status_code == 204
    with pytest.raises(AssertionError, match=r"an event was given up .*not an object"):
        assert_nothing_lost(allow_failed=True)


class TestWithOneAttempt:
    """A host that changes the settings."""

    @pytest.fixture
    def hitl_settings(self, hitl_settings: dict[str, str]) -> dict[str, str]:
        return hitl_settings | {"HUBSPOT_HITL_MAX_ATTEMPTS": "1"}

    def test_what_handlers_can_not_take_is_lost(
        self, user: User, agent: Agent, assert_nothing_lost: AssertNothingLost
    ) -> None:
        user.calls_a_human()
        agent.sees_failed(agent.reply("broken"))
        with pytest.raises(AssertionError, match=r"given up by 1 receiver\(s\): RuntimeError"):
            assert_nothing_lost()
        assert_nothing_lost(allow_failed=True)


# --- what a failure says ---------------------------------------------------------------------------------


def test_waiting_in_vain_tells_what_was_seen(user: User, agent: Agent, hubspot: HubSpot, settle: Settle) -> None:
    with pytest.raises(AssertionError, match="a thread to open in HubSpot\n\nNothing went over the wire"):
        wait_until(hubspot.threads, "a thread to open in HubSpot", timeout=0.05, explain=hubspot.wire)
    user.calls_a_human()
    user.says("are you there?")
    agent.reply("one moment")
    user.sees("one moment")
    settle()
    with pytest.raises(AssertionError) as failure:
        user.sees("here I am", timeout=0.1)
    told = str(failure.value)
    assert told.startswith("waited 0.1 s in vain for user-1 to see 'here I am'\n\n")
    assert "The conversation user-1 is in state 'assigned'" in told
    assert "  user: 'are you there?' (delivered)\n  operator: 'one moment' (sent)" in told
    assert "HubSpot → app  channel: OUTGOING_CHANNEL_MESSAGE_CREATED thread" in told
    assert "'one moment'  204" in told
    assert f"app → HubSpot  POST {PATHS.channel_messages('100458')} 'are you there?'  201" in told
    with pytest.raises(AssertionError, match=r"the agent to see 'x'\n\nThread \d+ is OPEN, assigned to A-987:\n"):
        agent.sees("x", timeout=0.1)
    with pytest.raises(AssertionError, match="user-1's handoff to be 'bot'"):
        user.waits_for("bot", timeout=0.1)


def test_what_does_not_settle_is_named(user: User, agent: Agent, hubspot: HubSpot, settle: Settle) -> None:
    user.calls_a_human()
    settle()
    hubspot.chaos(deliver=False)
    agent.assign()
    with pytest.raises(AssertionError, match=r"Still on their way: 1 delivery\(s\) of HubSpot's\n"):
        settle(timeout=0.2)
    hubspot.chaos(deliver=True)
    settle()
    hubspot.chaos(faults=[{"match": "POST .*/messages", "status": 503}])
    user.says("later")
    with pytest.raises(AssertionError, match=r"Still on their way: 1 event\(s\) in the app's database"):
        settle(timeout=0.5)


def test_controls_say_no_in_words(hubspot: HubSpot) -> None:
    with pytest.raises(AssertionError, match=r"answered POST /_sim/chaos with 400 .*unknown switches \['typo'\]"):
        hubspot.chaos(typo=True)


# --- as a plugin of its own ------------------------------------------------------------------------------

HOST = """
    from flask import Flask, request, session
    from flask_hubspot_hitl import HubSpotHITL, operator_message

    def take(sender, message, **extra):
        pass

    def create_app(config):
        app = Flask(__name__)
        app.config.from_mapping(config)
        operator_message.connect(take, app)
        HubSpotHITL(app)
        return app
"""
CONFTEST = """
    import sys
    for name in {missing!r}:
        sys.modules[name] = None    # not installed

    import pytest
    pytest_plugins = ["flask_hubspot_hitl.testing"]
"""
TESTS = """
    import pytest
    import host

    class TestWired:
        @pytest.fixture
        def hitl_app_factory(self):
            return host.create_app

        def test_good(self, user, agent, assert_nothing_lost):
            user.calls_a_human()
            agent.reply("hello")
            user.sees("hello")
            assert_nothing_lost()

        def test_bad(self, user, agent):
            user.calls_a_human()
            agent.reply("hello")
            assert "goodbye" in user.sees("hello").text

    class TestUnwired:
        @pytest.fixture
        def hitl_app_factory(self):
            return lambda settings: host.create_app(settings | {"HUBSPOT_HITL_PUBLIC_URL": "http://127.0.0.1:9"})

        def test_unwired(self, hitl_app):
            pass

    def test_unmade(hitl_app):
        pass

    def test_hypothesis_is_asked_for_only_by_the_strategies():
        with pytest.raises(ImportError):
            from flask_hubspot_hitl.testing import strategies
"""
OWN = """
    import pytest
    from flask_hubspot_hitl.testing import User
    import host

    @pytest.fixture
    def user():
        return "the host's own"

    @pytest.fixture
    def hubspot():
        return "the host's own"

    @pytest.fixture
    def hitl_app_factory():
        return host.create_app

    class Guest(User):
        pass

    @pytest.fixture
    def CLASS():
        return Guest

    def test_both(user, hubspot, hitl_user, hitl_agent, hitl_assert_nothing_lost):
        assert user == hubspot == "the host's own"
        assert type(hitl_user) is Guest
        hitl_user.calls_a_human()
        hitl_agent.reply("hello")
        hitl_user.sees("hello")
        hitl_assert_nothing_lost()

    @pytest.mark.parametrize("name", ["agent", "settle", "assert_nothing_lost", "signed_webhook", "captured_signals"])
    def test_short_names(request, name):
        if name in SHORT:
            request.getfixturevalue(name)
        else:
            with pytest.raises(pytest.FixtureLookupError):
                request.getfixturevalue(name)
"""


def optional_packages() -> list[str]:
    """What the extras install, but for pytest, as import names."""
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = "\n".join(setup["options.extras_require"].values()).split()
    names = {line.split(">")[0].split("[")[0] for line in lines} - {"pytest"}
    assert "hypothesis" in names
    return sorted({name.replace("-", "_").lower() for name in names} | {"xdist", "hubspot", "docutils"})


def run_as_host(folder: Path, **files: str) -> str:
    """What pytest says in a folder with these files, where nothing is installed but us and pytest."""
    for name, text in {"host": HOST, **files}.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", "-ra", "test_host.py"]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HUBSPOT_HITL_"))}
    environment = {**own, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    return done.stdout + done.stderr


def test_a_host_needs_nothing_but_pytest(tmp_path: Path) -> None:
    told = run_as_host(tmp_path, conftest=CONFTEST.format(missing=optional_packages()), test_host=TESTS)
    assert "1 failed, 2 passed, 2 errors" in told, told
    assert "Tell the test kit how your app is made" in told
    assert "The app has not taken its settings: HUBSPOT_HITL_PUBLIC_URL is http://127.0.0.1:9, not" in told, told
    wire = told.partition("- HubSpot -")[2].partition("= short test summary")[0]
    assert "HubSpot → app  channel: OUTGOING_CHANNEL_MESSAGE_CREATED" in wire, "a failed test shows the wire"


SHORT = ["agent", "settle", "assert_nothing_lost", "signed_webhook", "captured_signals"]


@pytest.mark.parametrize(
    ("plugin", "short", "user_class"), [("testing", SHORT, "user_class"), ("testing.fixtures", [], "hitl_user_class")]
)
def test_a_host_keeps_fixtures_of_its_own(tmp_path: Path, plugin: str, short: list[str], user_class: str) -> None:
    conftest = f"import flask_hubspot_hitl.testing\npytest_plugins = ['flask_hubspot_hitl.{plugin}']\n"
    tests = OWN.replace("SHORT", repr(short)).replace("CLASS", user_class)
    told = run_as_host(tmp_path, conftest=conftest, test_host=tests)
    assert "6 passed" in told, told


def test_a_killed_test_run_leaves_no_stand_in_behind() -> None:
    code = """
        from flask_hubspot_hitl.testing import running_hubspot
        with running_hubspot() as hubspot:
            print(hubspot.url, flush=True)
            input()
    """
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdin is not None
    assert run.stdout is not None
    address = urlsplit(run.stdout.readline().strip())
    assert address.port is not None
    # A connection on which nothing is asked ends with the stand-in; its port may be somebody else's right afterwards.
    with socket.create_connection(("127.0.0.1", address.port), timeout=PATIENCE) as connection:
        try:
            assert requests.get(f"{address.geturl()}/_sim/env", timeout=PATIENCE).ok
        finally:
            run.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
            run.wait(timeout=PATIENCE)
            run.stdin.close()
            run.stdout.close()
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_a_stand_in_that_ended_says_so() -> None:
    with running_hubspot() as hubspot:
        assert hubspot._process is not None
        hubspot._process.terminate()
        hubspot._process.wait(timeout=60)
        with pytest.raises(AssertionError, match="its process ended with status 0"):
            hubspot.env()
    with (
        pytest.raises(AssertionError, match="simulator did not start"),
        running_hubspot("--no-such-option"),
    ):
        pass


# --- strategies ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(strategies.webhook_payloads(now_ms=NOW))
def test_generated_payloads_are_what_hubspot_may_send(payload: object) -> None:
    found = parse_body(json.dumps(payload).encode(), now_ms=NOW)
    assert len(found) == (len(payload) if isinstance(payload, list) else 1)
    assert not [one.reason for one in found if isinstance(one, Poison)]


def test_a_bot_takes_whatever_comes(
    user: User, agent: Agent, hitl_app: Flask, signed_webhook: SignedWebhook, assert_nothing_lost: AssertNothingLost
) -> None:
    user.calls_a_human()
    mine = agent.helping(user)
    thread_id = mine.thread["id"]
    written: list[str] = []
    quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

    @quick
    @given(strategies.channel_messages(thread_id=thread_id) | strategies.webhook_payloads())
    def deliver(payload: object) -> None:
        assert signed_webhook(payload).status_code == 204

    @quick
    @given(strategies.texts().filter(str.strip))
    def write(text: str) -> None:
        written.append(mine.reply(text))

    deliver()
    write()
    assert_nothing_lost(allow_failed=True)
    heard = {one.message_id: one.text for one in user.transcript if one.author == "operator"}
    assert set(written) <= set(heard)

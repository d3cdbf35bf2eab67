"""``simulate --record`` and ``replay``: what a recording holds and must not hold, and what comes of delivering it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import Result
from flask import Flask

from flask_hubspot_hitl import Attachment, HubSpotHITL, operator_message
from flask_hubspot_hitl.simulator.engine.recording import Redaction
from flask_hubspot_hitl.testing import Agent, CapturedSignals, HubSpot, User, running_hubspot
from flask_hubspot_hitl.testing.fixtures import AssertNothingLost, Settle

ROOT = Path(__file__).parents[1]
VALIDATOR = ROOT.parent / "shared" / "tools" / "validate_traffic.py"
OWN_SECRET = "my-very-own-secret/+ü"
QUESTION, ANSWER, ASIDE = "Where is my order", "It arrives tomorrow", "between us"
FILE, CONTENT, TITLE, HISTORY = "order 1815.txt", b"1 teapot", "Refund", "tea for two"


@pytest.fixture(scope="module", params=["with-text", "without-text"])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that this module's stand-in records to."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    return folder / "story.jsonl"


@pytest.fixture(scope="module")
def hitl_hubspot_process(recording: Path) -> Iterator[HubSpot]:
    """Instead of the test kit's: one that records."""
    options = ["--redact-text"] if recording.parent.name.startswith("without") else []
    with running_hubspot("--record", str(recording), *options) as hubspot:
        yield hubspot


@pytest.fixture
def hitl_app_factory() -> Callable[[dict[str, str]], Flask]:
    def create_app(config: dict[str, str]) -> Flask:
        app = Flask("host")
        app.config.from_mapping(config)
        HubSpotHITL(app)
        operator_message.connect(take, app)
        return app

    return create_app


def take(sender: Flask, **extra: object) -> None:
    """The host's handler: takes everything."""


def lines_of(recording: Path, direction: str = "") -> list[dict[str, Any]]:
    """The lines of a recording so far."""
    found = [json.loads(line) for line in recording.read_text(encoding="utf-8").splitlines() if line]
    return [one for one in found if one["dir"] == direction or not direction]


def replay(app: Flask, recording: Path, *options: str) -> Result:
    """``flask hubspot-hitl replay``."""
    return app.test_cli_runner().invoke(args=["hubspot-hitl", "replay", str(recording), *options])


def tell_secrets(hubspot: HubSpot) -> set[str]:
    """Send every kind of secret over the wire; all of them."""
    env = hubspot.env()
    token = hubspot.control("GET", "access-token")["access_token"]
    staging = hubspot.control("POST", "staging-tokens", {})["accountToken"]
    own = hubspot.control(
        "POST", "apps", {"clientSecret": OWN_SECRET, "targetUrl": "http://user:pa55word@127.0.0.1:9/"}
    )
    bearer = {"Authorization": f"Bearer {token}", "Connection": "close", "Cookie": "session=c00kie"}
    channels = "/conversations/v3/custom-channels"
    refresh = {
        "grant_type": "refresh_token",
        "client_id": env["HUBSPOT_HITL_CLIENT_ID"],
        "client_secret": env["HUBSPOT_HITL_CLIENT_SECRET"],
        "refresh_token": env["HUBSPOT_HITL_REFRESH_TOKEN"],
    }
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/oauth/v1/token", {"data": refresh}),
        ("POST", "/oauth/v1/token", {"data": {"grant_type": "authorization_code", "code": "c0de-unknown"}}),
        ("GET", f"/oauth/v1/access-tokens/{token}", {}),
        ("GET", f"/oauth/v1/refresh-tokens/{refresh['refresh_token']}", {}),
        ("GET", "/oauth/v1/access-tokens/pat-unknown-token", {}),
        ("GET", f"{channels}?hapikey={env['HUBSPOT_HITL_DEVELOPER_API_KEY']}&appId=3131", {}),
        ("GET", f"{channels}?hapikey=unknown-key-4711", {}),
        ("POST", f"{channels}/1/messages", {"json": {"text": f"psst: {OWN_SECRET} {staging}"}}),
        ("POST", f"{channels}/1/messages", {"data": f"no JSON {OWN_SECRET}", "headers": {"Authorization": "pat-bare"}}),
    ]
    with requests.Session() as http:
        http.trust_env = False
        for method, path, more in calls:
            given = {**more, "headers": {**bearer, **more.get("headers", {})}}
            http.request(method, hubspot.url + path, timeout=30, **given).close()
    unknown = {"c0de-unknown", "pat-unknown-token", "unknown-key-4711", "pat-bare", "c00kie", "pa55word"}
    values = {value for name, value in (env | own).items() if name.endswith(("SECRET", "KEY", "REFRESH_TOKEN"))}
    assert OWN_SECRET in values
    return {token, staging, *unknown, *values}


def play(user: User, agent: Agent, hubspot: HubSpot) -> None:
    """A short story in which every word counts."""
    user.calls_a_human(title=TITLE, history=[("user", HISTORY)])
    agent.assign()
    user.says(QUESTION, attachments=[Attachment(name=FILE, content=CONTENT)])
    agent.sees(QUESTION)
    agent.reply(ANSWER)
    user.sees(ANSWER)
    agent.attach(FILE, CONTENT, text="see")
    user.sees(FILE)
    agent.comment(ASIDE)
    agent.close()
    user.waits_for("bot")


def test_a_recording_holds_everything_but_secrets(
    user: User, agent: Agent, hubspot: HubSpot, recording: Path, assert_nothing_lost: AssertNothingLost
) -> None:
    before = len(lines_of(recording))
    secrets = tell_secrets(hubspot)
    play(user, agent, hubspot)
    assert_nothing_lost()
    assert stat.S_IMODE(recording.stat().st_mode) == 0o600
    calls, deliveries = lines_of(recording, "api"), lines_of(recording, "webhook-out")
    assert len(calls) + len(deliveries) == before + len(hubspot.requests()) + len(hubspot.deliveries())
    served = [(one["method"], one["status"], one["at"]) for one in hubspot.requests()]
    assert [(one["method"], one["status"], one["at"]) for one in calls[-len(served) :]] == served
    raw = recording.read_text(encoding="utf-8")
    told = raw + json.dumps([json.loads(line) for line in raw.splitlines()], ensure_ascii=False)
    answers = [one["response_body"] for one in hubspot.requests() if isinstance(one["response_body"], dict)]
    tokens = {one["access_token"] for one in answers if "access_token" in one}
    assert tokens
    for secret in secrets | tokens:
        assert secret not in told, secret
    for one in deliveries:
        signatures = [value for name, value in one["headers"].items() if "Signature" in name and "Version" not in name]
        assert set(signatures) == {"redacted"}
    [link] = [str(file.url) for one in user.transcript for file in one.attachments if file.url]
    assert link.partition("Signature=")[2] not in told
    words = {user.phone, QUESTION, ANSWER, ASIDE, FILE, TITLE, HISTORY}
    found = {word for word in {user.name, agent.name, *words} if word in told}
    assert CONTENT.decode() not in told, "the bytes of files are not logged at all"
    if recording.parent.name.startswith("without"):
        assert found == set()
        assert "[19 characters]" in told
    else:
        assert found >= words


def test_recorded_calls_are_valid(user: User, agent: Agent, hubspot: HubSpot, recording: Path, tmp_path: Path) -> None:
    if not VALIDATOR.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{VALIDATOR} is missing")
        pytest.skip(f"HubSpot's OpenAPI files are not beside the repository: {VALIDATOR} is missing")
    before = len(lines_of(recording))
    play(user, agent, hubspot)
    part = tmp_path / "part.jsonl"
    part.write_text("\n".join(json.dumps(one) for one in lines_of(recording)[before:]), encoding="utf-8")
    checked = subprocess.run([sys.executable, str(VALIDATOR), str(part)], capture_output=True, text=True, timeout=100)
    assert checked.returncode == 0, checked.stdout
    assert " 0 failed, " in checked.stdout


def test_replayed_duplicates_in_any_order_change_nothing(
    user: User,
    agent: Agent,
    hubspot: HubSpot,
    hitl_app: Flask,
    recording: Path,
    tmp_path: Path,
    captured_signals: CapturedSignals,
    settle: Settle,
    assert_nothing_lost: AssertNothingLost,
) -> None:
    before = len(lines_of(recording))
    play(user, agent, hubspot)
    assert_nothing_lost()
    part = tmp_path / "part.jsonl"
    part.write_text("\n".join(json.dumps(one) for one in lines_of(recording)[before:]) + "\n\n", encoding="utf-8")
    count = len(lines_of(part, "webhook-out"))
    heard = captured_signals.names()
    orders = []
    for options in ([], ["--shuffle", "--seed", "7"], ["--shuffle", "--seed", "7"], ["--duplicate"]):
        result = replay(hitl_app, part, "--json", *options)
        assert result.exit_code == 0, result.output
        sent = [json.loads(line) for line in result.stdout.splitlines()]
        assert {one["status"] for one in sent} == {204}
        orders.append([one["title"] for one in sent])
    recorded, shuffled, again, doubled = orders
    assert len(recorded) == len(shuffled) == count
    assert recorded != shuffled == again
    assert sorted(recorded) == sorted(shuffled)
    assert doubled == [title for title in recorded for _ in range(2)]
    result = replay(hitl_app, part, "--shuffle", "--duplicate")
    assert result.exit_code == 0
    assert "Shuffled with --seed " in result.stderr
    assert f"{2 * count} sent: {2 * count} × 204." in result.stderr
    assert "OUTGOING_CHANNEL_MESSAGE_CREATED thread" in result.stdout
    settle()
    assert captured_signals.names() == heard
    assert_nothing_lost()


def test_what_was_refused_then_is_accepted_now(
    user: User, agent: Agent, hubspot: HubSpot, hitl_app: Flask, recording: Path, tmp_path: Path, settle: Settle
) -> None:
    """The recording is of a day on which the secret was wrong: replay signs with the app's own."""
    user.calls_a_human()
    settle()
    before = len(lines_of(recording))
    hubspot.chaos(signatures="wrong", retry_delays=[])
    agent.reply(ANSWER)
    settle()
    assert not user.has_seen("")
    part = tmp_path / "part.jsonl"
    part.write_text("\n".join(json.dumps(one) for one in lines_of(recording)[before:]), encoding="utf-8")
    assert {one["status"] for one in lines_of(part, "webhook-out")} == {401}
    result = replay(hitl_app, part)
    assert result.exit_code == 0, result.output
    settle()
    [message] = [one for one in user.transcript if one.author == "operator"]
    kept = not recording.parent.name.startswith("without")
    assert message.text == (ANSWER if kept else f"[{len(ANSWER)} characters]")


def test_replay_fails_in_words(hitl_app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "story.jsonl"
    file.write_text(json.dumps({"dir": "webhook-out", "feed": "app", "body": "[]"}), encoding="utf-8")
    closed = replay(hitl_app, file, "--to", "http://127.0.0.1:9/hubspot/webhook")
    assert closed.exit_code == 1
    assert "1  no answer  app      empty" in closed.stdout
    assert "1 of 1 were not accepted" in closed.stderr
    elsewhere = replay(hitl_app, file, "--to", f"{hitl_app.config['HUBSPOT_HITL_PUBLIC_URL']}/nowhere")
    assert elsewhere.exit_code == 1
    assert "1 × 404" in elsewhere.stderr
    assert replay(hitl_app, file).exit_code == 0
    assert "a whole address" in replay(hitl_app, file, "--to", "/hubspot/webhook").stderr
    for text, why in (
        ("", "holds no delivery"),
        ('{"dir": "api"}\n', "holds no delivery"),
        ('{"dir": "webhook-out", "feed": "workflow", "body": "{}"}', "holds no delivery"),
        ('{"dir": "webhook-out", "feed": "app", "body": "[]", "dropped": true}', "holds no delivery"),
        ('{"dir": "api"}\n[]\n', "line 2 is not one"),
        ("{", "line 1 is not one"),
        ('{"dir": "webhook-out", "feed": "app"}', "line 1 is not one"),
        ('{"dir": "webhook-out", "feed": "app", "body": 1}', "line 1 is not one"),
        ("[" * 100_000, "line 1 is not one"),
    ):
        file.write_text(text, encoding="utf-8")
        result = replay(hitl_app, file)
        assert result.exit_code == 1, text[:80]
        assert why in result.stderr
        assert "Traceback" not in result.output


def test_text_bodies_are_redacted_whatever_they_are() -> None:
    redaction, blind = Redaction(), Redaction(texts=True)
    for one in (redaction, blind):
        one.learn({"s3cret/value", "x"})
    body = '{"text": "hi \\"s3cret/value\\" s3cret%2Fvalue", "n": 1, "access_token": "unknown"}'
    assert json.loads(redaction.of({"body": body})["body"]) == {
        "text": 'hi "redacted" redacted',
        "n": 1,
        "access_token": "redacted",
    }
    assert json.loads(blind.of({"body": body})["body"])["text"] == "[22 characters]"
    untouched = '{ "text":"x marks the spot" }'
    assert redaction.of({"body": untouched})["body"] == untouched, "not a byte is changed without a reason"
    assert redaction.of({"body": "[" * 9_999 + "s3cret/value"})["body"].endswith("[redacted")
    assert blind.of({"body": "not JSON"})["body"] == "[8 characters]"
    form = {"request_headers": {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}}
    given = {**form, "request_body": "client_secret=a&text=hello&code=b&client_id=c"}
    assert redaction.of(given)["request_body"] == "client_secret=redacted&text=hello&code=redacted&client_id=c"
    assert blind.of(given)["request_body"] == "client_secret=redacted&text=%5B5+characters%5D&code=redacted&client_id=c"
    for path in ("/crm/v3/objects/contacts/rosa@example.test/x", "/crm/v3/objects/contacts/34911222333"):
        entry = {"path": path, "query": {"q": "rosa"} if path.endswith("x") else {"idProperty": "phone", "q": "rosa"}}
        assert redaction.of(entry) == entry
        assert "rosa" not in str(blind.of(entry))
        assert "34911222333" not in str(blind.of(entry))
        assert blind.of(entry)["path"].startswith("/crm/v3/objects/contacts/redacted")
    there = {"url": "https://u:p@bot.test/hook?key=1", "connected_to": "http://u:p@127.0.0.1:1/hook"}
    assert redaction.of(there) == {"url": "https://bot.test/hook", "connected_to": "http://127.0.0.1:1/hook"}

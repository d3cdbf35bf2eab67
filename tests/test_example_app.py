"""The example app by itself: its store, its bot, who may read a conversation, and what its pages allow."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from example_app import bot, create_app, handlers
from example_app.app import ChatApp
from example_app.extensions import hitl
from example_app.store import File, Store
from flask_hubspot_hitl import Attachment, Author, CloseReason, Handoff, HandoffState, Message, Operator

ORIGIN = {"Origin": "http://localhost"}
SETTINGS = {
    "SECRET_KEY": "for the tests",
    "EXAMPLE_NAME": "Ada <b>",
    "EXAMPLE_CONTACT": "+14155550123",
    "HUBSPOT_HITL_CLIENT_SECRET": "sim-secret",
    "HUBSPOT_HITL_ACCESS_TOKEN": "sim-token",
    "HUBSPOT_HITL_PUBLIC_URL": "http://127.0.0.1:9",
    "HUBSPOT_HITL_API_BASE_URL": "http://127.0.0.1:9",
    "HUBSPOT_HITL_PORTAL_ID": "424242",
    "HUBSPOT_HITL_CHANNEL_ID": "100458",
    "HUBSPOT_HITL_CHANNEL_ACCOUNT_ID": "880011",
    "HUBSPOT_HITL_DISPATCHER": "external",
    "HUBSPOT_HITL_START_TIMEOUT": "0.5",
}


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatApp]:
    """The example app with a HubSpot that does not answer; nothing here needs it to."""
    monkeypatch.setenv("EXAMPLE_INSTANCE_PATH", str(tmp_path / "instance"))
    app = create_app(SETTINGS)
    yield app
    app.extensions["hubspot_hitl"].ledger.close()


@pytest.fixture
def browser(example: ChatApp) -> FlaskClient:
    """A browser that has the page open."""
    client = example.test_client()
    assert client.get("/").status_code == 200
    return client


def said(client: FlaskClient, after: int = 0) -> list[dict[str, Any]]:
    """What the page shows."""
    answer = client.get(f"/messages?after={after}").get_json()
    found: list[dict[str, Any]] = answer["messages"]
    return found


def conversation_of(client: FlaskClient) -> str:
    """The id in the browser's session."""
    with client.session_transaction() as session:
        return str(session["conversation"])


def test_bot_answers_words_and_knows_when_a_human_is_wanted() -> None:
    assert "Hello" in bot.answer("Hi there!").text
    assert bot.answer("can I talk to a HUMAN?").wants_human
    assert not bot.answer("humanity").wants_human
    assert bot.answer("") is bot.OTHERWISE


def test_without_settings_it_still_imports_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBSPOT_HITL_CLIENT_SECRET", raising=False)
    monkeypatch.setenv("HUBSPOT_HITL_API_VERSION", "2026-09")
    app = create_app()
    assert "demo" in app.cli.commands
    answer = app.test_client().get("/")
    assert answer.status_code == 503
    assert "HUBSPOT_HITL_CLIENT_SECRET" in answer.text


def test_bot_answers_on_the_page(browser: FlaskClient) -> None:
    answer = browser.post("/messages", data={"text": "hello"}, headers=ORIGIN)
    assert answer.get_json() == {"wants_human": False}
    assert [(one["speaker"], one["text"][:5]) for one in said(browser)] == [("user", "hello"), ("bot", "Hello")]
    assert said(browser, after=said(browser)[-1]["number"]) == []
    assert browser.post("/messages", data={"text": "human"}, headers=ORIGIN).get_json()["wants_human"]


def test_the_same_message_sent_again_is_one(browser: FlaskClient) -> None:
    for _ in range(2):
        browser.post("/messages", data={"text": "hello", "id": "0123456789"}, headers=ORIGIN)
    assert len(said(browser)) == 2


def test_another_browser_can_not_read_the_conversation(example: ChatApp, browser: FlaskClient) -> None:
    browser.post("/messages", data={"text": "my secret"}, headers=ORIGIN)
    mine = conversation_of(browser)
    assert len(mine) >= 32
    assert mine not in browser.get("/").text
    other = example.test_client()
    assert said(other) == []
    assert said(example.test_client(), after=0) == []
    for query in (f"?conversation={mine}", f"?conversation_id={mine}&after=0"):
        assert other.get(f"/messages{query}").get_json()["messages"] == []
    cookie = browser.get_cookie("example_chat")
    assert cookie is not None
    assert cookie.http_only
    assert cookie.same_site == "Lax"
    payload, _, signature = cookie.value.rpartition(".")
    forged = ("A" if signature[0] != "A" else "B") + signature[1:]
    other.set_cookie("example_chat", f"{payload}.{forged}")
    assert said(other) == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/messages", "/human", "/stop"])
def test_other_sites_may_not_post(browser: FlaskClient, path: str, headers: dict[str, str]) -> None:
    answer = browser.post(path, data={"text": "hello", "contact": "+14155550123"}, headers=headers)
    assert answer.status_code == 403
    assert said(browser) == []


def test_headers_and_markup(browser: FlaskClient) -> None:
    page = browser.get("/")
    static = Path(handlers.__file__).parent / "static"
    scripts = sorted(path.name for path in static.glob("*.js"))
    assert "chat.js" in scripts
    others = [browser.get(path) for path in ("/messages", "/nowhere", *(f"/static/{name}" for name in scripts))]
    for answer in (page, *others):
        assert answer.headers["Content-Security-Policy"] == (
            "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        answer.close()
    assert "Ada &lt;b&gt;" in page.text
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|(src|href)=\"(https?:)?//", page.text)
    for name in scripts:
        script = (static / name).read_text(encoding="utf-8")
        assert not re.search("innerHTML|outerHTML|insertAdjacent|document.write|eval|https?://(?!www.w3.org/)", script)


@pytest.mark.parametrize("after", ["x", "-1", "99999999999999999999", ""])
def test_odd_numbers_do_no_harm(browser: FlaskClient, after: str) -> None:
    assert browser.get(f"/messages?after={after}").status_code == 200


def test_nothing_to_send_is_said(browser: FlaskClient) -> None:
    assert browser.post("/messages", data={"text": "  "}, headers=ORIGIN).status_code == 400
    assert browser.post("/human", data={"name": "Ada"}, headers=ORIGIN).status_code == 400
    bad = browser.post("/human", data={"name": "Ada", "contact": "0171 123"}, headers=ORIGIN)
    assert bad.status_code == 400
    assert "country code" in bad.get_json()["error"]


def test_too_large_is_said_as_json(browser: FlaskClient) -> None:
    kind = "multipart/form-data; boundary=x"
    answer = browser.post("/messages", data=b"x" * 11_000_000, content_type=kind, headers=ORIGIN)
    assert answer.status_code == 413
    assert answer.get_json()["error"]


def test_a_file_is_a_download_for_its_sender_only(example: ChatApp, browser: FlaskClient) -> None:
    page = b"<script>alert(1)</script>"
    for content in (page, b"another"):  # the same message sent again is one, and so is its file
        data = {"id": "0123456789", "file": (io.BytesIO(content), "../../<b>a\x07.html", "text/html")}
        assert browser.post("/messages", data=data, headers=ORIGIN).status_code == 200
    [file] = said(browser)[0]["files"]
    assert file["name"] == "<b>a.html"
    answer = browser.get(file["url"])
    assert answer.data == page
    assert answer.mimetype == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert example.test_client().get(file["url"]).status_code == 404
    assert browser.get(f"{file['url']}0").status_code == 404


def test_while_humans_have_it_the_bot_is_silent_and_the_user_can_end_it(browser: FlaskClient) -> None:
    answer = browser.post("/human", data={"name": "Ada", "contact": "+14155550123"}, headers=ORIGIN)
    assert answer.get_json() == {"state": "starting"}  # HubSpot does not answer; the ledger keeps trying
    before = len(said(browser))
    data = {"text": "hello", "file": (io.BytesIO(b"tea"), "../list.txt")}
    assert browser.post("/messages", data=data, headers=ORIGIN).get_json() == {"wants_human": False}
    [mine] = said(browser)[before:]
    assert [one["name"] for one in mine["files"]] == ["list.txt"]
    assert browser.post("/human", data={"contact": "+14155550123"}, headers=ORIGIN).status_code == 200
    assert len(said(browser)) == before + 1
    assert browser.post("/stop", headers=ORIGIN).status_code == 200
    assert browser.get("/messages").get_json()["state"] == "bot"
    browser.post("/messages", data={"text": "hello"}, headers=ORIGIN)
    assert said(browser)[-1]["speaker"] == "bot"


def a_handoff(**more: Any) -> Handoff:
    """A handoff of conversation c."""
    given: dict[str, Any] = {"state": HandoffState.ASSIGNED, "assigned_at": datetime(2026, 1, 2, tzinfo=UTC), **more}
    return Handoff(id="h", conversation_id="c", portal_id="1", inbox_id="2", thread_id="3", **given)


def test_handlers_write_once(example: ChatApp) -> None:
    store: Store = example.extensions["chat_store"]
    noor = Operator("A-987", name="Noor Haddad")
    files = (Attachment(name="a.pdf", url="https://files.test/a.pdf"), Attachment(file_id="7"))
    message = Message("m1", Author.OPERATOR, text="<b>hi</b>", attachments=files, operator=noor)
    with example.app_context():
        for _ in range(2):
            handlers.assigned(example, handoff=a_handoff(), operator=noor, previous=None, after_gap=True)
            handlers.message(example, handoff=a_handoff(), message=message)
            handlers.completed(example, handoff=a_handoff(), reason=CloseReason.AGENT, detail=None, transcript=[])
            handlers.failed(example, handoff=a_handoff(), error="no")
            handlers.lost(example, handoff=a_handoff(), message=Message("m2", Author.USER, text="oh"), error="no")
    found = store.entries("c")
    assert [one.speaker for one in found] == ["system", "agent", "system", "bot", "system"]
    assert "Noor Haddad" in found[0].text
    assert (found[1].name, found[1].text) == ("Noor Haddad", "<b>hi</b>")
    assert found[1].files == (File("a.pdf", "https://files.test/a.pdf"), File("file"))


def test_nameless_agents_and_a_user_who_left(example: ChatApp) -> None:
    with example.app_context():
        handlers.assigned(example, handoff=a_handoff(), operator=Operator("A-1"))
        handlers.message(example, handoff=a_handoff(), message=Message("m", Author.OPERATOR, text="hi"))
        handlers.completed(example, handoff=a_handoff(), reason=CloseReason.USER)
    texts = [(one.name, one.text) for one in example.extensions["chat_store"].entries("c")]
    assert texts == [("", "Somebody joined the chat."), ("Our team", "hi"), ("", "You ended the chat.")]


def test_the_store_takes_many_writers(tmp_path: Path) -> None:
    stores = [Store(tmp_path / "chat.sqlite3") for _ in range(4)]

    def write(store: Store) -> None:
        for number in range(25):
            store.add("c", f"key-{number}", "user", "text")

    threads = [threading.Thread(target=write, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].entries("c")) == 25
    assert stores[0].entries("other") == []


def test_two_apps_in_one_process_are_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apps = []
    for name in ("one", "two"):
        monkeypatch.setenv("EXAMPLE_INSTANCE_PATH", str(tmp_path / name))
        apps.append(create_app(SETTINGS))
    clients = [app.test_client() for app in apps]
    clients[0].post("/human", data={"contact": "+14155550123"}, headers=ORIGIN)
    with apps[0].app_context():
        assert hitl.is_active(conversation_of(clients[0]))
    with apps[1].app_context():
        assert not hitl.is_active(conversation_of(clients[0]))
    for app in apps:
        app.extensions["hubspot_hitl"].ledger.close()

"""The example app, tested the way a host tests its own: with the test kit and nothing else."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface

from example_app import bot, create_app, handlers, promises
from example_app.extensions import hitl
from example_app.store import File, Store
from flask_hubspot_hitl import Attachment, Author, CloseReason, Handoff, HandoffState, Message, Operator
from flask_hubspot_hitl.testing import Agent, HubSpot, User, wait_until
from flask_hubspot_hitl.testing.fixtures import AssertNothingLost

Line = dict[str, Any]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Visitor(User):
    """Somebody who has the chat page open."""

    def chats(self, text: str = "", file: tuple[str, bytes] | None = None, **more: Any) -> Line:
        """Write into the page, perhaps with a file: what it is answered."""
        answer = self.post("/messages", data={"text": text, **more}, files={"file": file} if file else None)
        assert answer.status_code == 200, answer.text
        found: Line = answer.json()
        return found

    def asks_for_a_human(self) -> str:
        """Fill in the form: the state the page is told."""
        answer = self.post("/human", data={"name": self.name, "contact": self.phone})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["state"])

    def lines(self, after: int | str = 0) -> list[Line]:
        """What the page shows."""
        found: list[Line] = self.get(f"/messages?after={after}").json()["messages"]
        return found

    def reads(self, text: str, *, speaker: str) -> Line:
        """Wait until the page shows a line of a speaker's that holds ``text``."""

        def look() -> Line | None:
            return next((one for one in self.lines() if one["speaker"] == speaker and text in one["text"]), None)

        return wait_until(look, f"the page to show {text!r} by {speaker}", explain=lambda: f"{self.lines()}")

    @property
    def state(self) -> str:
        """Who has the conversation, as the page is told."""
        return str(self.get("/messages").json()["state"])

    def id_in_session(self) -> str:
        """The conversation's id, which only the app can read."""
        serializer = SecureCookieSessionInterface().get_signing_serializer(self.app)
        assert serializer is not None
        return str(serializer.loads(self.cookies["example_chat"])["conversation"])


@pytest.fixture
def hitl_app_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Flask]:
    monkeypatch.setenv("EXAMPLE_INSTANCE_PATH", str(tmp_path / "instance"))
    own = {"SECRET_KEY": "for the tests", "EXAMPLE_NAME": "Ada <b>", "EXAMPLE_CONTACT": "+14155550123"}
    return lambda settings: create_app(own | settings)


@pytest.fixture
def hitl_settings(hitl_settings: dict[str, str]) -> dict[str, str]:
    return hitl_settings | {"HUBSPOT_HITL_START_TIMEOUT": "30"}  # what opens in time does so on a busy machine, too


@pytest.fixture
def user_class() -> type[Visitor]:
    return Visitor


# --- the story -------------------------------------------------------------------------------------------


def test_from_the_bot_to_a_human_and_back(user: Visitor, agent: Agent, assert_nothing_lost: AssertNothingLost) -> None:
    user.chats("hello, what are your hours?")
    assert user.chats("can I talk to a human?") == {"wants_human": True}
    assert user.asks_for_a_human() == "waiting"
    agent.sees("what are your hours?")
    agent.assign()
    user.reads(f"{agent.name} joined the chat.", speaker="system")
    user.chats("My order has not come", file=("../order.txt", b"1815"))
    assert agent.sees("order.txt")["text"] == "My order has not come"
    agent.reply("I am looking into it, <b>Ada</b>.")
    assert user.reads("I am looking into it, <b>Ada</b>.", speaker="agent")["name"] == agent.name
    agent.attach("receipt.txt", b"on its way", content_type="text/plain")
    agent.comment("This customer is always right.")
    agent.reply("It arrives tomorrow.")
    user.reads("It arrives tomorrow.", speaker="agent")
    assert ["receipt.txt"] in [[file["name"] for file in one["files"]] for one in user.lines()]
    assert "always right" not in str(user.lines())
    agent.close()
    user.reads("The chat with our team was completed.", speaker="system")
    assert user.state == "bot"
    user.chats("hello again")
    assert user.lines()[-1]["speaker"] == "bot"
    assert_nothing_lost()
    assert not agent.has_seen("hello again")


def test_the_user_can_end_it(user: Visitor, agent: Agent, assert_nothing_lost: AssertNothingLost) -> None:
    user.asks_for_a_human()
    before = len(user.lines())
    assert user.chats("hello") == {"wants_human": False}
    agent.sees("hello")
    assert user.asks_for_a_human() == "waiting", "asked twice, called once"
    assert len(user.lines()) == before + 1, "the bot is silent"
    assert user.post("/stop").status_code == 200
    user.reads("You ended the chat.", speaker="system")
    user.chats("hello")
    assert user.lines()[-1]["speaker"] == "bot"
    assert_nothing_lost()


def test_nameless_agents(user: Visitor, agent: Agent, hubspot: HubSpot) -> None:
    hubspot.chaos(faults=[{"match": "GET .*/actors/", "status": 404}])
    user.asks_for_a_human()
    agent.reply("hi")
    user.reads("Somebody joined the chat.", speaker="system")
    assert user.reads("hi", speaker="agent")["name"] == "Our team"


def test_while_hubspot_is_down_nothing_is_lost(
    user: Visitor, agent: Agent, hubspot: HubSpot, assert_nothing_lost: AssertNothingLost
) -> None:
    hubspot.chaos(faults=[{"match": "POST .*/custom-channels/.*/messages", "status": 503}])
    assert user.asks_for_a_human() == "starting"
    user.chats("hello?", file=("list.txt", b"tea"))
    assert [file["name"] for file in user.lines()[-1]["files"]] == ["list.txt"]
    hubspot.chaos(faults=[])
    agent.sees("hello?")
    assert_nothing_lost()


def test_what_the_team_did_not_get_is_said(user: Visitor, hubspot: HubSpot) -> None:
    refused = {"match": "POST .*/custom-channels/.*/messages", "status": 400}
    hubspot.chaos(faults=[refused])
    answer = user.post("/human", data={"contact": user.phone})
    assert (answer.status_code, user.state) == (502, "bot")
    assert "can't be reached" in answer.json()["error"]
    hubspot.chaos(faults=[])
    user.asks_for_a_human()
    hubspot.chaos(faults=[refused])
    user.chats("lost words")
    user.reads("Our team did not get this message: lost words", speaker="system")


# --- the page --------------------------------------------------------------------------------------------


def test_bot_answers_on_the_page(user: Visitor) -> None:
    assert user.chats("hello") == {"wants_human": False}
    assert [(one["speaker"], one["text"][:5]) for one in user.lines()] == [("user", "hello"), ("bot", "Hello")]
    assert user.lines(after=user.lines()[-1]["number"]) == []


def test_the_same_message_sent_again_is_one(user: Visitor) -> None:
    for _ in range(2):
        user.chats("hello", id="0123456789")
    assert len(user.lines()) == 2


def test_another_browser_can_not_read_the_conversation(user: Visitor) -> None:
    opened = user.get("/")
    assert re.search(r"^example_chat=.*; HttpOnly; Path=/; SameSite=Lax$", opened.headers["Set-Cookie"])
    user.chats("my secret")
    mine = user.id_in_session()
    assert len(mine) >= 32
    assert mine not in user.get("/").text
    other = user.another()
    assert other.lines() == []
    for query in (f"?conversation={mine}", f"?conversation_id={mine}&after=0"):
        assert other.get(f"/messages{query}").json()["messages"] == []
    payload, _, signature = user.cookies["example_chat"].rpartition(".")
    forged = ("A" if signature[0] != "A" else "B") + signature[1:]
    other.cookies.clear()
    other.cookies.set("example_chat", f"{payload}.{forged}")
    assert other.lines() == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": None},
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_may_not_post(user: Visitor, headers: dict[str, str | None]) -> None:
    for path in ("/messages", "/human", "/stop"):
        assert user.post(path, data={"text": "hello", "contact": user.phone}, headers=headers).status_code == 403
    assert user.lines() == []


def test_headers_and_markup(user: Visitor) -> None:
    scripts = [f"/static/{path.name}" for path in (Path(handlers.__file__).parent / "static").glob("*.js")]
    assert "/static/chat.js" in scripts
    for path in ("/", "/messages", "/nowhere", *scripts):
        headers = user.get(path).headers
        assert headers["Content-Security-Policy"] == "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"
        assert headers["X-Content-Type-Options"] == "nosniff"
    page = user.get("/").text
    assert "Ada &lt;b&gt;" in page
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|(src|href)=\"(https?:)?//", page)
    unsafe = "innerHTML|outerHTML|insertAdjacent|document.write|eval|https?://(?!www.w3.org/)"
    for path in scripts:
        assert not re.search(unsafe, user.get(path).text)


def test_a_file_is_a_download_for_its_sender_only(user: Visitor) -> None:
    page = b"<script>alert(1)</script>"
    for content in (page, b"another"):  # the same message sent again is one, and so is its file
        user.chats(id="0123456789", file=("../../<b>a\x07.html", content))
    [file] = user.lines()[0]["files"]
    assert file["name"] == "<b>a.html"
    answer = user.get(file["url"])
    assert answer.content == page
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert user.another().get(file["url"]).status_code == 404
    assert user.get(f"{file['url']}0").status_code == 404


def test_pictures_are_shown_from_the_page_itself(user: Visitor, agent: Agent) -> None:
    def picture_of(name: str) -> str:
        files = [file for one in user.lines() for file in one["files"] if file["name"] == name]
        return str(files[0]["picture"]) if files else ""

    user.chats(file=("me.png", PIXEL))
    user.chats(file=("fake.png", b"<script>alert(1)</script>"))
    user.chats(file=("list.txt", b"tea"))
    user.asks_for_a_human()
    agent.attach("parcel.png", PIXEL, content_type="image/png")
    theirs = wait_until(lambda: picture_of("parcel.png"), "the page to have the agent's picture")
    for address in (picture_of("me.png"), theirs):
        shown = user.get(address)
        assert (shown.status_code, shown.content, shown.headers["Content-Type"]) == (200, PIXEL, "image/png")
        assert user.another().get(address).status_code == 404
    assert user.get(picture_of("fake.png")).status_code == 404
    assert picture_of("list.txt") == ""
    for path in ("/pictures/1/9", "/pictures/99999999999999999999999/0", "/pictures/0/0"):
        assert user.get(path).status_code == 404


@pytest.mark.parametrize("after", ["x", "-1", "99999999999999999999", ""])
def test_odd_numbers_do_no_harm(user: Visitor, after: str) -> None:
    assert user.lines(after) == []


def test_what_can_not_be_sent_is_said(user: Visitor, hitl_app: Flask) -> None:
    assert user.post("/messages", data={"text": "  "}).status_code == 400
    assert user.post("/human", data={"name": "Ada"}).status_code == 400
    for contact in ("0171 123", "+34600000000", "nobody@example.test"):  # no country code; not known to HubSpot
        bad = user.post("/human", data={"name": "Ada", "contact": contact})
        assert bad.status_code == 400
        assert "country code" in bad.json()["error"]
    assert user.state == "bot"
    large = hitl_app.test_client().post(  # over a real connection, the server would not read it to its end
        "/messages",
        data=b"x" * 11_000_000,
        content_type="multipart/form-data; boundary=x",
        headers={"Origin": "http://localhost"},
    )
    assert large.status_code == 413
    assert large.get_json()["error"]


def test_two_apps_in_one_process_are_apart(
    user: Visitor, hitl_app: Flask, hitl_settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXAMPLE_INSTANCE_PATH", str(tmp_path / "other"))
    other = create_app(hitl_settings | {"HUBSPOT_HITL_DATABASE_URL": None})
    try:
        user.asks_for_a_human()
        for app, active in ((hitl_app, True), (other, False)):
            with app.app_context():
                assert hitl.is_active(user.id_in_session()) is active
    finally:
        other.extensions["hubspot_hitl"].close()


def test_without_settings_it_still_imports_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBSPOT_HITL_CLIENT_SECRET", raising=False)
    monkeypatch.setenv("HUBSPOT_HITL_API_VERSION", "2026-09")
    app = create_app()
    assert "demo" in app.cli.commands
    answer = app.test_client().get("/")
    assert answer.status_code == 503
    assert "HUBSPOT_HITL_CLIENT_SECRET" in answer.text


# --- its parts -------------------------------------------------------------------------------------------


def test_bot_answers_words_and_knows_when_a_human_is_wanted() -> None:
    assert "Hello" in bot.answer("Hi there!").text
    assert bot.answer("can I talk to a HUMAN?").wants_human
    assert not bot.answer("humanity").wants_human
    assert bot.answer("") is bot.OTHERWISE


def test_handlers_write_once(hitl_app: Flask) -> None:
    """A process that dies at the wrong moment repeats a signal: nothing is written twice."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    handoff = Handoff("h", "c", "1", "2", "3", HandoffState.ASSIGNED, assigned_at=at)
    noor = Operator("A-987", name="Noor Haddad")
    files = (Attachment(name="a.pdf", url="https://files.test/a.pdf"), Attachment(file_id="7"))
    message = Message("m1", Author.OPERATOR, text="<b>hi</b>", attachments=files, operator=noor)
    with hitl_app.app_context():
        for _ in range(2):
            handlers.assigned(hitl_app, handoff=handoff, operator=noor, previous=None, after_gap=True)
            handlers.message(hitl_app, handoff=handoff, message=message)
            handlers.completed(hitl_app, handoff=handoff, reason=CloseReason.AGENT, detail=None, transcript=[])
            handlers.failed(hitl_app, handoff=handoff, error="no")
            handlers.lost(hitl_app, handoff=handoff, message=Message("m2", Author.USER, text="oh"), error="no")
    store: Store = hitl_app.extensions["chat_store"]
    found = store.entries("c")
    assert [one.speaker for one in found] == ["system", "agent", "system", "bot", "system"]
    assert (found[1].name, found[1].text) == ("Noor Haddad", "<b>hi</b>")
    assert found[1].files == (File("a.pdf", "https://files.test/a.pdf"), File("file", file_id="7"))


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


# --- the agent's side ------------------------------------------------------------------------------------


def test_what_the_bot_would_say_is_a_draft_for_the_agent(user: Visitor, agent: Agent) -> None:
    user.asks_for_a_human()
    user.chats("What are your prices?")
    assert agent.sees("The small plan")["type"] == "COMMENT"
    user.chats("thanks")
    agent.sees("thanks")
    assert not agent.has_seen("You are welcome!")
    assert "The small plan" not in str(user.lines())


def test_what_the_page_has_shown_is_read(user: Visitor, agent: Agent) -> None:
    user.asks_for_a_human()
    agent.reply("I am looking into it.")
    number = int(user.reads("I am looking into it.", speaker="agent")["number"])

    def status() -> str:
        return str(agent.sees("I am looking into it.")["status"]["statusType"])

    wait_until(lambda: status() == "SENT", "the agent's receipt")
    for odd in (number - 1, "", "x", -1):
        assert user.post("/seen", data={"number": odd}).status_code == 200
    assert status() == "SENT"
    assert user.post("/seen", data={"number": number}).status_code == 200
    wait_until(lambda: status() == "READ", "the agent to see that it was read")


def test_a_chat_with_an_agent_may_be_rated_once(user: Visitor, agent: Agent) -> None:
    def may_rate() -> bool:
        return bool(user.get("/messages").json()["standing"]["may_rate"])

    user.asks_for_a_human()
    agent.assign()
    user.reads("joined the chat", speaker="system")
    assert not may_rate()
    agent.close()
    wait_until(may_rate, "the question how it was")
    assert user.post("/rating", data={"score": "5", "comment": "So quick!"}).status_code == 200
    assert agent.sees("So quick!")["text"].startswith("The user's rating: 5 of 5")
    assert not may_rate()


def test_who_does_not_want_to_rate_is_not_asked_again(user: Visitor, agent: Agent) -> None:
    user.asks_for_a_human()
    agent.assign()
    user.reads("joined the chat", speaker="system")
    assert user.post("/stop").status_code == 200
    user.reads("You ended the chat.", speaker="system")
    wait_until(lambda: user.get("/messages").json()["standing"]["may_rate"], "the question how it was")
    assert user.post("/rating", data={"score": "6"}).status_code == 200
    assert not user.get("/messages").json()["standing"]["may_rate"]
    assert not agent.has_seen("The user's rating")


def test_without_the_setting_nobody_is_asked_who_is_there(user: Visitor) -> None:
    assert user.get("/availability").json() == {"nobody": None}


@pytest.mark.parametrize(
    ("back", "said"),
    [
        (None, "Nobody of our team is here right now. I will try to help you myself."),
        (
            datetime(2026, 11, 30, 8, 5, tzinfo=UTC),
            "Nobody of our team is here right now. Somebody is back on Monday at 08:05 UTC.",
        ),
    ],
)
def test_the_bot_says_when_somebody_is_back(back: datetime | None, said: str) -> None:
    assert promises.words(back) == said

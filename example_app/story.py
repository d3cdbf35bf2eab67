"""The whole story of a handoff, over HTTP: the user through the chat's routes, the agent through the stand-in's.

Each step is waited for, and missed after its own time.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeVar

import requests

STEP_SECONDS = 60.0
Found = TypeVar("Found")

QUESTION = "hello, what are your hours?"
USER_TEXT = "My order 1815 has not come. ☎"
AGENT_TEXT = "I am looking into it, <b>Ada</b>."
ASIDE = "Between us: this customer is always right."
GOODBYE = "It arrives tomorrow."
FILE_NAME, FILE_CONTENT = "receipt.txt", b"Order 1815: on its way\n"


class Missed(Exception):
    """A step did not happen within its time."""


def until(step: str, look: Callable[[], Found | None], *, seconds: float = STEP_SECONDS) -> Found:
    """Look again and again until something is found. Raises :class:`Missed` after ``seconds``."""
    ends = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > ends:
            raise Missed(f"{step}: did not happen within {seconds:g} s")
        time.sleep(0.1)


class Side:
    """One side's HTTP: a session that keeps cookies and gives up after half a minute."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Origin"] = base

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, **more: Any) -> Any:
        """A call that must succeed; its JSON, or its bytes. Raises :class:`Missed` when it does not."""
        url = path if path.startswith("http") else self.base + path
        try:
            answer = self._http.request(method, url, timeout=30, **more)
        except requests.RequestException as error:
            raise Missed(f"{method} {path}: {type(error).__name__}") from None
        if not answer.ok:
            raise Missed(f"{method} {path} was answered with {answer.status_code}: {answer.text[:200]}")
        return answer.json() if answer.headers.get("Content-Type") == "application/json" else answer.content


class User(Side):
    """The user, through the chat's own routes."""

    def say(self, text: str, **files: tuple[str, bytes, str]) -> None:
        """Send a message, and perhaps a ``file``: its name, content and type."""
        self.call("POST", "/messages", data={"text": text}, files=files or None)

    def chat(self) -> list[dict[str, Any]]:
        """Everything on the page."""
        found: list[dict[str, Any]] = self.call("GET", "/messages")["messages"]
        return found

    def sees(self, text: str, *, speaker: str) -> dict[str, Any] | None:
        """The newest message of a speaker that holds the text."""
        return next((m for m in reversed(self.chat()) if m["speaker"] == speaker and text in m["text"]), None)


class Agent(Side):
    """The agent, through the stand-in's control routes."""

    def thread(self) -> dict[str, Any] | None:
        """The newest thread in the inbox."""
        threads: list[dict[str, Any]] = self.call("GET", "/_sim/threads")
        return threads[-1] if threads else None

    def sees(self, text: str, kind: str) -> dict[str, Any] | None:
        """The message or comment of the thread that holds the text."""
        messages = (self.thread() or {}).get("messages", [])
        return next((m for m in messages if m["type"] == kind and text in (m.get("text") or "")), None)

    def act(self, verb: str, **body: Any) -> Any:
        """What an agent can do with the thread: assign, reply, comment, close."""
        thread = self.thread()
        if thread is None:
            raise Missed(f"{verb}: there is no thread")
        return self.call("POST", f"/_sim/threads/{thread['id']}/{verb}", json=body)


def play(chat: str, desk: str, *, name: str, contact: str) -> Iterator[str]:
    """Play the story; yields a line for each step when it was seen. Raises :class:`Missed`."""
    with closing(User(chat)) as user, closing(Agent(desk)) as agent:
        yield from _play(user, agent, name=name, contact=contact)


def _play(user: User, agent: Agent, *, name: str, contact: str) -> Iterator[str]:
    user.call("GET", "/")
    user.say(QUESTION)
    greeting = until("greeting", lambda: user.sees("Hello!", speaker="bot"))["text"]
    user.call("POST", "/human", data={"name": name, "contact": contact})
    thread = until("started", agent.thread)
    yield f"started    {name} is in the inbox, thread {thread['id']}"

    operator = agent.call("GET", "/_sim/agents")[0]
    agent.act("assign", actorId=operator["id"])
    until("assigned", lambda: user.sees(operator["name"], speaker="system"))
    yield f"assigned   the user is told that {operator['name']} joined"

    until("note", lambda: agent.sees(greeting, "COMMENT"))
    if any(QUESTION in one["text"] for one in user.chat() if one["speaker"] != "user"):
        raise Missed("note: the user sees the history that is for the agent")
    yield "note       the agent sees what was said before; the user does not see it again"

    user.say(USER_TEXT, file=("order.txt", b"1 teapot", "text/plain"))
    read = until("text", lambda: agent.sees(USER_TEXT, "MESSAGE"))
    if [one["type"] for one in read["attachments"]] != ["FILE"]:
        raise Missed("text: the user's attachment is missing")
    yield "text       the agent sees what the user writes and attaches"

    agent.act("reply", text=AGENT_TEXT, actorId=operator["id"])
    seen = until("reply", lambda: user.sees(AGENT_TEXT, speaker="agent"))
    if seen["name"] != operator["name"]:
        raise Missed(f"reply: signed {seen['name']!r}, not {operator['name']!r}")
    yield "reply      the user sees what the agent writes"

    content = base64.b64encode(FILE_CONTENT).decode()
    agent.act("reply", attachments=[{"name": FILE_NAME, "contentType": "text/plain", "content": content}])
    link = until("file", lambda: _link(user))
    if user.call("GET", link) != FILE_CONTENT:
        raise Missed("file: the link leads to something else")
    yield f"file       the user opens {FILE_NAME}"

    agent.act("comment", text=ASIDE)
    agent.act("reply", text=GOODBYE)  # what comes after the comment is seen: the comment was not merely slow
    until("comment", lambda: user.sees(GOODBYE, speaker="agent"))
    _check_aside(user)
    yield "comment    the agents' internal one is not seen by the user; the reply after it is"

    agent.act("close")
    until("completed", lambda: user.sees("completed", speaker="system"))
    yield "completed  the user is told that the chat with the team is over"

    before = len(user.chat())
    user.say("hello again")
    until("bot", lambda: user.sees("Hello!", speaker="bot") if len(user.chat()) == before + 2 else None)
    _check_aside(user)
    if agent.sees("hello again", "MESSAGE"):
        raise Missed("bot: the message went to the agents too")
    yield "bot        it answers again, and the agents are left in peace"


def _link(user: User) -> str | None:
    links = [file["url"] for one in user.chat() for file in one["files"] if file["name"] == FILE_NAME]
    return links[-1] if links else None


def _check_aside(user: User) -> None:
    if any(ASIDE in str(one) for one in user.chat()):
        raise Missed("comment: the user sees an internal comment")

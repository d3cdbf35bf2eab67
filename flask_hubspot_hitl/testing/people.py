"""The two people of a story: the user, on the host's side, and the agent, on HubSpot's."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Sequence
from typing import Any, Self

import requests
from flask import Flask

from ..domain import Attachment, Author, Handoff, Message, MessageStatus
from ..extension import HubSpotHITL
from .stand_in import ANSWER_SECONDS, HubSpot, Json
from .waiting import PATIENCE, wait_until

HEARD = (MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ)


class User:
    """Somebody who chats with the bot, and whom HubSpot knows by ``phone``.

    Talks to the app by the three verbs, and sees an agent's message once all handlers have accepted it. A host whose
    users can be driven better, through its own routes say, overrides the methods and gives its class to the fixture
    ``user_class``; ``get`` and ``post`` are there for that.
    """

    def __init__(self, app: Flask, url: str, hubspot: HubSpot, numbers: itertools.count[int] | None = None) -> None:
        self.app = app
        self.url = url
        self.hubspot = hubspot
        self._numbers = numbers or itertools.count(1)
        number = next(self._numbers)
        self.conversation_id = f"user-{number}"
        self.name = f"User {number}"
        self.phone = f"+1415555{number:04}"
        hubspot.contact(phone=self.phone, firstname="User", lastname=str(number))
        self._http = requests.Session()
        self._http.trust_env = False
        self._others: list[User] = []

    @property
    def cookies(self) -> requests.cookies.RequestsCookieJar:
        """This user's cookies."""
        return self._http.cookies

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        for one in self._others:
            one.close()

    def another(self) -> Self:
        """Somebody else, with a conversation, a phone number and cookies of their own."""
        found = type(self)(self.app, self.url, self.hubspot, self._numbers)
        self._others.append(found)
        return found

    # As a browser ----------------------------------------------------------------------------------------

    def get(self, path: str, **more: Any) -> requests.Response:
        """GET a path of the app, with this user's cookies; ``more`` goes to requests."""
        return self._request("GET", path, more)

    def post(self, path: str, **more: Any) -> requests.Response:
        """POST to a path of the app as one of its own pages would: with cookies and ``Origin``.

        A header of None is left out: ``headers={"Origin": None}``.
        """
        return self._request("POST", path, more)

    def _request(self, method: str, path: str, more: dict[str, Any]) -> requests.Response:
        headers = {
            "Connection": "close",
            **({"Origin": self.url} if method != "GET" else {}),
            **more.pop("headers", {}),
        }
        more = {"timeout": ANSWER_SECONDS, "allow_redirects": False, **more}
        return self._http.request(method, self.url + path, headers=headers, **more)

    # By the three verbs ----------------------------------------------------------------------------------

    def calls_a_human(self, **start: Any) -> Handoff:
        """``hitl.start`` with this user's phone number and name; ``start`` has the other keywords."""
        given = {"contact": self.phone, "name": self.name, **start}
        with self.app.app_context():
            return HubSpotHITL().start(self.conversation_id, **given)

    def says(self, text: str = "", *, attachments: Sequence[Attachment] = (), message_id: str | None = None) -> bool:
        """``hitl.send``. True: the humans have it; False: no handoff is open, it is the bot's."""
        with self.app.app_context():
            return HubSpotHITL().send(self.conversation_id, text, attachments=attachments, message_id=message_id)

    def leaves(self, **stop: Any) -> None:
        """``hitl.stop``."""
        with self.app.app_context():
            HubSpotHITL().stop(self.conversation_id, **stop)

    # What has come of it ---------------------------------------------------------------------------------

    @property
    def handoff(self) -> Handoff | None:
        """The open handoff, or None."""
        with self.app.app_context():
            return HubSpotHITL().get(self.conversation_id)

    @property
    def transcript(self) -> list[Message]:
        """The messages of the newest handoff, oldest first."""
        with self.app.app_context():
            return HubSpotHITL().transcript(self.conversation_id)

    @property
    def state(self) -> str:
        """The open handoff's state: ``starting``, ``waiting`` or ``assigned``; ``bot`` when none is open."""
        handoff = self.handoff
        return "bot" if handoff is None else handoff.state.value

    def has_seen(self, text: str) -> bool:
        """True when an agent's message, or its file's name, holds ``text`` and all handlers have accepted it."""
        return self._seen(text) is not None

    def sees(self, text: str, *, timeout: float = PATIENCE) -> Message:
        """Wait until :meth:`has_seen` is true; the message.

        :raises AssertionError: when it was not in ``timeout`` seconds.
        """
        __tracebackhide__ = True
        what = f"{self.conversation_id} to see {text!r}"
        return wait_until(lambda: self._seen(text), what, timeout=timeout, explain=self.tell)

    def waits_for(self, state: str, *, timeout: float = PATIENCE) -> Handoff | None:
        """Wait until the open handoff is ``waiting`` or ``assigned``, or, with ``bot``, until there is none.

        :raises AssertionError: when it is not so in ``timeout`` seconds.
        """
        __tracebackhide__ = True
        what = f"{self.conversation_id}'s handoff to be {state!r}"
        wait_until(lambda: self.state == state, what, timeout=timeout, explain=self.tell)
        return self.handoff

    def _seen(self, text: str) -> Message | None:
        theirs = (one for one in self.transcript if one.author is Author.OPERATOR and one.status in HEARD)
        return next((one for one in theirs if any(text in part for part in _parts(one))), None)

    def tell(self) -> str:
        """What this user's conversation looks like, for a failure."""
        lines = [f"  {one.author.value}: {one.text!r} ({_status(one)})" for one in self.transcript]
        head = f"The conversation {self.conversation_id} is in state {self.state!r}. Its newest handoff:"
        return "\n".join([head, *(lines or ["  no messages"]), "", self.hubspot.wire()])


def _parts(message: Message) -> list[str]:
    return [message.text, *(file.name or "" for file in message.attachments)]


def _status(message: Message) -> str:
    return f"{message.status.value}: {message.error}" if message.error else message.status.value


class Agent:
    """A live agent, in one thread: by default in whichever is the newest."""

    def __init__(self, hubspot: HubSpot, *, actor_id: str, name: str, thread_id: str | None = None) -> None:
        self.hubspot = hubspot
        self.actor_id = actor_id
        self.name = name
        self._thread_id = thread_id

    def helping(self, user: User) -> Agent:
        """This agent in the thread of a user's open handoff; waits until HubSpot has it."""
        __tracebackhide__ = True

        def thread_id() -> str | None:
            handoff = user.handoff
            return handoff.thread_id if handoff else None

        found = wait_until(thread_id, f"HubSpot to open a thread for {user.conversation_id}", explain=user.tell)
        return self.in_thread(found)

    def in_thread(self, thread_id: str) -> Agent:
        """This agent in a certain thread."""
        return Agent(self.hubspot, actor_id=self.actor_id, name=self.name, thread_id=thread_id)

    @property
    def colleague(self) -> Agent:
        """Another agent of the same portal, in the same thread."""
        agents = self.hubspot.agents()
        portal = next(one["portalId"] for one in agents if one["id"] == self.actor_id)
        other = next(one for one in agents if one["portalId"] == portal and one["id"] != self.actor_id)
        return Agent(self.hubspot, actor_id=other["id"], name=other["name"], thread_id=self._thread_id)

    # What agents do --------------------------------------------------------------------------------------

    def reply(self, text: str = "", *, html: str | None = None, **more: Any) -> str:
        """Write to the user; claims the thread if nobody has it. Returns the message's id."""
        fields: Json = {"text": text, "richText": html} if html is not None else {"text": text}
        return str(self._act("reply", **fields, **more)["id"])

    def attach(self, name: str, content: bytes, *, content_type: str | None = None, text: str = "") -> str:
        """Send the user a file. Returns the message's id."""
        file: Json = {"name": name, "content": base64.b64encode(content).decode()}
        if content_type is not None:
            file["contentType"] = content_type
        return self.reply(text, attachments=[file])

    def comment(self, text: str) -> str:
        """Write to colleagues only. Returns the comment's id."""
        return str(self._act("comment", text=text)["id"])

    def assign(self) -> None:
        """Take the thread."""
        self._act("assign")

    def unassign(self) -> None:
        """Give the thread back to the queue."""
        self._act("unassign")

    def close(self) -> None:
        """Close the thread."""
        self._act("close")

    def reopen(self) -> None:
        """Open the thread again."""
        self._act("reopen")

    def archive(self) -> None:
        """Move the thread to the trash."""
        self._act("archive")

    def _act(self, action: str, **fields: Any) -> Json:
        return self.hubspot.act(self.thread["id"], action, actorId=self.actor_id, **fields)

    # What agents see -------------------------------------------------------------------------------------

    @property
    def thread(self) -> Json:
        """The thread with its messages; waits until there is one."""
        if self._thread_id is not None:
            return self.hubspot.thread(self._thread_id)
        threads = wait_until(self.hubspot.threads, "a thread to open in HubSpot", explain=self.hubspot.wire)
        return threads[-1]

    def has_seen(self, text: str) -> bool:
        """True when a message or comment of the thread, or its file's name, holds ``text``."""
        return self._seen(text) is not None

    def sees(self, text: str, *, timeout: float = PATIENCE) -> Json:
        """Wait until :meth:`has_seen` is true; the message.

        :raises AssertionError: when none does in ``timeout`` seconds.
        """
        __tracebackhide__ = True
        return wait_until(lambda: self._seen(text), f"the agent to see {text!r}", timeout=timeout, explain=self.tell)

    def sees_failed(self, message_id: str, reason: str = "", *, timeout: float = PATIENCE) -> str:
        """Wait until a message of the agent's is shown as FAILED for a reason that holds ``reason``; the reason.

        :raises AssertionError: when it is not in ``timeout`` seconds.
        """
        __tracebackhide__ = True

        def why() -> str | None:
            status: Json = next((one["status"] for one in self.thread["messages"] if one["id"] == message_id), {})
            told = str((status.get("failureDetails") or {}).get("errorMessage") or "no reason")
            return told if status.get("statusType") == "FAILED" and reason in told else None

        what = f"the agent to see message {message_id} fail" + (f" for {reason!r}" if reason else "")
        return wait_until(why, what, timeout=timeout, explain=self.tell)

    def _seen(self, text: str) -> Json | None:
        for one in self.thread["messages"]:
            parts = [one.get("text") or "", *(str(file.get("name", "")) for file in one.get("attachments") or ())]
            if any(text in part for part in parts):
                found: Json = one
                return found
        return None

    def tell(self) -> str:
        """What the thread looks like, for a failure."""
        thread = self.thread
        lines = [
            f"  {one.get('createdBy')} {one['type']}: {one.get('text', '')!r}"
            f" {(one.get('status') or {}).get('statusType', '')}".rstrip()
            for one in thread["messages"]
        ]
        head = f"Thread {thread['id']} is {thread['status']}, assigned to {thread.get('assignedTo') or 'nobody'}:"
        return "\n".join([head, *(lines or ["  no messages"]), "", self.hubspot.wire()])

"""Play the user of a story, on the host's side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Self

import requests
from flask import Flask

from ..domain import Attachment, Author, Handoff, Message, MessageStatus
from ..extension import HubSpotHITL
from .stand_in import ANSWER_SECONDS, HubSpot
from .waiting import PATIENCE, wait_until

HEARD = (MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ)
"""States of an agent's message that all handlers have accepted."""


class User:
    """A person who chats with the bot, and whom HubSpot knows by ``phone``.

    A user talks to the app by the three verbs, and sees an agent's message once all handlers have accepted it. A host
    whose users can be driven better, through its own routes say, overrides the methods and gives its class to the
    fixture ``user_class``; ``get`` and ``post`` are there for that.
    """

    def __init__(self, app: Flask, url: str, hubspot: HubSpot, numbers: itertools.count[int] | None = None) -> None:
        """Make a user, and a contact for them in HubSpot.

        :param app: the host's app.
        :param url: the address at which the app is served, without a slash at the end.
        :param hubspot: the stand-in that the app talks to.
        :param numbers: counts the users of a test, so that no two have the same id or phone number.
        """
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
        """Return this user's cookies."""
        return self._http.cookies

    def close(self) -> None:
        """Close the connections of this user, and of those made by :meth:`another`."""
        self._http.close()
        for one in self._others:
            one.close()

    def another(self) -> Self:
        """Make a further user, with a conversation, a phone number and cookies of their own.

        :returns: the user, of the same class.
        """
        found = type(self)(self.app, self.url, self.hubspot, self._numbers)
        self._others.append(found)
        return found

    # As a browser ----------------------------------------------------------------------------------------

    def get(self, path: str, **more: Any) -> requests.Response:
        """Fetch a path of the app by GET, with this user's cookies.

        :param path: with a slash at its beginning.
        :param more: keywords for ``requests``.
        :returns: the answer; redirects are not followed.
        """
        return self._request("GET", path, more)

    def post(self, path: str, **more: Any) -> requests.Response:
        """Send a POST to a path of the app as one of its own pages would: with cookies and ``Origin``.

        A header of None is left out: ``headers={"Origin": None}``.

        :param path: with a slash at its beginning.
        :param more: keywords for ``requests``.
        :returns: the answer; redirects are not followed.
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
        """Call ``hitl.start`` with this user's phone number and name.

        :param start: its other keywords.
        :returns: the handoff.
        :raises HITLError: and its kinds, as :meth:`.HubSpotHITL.start` does; so for all that follow.
        :raises ValueError: there is no contact, or an id is not valid.
        :raises TypeError: an id is of the wrong type, or a turn of the history is not understood.
        :raises RuntimeError: the extension is not on the app.
        """
        given = {"contact": self.phone, "name": self.name, **start}
        with self.app.app_context():
            return HubSpotHITL().start(self.conversation_id, **given)

    def says(self, text: str = "", *, attachments: Sequence[Attachment] = (), message_id: str | None = None) -> bool:
        """Call ``hitl.send`` for this user.

        :param text: plain text.
        :param attachments: files.
        :param message_id: the idempotency key.
        :returns: True: the humans have it. False: no handoff is open, it is the bot's.
        :raises LedgerUnavailable: as :meth:`.HubSpotHITL.send` does; so for all that follow.
        :raises ValueError: there is neither text nor file, or a file is too large or has no content.
        :raises TypeError: the text is no text.
        :raises RuntimeError: the extension is not on the app.
        """
        with self.app.app_context():
            return HubSpotHITL().send(self.conversation_id, text, attachments=attachments, message_id=message_id)

    def leaves(self, **stop: Any) -> None:
        """Call ``hitl.stop`` for this user.

        :param stop: its keywords.
        :raises LedgerUnavailable: as :meth:`.HubSpotHITL.stop` does; so for all that follow.
        :raises ValueError: there is no such reason.
        :raises TypeError: the id is of the wrong type.
        :raises RuntimeError: the extension is not on the app.
        """
        with self.app.app_context():
            HubSpotHITL().stop(self.conversation_id, **stop)

    # What has come of it ---------------------------------------------------------------------------------

    @property
    def handoff(self) -> Handoff | None:
        """Return the open handoff, or None.

        :raises LedgerUnavailable: the database can't be read.
        :raises ValueError: the id is not valid, in a subclass with ids of its own.
        :raises TypeError: the id is of the wrong type.
        :raises RuntimeError: the extension is not on the app.
        """
        with self.app.app_context():
            return HubSpotHITL().get(self.conversation_id)

    @property
    def transcript(self) -> list[Message]:
        """Return the messages of the newest handoff, oldest first.

        :raises LedgerUnavailable: the database can't be read.
        :raises ValueError: the id is not valid, in a subclass with ids of its own.
        :raises TypeError: the id is of the wrong type.
        :raises RuntimeError: the extension is not on the app.
        """
        with self.app.app_context():
            return HubSpotHITL().transcript(self.conversation_id)

    @property
    def state(self) -> str:
        """Return the open handoff's state: ``starting``, ``waiting`` or ``assigned``; ``bot`` when none is open."""
        handoff = self.handoff
        return "bot" if handoff is None else handoff.state.value

    def has_seen(self, text: str) -> bool:
        """Return True when all handlers have accepted an agent's message with this text.

        :param text: a part of the message, or of its file's name.
        """
        return self._seen(text) is not None

    def sees(self, text: str, *, timeout: float = PATIENCE) -> Message:
        """Wait until :meth:`has_seen` is true.

        :param text: a part of the message, or of its file's name.
        :param timeout: seconds.
        :returns: the message.
        :raises AssertionError: it was not seen in time.
        """
        __tracebackhide__ = True
        what = f"{self.conversation_id} to see {text!r}"
        return wait_until(lambda: self._seen(text), what, timeout=timeout, explain=self.tell)

    def waits_for(self, state: str, *, timeout: float = PATIENCE) -> Handoff | None:
        """Wait until the user's conversation is in a state.

        :param state: ``waiting`` or ``assigned``; ``bot``: no handoff is open.
        :param timeout: seconds.
        :returns: the open handoff; None in state ``bot``.
        :raises AssertionError: it was in another state all the time.
        """
        __tracebackhide__ = True
        what = f"{self.conversation_id}'s handoff to be {state!r}"
        wait_until(lambda: self.state == state, what, timeout=timeout, explain=self.tell)
        return self.handoff

    def _seen(self, text: str) -> Message | None:
        theirs = (one for one in self.transcript if one.author is Author.OPERATOR and one.status in HEARD)
        return next((one for one in theirs if any(text in part for part in _parts(one))), None)

    def tell(self) -> str:
        """Describe this user's conversation, for a failure.

        :returns: lines of text.
        """
        lines = [f"  {one.author.value}: {one.text!r} ({_status(one)})" for one in self.transcript]
        head = f"The conversation {self.conversation_id} is in state {self.state!r}. Its newest handoff:"
        return "\n".join([head, *(lines or ["  no messages"]), "", self.hubspot.wire()])


def _parts(message: Message) -> list[str]:
    return [message.text, *(file.name or "" for file in message.attachments)]


def _status(message: Message) -> str:
    return f"{message.status.value}: {message.error}" if message.error else message.status.value

"""Play the agent of a story, on HubSpot's side."""

from __future__ import annotations

import base64
from typing import Any

from .stand_in import HubSpot, Json
from .users import User
from .waiting import PATIENCE, wait_until


class Agent:
    """A live agent, in one thread: by default in whichever is the newest."""

    def __init__(self, hubspot: HubSpot, *, actor_id: str, name: str, thread_id: str | None = None) -> None:
        """Make an agent.

        :param hubspot: the stand-in in which the agent works.
        :param actor_id: ``A-<user id>``, one of :meth:`.HubSpot.agents`.
        :param name: the agent's name.
        :param thread_id: HubSpot's id of the thread; None: whichever is the newest.
        """
        self.hubspot = hubspot
        self.actor_id = actor_id
        self.name = name
        self._thread_id = thread_id

    def helping(self, user: User) -> Agent:
        """Turn to the thread of a user's open handoff; wait until HubSpot has it.

        :param user: the user.
        :returns: this agent in that thread.
        :raises AssertionError: there was no such thread within :data:`PATIENCE` seconds.
        """
        __tracebackhide__ = True

        def thread_id() -> str | None:
            handoff = user.handoff
            return handoff.thread_id if handoff else None

        found = wait_until(thread_id, f"HubSpot to open a thread for {user.conversation_id}", explain=user.tell)
        return self.in_thread(found)

    def in_thread(self, thread_id: str) -> Agent:
        """Turn to a certain thread.

        :param thread_id: HubSpot's id of the thread.
        :returns: this agent in that thread.
        """
        return Agent(self.hubspot, actor_id=self.actor_id, name=self.name, thread_id=thread_id)

    @property
    def colleague(self) -> Agent:
        """Return another agent of the same portal, in the same thread."""
        agents = self.hubspot.agents()
        portal = next(one["portalId"] for one in agents if one["id"] == self.actor_id)
        other = next(one for one in agents if one["portalId"] == portal and one["id"] != self.actor_id)
        return Agent(self.hubspot, actor_id=other["id"], name=other["name"], thread_id=self._thread_id)

    def begin(self, to: str, text: str) -> Agent:
        """Begin a conversation with a contact, where ``setup`` was run with ``AGENTS_MAY_START``.

        :param to: the contact's phone number or e-mail address.
        :param text: the first message.
        :returns: this agent in that thread.
        :raises AssertionError: HubSpot refused it.
        """
        return self.in_thread(str(self.hubspot.begin(to, text, actorId=self.actor_id)["id"]))

    # What agents do --------------------------------------------------------------------------------------

    def reply(self, text: str = "", *, html: str | None = None, **more: Any) -> str:
        """Write to the user; this takes the thread if nobody has it.

        :param text: plain text.
        :param html: the same as HTML; by default HubSpot makes it of the text.
        :param more: further fields: ``attachments``, ``createdAt`` (ISO 8601), ``occurredAt`` (epoch milliseconds).
        :returns: the message's id.
        :raises AssertionError: HubSpot refused it, or there is no thread.
        """
        fields: Json = {"text": text, "richText": html} if html is not None else {"text": text}
        return str(self._act("reply", **fields, **more)["id"])

    def offer(self, text: str, *choices: str | tuple[str, str]) -> str:
        """Write to the user and offer answers: HubSpot's quick replies.

        :param text: plain text.
        :param choices: each a label, or a label and the value that it stands for; a value that is an https address is
            a link.
        :returns: the message's id.
        :raises AssertionError: HubSpot refused it, or there is no thread.
        """
        pairs = [(one, one) if isinstance(one, str) else one for one in choices]
        replies = [
            {"label": label, "value": value, "valueType": "URL" if value.startswith("https://") else "TEXT"}
            for label, value in pairs
        ]
        offered: Json = {"type": "QUICK_REPLIES", "quickReplies": replies}
        return self.reply(text, attachments=[{**offered, "allowMultiSelect": False, "allowUserInput": True}])

    def attach(self, name: str, content: bytes, *, content_type: str | None = None, text: str = "") -> str:
        """Send the user a file.

        :param name: the file's name.
        :param content: the file's bytes.
        :param content_type: its media type.
        :param text: plain text beside it.
        :returns: the message's id.
        :raises AssertionError: HubSpot refused it, or there is no thread.
        """
        file: Json = {"name": name, "content": base64.b64encode(content).decode()}
        if content_type is not None:
            file["contentType"] = content_type
        return self.reply(text, attachments=[file])

    def comment(self, text: str) -> str:
        """Write to colleagues only.

        :param text: plain text.
        :returns: the comment's id.
        :raises AssertionError: HubSpot refused it, or there is no thread.
        """
        return str(self._act("comment", text=text)["id"])

    def assign(self) -> None:
        """Take the thread.

        :raises AssertionError: there is no thread.
        """
        self._act("assign")

    def unassign(self) -> None:
        """Give the thread back to the queue.

        :raises AssertionError: there is no thread.
        """
        self._act("unassign")

    def hand_to(self, actor_id: str) -> None:
        """Give the thread to a colleague, or to a machine.

        :param actor_id: ``A-987``; ``L-77``: an AI agent; ``B-77``: a chatflow's bot.
        :raises AssertionError: there is no thread.
        """
        self.hubspot.act(self.thread["id"], "assign", actorId=actor_id)

    def move(self, inbox_id: str) -> None:
        """Move the thread to another inbox. HubSpot tells the app nothing of it: it is seen when the thread is read.

        :param inbox_id: the inbox or help desk.
        :raises AssertionError: there is no such inbox, or no thread.
        """
        self._act("move", inboxId=inbox_id)

    def close(self) -> None:
        """Close the thread.

        :raises AssertionError: there is no thread.
        """
        self._act("close")

    def reopen(self) -> None:
        """Open the thread again.

        :raises AssertionError: there is no thread.
        """
        self._act("reopen")

    def archive(self) -> None:
        """Move the thread to the trash.

        :raises AssertionError: there is no thread.
        """
        self._act("archive")

    def away(self) -> None:
        """Say that the agent is not there, in whatever thread.

        :raises AssertionError: HubSpot refused it.
        """
        self.hubspot.availability(self.actor_id, status="away")

    def available(self) -> None:
        """Say that the agent is there.

        :raises AssertionError: HubSpot refused it.
        """
        self.hubspot.availability(self.actor_id, status="available")

    def works(self, days: str, start: int, end: int, *, zone: str = "UTC") -> None:
        """Say when the agent works.

        :param days: such as ``MONDAY_TO_FRIDAY`` or ``EVERY_DAY``.
        :param start: minute of the day.
        :param end: minute of the day.
        :param zone: the agent's time zone, such as ``Europe/Madrid``.
        :raises AssertionError: HubSpot refused it.
        """
        hours = [{"days": days, "startMinute": start, "endMinute": end}]
        self.hubspot.availability(self.actor_id, timeZone=zone, workingHours=hours)

    def _act(self, action: str, **fields: Any) -> Json:
        return self.hubspot.act(self.thread["id"], action, actorId=self.actor_id, **fields)

    # What agents see -------------------------------------------------------------------------------------

    @property
    def thread(self) -> Json:
        """Return the thread with its messages; wait until there is one.

        :raises AssertionError: there was none within :data:`PATIENCE` seconds.
        """
        if self._thread_id is not None:
            return self.hubspot.thread(self._thread_id)
        threads = wait_until(self.hubspot.threads, "a thread to open in HubSpot", explain=self.hubspot.wire)
        return threads[-1]

    def has_seen(self, text: str) -> bool:
        """Return True when the thread has a message or comment with this text.

        :param text: a part of the message, or of its file's name.
        :raises AssertionError: there is no thread.
        """
        return self._seen(text) is not None

    def sees(self, text: str, *, timeout: float = PATIENCE) -> Json:
        """Wait until :meth:`has_seen` is true.

        :param text: a part of the message, or of its file's name.
        :param timeout: seconds.
        :returns: the message, as HubSpot's API shows it.
        :raises AssertionError: it was not seen in time.
        """
        __tracebackhide__ = True
        return wait_until(lambda: self._seen(text), f"the agent to see {text!r}", timeout=timeout, explain=self.tell)

    def sees_failed(self, message_id: str, reason: str = "", *, timeout: float = PATIENCE) -> str:
        """Wait until a message of the agent's is shown as FAILED.

        :param message_id: the id that :meth:`reply` returned.
        :param reason: a part of the reason that is shown.
        :param timeout: seconds.
        :returns: the reason.
        :raises AssertionError: the message did not fail in time, or for another reason.
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
        """Describe the thread, for a failure.

        :returns: lines of text.
        :raises AssertionError: there is no thread.
        """
        thread = self.thread
        lines = [
            f"  {one.get('createdBy')} {one['type']}: {one.get('text', '')!r}"
            f" {(one.get('status') or {}).get('statusType', '')}".rstrip()
            for one in thread["messages"]
        ]
        head = f"Thread {thread['id']} is {thread['status']}, assigned to {thread.get('assignedTo') or 'nobody'}:"
        return "\n".join([head, *(lines or ["  no messages"]), "", self.hubspot.wire()])

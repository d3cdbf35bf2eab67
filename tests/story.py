"""One conversation, told step by step: an inline app, the stand-in as HubSpot's API, and events posted by hand.

The stand-in's own deliveries are held back, so that a test decides what arrives, when, and in which order.
"""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from flask_hubspot_hitl import Handoff, HubSpotHITL
from flask_hubspot_hitl.clock import ManualClock, to_datetime

from .helpers import (
    HubSpot,
    Json,
    Recorder,
    app_event,
    assigned_event,
    new_message_event,
    signed_post,
    state_of,
    status_event,
)

PHONE = "+34911222333"
"""Rosa Vidal's, whom the stand-in knows."""


class Story:
    """What a test does and sees."""

    def __init__(self, app: Flask, hubspot: HubSpot, clock: ManualClock, recorder: Recorder) -> None:
        self.app = app
        self.hubspot = hubspot
        self.clock = clock
        self.recorder = recorder
        self.state = state_of(app)
        self.hitl = HubSpotHITL()
        self.client = app.test_client()
        hubspot.chaos(deliver=False)

    @property
    def now(self) -> int:
        """The app's time, epoch ms."""
        return self.clock.now_ms()

    # The host ------------------------------------------------------------------------------------------

    def start(self, conversation_id: str = "c1", **fields: Any) -> Handoff:
        with self.app.app_context():
            return self.hitl.start(conversation_id, **{"contact": PHONE, "name": "Rosa", **fields})

    def send(self, text: str = "hello", conversation_id: str = "c1", **fields: Any) -> bool:
        with self.app.app_context():
            return self.hitl.send(conversation_id, text, **fields)

    def stop(self, conversation_id: str = "c1", **fields: Any) -> None:
        with self.app.app_context():
            self.hitl.stop(conversation_id, **fields)

    def is_active(self, conversation_id: str = "c1") -> bool:
        with self.app.app_context():
            return self.hitl.is_active(conversation_id)

    def handoff(self, conversation_id: str = "c1") -> Handoff | None:
        with self.app.app_context():
            return self.hitl.get(conversation_id)

    def transcript(self, conversation_id: str = "c1") -> list[tuple[str, str, str]]:
        with self.app.app_context():
            return [(m.author.value, m.text, m.status.value) for m in self.hitl.transcript(conversation_id)]

    # HubSpot -------------------------------------------------------------------------------------------

    def post(self, payload: Any, **more: Any) -> TestResponse:
        answer = signed_post(self.client, payload, **more)
        assert answer.status_code == 204, answer.text
        return answer

    def assigned(self, thread: str | None, actor: Any = "A-987", *, at: int, **fields: Any) -> None:
        self.post([assigned_event(actor, at=at, thread=str(thread), **fields)])

    def status(self, thread: str | None, value: str, *, at: int, **fields: Any) -> None:
        self.post([status_event(value, at=at, thread=str(thread), **fields)])

    def event(self, kind: str, thread: str | None, *, at: int, **fields: Any) -> None:
        self.post([app_event(kind, at=at, thread=str(thread), **fields)])

    def new_message(self, thread: str | None, message_id: str, *, at: int) -> None:
        self.post([new_message_event(message_id, at=at, thread=str(thread))])

    def write(self, thread: str | None, text: str = "Hi Rosa", *, at: int | None = None, **fields: Any) -> Json:
        """The agent writes in the stand-in; nothing is delivered. Answers the channel's event for it."""
        if at is not None:
            fields["createdAt"] = to_datetime(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = self.hubspot.act(thread, "reply", text=text, **fields)
        return self.event_of(next(one for one in self.hubspot.threads() if one["id"] == thread), message)

    def event_of(self, thread: Json, message: Json) -> Json:
        """The channel's event for an agent's message."""
        return {
            "type": "OUTGOING_CHANNEL_MESSAGE_CREATED",
            "portalId": "424242",
            "channelId": message["channelId"],
            "eventTimestamp": message["createdAt"],
            "eventId": f"event-{message['id']}",
            "channelIntegrationThreadIds": [thread["integrationThreadId"]],
            "message": message,
        }

    def says(self, thread: str | None, text: str = "Hi Rosa", *, at: int | None = None, **fields: Any) -> Json:
        """The agent writes, and the channel's event for it arrives."""
        event = self.write(thread, text, at=at, **fields)
        self.post(event)
        return event

    def message_status(self, thread: str | None, event: Json) -> Json:
        """What the agent sees below the message: ``statusType`` and, when it failed, the reason."""
        messages = self.hubspot.thread(thread)["messages"]
        found: Json = next(one["status"] for one in messages if one["id"] == event["message"]["id"])
        return found

    # The dispatcher ------------------------------------------------------------------------------------

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass, then run what is due."""
        self.clock.advance(seconds)
        self.state.dispatcher.run_due()

    def names(self) -> list[str]:
        """The signals so far, without those about our own messages."""
        return [name for name in self.recorder.names() if name not in ("message_delivered", "event_dead")]

    def recorder_texts(self, conversation_id: str, *names: str) -> list[str]:
        """The user's messages that were signalled as delivered or failed."""
        return [
            one["message"].text
            for name in names or ("message_delivered", "message_failed")
            for one in self.recorder.of(name)
            if one["handoff"].conversation_id == conversation_id
        ]

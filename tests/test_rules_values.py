"""docs/rules.rst A: the values a host sees are frozen, ids are text, times aware, and repr tells no secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

import flask_hubspot_hitl as package
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp
from .helpers import HubSpot, Recorder
from .story import PHONE, Story

SECRET = "something-personal"
VALUES: list[Any] = [
    package.Contact(phone=SECRET, email=SECRET),
    package.Operator("A-1", "Noor", email=SECRET, avatar=SECRET),
    package.Attachment(name=SECRET, url=SECRET, content=SECRET.encode()),
    package.Message("m1", package.Author.USER, text=SECRET, html=SECRET, error=SECRET),
    package.HistoryEntry("user", SECRET),
    package.Handoff(
        "h1", "c1", "424242", None, None, package.HandoffState.WAITING,
        contact=package.Contact(phone=SECRET), name=SECRET, title=SECRET, description=SECRET,
        attributes={"a": SECRET}, detail=SECRET,
    ),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_values_are_frozen_and_repr_hides_what_is_personal(value: Any) -> None:
    assert SECRET not in repr(value)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, "other")


def test_a_enums_are_text() -> None:
    assert f"{package.CloseReason.AGENT}" == "agent"
    assert {one.value for one in package.HandoffState} == {"starting", "waiting", "assigned", "closed", "failed"}
    assert {one.value for one in package.CloseReason} == {"agent", "user", "timeout", "archived", "deleted"}


def test_a_ids_are_text_and_times_are_utc(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Callable[[Flask], Recorder]
) -> None:
    app = make_app(clock=clock, dispatcher="inline")
    story = Story(app, hubspot, clock, record(app))
    handoff = story.start(contact=PHONE)
    ids = (handoff.id, handoff.conversation_id, handoff.portal_id, handoff.inbox_id, handoff.thread_id)
    assert all(isinstance(one, str) for one in ids)
    assert isinstance(handoff.opened_at, datetime)
    assert handoff.opened_at.utcoffset() == timedelta(0)
    story.says(handoff.thread_id)
    message = story.recorder.of("operator_message")[0]["message"]
    assert message.created_at.tzinfo is UTC
    assert isinstance(message.message_id, str)

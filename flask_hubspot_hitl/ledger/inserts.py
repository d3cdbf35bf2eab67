"""Say what is stored of a new event: its own columns, and its lane's, which it makes due. Runs no statement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import InitVar, dataclass
from typing import Any

import sqlalchemy as sa

from ..domain import Handoff
from ..process import dice
from . import codec, lanes
from .schema import EventState, event, lane
from .states import State

_LATER = ("id", "starts", "attempts", "done_at", "correlation_id")
PUT = [name for name in event.c.keys() if name not in _LATER]  # noqa: SIM118 - no dict
"""Columns that an event is stored with."""
_AS_THEY_ARE = ("dedupe_key", "lane", "sort_at", "portal_id", "thread_id", "handoff_id", "error")
"""Columns that are fields of a new event."""


@dataclass(slots=True, kw_only=True)
class NewEvent:
    """Hold an event to put into a lane. ``sort_at`` and ``due_at`` are epoch ms."""

    dedupe_key: str
    lane: str | None
    topic: str
    sort_at: int
    portal_id: str | None = None
    thread_id: str | None = None
    handoff_id: str | None = None
    payload: Any = None
    """What its task is told, as JSON."""
    state_at_first: State | None = None
    """What is known of it already."""
    state: EventState = EventState.PENDING
    error: str | None = None
    due_at: int | None = None
    """Epoch ms at which an idle lane becomes due; None: now."""
    handoff: InitVar[Handoff | None] = None
    """Whom it is about: its portal, thread and id are the event's."""

    def __post_init__(self, handoff: Handoff | None) -> None:
        if handoff is not None:
            self.portal_id, self.thread_id, self.handoff_id = handoff.portal_id, handoff.thread_id, handoff.id


def touching(insert: Any, choose: Callable[[list[Any]], sa.Select[Any]] | None) -> Any:
    """Return the statement that inserts a lane or makes it due, without shortening a lease or a back-off.

    :param choose: selects the values it is given where that is to be done; None: always.
    """
    names = ["key", "due_at", "fence", "work", "portal_id"]
    given: list[Any] = [*(sa.bindparam(name, type_=lane.c[name].type) for name in names), sa.literal_column("1")]
    new = insert(lane)
    if choose is None:
        new = new.values(dict(zip([*names, "wake"], given, strict=True)))
    else:
        new = new.from_select([*names, "wake"], choose(given))
    return new.on_conflict_do_update(
        index_elements=["key"],
        set_={
            "wake": lane.c.wake + 1,
            "due_at": sa.func.coalesce(lane.c.due_at, new.excluded.due_at),
            "portal_id": sa.case((lane.c.portal_id == "", new.excluded.portal_id), else_=lane.c.portal_id),
        },
    )


def event_row(new: NewEvent, now: int) -> dict[str, Any]:
    """Return the columns of a new event."""
    return {
        **{name: getattr(new, name) for name in _AS_THEY_ARE},
        "topic": str(new.topic),
        "payload": None if new.payload is None else codec.dumps(new.payload),
        "progress": None if new.state_at_first is None else codec.dumps(new.state_at_first.to_json()),
        "state": int(new.state),
        "received_at": now,
    }


def lane_row(key: str, due_at: int, portal_id: str | None = None) -> dict[str, Any]:
    """Return the columns of a lane that is touched.

    A new one's fence begins anywhere: a lane that was deleted and is made again is another one.
    """
    whose = {"work": int(lanes.work_of(key)), "portal_id": portal_id or ""}
    return {"key": key, "due_at": due_at, "fence": dice.getrandbits(48), **whose}

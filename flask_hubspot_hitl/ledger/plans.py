"""Define the plan of an event: which signals are to be sent, one after the other, as it is stored.

A plan is written by the part that decides (``handoffs``, ``portals``, the runner), and carried out by ``emission``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from ..clock import to_datetime, to_ms
from ..domain import Author, CloseReason, Handoff, HandoffState, Message, MessageStatus, Operator
from .codec import operator_from_json, operator_to_json
from .inserts import NewEvent
from .lanes import Topic
from .states import Codec, State, stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Hold what of a handoff may have changed until a signal is sent. Times are epoch ms.

    A ``state`` or ``reason`` of another version is refused by :meth:`onto`, not before: its event must stay readable.
    """

    state: str
    inbox_id: str | None = None
    operator: Operator | None
    assigned_at: int | None
    closed_at: int | None
    reason: str | None
    detail: str | None

    @classmethod
    def of(cls, handoff: Handoff) -> Snapshot:
        """Return a handoff as it is at this moment."""
        return cls(
            state=handoff.state,
            inbox_id=handoff.inbox_id,
            operator=handoff.operator,
            assigned_at=to_ms(handoff.assigned_at) if handoff.assigned_at else None,
            closed_at=to_ms(handoff.closed_at) if handoff.closed_at else None,
            reason=handoff.reason,
            detail=handoff.detail,
        )

    def onto(self, handoff: Handoff) -> Handoff:
        """Return the handoff as it was when the snapshot was taken.

        :raises ValueError: when this version knows no such state or reason.
        """
        return replace(
            handoff,
            state=HandoffState(self.state),
            inbox_id=self.inbox_id or handoff.inbox_id,
            operator=self.operator,
            reason=CloseReason(self.reason) if self.reason else None,
            detail=self.detail,
            assigned_at=None if self.assigned_at is None else to_datetime(self.assigned_at),
            closed_at=None if self.closed_at is None else to_datetime(self.closed_at),
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Snapshot:
        """Return what :meth:`to_json` gave."""
        known: dict[str, Any] = {name: value.get(name) for name in cls.__slots__}
        return cls(**{**known, "operator": operator_from_json(value.get("operator"))})

    def to_json(self) -> dict[str, Any]:
        """Return the snapshot as it is stored."""
        known = dict(zip(self.__slots__, _of_snapshot(self), strict=True))
        if self.inbox_id is None:
            del known["inbox_id"]  # versions before did not store it
        known["operator"] = operator_to_json(self.operator)
        return known


_of_snapshot: Callable[[Any], tuple[Any, ...]] = attrgetter(*Snapshot.__slots__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """Hold what is left to tell of a handoff that was erased: ids and times, no name, no contact, no words.

    It stands in no row but that of the signal's own event, and is gone when the receivers have accepted that.
    """

    handoff: Handoff
    message: Message | None = None

    @classmethod
    def of(cls, handoff: Handoff, message: Message | None = None) -> Bare:
        """Return a handoff, and a message of the user's that was not delivered, without what they held."""
        return cls.from_json(cls(handoff=handoff, message=message).to_json())

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Bare:
        """Return what :meth:`to_json` gave."""
        told, said = value["handoff"], value.get("message")
        times: dict[str, Any] = {name: to_datetime(told[name]) for name in _TIMES if told[name] is not None}
        state, reason = HandoffState(told["state"]), told["reason"]
        handoff = Handoff(
            **{name: told[name] for name in _IDS},
            **times,
            state=state,
            reason=CloseReason(reason) if reason else None,
            attributes=told.get("attributes", {}),
        )
        if said is None:
            return cls(handoff=handoff)
        at = None if said["created_at"] is None else to_datetime(said["created_at"])
        status, error = MessageStatus(said["status"]), said["error"]
        message = Message(said["message_id"], Author(said["author"]), created_at=at, status=status, error=error)
        return cls(handoff=handoff, message=message)

    def to_json(self) -> dict[str, Any]:
        """Return it as it is stored."""
        handoff, said = self.handoff, self.message
        moments = {name: getattr(handoff, name) for name in _TIMES}
        told = {
            **{name: getattr(handoff, name) for name in _IDS},
            **{name: at and to_ms(at) for name, at in moments.items()},
            "state": handoff.state,
            "reason": handoff.reason,
            "attributes": _of_the_bridge(handoff.attributes),
        }
        if said is None:
            return {"handoff": told}
        message = {name: getattr(said, name) for name in ("message_id", "author", "status", "error")}
        return {"handoff": told, "message": {**message, "created_at": said.created_at and to_ms(said.created_at)}}


_IDS = ("id", "conversation_id", "portal_id", "inbox_id", "thread_id")
_TIMES = ("opened_at", "assigned_at", "closed_at")


def _of_the_bridge(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return which bridge a handoff is of, and when its session began: the bridge's service must hear of the end."""
    name, made_at = attributes.get("bridge"), attributes.get("made_at")
    is_of_one = isinstance(name, str) and re.fullmatch("[a-z-]{1,20}", name) and isinstance(made_at, int)
    return {"bridge": name, "made_at": made_at} if is_of_one else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Hold one signal that is to be sent."""

    signal: str
    handoff_id: str | None = None
    snapshot: Snapshot | None = None
    message_row: int | None = None
    operator: Operator | None = None
    """Who has the conversation now, for ``operator_assigned``; ``previous`` is who had it."""
    previous: Operator | None = None
    reason: str | None = None
    """Why the conversation ended, a :class:`CloseReason`."""
    bare: Bare | None = None
    """What is told in the place of rows that are gone."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Keywords that receivers get as they are, all JSON; those of another version stay here unsent."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Step:
        """Return what :meth:`to_json` gave."""
        left = dict(value)
        snapshot, bare = left.pop("snapshot", None), left.pop("bare", None)
        return cls(
            signal=left.pop("signal"),
            handoff_id=left.pop("handoff", None),
            snapshot=None if snapshot is None else Snapshot.from_json(snapshot),
            message_row=left.pop("message_row", None),
            operator=operator_from_json(left.pop("operator", None)),
            previous=operator_from_json(left.pop("previous", None)),
            reason=left.pop("reason", None),
            bare=None if bare is None else Bare.from_json(bare),
            facts=left,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the step as it is stored."""
        snapshot = None if self.snapshot is None else self.snapshot.to_json()
        known = {"handoff": self.handoff_id, "snapshot": snapshot, "message_row": self.message_row}
        found = {"signal": self.signal, **self.facts}
        found |= {name: value for name, value in {**known, "reason": self.reason}.items() if value is not None}
        if self.operator is not None:
            found |= {"operator": operator_to_json(self.operator), "previous": operator_to_json(self.previous)}
        if self.bare is not None:
            found["bare"] = self.bare.to_json()
        return found


Plan = list[Step]


_CODEC = Codec(lambda plan: [step.to_json() for step in plan], lambda value: [Step.from_json(one) for one in value])


@dataclass(slots=True, kw_only=True, eq=False)
class Decided(State):
    """Hold a plan; None until it is decided which signals an event leads to."""

    plan: Plan | None = field(default=None, metadata=stored("plan", _CODEC))


def signal_event(plan: Plan, *, key: str, lane: str, sort_at: int, **about: Any) -> NewEvent:
    """Return an event that has nothing to decide: its signals are to be sent.

    :param key: its dedupe key; of two events with the same one only the first is stored.
    :param sort_at: epoch ms, its place in the lane.
    :param about: further fields of the event: whom the signals are about.
    """
    decided = Decided(plan=plan)
    return NewEvent(dedupe_key=key, lane=lane, topic=Topic.SIGNAL, sort_at=sort_at, state_at_first=decided, **about)

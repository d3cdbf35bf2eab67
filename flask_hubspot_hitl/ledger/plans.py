"""Define the plan of an event: which signals are to be sent, one after the other, as it is stored.

A plan is written by the part that decides (``handoffs``, ``portals``, the runner), and carried out by ``emission``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..clock import to_datetime, to_ms
from ..domain import CloseReason, Handoff, HandoffState, Operator
from .codec import operator_from_json, operator_to_json
from .lanes import Topic
from .queue import NewEvent
from .states import Codec, State, stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Hold what of a handoff may have changed until a signal is sent. Times are epoch ms.

    A ``state`` or ``reason`` of another version is refused by :meth:`onto`, not before: its event must stay readable.
    """

    state: str
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
        known = {name: getattr(self, name) for name in self.__slots__}
        return {**known, "operator": operator_to_json(self.operator)}


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
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Keywords that receivers get as they are, all JSON; those of another version stay here unsent."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Step:
        """Return what :meth:`to_json` gave."""
        left = dict(value)
        snapshot = left.pop("snapshot", None)
        return cls(
            signal=left.pop("signal"),
            handoff_id=left.pop("handoff", None),
            snapshot=None if snapshot is None else Snapshot.from_json(snapshot),
            message_row=left.pop("message_row", None),
            operator=operator_from_json(left.pop("operator", None)),
            previous=operator_from_json(left.pop("previous", None)),
            reason=left.pop("reason", None),
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

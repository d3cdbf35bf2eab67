"""Sum up a handoff at its end: who answered, and how long it took. Runs no statement (docs/rules.rst K4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..clock import to_ms
from ..domain import Operator
from ..hubspot.fields import PERSON
from ..ledger import HandoffRecord
from ..ledger.codec import operator_from_json, operator_to_json
from ..metrics import OPEN, TO_ANSWER, TO_ASSIGNMENT

_SECONDS = ("seconds_to_assignment", "seconds_to_answer", "seconds_open")
MEASURED = tuple(zip((TO_ASSIGNMENT, TO_ANSWER, OPEN), _SECONDS, strict=True))
"""What is measured of each handoff that ends, with the keyword that has it."""


def took_part(record: HandoffRecord, operator: Operator | None) -> None:
    """Remember who took the handoff or wrote, behind those before; a machine is left out."""
    if operator is None or not operator.actor_id.startswith(PERSON):
        return
    known = {one.actor_id: one for one in record.operators}
    first = known.get(operator.actor_id, operator)
    known[operator.actor_id] = operator if first.name is None else first
    record.operators = tuple(known.values())


def facts_of(record: HandoffRecord) -> dict[str, Any]:
    """Return what ``conversation_completed`` tells of a handoff that ends, as JSON."""
    handoff = record.handoff
    began = to_ms(handoff.opened_at) if handoff.opened_at else None
    moments = (record.taken_at, record.answered_at, record.closed_ms or None)
    # HubSpot's clock may be a little behind ours.
    seconds = (None if at is None or began is None else max(0, at - began) / 1000 for at in moments)
    operators = [operator_to_json(one) for one in record.operators]
    return {"operators": operators, **dict(zip(_SECONDS, seconds, strict=True))}


def values_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of the receivers; of a handoff that ended in an older version, or was erased, all empty."""
    known = (operator_from_json(one) for one in facts.get("operators") or ())
    return {"operators": [one for one in known if one is not None], **{name: facts.get(name) for name in _SECONDS}}

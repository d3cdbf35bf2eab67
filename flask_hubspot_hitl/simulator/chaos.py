"""The switches: everything HubSpot does on a bad day, and every answer its documentation leaves open.

``POST /_sim/chaos`` changes them. The defaults are a good day: no limits, channels visible at once, one delivery
after the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .wire import ApiError
from .world import JSON

MODES = ("status", "drop", "status_after", "drop_after", "delay")


@dataclass
class Fault:
    """One rule: what goes wrong with requests whose ``METHOD /path`` matches, ``times`` times (None = forever).

    ``status`` and ``drop`` happen instead of the request, ``*_after`` once it was carried out; ``delay`` holds the
    answer of a request that was carried out back for ``seconds``.
    """

    match: str
    times: int | None = None
    mode: str = "status"
    status: int = 503
    retry_after: float | None = None
    seconds: float = 8


@dataclass
class Chaos:
    """All switches with their defaults."""

    own_publish_events: bool = True
    duplicates: int = 0
    deliver: bool = True
    drop_deliveries: bool = False
    retry_delays: list[float] = field(default_factory=lambda: [0.5, 1, 2, 4, 8, 15, 30, 60, 60, 60])
    page_size: int | None = None
    notes: str = "ok"
    unassign_value: str = "empty"
    assignee_form: str = "actor"
    status_form: str = "object"
    attachment_url: bool = True
    channel_thread_ids: str = "given"
    signatures: str = "v1+v3"
    unknown_contact: str = "visitor"
    closed_publish: str = "reopen"
    echo_outgoing: bool = False
    rotate_refresh_tokens: bool = False
    token_seconds: int = 1800
    revoked: bool = False
    latency: float = 0
    channel_hidden_polls: int = 0
    faults: list[Fault] = field(default_factory=list)

    def values(self) -> JSON:
        """All current values, as JSON."""
        return asdict(self)

    def change(self, changes: JSON) -> None:
        """Change some switches, all or none of them. Raises ApiError (400) for an unknown key or a bad value."""
        known = [f.name for f in fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise ApiError.invalid("body", f"unknown switches {unknown}; known are {known}")
        checked = {name: CHECKS[name](name, value) for name, value in changes.items()}
        for name, value in checked.items():
            setattr(self, name, value)

    def fault_for(self, method: str, path: str) -> Fault | None:
        """The first rule that applies to a request; uses up one of its times."""
        for fault in self.faults:
            if fault.times != 0 and re.search(fault.match, f"{method} {path}"):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


def _bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ApiError.invalid(name, "must be true or false")
    return value


def _int(name: str, value: Any, low: int = 0, high: int = 10**9) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ApiError.invalid(name, f"must be an integer from {low} to {high}")
    return value


def _page_size(name: str, value: Any) -> int | None:
    return None if value is None else _int(name, value, 1, 1000)


def _seconds(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 3600:
        raise ApiError.invalid(name, "must be a number of seconds from 0 to 3600")
    return value


def _delays(name: str, value: Any) -> list[float]:
    if not isinstance(value, list):
        raise ApiError.invalid(name, "must be a list of seconds")
    return [_seconds(name, item) for item in value]


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in choices:
            raise ApiError.invalid(name, f"must be one of {list(choices)}")
        return str(value)

    return check


def _faults(name: str, value: Any) -> list[Fault]:
    if not isinstance(value, list):
        raise ApiError.invalid(name, "must be a list of rules")
    rules = []
    known = {f.name for f in fields(Fault)}
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("match"), str) or set(item) - known:
            raise ApiError.invalid(name, f"a rule is an object with `match` and some of {sorted(known)}")
        rule = Fault(**item)
        try:
            re.compile(rule.match)
        except (re.error, RecursionError, OverflowError) as problem:
            raise ApiError.invalid(name, f"bad regular expression: {problem}") from None
        if rule.times is not None:
            _int("times", rule.times)
        _one_of(*MODES)("mode", rule.mode)
        _int("status", rule.status, 100, 599)
        if rule.retry_after is not None:
            _seconds("retry_after", rule.retry_after)
        _seconds("seconds", rule.seconds)
        rules.append(rule)
    return rules


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "own_publish_events": _bool,
    "duplicates": lambda name, value: _int(name, value, 0, 100),
    "deliver": _bool,
    "drop_deliveries": _bool,
    "retry_delays": _delays,
    "page_size": _page_size,
    "notes": _one_of("ok", "refused"),
    "unassign_value": _one_of("empty", "null", "missing"),
    "assignee_form": _one_of("actor", "bare"),
    "status_form": _one_of("object", "string"),
    "attachment_url": _bool,
    "channel_thread_ids": _one_of("given", "empty", "missing"),
    "signatures": _one_of("v1+v3", "v3", "v1", "wrong"),
    "unknown_contact": _one_of("visitor", "reject"),
    "closed_publish": _one_of("reopen", "new_thread"),
    "echo_outgoing": _bool,
    "rotate_refresh_tokens": _bool,
    "token_seconds": _int,
    "revoked": _bool,
    "latency": _seconds,
    "channel_hidden_polls": _int,
    "faults": _faults,
}

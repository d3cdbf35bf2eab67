"""What a switch may be set to, how one is declared, and how ``key=value,…`` of the command line is read.

Knows no switch by name: those are in ``chaos.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import field
from typing import Any

from ..model.errors import ApiError
from ..model.world import JSON

Check = Callable[[str, Any], Any]
"""Takes a switch's name and a JSON value; returns what to set it to. Raises ApiError (400)."""


def switch(default: Any, check: Check, meaning: str) -> Any:
    """A dataclass field that is a switch."""
    metadata = {"check": check, "meaning": meaning}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def boolean(name: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ApiError.invalid(name, "must be true or false")
    return value


def text(name: str, value: Any) -> str:
    """A text of at most 200 characters."""
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise ApiError.invalid(name, "must be text of at most 200 characters")
    return value


def integer(low: int = 0, high: int = 10**9) -> Check:
    """A whole number in a range."""

    def check(name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ApiError.invalid(name, f"must be an integer from {low} to {high}")
        return value

    return check


def optional(inner: Check) -> Check:
    """Null, or what ``inner`` allows."""
    return lambda name, value: None if value is None else inner(name, value)


def number(low: float, high: float, unit: str = "") -> Check:
    """A number in a range."""

    def check(name: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ApiError.invalid(name, f"must be a number{unit} from {low} to {high}")
        return value

    return check


seconds = number(0, 3600, " of seconds")


def chance(name: str, value: Any) -> float:
    """From 0 (never) to 1 (always); true is 1 and false is 0."""
    return float(value) if isinstance(value, bool) else number(0, 1)(name, value)


def delays(name: str, value: Any) -> list[float]:
    """A list of seconds."""
    if not isinstance(value, list):
        raise ApiError.invalid(name, "must be a list of seconds")
    return [seconds(name, item) for item in value]


def one_of(*choices: Any) -> Check:
    """One of a few values, true and false among them where they are named."""

    def check(name: str, value: Any) -> Any:
        for choice in choices:
            if value == choice and type(value) is type(choice):
                return choice
        raise ApiError.invalid(name, f"must be one of {json.dumps(list(choices))}")

    return check


def parse_line(line: str, checks: dict[str, Check]) -> JSON:
    """``key=value,key=value`` as checked values: each is JSON where that fits the switch, else plain text.

    Raises ApiError (400) for an unknown key or a bad value.
    """
    answer: JSON = {}
    for part in re.split(r",(?=\s*\w+=)", line):
        name, equals, raw = part.strip().partition("=")
        if not equals or name not in checks:
            raise ApiError.invalid(name or "chaos", f"is no key=value of a switch; known are {sorted(checks)}")
        try:
            answer[name] = checks[name](name, json.loads(raw))
        except (ValueError, ApiError):
            answer[name] = checks[name](name, raw)
    return answer

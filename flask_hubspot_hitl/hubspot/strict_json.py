"""Read JSON from outside without recursing deeply. Pure; imports nothing of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

NESTING = 500
"""Deeper JSON is not parsed: far beyond any body of HubSpot's, far from Python's own limit of recursion. At that
limit not only the parser fails, but whatever the garbage collector happens to run there."""
_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


def _refuse(token: str) -> NoReturn:
    raise ValueError(f"{token} is not JSON")


def loads(
    raw: bytes,
    *,
    parse_constant: Callable[[str], Any] = _refuse,
    parse_int: Callable[[str], Any] | None = None,
    parse_float: Callable[[str], Any] | None = None,
) -> Any:
    """Parse UTF-8 JSON (a byte order mark is allowed). NaN and the infinities are refused by default.

    :raises ValueError: when it is no JSON, not UTF-8, or nested deeper than :data:`NESTING`.
    """
    if _is_deep(raw):
        raise ValueError("nested too deeply")
    return json.loads(
        raw.decode("utf-8-sig"), parse_constant=parse_constant, parse_int=parse_int, parse_float=parse_float
    )


def _is_deep(raw: bytes) -> bool:
    if raw.count(b"[") + raw.count(b"{") <= NESTING:
        return False
    depth = 0
    for found in _BRACKETS.finditer(raw):
        first = raw[found.start()]
        if first in b"[{":
            depth += 1
            if depth > NESTING:
                return True
        elif first in b"]}":
            depth -= 1
    return False

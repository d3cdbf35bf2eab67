"""API calls and deliveries in one order, for the desk's wire view, and the bell its live updates wait for.

Keeps what happened, finds what concerns a thread, and knows no HTTP. It has a lock of its own, taken last.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ...hubspot import strict_json
from ..model.world import JSON

LIMIT = 5_000  # lines kept; `/_sim/requests` and `/_sim/deliveries` have more


@dataclass
class Line:
    """One ``call`` (an entry of ``/_sim/requests``) or ``delivery`` (of ``/_sim/deliveries``)."""

    number: int
    kind: str
    entry: JSON = field(repr=False)
    _mentioned: frozenset[str] | None = field(default=None, repr=False)

    def mentions(self, ids: Iterable[str]) -> bool:
        """Whether one of the ids is in the path or anywhere in the bodies."""
        if self._mentioned is None:
            path = str(self.entry.get("path", "")).split("/")
            self._mentioned = frozenset(_values([path, self.sent(), self.entry.get("response_body")]))
        return not self._mentioned.isdisjoint(ids)

    def sent(self) -> Any:
        """The body that was sent, parsed when it is JSON."""
        if self.kind == "call":
            return self.entry["request_body"]
        try:
            return strict_json.loads(self.entry["body"].encode())
        except ValueError:
            return self.entry["body"]


def _values(value: Any) -> Iterator[str]:
    """Every text and number in a JSON value, as text."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
        elif isinstance(item, str | int):
            yield str(item)


class Journal:
    """The newest lines, numbered as they ended. ``version`` grows whenever anything may look different."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: dict[int, Line] = {}
        self._count = 0
        self.version = 0

    def add(self, kind: str, entry: JSON) -> None:
        """Note a call or a delivery that has ended, and ring."""
        with self._changed:
            self._lines[self._count] = Line(self._count, kind, entry)
            self._lines.pop(self._count - LIMIT, None)
            self._count += 1
        self.ring()

    def ring(self) -> None:
        """Tell those who wait that something has changed."""
        with self._changed:
            self.version += 1
            self._changed.notify_all()

    def wait(self, version: int, seconds: float) -> int:
        """Wait until ``version`` is not the newest any more, for ``seconds`` at most; the newest version."""
        with self._changed:
            self._changed.wait_for(lambda: self.version != version, timeout=seconds)
            return self.version

    def clear(self) -> None:
        """Forget all lines; numbers are never given twice."""
        with self._changed:
            self._lines.clear()
        self.ring()

    def newest(self, limit: int, ids: Iterable[str] | None = None) -> list[Line]:
        """The newest lines that mention one of the ids (or all lines), oldest first."""
        with self._changed:
            lines = list(self._lines.values())
        wanted = None if ids is None else frozenset(ids)
        found = (line for line in reversed(lines) if wanted is None or line.mentions(wanted))
        return list(islice(found, limit))[::-1]

    def get(self, number: int) -> Line | None:
        """A line by its number, while it is kept."""
        with self._changed:
            return self._lines.get(number)

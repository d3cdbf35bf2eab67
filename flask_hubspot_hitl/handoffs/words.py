"""Put a number, a time, a while and an error into words, the same for the commands and for the pages of the admin."""

from __future__ import annotations

from datetime import UTC, datetime


def count(number: int, noun: str, plural: str = "s") -> str:
    """Return a number with its noun: "1 event", "2 events"."""
    return f"{number} {noun}{'' if number == 1 else plural}"


def date(at: datetime | int | None) -> str | None:
    """Return a time (epoch ms, or aware) as all commands write it to people, in UTC; None for None."""
    if isinstance(at, int):
        at = datetime.fromtimestamp(at / 1000, UTC)
    return None if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def span(seconds: float) -> str:
    """Return a while: "45 s", "12 min", "3 h"."""
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def sentence(text: object) -> str:
    """Make a sentence of an error's text."""
    words = str(text).rstrip(".")
    return f"{words[:1].upper()}{words[1:]}" + ("" if words.endswith("?") else ".")

"""What was measured: rounds in turn, their median and spread, and a table that holds them against what is wanted."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Case = Callable[[], Mapping[str, float]]
"""Measures something once: figures by name."""


def interleave(
    cases: Mapping[str, Case], rounds: int, say: Callable[[str], None]
) -> dict[str, dict[str, tuple[float, ...]]]:
    """Each case once, then each a second time, and so on: a busy moment hurts all alike.

    Returns the figures of each case by name, one of each round.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in cases}
    done = 0
    for number in range(rounds):
        for name, case in cases.items():
            say(f"{bar(done, rounds * len(cases))} {name} ({number + 1} of {rounds})")
            done += 1
            for figure, value in case().items():
                found[name].setdefault(figure, []).append(value)
    return {name: {figure: tuple(values) for figure, values in one.items()} for name, one in found.items()}


BAR = 20


def bar(done: int, of: int) -> str:
    """How far something is, as a bar."""
    full = BAR * done // max(1, of)
    return f"[{'#' * full}{'.' * (BAR - full)}]"


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted: at least ``limit``, or at most; of the value, or of its ratio to the yardstick."""

    limit: float
    at_most: bool = False
    of_ratio: bool = False

    def __str__(self) -> str:
        return f"{'× ' if self.of_ratio else ''}{'≤' if self.at_most else '≥'} {number(self.limit)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. ``values`` and ``yardstick`` hold one value of each round.

    ``against`` says what the yardstick is; the ratio is the median of the rounds' ratios.
    """

    subject: str
    what: str
    database: str = ""
    unit: str
    values: tuple[float, ...]
    against: str = ""
    yardstick: tuple[float, ...] = ()
    target: Target | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        if not self.yardstick:
            return None
        return statistics.median(mine / theirs for mine, theirs in zip(self.values, self.yardstick, strict=True))

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None without one."""
        if self.target is None:
            return None
        found = self.ratio if self.target.of_ratio else self.median
        if found is None:
            return None
        return found <= self.target.limit if self.target.at_most else found >= self.target.limit

    def to_json(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "what": self.what,
            "database": self.database,
            "unit": self.unit,
            "median": self.median,
            "values": self.values,
            "against": self.against,
            "yardstick": self.yardstick,
            "ratio": self.ratio,
            "target": self.target and str(self.target),
            "met": self.met,
        }


HEAD = ("", "database", "median", "lowest … highest", "", "yardstick", "ratio", "wanted", "")


def table(figures: Iterable[Figure]) -> str:
    """The figures for people."""
    rows: list[Sequence[str]] = [HEAD]
    subject = ""
    for one in figures:
        if one.subject != subject:
            subject = one.subject
            rows.append((subject,))
        rows.append(_row(one))
    return aligned(rows, right=_RIGHT)


def _row(one: Figure) -> Sequence[str]:
    yardstick = ""
    if one.yardstick:
        yardstick = f"{number(statistics.median(one.yardstick))} {one.against}"
    return (
        f"  {one.what}",
        one.database,
        number(one.median),
        f"{number(min(one.values))} … {number(max(one.values))}" if len(one.values) > 1 else "",
        one.unit,
        yardstick,
        "" if one.ratio is None else f"× {one.ratio:.3g}",
        str(one.target or ""),
        {None: "", True: "met", False: "MISSED"}[one.met],
    )


_RIGHT = (2, 3, 6)
"""The columns of numbers."""


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[int]) -> str:
    """Lines of text with columns below each other. A row of one cell is a line of its own.

    :param right: the columns of numbers.
    """
    widths = [
        max((len(row[column]) for row in rows if column < len(row) > 1), default=0) for column in range(len(rows[0]))
    ]
    return "\n".join(_line(row, widths, right) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    if len(row) == 1:
        return row[0]
    cells = [text.rjust(widths[n]) if n in right else text.ljust(widths[n]) for n, text in enumerate(row)]
    return "  ".join(cells).rstrip()


def number(value: float) -> str:
    """A number with three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2g}"

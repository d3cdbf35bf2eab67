"""Reckon with working hours: whether a moment is within them, and when they begin again.

Pure: no clock, no network, nothing of ours is imported. Moments are epoch milliseconds; minutes of a day go from 0 to
1440. Source of HubSpot's two properties: docs/hubspot.rst (Availability).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo  # imported where it is used: most apps never ask for a zone

MINUTE_MS = 60_000
DAY = 1_440
"""Minutes of a day."""
HORIZON = 400 * DAY
"""Minutes that are looked ahead: holidays and absences may last for months."""
MOST = 200
"""Periods and absences that are read of one person; what is beyond them is left out."""

WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
DAYS: Mapping[str, frozenset[int]] = {
    **{name: frozenset({number}) for number, name in enumerate(WEEKDAYS)},
    "MONDAY_TO_FRIDAY": frozenset(range(5)),
    "SATURDAY_SUNDAY": frozenset({5, 6}),
    "EVERY_DAY": frozenset(range(7)),
}
"""HubSpot's names of days and groups of days, with the days' numbers; Monday is 0."""

_SHORT = {name[:3].lower(): number for number, name in enumerate(WEEKDAYS)}
_LINE = re.compile(r"([a-z]{3})(?:-([a-z]{3}))?\s+(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})", re.ASCII | re.IGNORECASE)
_HOLIDAY = re.compile(r"(?:(\d{4})-)?(\d{2})-(\d{2})", re.ASCII)
_EPOCH_WEEKDAY = 3
_LEAP_YEAR = 2024

Span = tuple[int, int]
"""A beginning and an end, which is not part of it."""


@dataclass(frozen=True, slots=True)
class Period:
    """Hold one stretch of the day, on some days of the week.

    :param days: numbers of weekdays; Monday is 0.
    :param start: minute of the day.
    :param end: minute of the day; one before ``start`` is of the next day. Equal ones are an empty stretch.
    """

    days: frozenset[int]
    start: int
    end: int


ALWAYS = (Period(DAYS["EVERY_DAY"], 0, DAY),)
"""Every minute of every day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Hold when somebody works: stretches of the week by the clock of one time zone, and the exceptions.

    A clock that is set forward skips a part of a stretch, one that is set back repeats it. A holiday is no working time
    from its midnight to the next one.

    :param periods: when somebody works.
    :param breaks: when not, in the same form; they win.
    :param holidays: dates on which nobody works, ``2026-12-25``, or of every year, ``12-25``.
    :param absences: further stretches without work, in epoch ms.
    """

    zone: ZoneInfo
    periods: tuple[Period, ...] = ALWAYS
    breaks: tuple[Period, ...] = ()
    holidays: frozenset[str] = frozenset()
    absences: tuple[Span, ...] = ()

    def cover(self, at_ms: int) -> bool:
        """Return True for a moment within the hours.

        :param at_ms: epoch ms.
        """
        return any(start <= at_ms < end for start, end in self._spans(at_ms, at_ms // MINUTE_MS + 1))

    def next_start(self, after_ms: int) -> int | None:
        """Return when the hours begin next, in epoch ms.

        :param after_ms: epoch ms; a beginning at this very moment is none.
        :returns: None when that is more than :data:`HORIZON` minutes away.
        """
        if not self.periods or self._never_ends():
            return None
        until = after_ms // MINUTE_MS + HORIZON
        return next((start for start, _ in self._spans(after_ms, until) if start > after_ms), None)

    def _never_ends(self) -> bool:
        whole_week = all(spans == [(0, DAY)] for spans in self._week())
        return whole_week and not self.holidays and not self.absences

    def _week(self) -> list[list[Span]]:
        """Return for each weekday the stretches of its minutes, in order and apart from each other."""
        return [_without(_on(self.periods, day), _on(self.breaks, day)) for day in range(7)]

    def _spans(self, from_ms: int, until: int) -> Iterator[Span]:
        """Return the stretches of working time from a moment (epoch ms) to a minute since 1970, as epoch ms.

        They are in order and apart; the first one may have begun before.
        """
        ready: Span | None = None
        for start, end in self._minutes(from_ms // MINUTE_MS, until):
            if ready is not None and start <= ready[1]:
                ready = ready[0], max(ready[1], end)
                continue
            if ready is not None:
                yield from self._present(ready)
            ready = start, end
        if ready is not None:
            yield from self._present(ready)

    def _present(self, span: Span) -> list[Span]:
        start, end = span
        return _without([(start * MINUTE_MS, end * MINUTE_MS)], self.absences)

    def _minutes(self, start: int, until: int) -> Iterator[Span]:
        """Return stretches of minutes since 1970, in order; those that meet are not joined."""
        week = self._week()
        for begin, end, offset in _even(self.zone, start, until):
            for day in range((begin + offset) // DAY, (end + offset - 1) // DAY + 1):
                if self.holidays and not self.holidays.isdisjoint(_names_of(day)):
                    continue
                midnight = day * DAY - offset
                for first, last in week[(day + _EPOCH_WEEKDAY) % 7]:
                    span = max(begin, midnight + first), min(end, midnight + last)
                    if span[0] < span[1]:
                        yield span


def _names_of(day: int) -> tuple[str, str]:
    """Return the date of a day since 1970, with its year and without."""
    name = datetime.fromtimestamp(day * DAY * 60, UTC).date().isoformat()
    return name, name[5:]


def _even(zone: ZoneInfo, start: int, until: int) -> Iterator[tuple[int, int, int]]:
    """Divide minutes since 1970 into parts, of a day at most, throughout which a zone's clock is not set.

    :returns: for each part its first minute, its end, and the minutes that the zone's clock is ahead of UTC.
    """
    while start < until:
        end, offset = min(start + DAY, until), _offset(zone, start)
        if _offset(zone, end) != offset:
            low, high = start, end  # the clock is as at first at the one, and set at the other
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == offset else (low, middle)
            end = high
        yield start, end, offset
        start = end


def _offset(zone: ZoneInfo, minute: int) -> int:
    ahead = datetime.fromtimestamp(minute * 60, zone).utcoffset()
    return 0 if ahead is None else int(ahead.total_seconds() // 60)


def _on(periods: Iterable[Period], day: int) -> list[Span]:
    """Return the minutes of a weekday that are within periods, in order and joined."""
    found: list[Span] = []
    for one in periods:
        if day in one.days:
            found.append((one.start, one.end if one.end >= one.start else DAY))
        if one.end < one.start and (day - 1) % 7 in one.days:
            found.append((0, one.end))
    joined: list[Span] = []
    for start, end in sorted(span for span in found if span[0] < span[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def _without(spans: list[Span], gaps: Iterable[Span]) -> list[Span]:
    """Return spans without what is within gaps."""
    for first, last in gaps:
        left: list[Span] = []
        for start, end in spans:
            left += [one for one in ((start, min(end, first)), (max(start, last), end)) if one[0] < one[1]]
        spans = left
    return spans


# What HubSpot and the settings say ------------------------------------------------------------------------------


def read_periods(value: object) -> tuple[Period, ...]:
    """Return the periods of ``hs_working_hours``; what is not understood is left out.

    :param value: JSON inside a string, ``[{"days": "MONDAY_TO_FRIDAY", "startMinute": 540, "endMinute": 1020}]``.
    """
    found = (_period(one) for one in _items(value))
    return tuple(one for one in found if one is not None)


def read_absences(value: object) -> tuple[tuple[Period, ...], tuple[Span, ...]]:
    """Return what ``hs_out_of_office_hours`` says: the weekly periods, and the stretches in epoch ms.

    :param value: JSON inside a string, ``[{"startTimestamp": 1730379600000, "endTimestamp": 1730408400000}]`` (epoch
        ms), or in the form of :func:`read_periods`.
    """
    moments = ((_whole(one.get("startTimestamp")), _whole(one.get("endTimestamp"))) for one in _items(value))
    spans = tuple((start, end) for start, end in moments if start is not None and end is not None and start < end)
    return read_periods(value), spans


def _items(value: object) -> list[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return [one for one in value if isinstance(one, dict)][:MOST] if isinstance(value, list) else []


def _period(item: Mapping[str, Any]) -> Period | None:
    days = DAYS.get(item["days"].strip().upper()) if isinstance(item.get("days"), str) else None
    start, end = _whole(item.get("startMinute")), _whole(item.get("endMinute"))
    if days is None or start is None or end is None or not (0 <= start <= DAY and 0 <= end <= DAY):
        return None
    return Period(days, start, end)


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value, re.ASCII):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 10**15 else None


def read_zone(value: object) -> ZoneInfo | None:
    """Return the time zone of a name such as ``Europe/Madrid``, also as HubSpot may write it: ``europe_slash_madrid``.

    :returns: None when there is no such zone, or this machine knows none (package ``tzdata``).
    """
    if not isinstance(value, str) or not value.strip() or len(value) > 100:
        return None
    from zoneinfo import ZoneInfo

    name = re.sub("_slash_", "/", value.strip(), flags=re.IGNORECASE)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # also for a folder of the zones' database, and for a path out of it
        known = _zones().get(name.lower())
    return None if known is None else ZoneInfo(known)


@cache
def _zones() -> Mapping[str, str]:
    from zoneinfo import available_timezones

    return {name.lower(): name for name in available_timezones()}


def read_line(text: str) -> Period:
    """Return the period that a setting's line says, such as ``mon-fri 09:00-17:30``.

    :raises ValueError: when it says none; the text completes "… must be".
    """
    found = _LINE.fullmatch(text.strip())
    first, last = (found[1].lower(), (found[2] or found[1]).lower()) if found else ("", "")
    if found is None or first not in _SHORT or last not in _SHORT:
        raise ValueError("must be days and times, such as mon-fri 09:00-17:30")
    minutes = [int(found[at]) * 60 + int(found[at + 1]) for at in (3, 5)]
    if any(int(found[at]) > 59 for at in (4, 6)) or max(minutes) > DAY or minutes[0] == minutes[1]:
        raise ValueError("must have two different times from 00:00 to 24:00")
    size = (_SHORT[last] - _SHORT[first]) % 7 + 1
    return Period(frozenset((_SHORT[first] + step) % 7 for step in range(size)), minutes[0], minutes[1])


def read_holiday(text: str) -> str:
    """Return a date of a setting, ``2026-12-25`` or ``12-25``.

    :raises ValueError: when it is none; the text completes "… must be".
    """
    found = _HOLIDAY.fullmatch(text.strip())
    try:
        if found is not None:
            date(int(found[1] or _LEAP_YEAR), int(found[2]), int(found[3]))
            return text.strip()
    except ValueError:
        pass
    raise ValueError("must be dates, such as 2026-12-25, or 12-25 for every year")

"""Working hours: against a walk over every minute of a year in ten time zones, and what is read of HubSpot's texts."""

from __future__ import annotations

import json
from array import array
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_hubspot_hitl.hubspot import hours
from flask_hubspot_hitl.hubspot.hours import DAY, DAYS, Hours, Period

from .slow import few_of

MINUTE = hours.MINUTE_MS
BEGIN = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) // 60
YEAR = 365 * DAY
ZONES = (
    *("UTC", "Europe/Madrid", "America/New_York", "America/Santiago", "Asia/Kolkata"),
    *("Australia/Lord_Howe", "Pacific/Chatham", "Africa/Casablanca", "Asia/Kathmandu", "Pacific/Apia"),
)
"""With clocks that are set by half an hour, quarters of hours, a clock set at midnight's end, and Ramadan's."""


@cache
def local_minutes(zone: str) -> array[int]:
    """What the clock of a zone shows at each minute of 2026, as a minute since 1970."""
    here = ZoneInfo(zone)
    found = array("q")
    for minute in range(BEGIN, BEGIN + YEAR):
        shown = datetime.fromtimestamp(minute * 60, here).replace(tzinfo=UTC)
        found.append(int(shown.timestamp()) // 60)
    return found


def walk(zone: str, of: Hours) -> bytearray:
    """For each minute of 2026 whether it is working time, one after the other, by the very words of the rules."""
    week = bytearray(7 * DAY)
    for value, periods in ((1, of.periods), (0, of.breaks)):
        for one in periods:
            for day in one.days:
                length = one.end - one.start if one.end >= one.start else one.end + DAY - one.start
                for minute in range(length):
                    week[(day * DAY + one.start + minute) % (7 * DAY)] = value
    shift = 3 * DAY  # 1970 began on a Thursday
    inside = bytearray(week[(shown + shift) % (7 * DAY)] for shown in local_minutes(zone))
    off = {day: _is_holiday(day, of) for day in {shown // DAY for shown in local_minutes(zone)}}
    if any(off.values()):
        for number, shown in enumerate(local_minutes(zone)):
            if off[shown // DAY]:
                inside[number] = 0
    for start, end in of.absences:
        for minute in range(max(start // MINUTE, BEGIN), min(end // MINUTE, BEGIN + YEAR)):
            inside[minute - BEGIN] = 0
    return inside


def _is_holiday(day: int, of: Hours) -> bool:
    name = datetime.fromtimestamp(day * DAY * 60, UTC).strftime("%Y-%m-%d")
    return name in of.holidays or name[5:] in of.holidays


def periods() -> st.SearchStrategy[tuple[Period, ...]]:
    minute = st.one_of(st.sampled_from([0, 1, 60, 90, 119, 120, 150, 180, 540, 1020, 1439, DAY]), st.integers(0, DAY))
    return st.lists(st.builds(Period, st.sampled_from(list(DAYS.values())), minute, minute), max_size=4).map(tuple)


def spans() -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    start = st.integers(BEGIN, BEGIN + YEAR)
    made = st.tuples(start, st.integers(1, 60 * DAY)).map(lambda one: (one[0] * MINUTE, (one[0] + one[1]) * MINUTE))
    return st.lists(made, max_size=2).map(tuple)


HOLIDAYS = st.frozensets(st.sampled_from(["2026-03-29", "2026-03-08", "2026-12-25", "12-31", "01-01", "07-04"]))


def hold(zone: str, of: Hours, moments: list[int]) -> None:
    inside = walk(zone, of)
    for moment in (*moments, *range(0, YEAR, 9_973)):
        assert of.cover((BEGIN + moment) * MINUTE + moment % MINUTE) == bool(inside[moment]), moment
    starts = [number for number in range(1, YEAR) if inside[number] and not inside[number - 1]]
    at, seen = BEGIN * MINUTE, []
    while (found := of.next_start(at)) is not None and found < (BEGIN + YEAR) * MINUTE:
        assert found > at
        assert found % MINUTE == 0
        seen.append(found // MINUTE - BEGIN)
        at = found
    assert seen == starts


def check(zone: str, examples: int) -> None:
    # breaks are weighed alone: of the walk's week the last word counts
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(periods(), periods(), HOLIDAYS, spans(), st.lists(st.integers(0, YEAR - 1), max_size=50))
    def holds(
        when: tuple[Period, ...],
        not_when: tuple[Period, ...],
        holidays: frozenset[str],
        absences: tuple[tuple[int, int], ...],
        moments: list[int],
    ) -> None:
        made = Hours(zone=ZoneInfo(zone), periods=when, breaks=not_when[:1], holidays=holidays, absences=absences)
        hold(zone, made, moments)

    holds()


@pytest.mark.parametrize("zone", few_of(ZONES, "America/New_York", "Africa/Casablanca", "Pacific/Chatham"))
def test_hours_are_those_of_a_walk_over_every_minute_of_a_year(zone: str) -> None:
    weekdays = hours.read_periods(json.dumps([{"days": "MONDAY_TO_FRIDAY", "startMinute": 540, "endMinute": 1020}]))
    hold(zone, Hours(zone=ZoneInfo(zone), periods=weekdays), [])
    night = (Period(DAYS["EVERY_DAY"], 1320, 150), Period(DAYS["SUNDAY"], 150, 1440))
    hold(zone, Hours(zone=ZoneInfo(zone), periods=night, holidays=frozenset({"12-25"})), [])
    check(zone, 2)


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_so_they_are_with_many_more_hours(zone: str) -> None:
    check(zone, 20)


def test_the_whole_week_has_no_beginning() -> None:
    assert Hours(zone=ZoneInfo("UTC")).next_start(0) is None
    assert Hours(zone=ZoneInfo("UTC"), periods=()).next_start(0) is None
    away = Hours(zone=ZoneInfo("UTC"), absences=((0, 5_000_500),))
    assert not away.cover(5_000_499)
    assert away.cover(5_000_500)
    assert away.next_start(0) == 5_000_500


PERIOD = {"days": "EVERY_DAY", "startMinute": 0, "endMinute": 1440}


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (None, 0),
        ("", 0),
        ("null", 0),
        ("[]", 0),
        ("{", 0),
        ("[" * 100_000, 0),
        (json.dumps(PERIOD), 0),
        (json.dumps([PERIOD]), 1),
        ([PERIOD], 1),
        (json.dumps([PERIOD, None, 5, "x", {}, {**PERIOD, "days": "SOMEDAY"}, {**PERIOD, "days": None}]), 1),
        (json.dumps([{**PERIOD, "endMinute": 1441}, {**PERIOD, "startMinute": -1}, {**PERIOD, "endMinute": True}]), 0),
        (json.dumps([{**PERIOD, "endMinute": "1020"}, {**PERIOD, "endMinute": 1020.0}]), 2),
        (json.dumps([{**PERIOD, "endMinute": 1e400}]), 0),
        (json.dumps([PERIOD] * 10_000), hours.MOST),
    ],
)
def test_hours_that_are_not_understood_are_left_out(value: Any, count: int) -> None:
    assert len(hours.read_periods(value)) == count


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda x: st.lists(x)))
def test_whatever_hubspot_says_nothing_is_raised(value: Any) -> None:
    for given_value in (value, str(value), json.dumps(value), json.dumps([{"days": value, "startTimestamp": value}])):
        hours.read_periods(given_value)
        hours.read_absences(given_value)
        hours.read_zone(given_value)


def test_absences_come_as_moments_and_as_days_of_the_week() -> None:
    text = '[{"startTimestamp": 1000, "endTimestamp": "2000"}, {"startTimestamp": 5, "endTimestamp": 5}]'
    assert hours.read_absences(text) == ((), ((1000, 2000),))
    assert hours.read_absences(json.dumps([PERIOD])) == (hours.ALWAYS, ())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Europe/Madrid", "Europe/Madrid"),
        ("america_slash_new_york", "America/New_York"),
        ("US_SLASH_EASTERN", "US/Eastern"),
        ("europe/MADRID", "Europe/Madrid"),
        *((wrong, None) for wrong in ("", " ", "Mars/Olympus", "../etc/passwd", "/etc/passwd", "Europe", None, 5)),
        ("x" * 1_000, None),
        ("a\0b", None),
    ],
)
def test_time_zones_by_name(name: object, found: str | None) -> None:
    zone = hours.read_zone(name)
    assert (None if zone is None else zone.key) == found


def test_lines_of_the_settings() -> None:
    assert hours.read_line("mon-fri 09:00-17:30") == Period(frozenset(range(5)), 540, 1050)
    assert hours.read_line(" Sat 9:00 - 24:00 ") == Period(frozenset({5}), 540, DAY)
    assert hours.read_line("sat-mon 22:00-06:00") == Period(frozenset({5, 6, 0}), 1320, 360)
    for wrong in ("", "mon", "mon 9-17", "mon 25:00-26:00", "mon 09:60-10:00", "foo 09:00-10:00", "mon 09:00-09:00"):
        with pytest.raises(ValueError, match="must"):
            hours.read_line(wrong)
    assert [hours.read_holiday(one) for one in ("2026-12-25", "02-29")] == ["2026-12-25", "02-29"]
    for wrong in ("", "25.12.", "2026-02-29", "13-01", "2026-1-1"):
        with pytest.raises(ValueError, match="must"):
            hours.read_holiday(wrong)

"""What HubSpot tells of the people who work in a portal: are they there, and when do they work.

Source: docs/hubspot.rst (Availability).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from ..model.errors import ApiError
from ..model.world import now_ms

if TYPE_CHECKING:
    from ..engine.simulation import Simulation

STATUS, WORKING, ABSENT, ZONE = (
    *("hs_availability_status", "hs_working_hours"),
    *("hs_out_of_office_hours", "hs_standard_time_zone"),
)
DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
GROUPS = {"MONDAY_TO_FRIDAY": DAYS[:5], "SATURDAY_SUNDAY": DAYS[5:], "EVERY_DAY": DAYS}
LAST_MINUTE = 1440


def told(sim: Simulation, values: dict[str, str | None]) -> dict[str, str | None]:
    """Return the properties of a user as HubSpot tells them just now."""
    zone = values.get(ZONE)
    if zone and sim.chaos.time_zone_form == "slash":
        zone = zone.replace("/", "_slash_").lower()
    return {**values, STATUS: _status(sim, values), ZONE: zone}


def _status(sim: Simulation, values: dict[str, str | None]) -> str | None:
    """Whether a user is there; who is away may be told as nothing at all."""
    is_there = values.get(STATUS) == "available"
    if is_there and sim.chaos.hours_set_away:
        is_there = _works_at(values, datetime.fromtimestamp(now_ms() / 1000, UTC))
    if is_there:
        return "available"
    return {"away": "away", "empty": "", "null": None}[sim.chaos.away_form]


def _works_at(values: dict[str, str | None], moment: datetime) -> bool:
    """Whether it is a user's working time; always for one who keeps none, or none that can be read."""
    try:
        periods = json.loads(values.get(WORKING) or "[]")
        here = moment.astimezone(ZoneInfo(values.get(ZONE) or "UTC"))
    except (ValueError, KeyError, OSError, RecursionError):
        return True
    if not isinstance(periods, list) or not periods or not all(map(is_period, periods)):
        return True
    today, yesterday = DAYS[here.weekday()], DAYS[(here - timedelta(days=1)).weekday()]
    minute = here.hour * 60 + here.minute
    for one in periods:
        days = GROUPS.get(one["days"], (one["days"],))
        start, end = one["startMinute"], one["endMinute"]
        crosses = end < start
        if today in days and start <= minute and (crosses or minute < end):
            return True
        if crosses and yesterday in days and minute < end:
            return True
    return False


def check(sim: Simulation, after: dict[str, str | None], properties: dict[str, str | None]) -> None:
    """Check a change of a user's properties. Raises ApiError (400).

    :param after: all properties, after the change.
    """
    if properties.get(ZONE):
        _check_zone(str(properties[ZONE]))
    if properties.get(WORKING):
        if not after.get(ZONE):
            raise ApiError.invalid(f"properties.{WORKING}", f"{ZONE} must be set first")
        _check_hours(sim, str(properties[WORKING]))


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        raise ApiError.invalid(f"properties.{ZONE}", "is no time zone") from None


def _check_hours(sim: Simulation, text: str) -> None:
    try:
        periods = json.loads(text)
    except (ValueError, RecursionError):
        periods = None
    if not isinstance(periods, list):
        raise ApiError.invalid(f"properties.{WORKING}", "must be a JSON array")
    for one in periods:
        if not is_period(one):
            raise ApiError.invalid(f"properties.{WORKING}", "must have days, startMinute and endMinute")
        if one["endMinute"] <= one["startMinute"] and sim.chaos.overnight_hours == "refused":
            raise ApiError.invalid(f"properties.{WORKING}", "must end after they begin")


def is_period(value: Any) -> bool:
    """Whether it is an entry of working hours that HubSpot understands."""
    if not isinstance(value, dict) or str(value.get("days")) not in (*DAYS, *GROUPS):
        return False
    return _minute(value.get("startMinute")) and _minute(value.get("endMinute"))


def _minute(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LAST_MINUTE


def id_in_team(sim: Simulation, portal_id: str, user_id: str) -> str:
    """Return the id by which a team names a user."""
    if sim.chaos.team_member_ids == "user":
        return user_id
    return sim.world.member(sim.world.actors[portal_id, f"A-{user_id}"]).object_id

"""Call HubSpot about the people who work in a portal: its users, whether they are there, and its teams.

Of ours it may import its neighbours here; no Flask, no database. What every method may raise is said in ``client``.
Source: docs/hubspot.rst (Availability).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import fields, hours
from .admin import AppCalls
from .hours import Period, Span

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

BATCH = 100
"""Users that are read at once, at most."""
PROPERTIES = (
    "hs_internal_user_id",
    "hs_availability_status",
    "hs_working_hours",
    "hs_out_of_office_hours",
    "hs_standard_time_zone",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Hold what HubSpot tells of a user: two ids of two domains, whether the user is there, and working hours."""

    object_id: str
    """The id of the CRM object."""
    user_id: str | None
    """The number of the actor id ``A-<number>``; None when HubSpot does not tell it."""
    is_available: bool
    zone: ZoneInfo | None = None
    periods: tuple[Period, ...] = ()
    """Empty: the user keeps no working hours in HubSpot, or none that are understood."""
    breaks: tuple[Period, ...] = ()
    absences: tuple[Span, ...] = ()

    @classmethod
    def parse(cls, item: Mapping[str, Any]) -> User | None:
        """Return a user as HubSpot gives it, ``SimplePublicObject``; None for one without an id."""
        object_id, properties = fields.identifier(item.get("id")), fields.mapping(item.get("properties"))
        if object_id is None:
            return None
        zone = hours.read_zone(properties.get("hs_standard_time_zone"))
        breaks, absences = hours.read_absences(properties.get("hs_out_of_office_hours"))
        return cls(
            object_id=object_id,
            user_id=fields.identifier(properties.get("hs_internal_user_id")),
            is_available=fields.word(properties.get("hs_availability_status")) == "AVAILABLE",
            zone=zone,
            periods=hours.read_periods(properties.get("hs_working_hours")) if zone else (),
            breaks=breaks if zone else (),
            absences=absences,
        )


class StaffCalls(AppCalls):
    """Call HubSpot about a portal's users and teams."""

    def users(self) -> list[User]:
        """Return all users of the portal."""
        params = {"limit": BATCH, "properties": ",".join(PROPERTIES)}
        return _parsed(self.read_list(self.paths.users(), doing="listing users", params=params))

    def users_by_id(self, object_ids: Sequence[str]) -> list[User]:
        """Return users by the ids of their CRM objects.

        For one that is gone HubSpot may leave it out, or answer 404 for them all.
        """
        found: list[User] = []
        for at in range(0, len(object_ids), BATCH):
            body = {
                "inputs": [{"id": one} for one in object_ids[at : at + BATCH]],
                "properties": list(PROPERTIES),
                "propertiesWithHistory": [],
            }
            path = self.paths.users_batch_read()
            told = self.call("POST", path, doing="reading users", body=body, reads=True)
            found += _parsed(fields.mappings(told.get("results")))
        return found

    def team_members(self, team_id: str) -> list[str]:
        """Return the ids of the users who are in a team."""
        path = self.paths.team_members(team_id)
        told = self.read_list(path, doing="listing the members of a team", params={"limit": BATCH})
        return [found for one in told if (found := fields.identifier(one.get("userId"))) is not None]


def _parsed(items: Sequence[Mapping[str, Any]]) -> list[User]:
    users = (User.parse(one) for one in items)
    return [one for one in users if one is not None]

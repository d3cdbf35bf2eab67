"""The stand-in's users and teams, by plain HTTP and by HubSpot's own client: who is there, who works when.

Source: docs/hubspot.rst (Availability; Unknowns).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from hubspot import HubSpot

from .helpers import Json
from .simulator_helpers import Stand, bearer

VERSIONS = ("/crm/v3/objects/users", "/crm/objects/2026-03/users", "/crm/objects/2026-09/users")
TEAMS = "/settings/teams/2026-09-beta"
PROPERTIES = "hs_internal_user_id,hs_availability_status,hs_working_hours,hs_standard_time_zone,hs_email"
NOOR = "45100987"
Ask = Callable[..., Any]


@pytest.fixture
def ask(stand: Stand) -> Ask:
    token = stand.sim("GET", "access-token?scopes=*")["access_token"]

    def call(method: str, path: str, *, status: int = 200, **more: Any) -> Any:
        answer = requests.request(method, f"{stand.base}{path}", headers=bearer(token), timeout=30, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    return call


def put(stand: Stand, actor_id: str = "A-987", **fields: Any) -> Json:
    found: Json = stand.sim("PUT", f"agents/{actor_id}/availability", fields)
    return found


@pytest.mark.parametrize("base", VERSIONS)
def test_users_are_listed_read_searched_and_changed(stand: Stand, ask: Ask, base: str) -> None:
    first = ask("GET", base, params={"limit": 1, "properties": PROPERTIES})
    assert first["paging"]["next"]["after"] == "1"
    [noor] = first["results"]
    assert noor["id"] == noor["properties"]["hs_object_id"] == NOOR
    assert noor["properties"]["hs_internal_user_id"] == "987"
    assert noor["properties"]["hs_availability_status"] == "available"
    assert ("hs_working_hours" in noor["properties"]) == ("v3" not in base), "v3 leaves out what is not set"
    bare = ask("GET", f"{base}/{NOOR}")["properties"]
    assert set(bare) == {"hs_createdate", "hs_lastmodifieddate", "hs_object_id"}
    by_id = ask("GET", f"{base}/987", params={"idProperty": "hs_internal_user_id", "properties": "hs_email"})
    assert by_id["properties"]["hs_email"] == "noor@acme.test"
    ask("GET", f"{base}/987", status=404)
    ask("GET", f"{base}/987", params={"idProperty": "hs_job_title"}, status=400)
    body: Json = {"inputs": [{"id": NOOR}, {"id": "45100988"}], "properties": ["hs_email"], "propertiesWithHistory": []}
    both = ask("POST", f"{base}/batch/read", json=body)["results"]
    assert [one["properties"]["hs_email"] for one in both] == ["noor@acme.test", "teo@acme.test"]
    filters = {"filters": [{"propertyName": "hs_email", "operator": "EQ", "value": "teo@acme.test"}]}
    search = {"filterGroups": [filters], "properties": [], "sorts": [], "limit": 10, "after": "0"}
    assert ask("POST", f"{base}/search", json=search)["total"] == 1
    changed = ask("PATCH", f"{base}/{NOOR}", json={"properties": {"hs_availability_status": "away"}})
    assert changed["properties"]["hs_availability_status"] == "away"
    [again] = ask(
        "POST",
        f"{base}/batch/update",
        json={"inputs": [{"id": NOOR, "properties": {"hs_availability_status": "available"}}]},
    )["results"]
    assert again["properties"]["hs_availability_status"] == "available"


def test_hubspots_own_client_reads_the_users(stand: Stand) -> None:
    client: Any = HubSpot(access_token=stand.sim("GET", "access-token?scopes=*")["access_token"])
    client.config["host"] = stand.base
    found = client.crm.objects.basic_api.get_page("users", properties=PROPERTIES.split(","), limit=10).results
    assert [one.properties["hs_internal_user_id"] for one in found] == ["987", "988"]


@pytest.mark.parametrize(
    "properties",
    [
        {"hs_availability_status": "busy"},
        {"hs_standard_time_zone": "Mars/Olympus"},
        {"hs_working_hours": "[]"},  # before there is a time zone
        {"hs_standard_time_zone": "UTC", "hs_working_hours": "{"},
        {"hs_standard_time_zone": "UTC", "hs_working_hours": '[{"days": "SOMEDAY", "startMinute": 0, "endMinute": 1}]'},
        {
            "hs_standard_time_zone": "UTC",
            "hs_working_hours": '[{"days": "MONDAY", "startMinute": 0, "endMinute": 9999}]',
        },
        {"hs_standard_time_zone": "UTC", "hs_working_hours": '[{"days": "MONDAY", "startMinute": 9, "endMinute": 1}]'},
        {"hs_internal_user_id": "5"},
    ],
)
def test_a_change_that_hubspot_would_not_take_is_refused(ask: Ask, properties: Json) -> None:
    ask("PATCH", f"{VERSIONS[2]}/{NOOR}", json={"properties": properties}, status=400)
    assert (
        ask("GET", f"{VERSIONS[2]}/{NOOR}", params={"properties": PROPERTIES})["properties"]["hs_working_hours"] is None
    )


def test_25_outside_of_working_hours_a_user_is_away(stand: Stand, ask: Ask) -> None:
    now = datetime.now(UTC)
    other_day = (now + timedelta(days=3)).strftime("%A").upper()
    hours = [{"days": other_day, "startMinute": 0, "endMinute": 1440}]
    assert put(stand, timeZone="UTC", workingHours=hours)["properties"]["hs_availability_status"] == "away"
    stand.chaos(hours_set_away=False)
    told = ask("GET", f"{VERSIONS[2]}/{NOOR}", params={"properties": PROPERTIES})["properties"]
    assert told["hs_availability_status"] == "available"
    assert json.loads(told["hs_working_hours"]) == hours
    stand.chaos(hours_set_away=True)
    always = [{"days": "EVERY_DAY", "startMinute": 0, "endMinute": 1440}]
    assert put(stand, workingHours=always)["properties"]["hs_availability_status"] == "available"
    for broken in ("{", "5", '[{"days": []}]', "[" * 50_000):
        assert put(stand, workingHours=broken)["properties"]["hs_availability_status"] == "available"


def test_26_how_away_and_zones_and_team_members_are_told(stand: Stand, ask: Ask) -> None:
    put(stand, status="away", timeZone="Europe/Madrid")
    team = stand.sim("POST", "teams", {"name": "Service", "members": ["A-987", "A-988"]})["id"]

    def told() -> Json:
        found: Json = ask("GET", f"{VERSIONS[2]}/{NOOR}", params={"properties": PROPERTIES})["properties"]
        return found

    for form, value in (("away", "away"), ("empty", ""), ("null", None)):
        stand.chaos(away_form=form)
        assert told()["hs_availability_status"] == value
    assert told()["hs_standard_time_zone"] == "Europe/Madrid"
    stand.chaos(time_zone_form="slash", team_member_ids="object", page_size=1)
    assert told()["hs_standard_time_zone"] == "europe_slash_madrid"
    members = ask("GET", f"{TEAMS}/{team}/members")
    assert members["results"] == [{"type": "DEFAULT", "userId": NOOR}]
    assert members["paging"]["next"]["after"] == "1"
    stand.chaos(team_member_ids="user")
    assert ask("GET", f"{TEAMS}/{team}/members")["results"][0]["userId"] == "987"
    assert ask("GET", TEAMS)["results"] == [ask("GET", f"{TEAMS}/{team}")] == [{"id": team, "name": "Service"}]
    ask("GET", f"{TEAMS}/5/members", status=404)


def test_27_hours_may_cross_midnight(stand: Stand, ask: Ask) -> None:
    hours = '[{"days": "EVERY_DAY", "startMinute": 1320, "endMinute": 360}]'
    body = {"properties": {"hs_standard_time_zone": "UTC", "hs_working_hours": hours}}
    ask("PATCH", f"{VERSIONS[2]}/{NOOR}", json=body, status=400)
    stand.chaos(overnight_hours="ok")
    ask("PATCH", f"{VERSIONS[2]}/{NOOR}", json=body)


@pytest.mark.parametrize(
    ("path", "scope"), [(VERSIONS[2], "crm.objects.users.read"), (TEAMS, "settings.users.teams.read")]
)
def test_each_family_wants_its_scope(stand: Stand, path: str, scope: str) -> None:
    token = stand.sim("GET", "access-token?scopes=oauth,crm.objects.contacts.read")["access_token"]
    answer = requests.get(f"{stand.base}{path}", headers=bearer(token), timeout=30)
    assert (answer.status_code, answer.json()["category"]) == (403, "MISSING_SCOPES")
    assert scope in str(answer.json()["errors"])


def test_control_verbs_say_what_is_wrong(stand: Stand) -> None:
    def refused(method: str, path: str, body: Json) -> int:
        return requests.request(method, f"{stand.base}/_sim/{path}", json=body, timeout=30).status_code

    assert refused("PUT", "agents/A-5/availability", {"status": "away"}) == 404
    assert refused("PUT", "agents/A-987/availability", {"state": "away"}) == 400
    assert refused("POST", "teams", {"name": "x", "members": ["A-5"]}) == 404
    assert refused("POST", "teams", {}) == 400

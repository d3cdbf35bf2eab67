"""The stand-in's further API families, by HubSpot's own clients: owners, visitor identification, tokens, files."""

from __future__ import annotations

import json
import re
from typing import Any

import hubspot_sdk
import pytest
import requests
from hubspot import HubSpot
from hubspot.conversations.visitor_identification import IdentificationTokenGenerationRequest

from .helpers import Json
from .simulator_helpers import CC, CV, Stand, bearer
from .test_peers_sdk import client_of

VERSIONS = ("/crm/v3/owners", "/crm/owners/2026-03", "/crm/owners/2026-09")


@pytest.fixture
def everything(stand: Stand) -> str:
    """A token with every scope that the app's kind knows."""
    token: str = stand.sim("GET", "access-token?scopes=*")["access_token"]
    return token


def older(stand: Stand, token: str) -> Any:
    client: Any = HubSpot(access_token=token)
    client.config["host"] = stand.base
    return client


# --- owners


def test_both_clients_read_the_owners(stand: Stand, everything: str) -> None:
    found = older(stand, everything).crm.owners.owners_api.get_page(email="NOOR@acme.test").results
    assert [(one.id, one.user_id, one.first_name, one.last_name, one.type) for one in found] == [
        ("61987", 987, "Noor", "Haddad", "PERSON")
    ]
    with client_of(stand, access_token=everything) as client:
        listed = list(client.crm.owners.list(limit=1))
        assert [(one.email, one.archived) for one in listed] == [("noor@acme.test", False), ("teo@acme.test", False)]
        assert client.crm.owners.get(988, id_property="userId").id == listed[1].id == "61988"
        assert client.crm.owners.get(61988).user_id == 988
        with pytest.raises(hubspot_sdk.NotFoundError):
            client.crm.owners.get(988)


@pytest.mark.parametrize("base", VERSIONS)
def test_who_is_archived_is_an_owner_of_the_past(stand: Stand, everything: str, base: str) -> None:
    def ask(path: str = "", status: int = 200, **params: str | int) -> Json:
        answer = requests.get(f"{stand.base}{base}{path}", params=params, headers=bearer(everything), timeout=30)
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found

    stand.sim("PUT", "agents/A-988", {"archived": True})
    stand.sim("PUT", "agents/A-990", {"name": "Ida"})
    assert [one["firstName"] for one in ask("/")["results"]] == ["Noor", "Ida"], "a slash too many is no matter"
    [past] = ask(archived="true")["results"]
    assert (past["id"], past["userIdIncludingInactive"], "userId" in past) == ("61988", 988, False)
    ask("/61988", 404)
    assert ask("/61988", archived="true") == past
    assert ask("/988", archived="true", idProperty="userId") == past
    for wrong in ({"limit": 501}, {"limit": "x"}, {"after": "x"}, {"archived": "x"}):
        ask("", 400, **wrong)
    ask("/61987", 400, idProperty="email")
    assert requests.get(f"{stand.base}{base}", headers=bearer(stand.token), timeout=30).status_code == 403, "scope"


# --- visitor identification, tokens


def test_both_clients_get_a_token_for_a_visitor(stand: Stand) -> None:
    asked = IdentificationTokenGenerationRequest(email="ana@example.com", first_name="Ana")
    made = older(stand, stand.token).conversations.visitor_identification.generate_api.generate_token(asked)
    with client_of(stand) as client:
        other = client.conversations.visitor_identification.generate_token(
            email="ana@example.com", hs_customer_agent_context={}
        )
    assert len({made.token, other.token}) == 2
    path = "/visitor-identification/v3/tokens/create"
    for wrong in ({}, {"email": "nobody"}, {"email": 1}, {"email": "a@example.com", "firstName": 1}):
        assert stand.call("POST", path, json=wrong).status_code == 400


def test_a_private_apps_token_is_described(stand: Stand) -> None:
    path = f"{stand.base}/oauth/v2/private-apps/get/access-token-info"
    told = requests.post(path, json={"tokenKey": stand.token}, timeout=30).json()
    assert (told["userId"], told["hubId"], told["appId"]) == (987, 424242, 3131)
    assert "crm.objects.contacts.read" in told["scopes"]
    short = stand.token_call().json()["access_token"]
    assert requests.post(path, json={"tokenKey": short}, timeout=30).status_code == 404, "OAuth's are not described"
    assert requests.post(path, json={"tokenKey": "x"}, timeout=30).status_code == 404
    assert requests.post(path, json={}, timeout=30).status_code == 400


SCOPES = (
    *("tickets", "forms", "timeline", "crm.lists.read", "crm.objects.companies.read", "crm.objects.deals.write"),
    *("crm.objects.owners.read", "crm.schemas.contacts.read", "settings.users.read", "communication_preferences.read"),
)


def test_the_consent_page_knows_the_scopes_of_other_clients(stand: Stand) -> None:
    query = {"client_id": stand.env["HUBSPOT_HITL_CLIENT_ID"], "redirect_uri": "https://bot.example.com/x"}
    page = f"{stand.base}/oauth/authorize"
    shown = requests.get(page, params={**query, "scope": " ".join(("oauth", *SCOPES))}, timeout=30)
    assert (shown.status_code, [scope for scope in SCOPES if scope not in shown.text]) == (200, [])
    for wrong in ("crm.objects.owner.read", "crm.objects.contacts", "everything"):
        assert requests.get(page, params={**query, "scope": f"oauth {wrong}"}, timeout=30).status_code == 400


# --- files and folders


@pytest.mark.parametrize("version", ["v3", "2026-03"])
def test_a_file_can_be_found_moved_and_replaced(stand: Stand, version: str) -> None:
    files = f"/files/{version}/files"

    def found(**params: object) -> list[str]:
        return [one["name"] for one in stand.ok("GET", f"{files}/search", params=params)["results"]]

    one = upload(stand, "a.txt", b"12345", folder="/bills/2026")
    upload(stand, "b.png", b"123", folder="/", content_type="image/png")
    assert (found(sort="name"), found(sort="-size"), found(sort="size")) == (["a", "b"], ["a", "b"], ["b", "a"])
    assert found(sizeGte=4) == found(extension="txt") == found(ids=one["id"]) == ["a"]
    assert found(createdAtGte=one["createdAt"], sort="id") == ["a", "b"]
    assert found(createdAtLte="2020-01-01T00:00:00Z") == found(width=1) == found(isUsableInContent="true") == []
    assert found(parentFolderIds=one["parentFolderId"], path="/bills/2026/a.txt") == ["a"]
    for wrong in ({"size": "x"}, {"createdAt": "x"}, {"sort": "colour"}, {"ids": "x"}, {"isUsableInContent": "x"}):
        assert stand.call("GET", f"{files}/search", params=wrong).status_code == 400
    assert stand.ok("GET", f"{files}/stat/bills/2026/a.txt")["file"]["id"] == one["id"]
    assert stand.ok("GET", f"{files}/stat/bills%2F2026")["folder"]["id"] == one["parentFolderId"]
    assert stand.call("GET", f"{files}/stat/nothing").status_code == 404

    changed = {"name": "c", "parentFolderPath": "/other", "isUsableInContent": True, "clearExpires": True}
    moved = stand.ok("PATCH", f"{files}/{one['id']}", json=changed)
    assert (moved["path"], moved["isUsableInContent"], moved["updatedAt"] >= one["updatedAt"]) == (
        "/other/c.txt",
        True,
        True,
    )
    both = {"parentFolderId": "1", "parentFolderPath": "/x", "clearExpires": True}
    assert stand.call("PATCH", f"{files}/{one['id']}", json=both).status_code == 400
    missing = {"parentFolderId": "1", "clearExpires": True}
    assert stand.call("PATCH", f"{files}/{one['id']}", json=missing).status_code == 404

    body = {"file": ("new.txt", b"new words", "text/plain"), "options": (None, json.dumps({"access": "PRIVATE"}))}
    replaced = stand.ok("PUT", f"{files}/{one['id']}", files=body)
    assert (replaced["id"], replaced["size"], replaced["access"]) == (one["id"], 9, "PRIVATE")
    signed = stand.ok("GET", f"{files}/{one['id']}/signed-url")["url"]
    assert stand.http.get(signed, timeout=30).content == b"new words"
    assert stand.call("PUT", f"{files}/{one['id']}", files={"other": b"x"}).status_code == 400
    assert stand.call("PUT", f"{files}/1", files=body).status_code == 404


def upload(stand: Stand, name: str, content: bytes, *, folder: str, content_type: str = "text/plain") -> Json:
    parts = {"file": (name, content, content_type), "options": (None, json.dumps({"access": "PUBLIC_INDEXABLE"}))}
    made: Json = stand.ok("POST", "/files/v3/files", files=parts | {"folderPath": (None, folder)})
    return made


@pytest.mark.parametrize("version", ["v3", "2026-03"])
def test_folders_move_with_all_that_is_in_them(stand: Stand, version: str) -> None:
    folders = f"/files/{version}/folders"

    def refused(method: str, path: str, body: Json | None = None) -> int:
        return stand.call(method, folders + path, json=body).status_code

    top = stand.ok("POST", folders, json={"name": "top"})
    sub = stand.ok("POST", folders, json={"name": "sub", "parentFolderId": top["id"]})
    deep = stand.ok("POST", folders, json={"name": "deep", "parentPath": "/top/sub"})
    file = upload(stand, "a.txt", b"1", folder="/top/sub/deep")
    assert (sub["path"], sub["parentFolderId"], deep["path"]) == ("/top/sub", top["id"], "/top/sub/deep")
    assert "parentFolderId" not in top
    assert stand.ok("GET", f"{folders}/top/sub") == stand.ok("GET", f"{folders}/%2Ftop%2Fsub") == sub
    assert stand.ok("GET", f"{folders}/{sub['id']}") == sub
    listed = stand.ok("GET", f"{folders}/search", params={"sort": "-path"})["results"]
    assert [one["path"] for one in listed] == ["/top/sub/deep", "/top/sub", "/top"]
    assert [one["name"] for one in stand.ok("GET", f"{folders}/search", params={"name": "sub"})["results"]] == ["sub"]

    assert refused("POST", "", {"name": "top"}) == 409
    assert refused("POST", "", {"name": "a/b"}) == refused("POST", "", {"name": ".."}) == 400
    assert refused("POST", "", {"name": "x", "parentFolderId": top["id"], "parentPath": "/top"}) == 400
    assert refused("PATCH", f"/{top['id']}", {"parentFolderId": int(deep["id"])}) == 400, "it can't lie in itself"

    assert stand.ok("PATCH", f"{folders}/{sub['id']}", json={"name": "new"})["path"] == "/top/new"
    assert stand.ok("GET", f"/files/v3/files/{file['id']}")["path"] == "/top/new/deep/a.txt"
    started = stand.ok("POST", f"{folders}/update/async", json={"id": deep["id"], "parentFolderId": int(top["id"])})
    task = stand.ok("GET", f"{folders}/update/async/tasks/{started['id']}/status")
    assert (task["status"], task["result"]["path"]) == ("COMPLETE", "/top/deep")
    stand.ok("DELETE", f"{folders}/top")
    gone = [f"{folders}/{one['id']}" for one in (top, sub, deep)] + [f"/files/v3/files/{file['id']}"]
    assert [stand.call("GET", path).status_code for path in gone] == [404] * 4


def test_hubspots_own_client_reads_files_and_folders(stand: Stand) -> None:
    made = upload(stand, "a.txt", b"12345", folder="/bills")
    files = older(stand, stand.token).files
    assert [one.id for one in files.files_api.do_search(extension="txt").results] == [made["id"]]
    assert files.files_api.get_metadata("/bills/a.txt").file.size == 5
    assert files.folders_api.get_by_path("bills").id == made["parentFolderId"]
    with client_of(stand) as client:
        assert [one.name for one in client.files.folders.search()] == ["bills"]
        assert client.files.file_assets.get(made["id"]).path == "/bills/a.txt"


# --- users, teams, tickets, notes

OBJECTS = ("/crm/v3/objects", "/crm/objects/2026-03", "/crm/objects/2026-09")
HOURS = json.dumps([{"days": "MONDAY_TO_FRIDAY", "startMinute": 540, "endMinute": 1020}])


@pytest.fixture
def ask(stand: Stand, everything: str) -> Any:
    """Calls with every scope; the answer's JSON."""

    def call(method: str, path: str, body: Any = None, status: int = 200, **params: str | int) -> Any:
        answer = requests.request(
            method, stand.base + path, params=params, json=body, headers=bearer(everything), timeout=30
        )
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    return call


@pytest.mark.parametrize("base", OBJECTS)
def test_each_agent_is_a_user_whose_number_is_the_actors(ask: Any, stand: Stand, base: str) -> None:
    names = "hs_internal_user_id,hs_email,hs_availability_status,hs_working_hours,hs_standard_time_zone"
    stand.chaos(hours_set_away=False, away_form="null")
    stand.sim("PUT", "agents/A-988/availability", {"status": None})
    noor, teo = (one["properties"] for one in ask("GET", f"{base}/users", properties=names)["results"])
    assert (noor["hs_internal_user_id"], noor["hs_email"]) == ("987", "noor@acme.test")
    assert noor["hs_object_id"] not in ("987", "61987"), "three ids of three domains"
    assert teo.get("hs_availability_status") is None, "empty means away"
    changed = {"hs_availability_status": "available", "hs_working_hours": HOURS, "hs_standard_time_zone": "Asia/Tokyo"}
    told = ask("PATCH", f"{base}/users/987", {"properties": changed}, idProperty="hs_internal_user_id")
    assert told["properties"]["hs_working_hours"] == HOURS
    filters = [{"propertyName": "hs_availability_status", "operator": "EQ", "value": "available"}]
    search = {"filterGroups": [{"filters": filters}], "properties": ["hs_email"]}
    assert [one["properties"]["hs_email"] for one in ask("POST", f"{base}/users/search", search)["results"]] == [
        "noor@acme.test"
    ]
    [read] = ask("POST", f"{base}/users/batch/read", {"inputs": [{"id": told["id"]}], "properties": ["hs_email"]})[
        "results"
    ]
    assert read["id"] == told["id"] == noor["hs_object_id"]
    ask("PATCH", f"{base}/users/{told['id']}", {"properties": {"hs_availability_status": "out"}}, 400)
    ask("PATCH", f"{base}/users/{told['id']}", {"properties": {"hs_internal_user_id": "1"}}, 400)
    ask("GET", f"{base}/users/x", None, 400, idProperty="hs_working_hours")
    stand.sim("PUT", "agents/A-988", {"archived": True})
    assert len(ask("GET", f"{base}/users")["results"]) == 1
    assert len(ask("GET", f"{base}/users", archived="true")["results"]) == 1
    assert stand.call("GET", f"{base}/users").status_code == 403, "a scope of its own"


@pytest.mark.parametrize("base", OBJECTS)
def test_a_help_desks_thread_has_a_ticket_that_takes_notes_and_a_priority(ask: Any, stand: Stand, base: str) -> None:
    desk = stand.ok(
        "POST",
        f"{CC}/{stand.channel}/channel-accounts",
        json={
            "inboxId": "700200999",
            "name": "Desk",
            "authorized": True,
            "deliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "desk"},
        },
    )["id"]
    thread = stand.publish(channelAccountId=desk)["conversationsThreadId"]
    filters = [{"propertyName": "hs_conversations_originating_thread_id", "operator": "EQ", "value": thread}]
    [ticket] = ask("POST", f"{base}/tickets/search", {"filterGroups": [{"filters": filters}]})["results"]
    linked = stand.ok("GET", f"{CV}/threads/{thread}", params={"association": "TICKET"})
    assert linked["threadAssociations"]["associatedTicketId"] == ticket["id"]

    path = f"{base}/0-5/{ticket['id']}"
    assert (
        ask("PATCH", path, {"properties": {"hs_ticket_priority": "HIGH"}})["properties"]["hs_ticket_priority"] == "HIGH"
    )
    ask("PATCH", path, {"properties": {"hs_ticket_priority": "AT ONCE"}}, 400)
    past = ask("GET", path, propertiesWithHistory="hs_ticket_priority")["propertiesWithHistory"]["hs_ticket_priority"]
    assert [one["value"] for one in past] == ["HIGH"]

    def note(type_id: int = 228, to: str = ticket["id"], status: int = 201, **properties: str) -> Json:
        types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_id}]
        body = {"properties": properties, "associations": [{"to": {"id": to}, "types": types}]}
        made: Json = ask("POST", f"{base}/notes", body, status)
        return made

    made = note(hs_timestamp="2026-10-01T09:15:30.123Z", hs_note_body="<p>Called him</p>")
    there = ask("GET", f"{base}/notes/{made['id']}", associations="tickets", properties="hs_note_body")
    assert there["properties"]["hs_note_body"] == "<p>Called him</p>"
    assert there["associations"]["tickets"]["results"] == [{"id": ticket["id"], "type": "note_to_ticket"}]
    back = ask("GET", path, associations="notes,contacts")["associations"]
    assert [one["id"] for one in back["notes"]["results"]] == [made["id"]]
    assert [one["id"] for one in back["contacts"]["results"]] == ["55512001"]
    note(hs_note_body="without a time", status=400)
    note(hs_timestamp="1", to="1", status=400)
    note(hs_timestamp="1", type_id=1, status=400)
    assert len(ask("GET", f"{base}/notes")["results"]) == 1, "what was refused is not there"
    ask("DELETE", f"{base}/notes/{made['id']}", None, 204)
    ask("GET", f"{base}/notes/{made['id']}", None, 404)
    plain = stand.publish(key="conv-2")["conversationsThreadId"]
    filters[0]["value"] = plain
    assert ask("POST", f"{base}/tickets/search", {"filterGroups": [{"filters": filters}]})["total"] == 0


def test_who_is_in_which_team(ask: Any, stand: Stand) -> None:
    base = "/settings/teams/2026-09-beta"
    noor = {"userId": "987", "type": "DEFAULT"}
    team = ask("POST", base, {"name": "Care", "members": [noor]}, 201)
    sub = ask("POST", base, {"name": "Nights", "members": [], "parentTeamId": team["id"]}, 201)
    assert sub["parentTeamId"] == team["id"]
    members = f"{base}/{team['id']}/members"
    assert ask("POST", members, {"userId": "988", "type": "EXTRA"}, 201)["type"] == "EXTRA"
    assert [one["userId"] for one in ask("GET", members)["results"]] == ["987", "988"]
    assert ask("GET", "/crm/v3/owners/987", idProperty="userId")["teams"] == [
        {"id": team["id"], "name": "Care", "primary": True}
    ]
    ask("POST", members, {"userId": "1", "type": "DEFAULT"}, 400)
    ask("POST", members, {"userId": "987", "type": "CHIEF"}, 400)
    ask("DELETE", f"{members}/988", None, 404, type="DEFAULT")
    ask("DELETE", f"{members}/988", None, 204, type="EXTRA")
    assert ask("POST", f"{members}/batch", {"inputs": [noor]})["results"] == [noor]
    assert [one["name"] for one in ask("GET", base)["results"]] == ["Care", "Nights"]
    ask("DELETE", f"{base}/{team['id']}", None, 204)
    ask("GET", members, None, 404)


def test_teams_are_an_api_as_any_other(ask: Any, stand: Stand) -> None:
    teams = "/settings/teams/2026-09-beta"
    stand.chaos(faults=[{"match": "GET /settings/teams", "status": 503, "times": 1}])
    ask("GET", teams, None, 503)
    assert ask("GET", teams)["results"] == []
    kept = [(one["path"], one["status"]) for one in stand.sim("GET", "requests")]
    assert kept == [(teams, 503), (teams, 200)]
    assert f"GET {teams}" in stand.sim("GET", "served")
    own = ("/", "/settings", "/projects", "/favicon.ico", "/static/desk.css", "/connected")
    for path in own:
        assert stand.http.get(stand.base + path, timeout=30).status_code not in (404, 501)
    assert len(stand.sim("GET", "requests")) == 2, "pages are no API"


# --- what is not served


@pytest.mark.parametrize(
    ("method", "path", "near"),
    [
        ("GET", "/crm/v3/objects/p_cats", "/crm/v3/objects/contacts"),
        ("POST", "/crm/v3/objects/notes/1/merge", "POST /crm/v3/objects/notes/search"),
        ("GET", "/crm/v3/objects/contacts/1/associations/deals", "GET /crm/v3/objects/contacts/{contact_id}"),
        ("POST", "/files/v3/files/import-from-url/async", "POST /files/v3/files"),
        ("GET", "/automation/v4/flows", "/crm/v3/objects/contacts"),
        ("GET", "/crm/v3", "/crm/v3/objects/contacts"),
        ("DELETE", "/nonsense", "/crm/v3/objects/contacts"),
        ("GET", "/settings/v3/users", "/crm/v3/objects/contacts"),
        ("GET", "/connect/v1/accounts", "/crm/v3/objects/contacts"),
        ("GET", "/projectsearch", "/crm/v3/objects/contacts"),
    ],
)
def test_what_is_not_served_does_not_look_missing(stand: Stand, method: str, path: str, near: str) -> None:
    for credentials in ({}, {"Authorization": "Bearer wrong"}):
        answer = stand.call(method, path, headers=credentials)
        assert (answer.status_code, answer.json()["category"]) == (501, "NOT_SERVED")
        assert f"does not serve {method} {path}, " in answer.json()["message"]
        assert near in answer.json()["context"]["served"]
        assert near in answer.json()["message"]


def test_what_is_missing_does_not_look_unserved(stand: Stand) -> None:
    paths = ("/crm/v3/objects/contacts/1", "/files/v3/files/1", "/crm/v3/properties/contacts/nothing")
    assert [stand.call("GET", path).status_code for path in paths] == [404, 404, 404]
    assert stand.http.get(f"{stand.base}/_sim/nothing", timeout=30).status_code == 404, "the stand-in's own"
    refused = stand.call("PUT", "/crm/v3/objects/contacts", json={})
    assert (refused.status_code, set(refused.headers["Allow"].split(", "))) == (405, {"GET", "HEAD", "OPTIONS", "POST"})


def test_everything_that_is_listed_is_served(stand: Stand) -> None:
    listed = stand.sim("GET", "served")
    assert "GET /crm/v3/owners/{owner_id}" in listed
    assert not [call for call in listed if "/_sim" in call or "/static" in call]
    for call in listed:
        method, _, path = call.partition(" ")
        if "/custom-channels/v3/" in path or path.endswith("/assignee") or "/v3/objects/0-" in path:
            continue  # in no document, so that asking for it would be a finding
        assert stand.call(method, re.sub(r"{\w+}", "1", path), allow_redirects=False).status_code not in (405, 501), (
            call
        )

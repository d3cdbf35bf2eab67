"""The stand-in's CRM: how values compare, properties, what is unique; as the usual clients of CRMs rely on it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hubspot import HubSpot
from hypothesis import given
from hypothesis import strategies as st

from flask_hubspot_hitl.simulator.model.properties import NONE, OF_CONTACTS, sort_key

from .helpers import Json
from .simulator_helpers import Stand

CONTACTS = "/crm/v3/objects/contacts"


def make(stand: Stand, **properties: str) -> str:
    made: str = stand.ok("POST", CONTACTS, json={"properties": properties})["id"]
    return made


def found(stand: Stand, *filters: Json, sort: Any = "hs_object_id", **more: Any) -> list[str]:
    body = {"filterGroups": [{"filters": list(filters)}], "sorts": [sort], "limit": 100, **more}
    return [one["id"] for one in stand.ok("POST", f"{CONTACTS}/search", json=body)["results"]]


def where(name: str, operator: str, value: object, **more: Any) -> Json:
    return {"propertyName": name, "operator": operator, "value": str(value), **more}


def test_paging_by_the_last_id_gives_each_once(stand: Stand) -> None:
    everything = sorted((one["id"] for one in stand.ok("GET", CONTACTS)["results"]), key=int)
    everything += [make(stand, firstname=str(number)) for number in range(12)]
    seen: list[str] = []
    while page := found(stand, where("hs_object_id", "GT", seen[-1] if seen else "0"), limit=5):
        seen += page
    assert seen == sorted(everything, key=int)


@pytest.mark.parametrize("base", [CONTACTS, "/crm/objects/2026-03/contacts", "/crm/objects/2026-09/0-1"])
def test_a_page_has_ten_unless_told_otherwise(stand: Stand, base: str) -> None:
    for number in range(9):
        make(stand, firstname=str(number))
    first = stand.ok("GET", base)
    assert len(first["results"]) == 10
    assert len(stand.ok("GET", base, params={"after": first["paging"]["next"]["after"]})["results"]) == 2
    assert len(stand.ok("GET", base, params={"limit": 11})["results"]) == 11


@pytest.mark.parametrize("spelling", ["ms", "iso"])
def test_an_incremental_sync_gets_only_what_has_changed(stand: Stand, spelling: str) -> None:
    first, second = make(stand, firstname="a"), make(stand, firstname="b")
    time.sleep(0.01)
    mark = time.time_ns() // 1_000_000
    time.sleep(0.01)
    stand.ok("PATCH", f"{CONTACTS}/{first}", json={"properties": {"firstname": "c"}})
    since = str(mark)
    if spelling == "iso":
        moment = stand.ok("GET", f"{CONTACTS}/{second}")["updatedAt"]
        assert found(stand, where("lastmodifieddate", "GT", moment)) == [first]
        return
    assert found(stand, where("lastmodifieddate", "GTE", since)) == [first]
    assert second in found(stand, where("lastmodifieddate", "LT", since))
    assert found(stand, where("lastmodifieddate", "BETWEEN", since, highValue=str(mark + 600_000))) == [first]


def test_numbers_and_dates_sort_as_such(stand: Stand) -> None:
    ids = [make(stand, firstname=name, closedate=date) for name, date in (("x", "1700000000000"), ("y", "2020-01-01"))]
    ids += [make(stand, firstname="z", closedate="999")]
    own = {"propertyName": "firstname", "operator": "IN", "values": ["x", "y", "z"]}
    assert found(stand, own, sort="closedate") == [ids[2], ids[1], ids[0]]
    assert found(stand, own, sort={"propertyName": "closedate", "direction": "DESCENDING"}) == [ids[0], ids[1], ids[2]]


def test_a_value_that_is_none_of_its_type_is_refused(stand: Stand) -> None:
    wrong = {"filterGroups": [{"filters": [where("createdate", "GT", "yesterday")]}]}
    assert stand.call("POST", f"{CONTACTS}/search", json=wrong).status_code == 400
    assert stand.call("POST", CONTACTS, json={"properties": {"closedate": "soon"}}).status_code == 400


def test_only_unique_properties_name_a_contact(stand: Stand) -> None:
    make(stand, email="ana@example.com", firstname="Ana")
    assert stand.ok("GET", f"{CONTACTS}/ana@example.com", params={"idProperty": "email"})["id"]
    for name in ("firstname", "", "nothing"):
        assert stand.call("GET", f"{CONTACTS}/Ana", params={"idProperty": name}).status_code == 400
        body = {"inputs": [{"id": "Ana", "idProperty": name, "properties": {"lastname": "B"}}]}
        before = len(stand.ok("GET", CONTACTS)["results"])
        answer = stand.call("POST", "/crm/objects/2026-09/contacts/batch/upsert", json=body)
        assert answer.status_code == 400, answer.text
        assert len(stand.ok("GET", CONTACTS)["results"]) == before


def test_a_change_needs_a_body_and_a_405_names_what_is_allowed(stand: Stand) -> None:
    contact = make(stand, firstname="a")
    assert stand.call("PATCH", f"{CONTACTS}/{contact}").status_code == 400
    wrongs: list[Any] = [None, {}, []]
    for wrong in wrongs:
        assert stand.call("PATCH", f"{CONTACTS}/{contact}", json={"properties": {"city": wrong}}).status_code == 400
    thread = stand.publish()["conversationsThreadId"]
    assert stand.call("PATCH", f"/conversations/v3/conversations/threads/{thread}").status_code == 400
    refused = stand.call("PUT", f"{CONTACTS}/{contact}", json={})
    assert refused.status_code == 405
    assert {"GET", "PATCH", "DELETE"} <= set(refused.headers["Allow"].split(", "))


@pytest.mark.parametrize("base", [CONTACTS, "/crm/objects/2026-09/contacts"])
def test_properties_can_be_had_with_their_history(stand: Stand, base: str) -> None:
    contact = make(stand, email="ana@example.com", firstname="Ana")
    stand.ok("PATCH", f"{base}/{contact}", json={"properties": {"firstname": "Anna", "email": "ana@example.com"}})
    stand.ok("PATCH", f"{base}/{contact}", json={"properties": {"firstname": ""}})
    asked = ["firstname", "email", "lastname", "createdate"]
    one = stand.ok("GET", f"{base}/{contact}", params={"propertiesWithHistory": ",".join(asked)})
    told = {name: [entry["value"] for entry in past] for name, past in one["propertiesWithHistory"].items()}
    assert told == {
        "firstname": ["", "Anna", "Ana"],
        "email": ["ana@example.com"],
        "createdate": [one["createdAt"]],
    }
    times = [entry["timestamp"] for entry in one["propertiesWithHistory"]["firstname"]]
    assert times == sorted(times, reverse=True)
    assert times[-1] == one["createdAt"]
    assert one["properties"]["email"] == "ana@example.com"
    listed = stand.ok("GET", base, params={"propertiesWithHistory": asked})["results"]
    assert listed[-1]["propertiesWithHistory"] == one["propertiesWithHistory"]
    body = {"inputs": [{"id": contact}], "properties": [], "propertiesWithHistory": asked}
    [read] = stand.ok("POST", f"{base}/batch/read", json=body)["results"]
    assert read["propertiesWithHistory"] == one["propertiesWithHistory"]
    assert "propertiesWithHistory" not in stand.ok("GET", f"{base}/{contact}")


@pytest.mark.parametrize("version", ["2026-03", "2026-09"])
def test_an_upsert_tells_no_nulls(stand: Stand, version: str) -> None:
    inputs = [{"id": "a@example.com", "idProperty": "email", "properties": {"firstname": "A", "lastname": ""}}]
    for properties in ({"firstname": "A"}, {"firstname": ""}):
        body = {"inputs": [inputs[0] | {"properties": properties}]}
        [made] = stand.ok("POST", f"/crm/objects/{version}/contacts/batch/upsert", json=body)["results"]
        assert None not in made["properties"].values()


def test_a_merge_keeps_every_address_and_what_was(stand: Stand) -> None:
    winner = make(stand, email="a@example.com", firstname="Ana")
    loser = make(stand, email="b@example.com", hs_additional_emails="c@example.com;d@example.com", lastname="Berg")
    stand.ok("POST", f"{CONTACTS}/merge", json={"primaryObjectId": winner, "objectIdToMerge": loser})
    for address in ("a@example.com", "b@example.com", "c@example.com", "d@example.com"):
        hit = found(stand, {"propertyName": "email", "operator": "EQ", "value": address}) or found(
            stand, {"propertyName": "hs_additional_emails", "operator": "CONTAINS_TOKEN", "value": address}
        )
        assert hit == [winner], address
    names = {"properties": "email,lastname,hs_additional_emails"}
    told = stand.ok("GET", f"{CONTACTS}/{loser}", params=names)
    assert (told["id"], told["properties"]["email"], told["properties"]["lastname"]) == (
        winner,
        "a@example.com",
        "Berg",
    )
    assert told["properties"]["hs_additional_emails"] == "b@example.com;c@example.com;d@example.com"


def test_hubspots_own_client_reads_the_properties(stand: Stand) -> None:
    client = HubSpot(access_token=stand.token)
    client.config["host"] = stand.base
    api = client.crm.properties.core_api
    everything = {one.name: one for one in api.get_all("contacts").results}
    assert set(everything) == set(OF_CONTACTS)
    assert everything["email"].has_unique_value
    assert (everything["createdate"].type, everything["createdate"].modification_metadata.read_only_value) == (
        "datetime",
        True,
    )
    assert "customer" in [one.value for one in api.get_by_name("contacts", "lifecyclestage").options]
    assert stand.call("GET", "/crm/v3/properties/contacts/nothing").status_code == 404


@given(st.lists(st.integers(0, 10**14)))
def test_keys_of_numbers_sort_as_numbers(values: list[int]) -> None:
    texts = [str(one) for one in values]
    for name in ("hs_object_id", "createdate"):
        assert sorted(texts, key=lambda one: sort_key(name, one)) == [str(one) for one in sorted(values)]
        assert all(sort_key(name, one) > NONE for one in texts)

"""Scalizer's client, ``s6r-hubspot``, which renews an access token that has run out."""

from __future__ import annotations

import json
import sys

from s6r_hubspot import HubspotConnection, HubSpotScopeError

given = json.load(sys.stdin)
kept = {"access_token": given["expired"], **given["app"]}


def keep(access_token: str, refresh_token: str, client_id: str, client_secret: str) -> None:
    kept.update(access_token=access_token, refresh_token=refresh_token)


client = HubspotConnection(get_token=lambda: kept, set_token=keep)
account = client.get_account_details()["portalId"]
assert kept["access_token"] != given["expired"]
listed = [one["id"] for one in client.get_all("contacts", ["email"])]
(made,) = client.create("contacts", [{"properties": given["contact"]}])
(changed,) = client.update("contacts", [{"id": made["id"], "properties": given["change"]}])
email = {"propertyName": "email", "operator": "EQ", "value": given["contact"]["email"]}
try:
    HubspotConnection(token=given["narrow"]).get_owners()
except HubSpotScopeError as problem:
    missing = problem.required_scope
owners = client.get_owners()
seen = {
    "listed": listed,
    "made": made["id"],
    "changed": changed["properties"],
    "searched": [one["id"] for one in client.search("contacts", filterGroups=given["all"], properties=["email"])],
    "found": {one["id"]: one["properties"] for one in client.search("contacts", filters=[email], properties=["phone"])},
    "properties": [one["name"] for one in client._get_properties("contacts")],
    "owners": [one["email"] for one in owners],
    "owner": client.get_owner_by_email(client.get_owner(owners[0]["id"])["email"])["email"],
    "account": account,
    "missing": missing,
}
print(json.dumps(seen))

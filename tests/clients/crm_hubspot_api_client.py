"""HubSpot's older Python client, ``hubspot-api-client``; its access token comes from a refresh."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import hubspot
from hubspot.crm.contacts import PublicObjectSearchRequest, SimplePublicObjectInput, SimplePublicObjectInputForCreate

given = json.load(sys.stdin)
tokens = hubspot.HubSpot().oauth.tokens_api.create(grant_type="refresh_token", **given["app"])
client = hubspot.HubSpot(access_token=tokens.access_token)
contacts = client.crm.contacts
listed = [one.id for one in contacts.get_all()]
made = contacts.basic_api.create(SimplePublicObjectInputForCreate(properties=given["contact"], associations=[]))
changed = contacts.basic_api.update(made.id, SimplePublicObjectInput(properties=given["change"]))
email = {"propertyName": "email", "operator": "EQ", "value": given["contact"]["email"]}
query = PublicObjectSearchRequest(filter_groups=[{"filters": [email]}], properties=["phone"], limit=10)
searched: list[str] = []
every = PublicObjectSearchRequest(filter_groups=given["all"], properties=["email"], limit=100)
while True:
    page = contacts.search_api.do_search(every)
    searched += [one.id for one in page.results]
    if page.paging is None:
        break
    every.after = page.paging.next.after
history = contacts.basic_api.get_by_id(made.id, properties_with_history=["phone"]).properties_with_history
owners = client.crm.owners.get_all()
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "a.txt"
    path.write_bytes(b"of the client's")
    options = json.dumps({"access": "PRIVATE"})
    stored = client.files.files_api.upload(file=str(path), folder_path="/clients", options=options)
seen = {
    "listed": listed,
    "made": made.id,
    "changed": changed.properties,
    "searched": searched,
    "history": [one.value for one in history["phone"]],
    "found": {one.id: one.properties for one in contacts.search_api.do_search(query).results},
    "properties": [one.name for one in client.crm.properties.core_api.get_all("contacts").results],
    "owners": [one.email for one in owners],
    "owner": client.crm.owners.owners_api.get_by_id(int(owners[0].id)).email,
    "files": {"id": stored.id, "signed": client.files.files_api.get_signed_url(stored.id).url},
    "account": client.oauth.access_tokens_api.get(tokens.access_token).hub_id,
}
print(json.dumps(seen))

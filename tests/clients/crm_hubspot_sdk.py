"""HubSpot's newer Python client, ``hubspot-sdk``."""

from __future__ import annotations

import json
import sys

import hubspot_sdk

given = json.load(sys.stdin)
client = hubspot_sdk.HubSpot(access_token=given["token"])
contacts = client.crm.objects.contacts
listed = [one.id for one in contacts.list()]
made = contacts.create(properties=given["contact"], associations=[])
changed = contacts.update(made.id, properties=given["change"])
found = contacts.search(
    filter_groups=[{"filters": [{"property_name": "email", "operator": "EQ", "value": given["contact"]["email"]}]}],
    properties=["phone"],
    sorts=[],
    limit=10,
    after="0",
)
searched: list[str] = []
after = "0"
while after:
    page = contacts.search(filter_groups=given["all"], properties=["email"], sorts=[], limit=100, after=after)
    searched += [one.id for one in page.results]
    after = page.paging.next.after if page.paging and page.paging.next else ""
history = contacts.get(made.id, properties_with_history=["phone"]).properties_with_history or {}
owners = list(client.crm.owners.list())
stored = client.files.file_assets.upload(
    file=("a.txt", b"of the client's", "text/plain"), folder_path="/clients", options='{"access":"PRIVATE"}'
)
seen = {
    "listed": listed,
    "made": made.id,
    "changed": changed.properties,
    "searched": searched,
    "history": [one.value for one in history["phone"]],
    "found": {one.id: one.properties for one in found.results},
    "properties": [one.name for one in client.crm.properties.list("contacts").results],
    "owners": [one.email for one in owners],
    "owner": client.crm.owners.get(int(owners[0].id)).email,
    "files": {"id": stored.id, "signed": client.files.file_assets.get_signed_url(stored.id).url},
    "account": client.account.get().portal_id,
}
print(json.dumps(seen))

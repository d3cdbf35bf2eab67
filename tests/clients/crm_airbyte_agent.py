"""Airbyte's connector for agents, ``airbyte-agent-hubspot``, which reads only, and renews an access token."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from airbyte_agent_hubspot import HubspotConnector
from airbyte_agent_hubspot.models import HubspotAuthConfig

given = json.load(sys.stdin)
renewed: list[dict[str, Any]] = []


async def main() -> dict[str, Any]:
    config = HubspotAuthConfig(access_token=given["expired"], **given["app"])
    contacts = HubspotConnector(auth_config=config, on_token_refresh=renewed.append).contacts
    page = await contacts.list()
    listed = list(page.data)
    while page.meta.next_cursor:
        page = await contacts.list(after=page.meta.next_cursor)
        listed += page.data
    email = listed[0].properties.email
    filters = [{"propertyName": "email", "operator": "EQ", "value": email}]
    found = await contacts.search(filter_groups=[{"filters": filters}], properties=["email"])
    searched: list[Any] = []
    every: dict[str, Any] = {"filter_groups": given["all"], "properties": ["email"]}
    while True:
        some = await contacts.search(**every)
        searched += some.data
        if not some.meta.next_cursor:
            break
        every["after"] = some.meta.next_cursor
    one: Any = await contacts.get(contact_id=listed[0].id)  # a dictionary, whatever its type says
    return {
        "listed": [one.id for one in listed],
        "read": [one["id"], one["properties"]["email"]],
        "searched": [one.id for one in searched],
        "found": {one.id: {"email": one.properties.email} for one in found.data},
        "renewed": len(renewed),
    }


print(json.dumps(asyncio.run(main())))

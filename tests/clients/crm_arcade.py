"""Arcade's tools for language models, ``arcade-hubspot-crm-api``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from arcade_hubspot_crm_api import tools
from arcade_tdk import ToolAuthorizationContext, ToolContext

given = json.load(sys.stdin)
context = ToolContext(authorization=ToolAuthorizationContext(token=given["token"]))


async def call(tool: Any, **arguments: Any) -> Any:
    return (await tool(context, **arguments))["response_json"]


async def write(tool: Any, body: Any, **arguments: Any) -> Any:
    return await call(tool, mode=tools.ToolMode.EXECUTE, request_body=json.dumps(body), **arguments)


async def every_match(query: Any) -> list[str]:
    found: list[str] = []
    while True:
        page = await write(tools.search_contacts, query)
        found += [one["id"] for one in page["results"]]
        if "paging" not in page:
            return found
        query = {**query, "after": page["paging"]["next"]["after"]}


async def main() -> dict[str, Any]:
    page = await call(tools.get_contacts)
    listed = page["results"]
    while "paging" in page:
        page = await call(tools.get_contacts, paging_cursor_token=page["paging"]["next"]["after"])
        listed += page["results"]
    made = await write(tools.create_hubspot_contact, {"properties": given["contact"], "associations": []})
    changed = await write(tools.update_contact_information, {"properties": given["change"]}, contact_id=made["id"])
    email = {"propertyName": "email", "operator": "EQ", "value": given["contact"]["email"]}
    query = {"filterGroups": [{"filters": [email]}], "properties": ["phone"], "limit": 10, "after": "0", "sorts": []}
    found = await write(tools.search_contacts, query)
    owners = (await call(tools.retrieve_owners_list))["results"]
    return {
        "listed": [one["id"] for one in listed],
        "made": made["id"],
        "changed": changed["properties"],
        "searched": await every_match({**query, "filterGroups": given["all"]}),
        "found": {one["id"]: one["properties"] for one in found["results"]},
        "properties": [
            one["name"] for one in (await call(tools.retrieve_hubspot_properties, object_type="contacts"))["results"]
        ],
        "owners": [one["email"] for one in owners],
        "owner": (await call(tools.retrieve_owner_details, owner_id=int(owners[0]["id"])))["email"],
    }


print(json.dumps(asyncio.run(main())))

"""What real clients stumbled over in the stand-in (``docs/clients.rst``), from outside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .simulator_helpers import Stand, bearer


def token(stand: Stand, *scopes: str) -> str:
    """An access token with these scopes."""
    found: str = stand.sim("GET", f"access-token?scopes={','.join(scopes)}")["access_token"]
    return found


@pytest.mark.parametrize("base", ["/crm/v3/properties", "/crm/properties/2026-03", "/crm/properties/2026-09"])
def test_all_kinds_have_properties_for_who_may_read_them(stand: Stand, base: str) -> None:
    notes = stand.ok("GET", f"{base}/notes")["results"]
    assert {"hs_object_id", "hs_lastmodifieddate"} <= {one["name"] for one in notes}
    assert stand.ok("GET", f"{base}/notes/hs_object_id")["hasUniqueValue"]
    assert stand.call("GET", f"{base}/notes/nothing").status_code == 404
    assert stand.call("GET", f"{base}/tickets").status_code == 403
    assert stand.ok("GET", f"{base}/tickets", headers=bearer(token(stand, "tickets")))["results"]
    assert stand.ok("GET", f"{base}/0-46")["results"] == notes
    assert stand.call("GET", f"{base}/p_cats").json()["category"] == "NOT_SERVED"
    assert stand.call("GET", f"{base}/unicorns").json()["message"] == "Unable to infer object type from: unicorns"
    assert stand.http.get(f"{stand.base}{base}/notes", timeout=30).status_code == 401


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/crm/v3/objects/deals", "crm.objects.deals.read"),
        ("/crm/objects/2026-09/companies/1", "crm.objects.companies.read"),
        ("/crm/v3/schemas", "crm.schemas.custom.read"),
        ("/crm-object-schemas/v3/schemas", "crm.schemas.custom.read"),
        ("/crm/v3/pipelines/deals", "crm.objects.deals.read"),
        ("/companies/v2/properties", "crm.objects.companies.read"),
        ("/properties/v1/deals/properties", "crm.objects.deals.read"),
        ("/deals/v1/deal/paged", "crm.objects.deals.read"),
    ],
)
def test_a_missing_scope_is_told_before_what_is_not_served(stand: Stand, path: str, scope: str) -> None:
    refused = stand.call("GET", path)
    assert (refused.status_code, refused.json()["category"]) == (403, "MISSING_SCOPES")
    assert "hasn't been granted all required scopes" in refused.json()["message"]
    assert refused.json()["errors"][0]["context"] == {"requiredGranularScopes": [scope]}
    assert stand.call("GET", path, headers=bearer(token(stand, scope))).status_code == 501
    assert stand.http.get(stand.base + path, timeout=30).status_code == 501


def test_a_file_of_the_same_name_is_replaced_or_called_otherwise(stand: Stand) -> None:
    def upload(content: bytes, folder: str = "/x", **options: Any) -> Any:
        form = {"folderPath": folder, "options": json.dumps({"access": "PRIVATE", **options})}
        return stand.ok("POST", "/files/v3/files", data=form, files={"file": ("a.txt", content, "text/plain")})

    first, second = upload(b"1"), upload(b"2")
    assert [one["name"] for one in (first, second, upload(b"3", "/y"))] == ["a", "a-1", "a"]
    third = upload(b"4", overwrite=True)
    assert (third["name"], third["path"]) == ("a", first["path"])
    found = [stand.call("GET", f"/files/v3/files/{one['id']}").status_code for one in (first, second, third)]
    assert found == [404, 200, 200]

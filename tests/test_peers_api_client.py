"""HubSpot's older Python client (``hubspot-api-client``, v1 and v3): OAuth, contacts, webhooks and files.

Its models must take every answer of the stand-in: they refuse missing and unknown values. Signatures have a test of
their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hubspot
import pytest
from hubspot.crm import contacts as crm
from hubspot.crm.contacts import exceptions as crm_exceptions
from hubspot.oauth import exceptions as oauth_exceptions
from hubspot.webhooks import exceptions as webhooks_exceptions
from hubspot.webhooks import models as webhooks

from .simulator_helpers import Stand

APP = 3131


def client_of(stand: Stand, **more: Any) -> Any:
    """The client, pointed at the stand-in."""
    return hubspot.HubSpot(access_token=stand.token, api_key=stand.developer["hapikey"], host=stand.base, **more)


@pytest.fixture
def client(stand: Stand) -> Any:
    return client_of(stand)


@pytest.fixture
def app(stand: Stand) -> dict[str, str]:
    """The app's credentials, as the token endpoint takes them."""
    names = {"client_id": "CLIENT_ID", "client_secret": "CLIENT_SECRET"}
    return {name: stand.env[f"HUBSPOT_HITL_{key}"] for name, key in names.items()}


def test_oauth_tokens_and_what_they_are(stand: Stand, client: Any, app: dict[str, str]) -> None:
    refresh = stand.env["HUBSPOT_HITL_REFRESH_TOKEN"]
    tokens = client.oauth.tokens_api.create(grant_type="refresh_token", refresh_token=refresh, **app)
    assert (tokens.token_type, tokens.refresh_token, tokens.expires_in) == ("bearer", refresh, 1800)
    access = client.oauth.access_tokens_api.get(tokens.access_token)
    assert (access.hub_id, access.app_id, access.user_id, access.token_type) == (424242, APP, 987, "access")
    kept = client.oauth.refresh_tokens_api.get(refresh)
    assert (kept.client_id, kept.hub_id, kept.token) == (app["client_id"], 424242, refresh)
    client.oauth.refresh_tokens_api.archive(refresh)
    with pytest.raises(oauth_exceptions.ApiException) as refused:
        client.oauth.tokens_api.create(grant_type="refresh_token", refresh_token=refresh, **app)
    assert refused.value.status == 400
    assert json.loads(refused.value.body)["status"] == "BAD_REFRESH_TOKEN"
    # the revoked refresh token leaves access tokens alone
    assert client.oauth.access_tokens_api.get(tokens.access_token).hub_id == 424242


def test_oauth_exchanges_a_code_from_the_address_it_builds(stand: Stand, client: Any, app: dict[str, str]) -> None:
    from hubspot.utils.oauth import AUTHORIZE_URL, get_auth_url

    back = "http://localhost:5/back"
    scopes = ("oauth", "conversations.read")
    built = get_auth_url(app["client_id"], back, scopes, ("files",), "the state")
    url = stand.base + "/oauth/authorize" + built.removeprefix(AUTHORIZE_URL)
    allowed = {"answer": "allow", "portal": "424242"}
    answer = stand.http.post(url, data=allowed, allow_redirects=False, timeout=30)
    assert answer.headers["Location"].endswith("&state=the+state")
    code = answer.headers["Location"].partition("code=")[2].partition("&")[0]
    grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
    tokens = client.oauth.tokens_api.create(**grant, **app)
    assert client.oauth.access_tokens_api.get(tokens.access_token).scopes == [*scopes, "files"]


def test_webhook_settings(client: Any) -> None:
    api = client.webhooks.settings_api
    wanted = webhooks.SettingsChangeRequest(
        target_url="https://bot.example.test/hook", throttling=webhooks.ThrottlingSettings(max_concurrent_requests=7)
    )
    assert api.configure(APP, wanted).target_url == "https://bot.example.test/hook"
    assert api.get_all(APP).throttling.max_concurrent_requests == 7
    api.clear(APP)
    with pytest.raises(webhooks_exceptions.ApiException) as missing:
        api.get_all(APP)
    assert missing.value.status == 404
    with pytest.raises(webhooks_exceptions.ApiException) as unknown:
        api.get_all(999)
    assert unknown.value.status == 401


def test_webhook_subscriptions(client: Any) -> None:
    api = client.webhooks.subscriptions_api
    first = api.get_all(APP).results[0]
    api.archive(int(first.id), APP)
    egg = webhooks.SubscriptionCreateRequest(event_type="conversation.creation", active=False)
    made = api.create(APP, egg)
    assert (made.event_type, made.active) == ("conversation.creation", False)
    assert api.update(int(made.id), APP, webhooks.SubscriptionPatchRequest(active=True)).active
    assert api.get_by_id(int(made.id), APP).active
    change = webhooks.SubscriptionBatchUpdateRequest(id=int(made.id), active=False)
    answer = api.update_batch(APP, webhooks.BatchInputSubscriptionBatchUpdateRequest(inputs=[change]))
    assert [one.active for one in answer.results] == [False]
    gone = webhooks.SubscriptionBatchUpdateRequest(id=1, active=False)
    partly = api.update_batch(APP, webhooks.BatchInputSubscriptionBatchUpdateRequest(inputs=[change, gone]))
    assert (partly.num_errors, partly.errors[0].category) == (1, "SUBSCRIPTION_ID_NOT_FOUND")


def test_one_contact(client: Any) -> None:
    api = client.crm.contacts.basic_api
    properties = {"email": "peer@example.test", "phone": "+14155550123", "firstname": "P"}
    egg = crm.SimplePublicObjectInputForCreate(properties=properties, associations=[])
    made = api.create(egg)
    assert made.properties["email"] == "peer@example.test"
    with pytest.raises(crm_exceptions.ApiException) as twice:
        api.create(egg)
    assert twice.value.status == 409
    assert made.id in json.loads(twice.value.body)["message"]
    found = api.get_by_id("peer@example.test", id_property="email", properties=["phone", "email"])
    assert (found.id, found.properties["phone"]) == (made.id, "+14155550123")
    changed = api.update(made.id, crm.SimplePublicObjectInput(properties={"firstname": "Q"}))
    assert changed.properties["firstname"] == "Q"
    first = api.get_page(limit=2, properties=["email"])
    second = api.get_page(limit=2, after=first.paging.next.after)
    assert len({one.id for one in [*first.results, *second.results]}) == 4
    merged = api.merge(crm.PublicMergeInput(object_id_to_merge=made.id, primary_object_id="55512003"))
    assert (merged.id, merged.properties["firstname"]) == ("55512003", "Mei")
    assert api.get_by_id(made.id).id == "55512003"
    api.archive("55512002")
    assert api.get_by_id("55512002", archived=True).archived
    api.purge(crm.PublicGdprDeleteInput(object_id="55512003"))
    with pytest.raises(crm_exceptions.ApiException) as missing:
        api.get_by_id("55512003")
    assert missing.value.status == 404


def test_many_contacts(client: Any) -> None:
    api = client.crm.contacts.batch_api
    emails = [f"many{number}@example.test" for number in range(3)]
    eggs = [crm.SimplePublicObjectBatchInputForCreate(properties={"email": one}, associations=[]) for one in emails]
    made = api.create(crm.BatchInputSimplePublicObjectBatchInputForCreate(inputs=eggs))
    assert [one.properties["email"] for one in made.results] == emails
    wanted = [crm.SimplePublicObjectId(id=one) for one in [*emails[:2], "nobody@example.test"]]
    asked = crm.BatchReadInputSimplePublicObjectId(
        inputs=wanted, id_property="email", properties=["email"], properties_with_history=[]
    )
    read = api.read(asked)
    assert (len(read.results), read.num_errors) == (2, 1)
    changes = [crm.SimplePublicObjectBatchInput(id=made.results[0].id, properties={"firstname": "M"})]
    changed = api.update(crm.BatchInputSimplePublicObjectBatchInput(inputs=changes))
    assert changed.results[0].properties["firstname"] == "M"
    puts = [
        crm.SimplePublicObjectBatchInputUpsert(id=one, id_property="email", properties={"lastname": "U"})
        for one in (emails[0], "fresh@example.test")
    ]
    upserted = api.upsert(crm.BatchInputSimplePublicObjectBatchInputUpsert(inputs=puts))
    assert [one.new for one in upserted.results] == [False, True]
    ids = [crm.SimplePublicObjectId(id=one.id) for one in made.results]
    api.archive(crm.BatchInputSimplePublicObjectId(inputs=ids))
    again = api.read(
        crm.BatchReadInputSimplePublicObjectId(inputs=ids, properties=["email"], properties_with_history=[])
    )
    assert (again.results, again.num_errors) == ([], 3)


@pytest.mark.parametrize(
    ("name", "operator", "value"),
    [
        ("email", "EQ", "rosa@example.test"),
        ("hs_searchable_calculated_phone_number", "EQ", "911222333"),
        ("phone", "CONTAINS_TOKEN", "*222333"),
    ],
)
def test_contact_search(client: Any, name: str, operator: str, value: str) -> None:
    condition = crm.Filter(property_name=name, operator=operator, value=value)
    request = crm.PublicObjectSearchRequest(
        filter_groups=[crm.FilterGroup(filters=[condition])],
        properties=["email"],
        sorts=["createdate"],
        limit=10,
        after="0",
    )
    found = client.crm.contacts.search_api.do_search(request)
    assert (found.total, [one.id for one in found.results]) == (1, ["55512001"])


def test_files(client: Any, tmp_path: Path) -> None:
    api = client.files.files_api
    source = tmp_path / "invoice.txt"
    source.write_text("abc", encoding="utf-8")
    made = api.upload(file=str(source), folder_path="/handoff", options=json.dumps({"access": "PRIVATE", "ttl": "P1Y"}))
    assert (made.name, made.extension, made.size, made.type) == ("invoice", "txt", 3, "DOCUMENT")
    assert api.get_by_id(made.id).path == "/handoff/invoice.txt"
    assert api.get_signed_url(made.id, expiration_seconds=60).url.startswith("http")
    api.archive(made.id)


def test_a_client_that_retries_gets_through(stand: Stand) -> None:
    from urllib3.util.retry import Retry

    faults = [{"match": "GET .*/contacts", "times": 2, "status": 429, "retry_after": 0}]
    stand.chaos(faults=faults)
    patient = client_of(stand, retry=Retry(total=3, status_forcelist=(429,), backoff_factor=0))
    assert len(patient.crm.contacts.basic_api.get_page().results) == 3
    few = stand.sim("GET", "access-token?scopes=oauth")["access_token"]
    narrow = hubspot.HubSpot(access_token=few, host=stand.base)
    with pytest.raises(crm_exceptions.ApiException) as refused:
        narrow.crm.contacts.basic_api.get_page()
    assert (refused.value.status, json.loads(refused.value.body)["category"]) == (403, "MISSING_SCOPES")

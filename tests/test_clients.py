"""Real clients from the registries against the stand-in, under HubSpot's own names; see ``docs/clients.rst``.

``make clients-newest`` runs the newest versions and only tells.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import pytest
import requests
from docutils import nodes

from .clients.catalogue import CLIENTS, CRM, FILES, LOGINS, TAPS, Client
from .clients.environments import Environment, install
from .clients.front import NAMES, Front
from .helpers import Json
from .simulator_helpers import Stand, bearer, running, until
from .test_docs import ROOT, tree

CONTACTS = "/crm/v3/objects/contacts"
CONTACT = {"email": "ada@example.test", "firstname": "Ada"}
PHONE = "+14155550188"
PORTAL = 424242
SCOPES = "oauth crm.objects.contacts.read crm.objects.contacts.write crm.objects.owners.read files"
PAGE = 2
"""Contacts on a page, so that all clients have to turn some."""
QUICK = "s6r-hubspot"
"""The client that ``make test`` runs: it is installed soonest."""


def each(clients: tuple[Client, ...]) -> pytest.MarkDecorator:
    """Parametrize by clients; all but the quick one belong to ``make slow``."""
    marks = {True: (), False: (pytest.mark.slow,)}
    found = [pytest.param(one, id=one.package, marks=marks[one.package == QUICK]) for one in clients]
    return pytest.mark.parametrize("client", found)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stand, Front]]:
    """A stand-in that answers to HubSpot's names, and the front that leads them there."""
    names = [f"--allow-host={name}" for name in ("127.0.0.1", *NAMES)]
    folder = tmp_path_factory.mktemp("front")
    with running(*names) as (child, base), Front(int(base.rpartition(":")[2]), folder) as front:
        stand = Stand(child, base)
        yield stand, front
        stand.http.close()


@pytest.fixture
def stand(place: tuple[Stand, Front]) -> Stand:
    """The stand-in, as after a reset."""
    place[0].reset()
    return place[0]


@pytest.fixture
def front(place: tuple[Stand, Front]) -> Front:
    """What leads HubSpot's names to it."""
    return place[1]


@pytest.fixture
def environment(client: Client, record_property: Callable[[str, object], None]) -> Environment:
    """The client, installed; its version is told at the end of the run."""
    made = install(client)
    record_property("client", ", ".join(f"{name} {version}" for name, version in made.versions.items()))
    return made


def credentials(stand: Stand, scopes: str = SCOPES) -> Json:
    """What a client may need: a token, one that has run out, one that may do little, and the app's own.

    :param scopes: what the account grants.
    """
    names = {"client_id": "CLIENT_ID", "client_secret": "CLIENT_SECRET", "refresh_token": "REFRESH_TOKEN"}
    app = {name: stand.env[f"HUBSPOT_HITL_{key}"] for name, key in names.items()}
    back = "http://localhost:5/back"
    query = urlencode({"client_id": app["client_id"], "redirect_uri": back, "scope": scopes})
    allowed = press(stand, f"{stand.base}/oauth/authorize?{query}")
    code = dict(parse_qsl(urlsplit(allowed).query))["code"]
    stand.chaos(token_seconds=0)
    expired = stand.token_call(grant_type="authorization_code", code=code, redirect_uri=back).json()["access_token"]
    stand.chaos(token_seconds=1800)
    token = stand.sim("GET", f"access-token?scopes={','.join(scopes.split())}")["access_token"]
    narrow = stand.sim("GET", "access-token?scopes=oauth")["access_token"]
    return {"token": token, "expired": expired, "narrow": narrow, "app": app}


def press(stand: Stand, page: str, answer: str = "allow") -> str:
    """Press a button of a consent page; where the browser is sent then."""
    form = {"answer": answer, "portal": str(PORTAL)}
    return stand.http.post(page, data=form, allow_redirects=False, timeout=30).headers["Location"]


def calls(stand: Stand) -> list[Json]:
    """What the stand-in was asked since the last reset."""
    found: list[Json] = stand.sim("GET", "requests")
    return found


def contacts_of(stand: Stand) -> dict[str, Json]:
    """The contacts by id."""
    return {one["id"]: one for one in stand.ok("GET", CONTACTS, params={"limit": 100})["results"]}


# --- contacts, properties, owners, files ------------------------------------------------------------------


@each(CRM)
def test_a_client_of_the_crm(client: Client, environment: Environment, stand: Stand, front: Front) -> None:
    for number in range(2):  # three pages, with the preset ones
        make_contact(stand, f"more-{number}@example.test")
    before = contacts_of(stand)
    every = [{"filters": [{"propertyName": "email", "operator": "HAS_PROPERTY"}]}]
    given = {**credentials(stand), "contact": CONTACT, "change": {"phone": PHONE}, "all": every}
    properties = [one["name"] for one in stand.ok("GET", "/crm/v3/properties/contacts")["results"]]
    owners = owners_of(stand, given["token"])
    earlier = len(calls(stand))
    stand.chaos(page_size=PAGE)
    told = front.run(environment, given, AIRBYTE_TELEMETRY_MODE="disabled")
    asked = calls(stand)[earlier:]
    assert {one["request_headers"]["Host"] for one in asked} <= set(NAMES)
    assert told["listed"] == list(before)
    lists = [
        one
        for one in asked
        if (one["method"], one["status"]) == ("GET", 200) and re.fullmatch(r"/crm/.*objects.*/contacts", one["path"])
    ]
    assert len(lists) == -(-len(before) // PAGE)
    expected = [status for what, status in (("renewing", 401), ("a missing scope", 403)) if what in client.does]
    assert [one["status"] for one in asked if one["status"] >= 400] == expected
    searched = [one for one in asked if one["path"].endswith("/search") and one["response_body"]["total"] > PAGE]
    assert len(searched) == -(-len(told["searched"]) // PAGE)
    if "contacts" in client.does:
        assert sorted(told["searched"]) == sorted([*before, told["made"]])
        made = properties_of(stand, told["made"])
        assert (made["email"], made["firstname"], made["phone"]) == ("ada@example.test", "Ada", PHONE)
        assert told["changed"]["phone"] == PHONE
        assert {number: one["phone"] for number, one in told["found"].items()} == {told["made"]: PHONE}
    else:
        assert sorted(told["searched"]) == sorted(before)
        assert told["read"] in [[number, one["properties"]["email"]] for number, one in before.items()]
        assert told["found"] == {told["read"][0]: {"email": told["read"][1]}}
    if "properties" in client.does:
        assert sorted(told["properties"]) == sorted(properties)
    if "owners" in client.does:
        assert (told["owners"], told["owner"]) == (owners, owners[0])
    if "own owner" in client.does:
        assert told["owners"][0] in owners
    if "history" in client.does:
        assert told["history"] == [PHONE]
    if "files" in client.does:
        assert stand.http.get(told["files"]["signed"], timeout=30).content == b"of the client's"
    if "account" in client.does:
        assert told["account"] == PORTAL
    if "a missing scope" in client.does:
        assert told["missing"] == "crm.objects.owners.read"


def properties_of(stand: Stand, number: str) -> Json:
    """A contact's properties that the clients write."""
    found = stand.ok("GET", f"{CONTACTS}/{number}", params={"properties": "email,firstname,phone"})
    properties: Json = found["properties"]
    return properties


def owners_of(stand: Stand, token: str) -> list[str]:
    """The owners' addresses."""
    owners = stand.ok("GET", "/crm/v3/owners", headers=bearer(token))["results"]
    return [one["email"] for one in owners]


@each(FILES)
def test_a_client_of_files_overwrites(client: Client, environment: Environment, stand: Stand, front: Front) -> None:
    told = front.run(environment, {**credentials(stand), "portal": PORTAL})
    assert told["account"] == PORTAL
    first, second = told["files"]
    assert (first["name"], first["path"]) == (second["name"], second["path"]) == ("a", "/clients/deep/a.txt")
    assert stand.http.get(second["url"], timeout=30).content == b"second"
    assert stand.http.get(first["url"], timeout=30).status_code == 404


# --- log-ins ----------------------------------------------------------------------------------------------


@each(LOGINS)
def test_a_site_with_a_log_in(client: Client, environment: Environment, stand: Stand, front: Front) -> None:
    given = credentials(stand, "oauth")
    earlier = len(calls(stand))
    with front.serving(environment, given) as site, requests.Session() as browser:
        browser.trust_env = False

        def begin() -> SplitResult:
            token = browser.get(site["url"] + site["csrf"], timeout=30).json()["csrfToken"]
            form = {site["field"]: token}
            sent = browser.post(site["url"] + site["login"], data=form, allow_redirects=False, timeout=30)
            return urlsplit(sent.headers["Location"])

        def answered(consent: SplitResult, answer: str) -> requests.Response:
            page = f"{stand.base}{consent.path}?{consent.query}"
            assert "Connect app" in stand.http.get(page, timeout=30).text
            return browser.get(press(stand, page, answer), allow_redirects=False, timeout=30)

        assert answered(begin(), "deny").status_code < 500
        assert not [one for one in calls(stand)[earlier:] if one["path"].endswith("/token")]
        consent = begin()
        answered(consent, "allow")
        me = browser.get(site["url"] + site["me"], timeout=30).json()
    assert (consent.hostname, consent.path) == ("app.hubspot.com", "/oauth/authorize")
    query = dict(parse_qsl(consent.query))
    assert query.get("code_challenge_method") == ("S256" if "PKCE" in client.does else None)
    (exchange,) = [one for one in calls(stand)[earlier:] if one["path"] == "/oauth/v1/token"]
    assert exchange["request_headers"]["Host"] == "api.hubapi.com"
    assert ("code_verifier=" in exchange["request_body"]) == ("PKCE" in client.does)
    info = stand.ok("GET", f"/oauth/v1/access-tokens/{me['access']}")
    assert (me["email"], str(me["id"]).rpartition(":")[2]) == (info["user"], str(info["user_id"]))
    account = stand.http.get(f"{stand.base}/account-info/v3/details", headers=bearer(me["access"]), timeout=30)
    assert account.json()["portalId"] == PORTAL
    assert stand.token_call(refresh_token=me["refresh"]).status_code == 200


# --- taps -------------------------------------------------------------------------------------------------


@each(TAPS)
def test_a_tap_brings_everything_and_then_what_changed(
    client: Client, environment: Environment, stand: Stand, front: Front
) -> None:
    searches = client.package == "meltano-tap-hubspot"  # the other one reads the whole list and keeps what changed
    config = {**credentials(stand)["app"], "redirect_uri": "http://localhost:5/back"}
    config |= {} if searches else {"start_date": "2020-01-01T00:00:00Z"}
    latest = make_contact(stand, "latest@example.test")
    before = contacts_of(stand)
    stand.chaos(page_size=PAGE)

    def sync(state: Any) -> tuple[Json, list[Json]]:
        earlier = len(calls(stand))
        option = "--catalog" if searches else "--properties"
        given = {"config": config, "option": option, "stream": "contacts", "state": state}
        told: Json = front.run(environment, given)
        assert "contacts" in told["streams"]
        return told, [one for one in calls(stand)[earlier:] if one["path"].startswith(CONTACTS)]

    first, asked = sync(None)
    assert sorted(first["records"]) == sorted(before)
    assert [one["method"] for one in asked] == ["GET"] * -(-len(before) // PAGE)
    changed = next(iter(before))
    stand.ok("PATCH", f"{CONTACTS}/{changed}", json={"properties": {"firstname": "Changed"}})
    made = make_contact(stand, "new@example.test")
    second, asked = sync(first["state"])
    # a Singer tap gives the record of its bookmark again
    assert sorted(second["records"]) == sorted([latest, changed, made])
    assert {one["method"] for one in asked} == {"POST" if searches else "GET"}
    if searches:
        bookmark = datetime.fromisoformat(before[latest]["updatedAt"])
        (since,) = asked[0]["request_body"]["filterGroups"][0]["filters"]
        assert (since["operator"], since["value"]) == ("GTE", str(round(bookmark.timestamp() * 1000)))
    assert sync(second["state"])[0]["records"] == [made]


def make_contact(stand: Stand, email: str) -> str:
    """A contact that is the last one changed, by a millisecond at least; its id."""
    asked = time.time_ns()
    until(lambda: time.time_ns() > asked + 2_000_000)
    made: str = stand.ok("POST", CONTACTS, json={"properties": {"email": email}})["id"]
    return made


# --- the page that lists them -----------------------------------------------------------------------------


def test_the_page_lists_every_client_and_its_version() -> None:
    rows = [[cell.astext() for cell in row.children] for row in tree(ROOT / "docs" / "clients.rst").findall(nodes.row)]
    listed = {tuple(row[:3]) for row in rows}
    peers = json.loads((ROOT / "tests" / "peers" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    ours = {(one.package, one.registry, one.version) for one in CLIENTS}
    ours |= {(name, "npm", version) for name, version in peers.items() if name.startswith("@botpress/")}
    assert listed == ours | {("Client", "Registry", "Version")}

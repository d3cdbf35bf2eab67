"""The stand-in plays the kinds of app: who may use the webhooks API, scopes in both directions, caps, the page.

Source: docs/hubspot.rst (Project apps; Consent; Scopes; Subscriptions API).
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from flask_hubspot_hitl.simulator.model import scopes as table

from .browser_helpers import Site, Watch, expect, shot
from .project_helpers import BACK, NEEDED, Folder, install_here, shown, upload
from .simulator_helpers import CV, VERSIONS, Host, Stand, bearer, until
from .traffic import TOOL, must_have_documents

WEBHOOKS = {"v3": "/webhooks/v3", "2026-03": "/webhooks/2026-03", "2026-09": "/app-webhooks/2026-09"}


@pytest.fixture
def folder() -> Folder:
    """A good project."""
    return Folder()


# --- the webhooks API


def webhook_calls(base: str) -> list[tuple[str, str, Any]]:
    """Every route of the webhooks API, with a body that is right."""
    new = {"eventType": "conversation.newMessage", "active": True}
    settings = {"targetUrl": "https://bot.example.test/x", "throttling": {"maxConcurrentRequests": 10}}
    return [
        ("PUT", f"{base}/settings", settings),
        ("GET", f"{base}/settings", None),
        ("GET", f"{base}/subscriptions", None),
        ("POST", f"{base}/subscriptions", new),
        ("GET", f"{base}/subscriptions/7", None),
        ("PATCH", f"{base}/subscriptions/7", {"active": True}),
        ("DELETE", f"{base}/subscriptions/7", None),
        ("POST", f"{base}/subscriptions/batch/update", {"inputs": []}),
        ("DELETE", f"{base}/settings", None),
    ]


@pytest.mark.parametrize("status", [403, 404, 400])
@pytest.mark.parametrize("kind", ["project", "legacy-private"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_webhooks_api_refuses_apps_that_are_not_legacy_public(
    stand: Stand, kind: str, version: str, status: int
) -> None:
    env = stand.sim("POST", "apps", {"kind": kind})
    if status != 403:
        stand.chaos(webhooks_refusal=status)
    app_id = env["HUBSPOT_HITL_APP_ID"]
    before = shown(stand, app_id)
    for method, path, body in webhook_calls(f"{WEBHOOKS[version]}/{app_id}"):
        key = {"hapikey": env["HUBSPOT_HITL_DEVELOPER_API_KEY"]}
        answer = stand.http.request(method, stand.base + path, params=key, json=body, timeout=30)
        assert answer.status_code == status, f"{method} {path}"
        told = answer.json()
        assert told["status"] == "error"
        assert told["correlationId"]
        assert "legacy public apps" in told["message"]
        strange = stand.http.request(method, stand.base + path, params={"hapikey": "x"}, json=body, timeout=30)
        assert strange.status_code == 401, "who asks is looked at first"
    assert shown(stand, app_id) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_the_webhooks_api_serves_legacy_public_apps(stand: Stand, version: str) -> None:
    env = stand.sim("POST", "apps", {"kind": "legacy-public", "subscribed": False})
    key = {"hapikey": env["HUBSPOT_HITL_DEVELOPER_API_KEY"]}
    statuses = [
        stand.http.request(method, stand.base + path, params=key, json=body, timeout=30).status_code
        for method, path, body in webhook_calls(f"{WEBHOOKS[version]}/{env['HUBSPOT_HITL_APP_ID']}")
    ]
    assert statuses == [200, 200, 200, 201, 404, 404, 404, 200, 204]


def test_each_kind_has_settings_of_its_own(stand: Stand) -> None:
    made = {kind: stand.sim("POST", "apps", {"kind": kind}) for kind in table.KINDS}
    assert stand.env["HUBSPOT_HITL_APP_KIND"] == "legacy-public"
    for kind in table.KINDS:
        assert made[kind]["HUBSPOT_HITL_APP_KIND"] == kind
    private = made["legacy-private"]
    assert "HUBSPOT_HITL_REFRESH_TOKEN" not in private
    token = bearer(private["HUBSPOT_HITL_ACCESS_TOKEN"])
    details = stand.ok("GET", "/account-info/v3/details", headers=token)
    assert str(details["portalId"]) == private["HUBSPOT_HITL_PORTAL_ID"]
    asked = {"client_id": private["HUBSPOT_HITL_CLIENT_ID"], "redirect_uri": BACK, "scope": "oauth"}
    answer = stand.http.get(f"{stand.base}/oauth/authorize", params=asked, timeout=30)
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
    project = made["project"]
    grant = {"client_id": project["HUBSPOT_HITL_CLIENT_ID"], "client_secret": project["HUBSPOT_HITL_CLIENT_SECRET"]}
    grant["refresh_token"] = project["HUBSPOT_HITL_REFRESH_TOKEN"]
    scopes = stand.token_call("/oauth/2026-09/token", **grant).json()["scopes"]
    assert {"files.read", "files.write"} < set(scopes)
    assert "files" not in scopes


# --- consent


class Consent:
    """The consent page of an app."""

    def __init__(self, stand: Stand, made: Any) -> None:
        self.stand, self.client_id = stand, made["client_id"]

    def page(self, scopes: list[str], *, optional: str = "", browser: bool = False, back: str = BACK) -> Any:
        """Open it."""
        query = {
            "client_id": self.client_id,
            "redirect_uri": back,
            "scope": " ".join(scopes),
            "optional_scope": optional,
        }
        headers = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"} if browser else {}
        return self.stand.http.get(f"{self.stand.base}/oauth/authorize", params=query, headers=headers, timeout=30)

    def agree(self, portal_id: str, scopes: list[str], *, optional: str = "") -> Any:
        """Press *Connect app*."""
        query = {
            "client_id": self.client_id,
            "redirect_uri": BACK,
            "scope": " ".join(scopes),
            "optional_scope": optional,
        }
        form = {"answer": "allow", "portal": portal_id}
        url = f"{self.stand.base}/oauth/authorize"
        return self.stand.http.post(url, params=query, data=form, allow_redirects=False, timeout=30)


@pytest.fixture
def consent(stand: Stand, folder: Folder) -> Consent:
    """The consent page of the good project."""
    return Consent(stand, upload(stand, folder))


def test_an_app_is_granted_what_it_names(stand: Stand, folder: Folder, consent: Consent) -> None:
    made = upload(stand, folder)
    answer = consent.agree("424242", [*NEEDED, "tickets"], optional="crm.objects.contacts.write")
    code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
    grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
    words = {name: made[name] for name in ("client_id", "client_secret")}
    token = stand.token_call("/oauth/2026-09/token", **words, **grant).json()
    assert token["scopes"] == [*NEEDED, "tickets", "crm.objects.contacts.write"]
    assert stand.call("GET", f"{CV}/inboxes", headers=bearer(token["access_token"])).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "optional", "words", "named"),
    [
        (NEEDED[:-1], "", "mismatch between the scopes", "conversations.custom_channels.write"),
        ([*NEEDED, "automation"], "", "mismatch between the scopes", "automation"),
        (NEEDED, "automation", "mismatch between the scopes", "automation"),
        (NEEDED, "files", "mismatch between the scopes", "files"),
        ([*NEEDED, "files"], "", "An invalid scope name was provided", "files"),
        ([*NEEDED, "unheard.of"], "", "An invalid scope name was provided", "unheard.of"),
    ],
)
def test_scopes_too_few_and_too_many_are_refused_in_words(
    consent: Consent, scopes: list[str], optional: str, words: str, named: str
) -> None:
    for answer in (consent.page(scopes, optional=optional), consent.agree("424242", scopes, optional=optional)):
        assert answer.status_code == 400
        assert words in answer.json()["message"]
        assert answer.json()["error"] == "invalid_scope"
        assert [named] in answer.json()["context"].values()
    page = consent.page(scopes, optional=optional, browser=True)
    assert (page.status_code, page.headers["Content-Type"]) == (400, "text/html; charset=utf-8")
    assert "Couldn't complete the connection" in page.text
    assert words in page.text
    assert named in page.text


def test_only_the_redirect_urls_of_the_file_are_taken(stand: Stand, folder: Folder, consent: Consent) -> None:
    assert consent.page(NEEDED).status_code == 200
    assert consent.page(NEEDED, back="http://localhost:5000/hubspot/oauth/callback").status_code == 200
    for back in ("https://bot.example.test/", f"{BACK}/", "http://localhost:5001/hubspot/oauth/callback", ""):
        assert consent.page(NEEDED, back=back).json()["status"] == "BAD_REDIRECT_URI"
    folder.auth.update(type="static", redirectUrls=[])
    upload(stand, folder)
    assert consent.page(NEEDED).json()["error"] == "unauthorized_client"


def test_what_legacy_apps_know(stand: Stand) -> None:
    legacy = Consent(stand, {"client_id": stand.env["HUBSPOT_HITL_CLIENT_ID"]})
    both = ["oauth", "files", "files.read", "crm.objects.deals.read", "settings.users.teams.read"]
    assert legacy.page(both).status_code == 200
    stand.chaos(legacy_new_scopes=False)
    answer = legacy.page(both)
    assert (answer.status_code, list(answer.json()["context"].values())) == (400, [["files.read"]])
    both.remove("files.read")
    assert legacy.page(both).status_code == 200


def test_the_consent_page_knows_every_scope_of_hubspots_documents(stand: Stand) -> None:
    found = set()
    for path in (TOOL.parents[1] / "openapi").glob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        for scheme in document.get("components", {}).get("securitySchemes", {}).values():
            for flow in scheme.get("flows", {}).values():
                found |= set(flow.get("scopes", {}))
        operations = [one for item in document["paths"].values() for one in item.values() if isinstance(one, dict)]
        for ways in [one.get("security", []) for one in operations]:
            found |= {scope for way in ways for scopes in way.values() for scope in scopes}
    if not found and not must_have_documents():
        pytest.skip(f"HubSpot's documents are not beside the repository: {TOOL} is missing")
    assert found == table.DOCUMENTED
    assert not table.GUIDES & found
    legacy = Consent(stand, {"client_id": stand.env["HUBSPOT_HITL_CLIENT_ID"]})
    assert legacy.page(sorted(found)).status_code == 200


@pytest.mark.parametrize(("distribution", "most"), [("private", 10), ("marketplace", 25)])
def test_an_app_is_installed_in_so_many_accounts_and_no_more(
    stand: Stand, folder: Folder, distribution: str, most: int
) -> None:
    folder.config["distribution"] = distribution
    made = upload(stand, folder)
    consent = Consent(stand, made)
    portals = [stand.sim("POST", "apps")["HUBSPOT_HITL_PORTAL_ID"] for _ in range(most + 1)]
    *first, last, refused_one = portals
    for portal_id in first:
        install_here(stand, made["app_id"], portal_id)
    assert consent.agree(last, NEEDED).status_code == 302
    install_here(stand, made["app_id"], last)
    answer = consent.agree(refused_one, NEEDED)
    assert (answer.status_code, answer.json()["status"]) == (400, "INSTALL_LIMIT")
    assert str(most) in answer.json()["message"]
    assert consent.agree(last, NEEDED).status_code == 302, "where it is installed it can be installed again"
    token = stand.sim("GET", f"access-token?portalId={portals[0]}&appId={made['app_id']}")["access_token"]
    gone = stand.call("DELETE", "/appinstalls/2026-09/external-install", headers=bearer(token))
    assert gone.status_code == 204
    assert consent.agree(refused_one, NEEDED).status_code == 302


# --- the page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_projects_shows_the_four_words(site: Site, watch: Watch, folder: Folder, scheme: str) -> None:
    folder.config["name"] = "<b>Live</b> agents"
    made = requests.post(f"{site.desk.url}/_control/project", json={"files": folder.files()}, timeout=30).json()
    window = watch.context("desktop" if scheme == "light" else "phone", scheme)
    page = watch.open(site.desk.url, window)
    page.get_by_role("link", name="Development, Projects").click()
    expect(page.locator("#live")).to_have_text("Live")
    app = page.locator(f'#apps > li[data-app="{made["app_id"]}"]')
    expect(app.locator("h2")).to_have_text("<b>Live</b> agents")
    for word in ("app_id", "client_id", "client_secret", "developer_api_key"):
        expect(app.get_by_text(made[word], exact=True)).to_be_visible()
    expect(app).to_contain_text("Project app · project handoff")
    expect(app).to_contain_text("conversation.propertyChange status")
    expect(page.locator('#apps > li[data-app="3131"]')).to_contain_text("Legacy public app")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shot(page, f"projects-{scheme}")
    address = app.locator("dd").filter(has_text="/oauth/authorize?").text_content()
    consent = watch.open(str(address), window)
    expect(consent.get_by_role("button", name="Connect app")).to_be_visible()
    bad = watch.open(str(address).replace("files.write", "files"), window)
    expect(bad.locator("h1")).to_have_text("Couldn't complete the connection")
    shot(bad, f"consent-refused-{scheme}")
    watch.complaints[:] = [one for one in watch.complaints if "400" not in one]


# --- what an app is told


def told_of(stand: Stand, owner: str) -> list[Any]:
    """What was delivered, or is on its way, for an app or a channel, once nothing is on its way any more."""
    until(lambda: stand.sim("GET", "pending")["deliveries"] == 0)
    return [one["body"] for one in stand.sim("GET", "deliveries") if one["owner"] == owner]


def test_only_who_may_read_conversations_is_told_of_them(stand: Stand, host: Host) -> None:
    def install(**more: Any) -> str:
        given = {"portalId": stand.env["HUBSPOT_HITL_PORTAL_ID"], "targetUrl": host.url, "optionalScopes": [], **more}
        app_id: str = stand.sim("POST", "apps", given)["HUBSPOT_HITL_APP_ID"]
        stand.sim("POST", "uninstall", {"appId": app_id})
        assert stand.sim("POST", "apps", {**given, "appId": app_id})["HUBSPOT_HITL_APP_ID"] == app_id
        return app_id

    other = install(requiredScopes=["oauth", "crm.objects.contacts.read"])
    stand.act(stand.publish()["conversationsThreadId"], "assign")
    assert told_of(stand, stand.env["HUBSPOT_HITL_APP_ID"])
    assert told_of(stand, other) == []
    install(appId=other, requiredScopes=["oauth", "conversations.read"])
    stand.act(stand.publish(key="conv-2")["conversationsThreadId"], "assign")
    assert told_of(stand, other)


def test_a_portal_that_removed_the_app_sends_nothing(stand: Stand, host: Host) -> None:
    def happens() -> None:
        stand.act(thread_id, "reply", text="hello")
        stand.sim("POST", f"channel-accounts/{stand.account}/disable", {})

    thread_id = stand.publish()["conversationsThreadId"]
    happens()
    told = [json.loads(one)["type"] for one in told_of(stand, stand.channel)]
    assert sorted(told) == ["CHANNEL_ACCOUNT_UPDATED", "OUTGOING_CHANNEL_MESSAGE_CREATED"]
    before = len(stand.sim("GET", "deliveries"))
    stand.sim("POST", "uninstall", {})
    happens()
    until(lambda: stand.sim("GET", "pending")["deliveries"] == 0)
    assert len(stand.sim("GET", "deliveries")) == before

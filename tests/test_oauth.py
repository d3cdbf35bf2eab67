"""Installing by OAuth: who may, what is carried to HubSpot, what is believed of what comes back (rules D)."""

from __future__ import annotations

import base64
import hashlib
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urljoin

import pytest
import requests
from cryptography.fernet import Fernet
from flask import Flask, abort

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.errors import HubSpotRejected
from flask_hubspot_hitl.hubspot.paths import OAUTH_VERSIONS
from flask_hubspot_hitl.ledger import Installation, InstallationState
from flask_hubspot_hitl.portals.consent import Consent, ConsentProblem, FlowRefused
from flask_hubspot_hitl.web.oauth import WORDS
from flask_hubspot_hitl.web.pages import HEADERS
from flask_hubspot_hitl.web.visitors import COOKIE

from .browser import Browser, query_of, said
from .conftest import MakeApp, Serve
from .helpers import PORTAL, HubSpot, Json, Recorder, state_of

OTHER = "525252"
MISSION = {
    "conversations.custom_channels.read",
    "conversations.custom_channels.write",
    "conversations.read",
    "conversations.write",
    "conversations.visitor_identification.tokens.create",
    "crm.objects.contacts.read",
}
INSTALLABLE: dict[str, Any] = dict.fromkeys(("refresh_token", "portal_id", "channel_account_id", "inbox_id"))


@pytest.fixture
def app(make_app: MakeApp, clock: ManualClock) -> Flask:
    """An app without any token; anybody may install."""
    return make_app(clock=clock, dispatcher="inline", may_install=lambda portal_id: True, SECRET_KEY="s", **INSTALLABLE)


@pytest.fixture
def url(app: Flask, serve: Serve) -> str:
    """Where its install page is."""
    return f"{serve(app, target=False)}/hubspot/oauth/install"


@pytest.fixture
def browsers() -> Iterator[Callable[[], Browser]]:
    opened: list[Browser] = []

    def open_one() -> Browser:
        opened.append(Browser())
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def browser(browsers: Callable[[], Browser]) -> Browser:
    return browsers()


def installations(app: Flask) -> list[Installation]:
    with state_of(app).ledger.read() as tx:
        return tx.installations.all()


def link(app: Flask, *arguments: str) -> str:
    """A link made on the command line."""
    result = app.test_cli_runner().invoke(args=["hubspot-hitl", "install-url", *arguments])
    assert result.exit_code == 0, result.output
    return result.output.strip()


def refused(page: requests.Response, why: ConsentProblem, app: Flask, *, stored: int = 0) -> None:
    """The page tells just this, and no token was stored."""
    status, title, paragraphs, _ = WORDS[why]
    assert (page.status_code, said(page)) == (status, title)
    assert all(text.split(".")[0].split("'")[0] in page.text for text in paragraphs)
    assert {name: page.headers.get(name) for name in HEADERS} == HEADERS
    assert len(installations(app)) == stored


def exchanges(hubspot: HubSpot) -> list[dict[str, str]]:
    """What HubSpot was asked at its token endpoint, with the path."""
    return [
        {name: values[0] for name, values in parse_qs(one["request_body"]).items()} | {"path": one["path"]}
        for one in hubspot.requests()
        if one["method"] == "POST" and one["path"].endswith("/token")
    ]


# --- the way through -------------------------------------------------------------------------------------


def test_from_the_button_to_the_first_call(
    app: Flask, url: str, browser: Browser, hubspot: HubSpot, record: Callable[[Flask], Recorder]
) -> None:
    seen = record(app)
    page = browser.connect(url, PORTAL)
    assert (page.status_code, said(page)) == (200, "HubSpot is connected")
    assert PORTAL in page.text
    assert [one.portal_id for one in installations(app)] == [PORTAL]
    assert installations(app)[0].state == InstallationState.ACTIVE
    assert set(installations(app)[0].scopes or ()) > MISSION
    state_of(app).dispatcher.run_due()
    assert seen.of("installation_added") == [{"portal_id": PORTAL}]
    assert [one["id"] for one in state_of(app).services.client(PORTAL).inboxes()]
    assert len(exchanges(hubspot)) == 1, "the token that the code brought is used as it is"


def test_what_hubspot_is_asked_for(app: Flask, url: str, browser: Browser, hubspot: HubSpot) -> None:
    consent = browser.to_hubspot(url)
    assert consent.url.startswith(f"{hubspot.url}/oauth/authorize?")
    asked = query_of(consent.url)
    assert asked.keys() == {
        "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method",
    }  # fmt: skip
    assert asked["client_id"] == "sim-client-0001"
    assert asked["redirect_uri"] == url.replace("install", "callback")
    assert asked["code_challenge_method"] == "S256"
    scopes = asked["scope"].split()
    assert len(scopes) == len(set(scopes))
    assert set(scopes) == MISSION | {"oauth", "files"}, "HubSpot wants the first of every app; the second is for files"
    assert "+" not in consent.url, "scopes are parted by %20"
    browser.get(browser.agree(consent, PORTAL))
    sent = exchanges(hubspot)[0]
    digest = hashlib.sha256(sent["code_verifier"].encode()).digest()
    assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
    assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", sent["code_verifier"])
    assert sent["redirect_uri"] == asked["redirect_uri"]
    assert sent["client_secret"] == "sim-client-secret-0001"


@pytest.mark.parametrize(
    ("config", "scopes"),
    [
        ({"contact_policy": "create"}, MISSION | {"oauth", "files", "crm.objects.contacts.write"}),
        ({"scopes": "oauth,conversations.read"}, {"oauth", "conversations.read"}),
    ],
)
def test_scopes_follow_the_features_in_use(
    make_app: MakeApp, serve: Serve, browser: Browser, config: Json, scopes: set[str]
) -> None:
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", **INSTALLABLE, **config)
    consent = browser.to_hubspot(f"{serve(app, target=False)}/hubspot/oauth/install")
    assert set(query_of(consent.url)["scope"].split()) == scopes


@pytest.mark.parametrize("version", OAUTH_VERSIONS)
def test_every_version_of_the_token_endpoint(
    make_app: MakeApp, serve: Serve, browser: Browser, hubspot: HubSpot, version: str, clock: ManualClock
) -> None:
    app = make_app(
        clock=clock, may_install=lambda portal_id: True, SECRET_KEY="s", oauth_version=version, **INSTALLABLE
    )
    browser.connect(f"{serve(app, target=False)}/hubspot/oauth/install", PORTAL)
    assert [one.portal_id for one in installations(app)] == [PORTAL]
    clock.advance(1500)
    state_of(app).services.client(PORTAL).inboxes()
    assert [(one["path"], one["grant_type"]) for one in exchanges(hubspot)] == [
        (f"/oauth/{version}/token", "authorization_code"),
        (f"/oauth/{version}/token", "refresh_token"),
    ], "renewed five minutes before the half hour is over"


def test_the_consent_page_is_hubspots_own_when_hubspot_is(make_app: MakeApp) -> None:
    app = make_app(
        **INSTALLABLE,
        SECRET_KEY="s",
        public_url="https://bot.example.com/chat",
        api_base_url="https://api.hubapi.com",
        client_id="c",
        client_secret="s",
        developer_api_key=None,
    )
    begun = Consent(state_of(app).services).begin("b" * 43, "77")
    assert begun.startswith("https://app.hubspot.com/oauth/77/authorize?client_id=c&redirect_uri=https%3A%2F%2Fbot.exa")
    assert query_of(begun)["redirect_uri"] == "https://bot.example.com/chat/hubspot/oauth/callback"


@pytest.mark.parametrize(
    ("public", "secure", "path"), [("https://bot.example.com/chat", True, "/chat"), (None, False, "")]
)
def test_the_cookie_is_its_own(make_app: MakeApp, public: str | None, secure: bool, path: str) -> None:
    config = INSTALLABLE if public is None else INSTALLABLE | {"public_url": public}
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", **config)
    client = app.test_client()
    page = client.get("/hubspot/oauth/install")
    [cookie] = page.headers.getlist("Set-Cookie")
    name, *attributes = cookie.split("; ")
    assert name.startswith(f"{COOKIE}=")
    assert {one.partition("=")[0] for one in attributes} >= {"HttpOnly", "SameSite", "Max-Age"}
    assert "SameSite=Lax" in attributes
    assert f"Path={path}/hubspot" in attributes
    assert ("Secure" in attributes) is secure
    assert "session=" not in cookie


def test_pages_let_nothing_else_in(app: Flask, url: str, browser: Browser) -> None:
    page = browser.get(url)
    assert {name: page.headers.get(name) for name in HEADERS} == HEADERS
    assert not re.search(r"<script|style=|onclick|https?://", page.text)
    sheet = re.search(r'<link rel="stylesheet" href="([^"]+)"', page.text)
    assert sheet
    assert browser.get(urljoin(url, sheet[1])).headers["Content-Type"].startswith("text/css")
    led = browser.press(page)
    assert (led.headers["Cache-Control"], led.headers["Referrer-Policy"]) == ("no-store", "no-referrer")


# --- who may ---------------------------------------------------------------------------------------------


def test_without_a_word_from_the_host_only_in_debug(make_app: MakeApp, serve: Serve, browsers: Any) -> None:
    app = make_app(SECRET_KEY="s", **INSTALLABLE)
    url = f"{serve(app, target=False)}/hubspot/oauth/install"
    refused(browsers().get(url), ConsentProblem.NOT_ALLOWED, app)
    app.debug = True
    page = browsers().get(url)
    assert page.status_code == 200
    app.debug = False
    refused(browsers().press(page), ConsentProblem.FORM_FORGED, app)


def test_the_host_is_asked_at_the_page_and_at_the_button(
    make_app: MakeApp, serve: Serve, browser: Browser, hubspot: HubSpot
) -> None:
    asked: list[str | None] = []
    answers = [True, False, True]

    def may_install(portal_id: str | None) -> bool:
        asked.append(portal_id)
        return answers.pop(0) if answers else abort(401)

    app = make_app(may_install=may_install, SECRET_KEY="s", **INSTALLABLE)
    url = f"{serve(app, target=False)}/hubspot/oauth/install?portal_id={PORTAL}"
    page = browser.get(url)
    refused(browser.press(page), ConsentProblem.NOT_ALLOWED, app)
    led = browser.press(page)
    assert led.headers["Location"].startswith(f"{hubspot.url}/oauth/{PORTAL}/authorize?")
    assert asked == [PORTAL] * 3
    assert browser.get(url).status_code == 401, "the host may also abort"


def test_a_link_works_once_and_a_preview_does_not_use_it_up(
    make_app: MakeApp, serve: Serve, browsers: Callable[[], Browser]
) -> None:
    app = make_app(SECRET_KEY="s", **INSTALLABLE)
    serve(app, target=False)
    made = link(app)
    for _ in range(3):
        assert requests.head(made, timeout=30).status_code == 200
        assert browsers().get(made).status_code == 200
    chosen = browsers()
    page = chosen.get(made)
    late = browsers()
    too_late = late.get(made)
    assert said(chosen.get(chosen.agree(chosen.get(chosen.press(page).headers["Location"]), PORTAL))) == (
        "HubSpot is connected"
    )
    refused(late.press(too_late), ConsentProblem.LINK_USED, app, stored=1)
    refused(late.get(made), ConsentProblem.LINK_USED, app, stored=1)
    refused(chosen.press(page), ConsentProblem.LINK_USED, app, stored=1)


def test_a_link_ends_and_can_not_be_changed(
    make_app: MakeApp, browser: Browser, serve: Serve, clock: ManualClock
) -> None:
    app = make_app(clock=clock, SECRET_KEY="s", **INSTALLABLE)
    serve(app, target=False)
    made = link(app, "--minutes", "5")
    address, _, token = made.partition("=")
    for bad in (token[:-2], f"{token}x", "", f"e30.{token}", token.replace(".", "", 1), "x" * 5000):
        refused(browser.get(f"{address}={bad}"), ConsentProblem.LINK_FORGED, app)
    page = browser.get(made)
    clock.advance(300)
    refused(browser.get(made), ConsentProblem.LINK_EXPIRED, app)
    refused(browser.press(page), ConsentProblem.LINK_EXPIRED, app)


def test_a_link_may_be_bound_to_a_portal(make_app: MakeApp, serve: Serve, browser: Browser, hubspot: HubSpot) -> None:
    hubspot.control("POST", "apps", {"appId": "3131", "portalId": OTHER})
    app = make_app(SECRET_KEY="s", **INSTALLABLE)
    serve(app, target=False)
    page = browser.get(link(app, "--portal", OTHER))
    assert OTHER in page.text
    consent = browser.get(browser.press(page, portal_id=PORTAL).headers["Location"])
    assert consent.url.startswith(f"{hubspot.url}/oauth/{OTHER}/authorize?"), "the link decides, not the form"
    # Somebody takes the number out of the address: the state still knows it.
    open_to_all = browser.get(consent.url.replace(f"/{OTHER}", ""))
    refused(browser.get(browser.agree(open_to_all, PORTAL)), ConsentProblem.WRONG_PORTAL, app)


def test_with_a_portal_configured_no_other_is_let_in(
    make_app: MakeApp, serve: Serve, browser: Browser, hubspot: HubSpot
) -> None:
    hubspot.control("POST", "apps", {"appId": "3131", "portalId": OTHER})
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", **(INSTALLABLE | {"portal_id": PORTAL}))
    url = f"{serve(app, target=False)}/hubspot/oauth/install"
    refused(browser.get(browser.agree(browser.get(browser.to_hubspot(url).url.replace(f"/{PORTAL}", "")), OTHER)),
            ConsentProblem.WRONG_PORTAL, app)  # fmt: skip
    refused(browser.press(browser.get(f"{url}?portal_id={OTHER}")), ConsentProblem.WRONG_PORTAL, app)
    refused(browser.get(f"{url}?portal_id=../x"), ConsentProblem.WRONG_PORTAL, app)
    result = app.test_cli_runner().invoke(args=["hubspot-hitl", "install-url", "--portal", OTHER])
    assert result.exit_code == 1
    assert "no other account" in result.output
    assert said(browser.connect(url, PORTAL)) == "HubSpot is connected"


def test_a_form_of_another_browser_is_refused(app: Flask, url: str, browsers: Callable[[], Browser]) -> None:
    one, other = browsers(), browsers()
    page = one.get(url)
    refused(other.press(page), ConsentProblem.FORM_FORGED, app)
    other.get(url)
    refused(other.press(page), ConsentProblem.FORM_FORGED, app)
    refused(one.press(page, form=""), ConsentProblem.FORM_FORGED, app)
    assert one.press(page).status_code == 303


def test_flask_wtf_stays_out_of_the_way(make_app: MakeApp, hubspot: HubSpot) -> None:
    from flask_wtf.csrf import CSRFProtect

    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", **INSTALLABLE)
    CSRFProtect(app)
    client = app.test_client()
    app.add_url_rule("/own", "own", lambda: "ok", methods=["POST"])
    assert client.post("/own").status_code == 400
    page = client.get("/hubspot/oauth/install").text
    token = re.search(r'name="form" value="([^"]+)"', page)
    assert token
    assert client.post("/hubspot/oauth/install", data={"form": token[1]}).status_code == 303
    assert client.post("/hubspot/oauth/install").status_code == 400, "our own check"


# --- what comes back -------------------------------------------------------------------------------------


def test_a_state_works_once(app: Flask, url: str, browser: Browser, hubspot: HubSpot) -> None:
    back = browser.agree(browser.to_hubspot(url), PORTAL)
    assert requests.head(back, timeout=30).status_code == 204
    assert said(browser.get(back)) == "HubSpot is connected"
    before = installations(app)
    refused(browser.get(back), ConsentProblem.STATE_USED, app, stored=1)
    assert installations(app) == before
    assert len(exchanges(hubspot)) == 1


def test_of_two_that_come_at_once_one_is_let_in(
    make_app: MakeApp, serve: Serve, browser: Browser, hubspot: HubSpot, database_url: str
) -> None:
    app = make_app(dispatcher="inline", may_install=lambda portal_id: True, SECRET_KEY="s", **INSTALLABLE)
    back = browser.agree(browser.to_hubspot(f"{serve(app, target=False)}/hubspot/oauth/install"), PORTAL)
    cookies = {COOKIE: str(browser.cookie(COOKIE))}
    titles: list[str] = []

    def come() -> None:
        titles.append(said(requests.get(back, cookies=cookies, timeout=30)))

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(titles) == sorted(["HubSpot is connected", *[WORDS[ConsentProblem.STATE_USED][1]] * 7])
    assert len(exchanges(hubspot)) == 1


def test_a_state_lives_ten_minutes(
    app: Flask, url: str, browser: Browser, clock: ManualClock, hubspot: HubSpot
) -> None:
    first = browser.agree(browser.to_hubspot(url), PORTAL)
    clock.advance(600)
    second = browser.agree(browser.to_hubspot(url), PORTAL)
    refused(browser.get(first), ConsentProblem.STATE_EXPIRED, app)
    clock.advance(599)
    assert said(browser.get(second)) == "HubSpot is connected"
    assert len(exchanges(hubspot)) == 1


def test_a_forged_state_is_none(app: Flask, url: str, browser: Browser, hubspot: HubSpot) -> None:
    back = browser.agree(browser.to_hubspot(url), PORTAL)
    asked = query_of(back)
    payload, _, signature = asked["state"].rpartition(".")
    other = Consent(state_of(app).services)
    changed = (payload, f"{payload}.", f".{signature}", f"{payload}x.{signature}", f"{payload}.{signature}x")
    signed_for_something_else = (other.form_token("b" * 43), link(app).partition("link=")[2])
    for state in (*changed, *signed_for_something_else, "\x00", "é", "a" * 9000):
        target = url.replace("install", "callback") + "?" + urlencode({"code": asked["code"], "state": state})
        refused(browser.get(target), ConsentProblem.STATE_FORGED, app)
    assert exchanges(hubspot) == []
    assert said(browser.get(back)) == "HubSpot is connected", "none of that used up the real one"


def test_a_state_signed_with_an_old_key_still_counts(
    make_app: MakeApp, clock: ManualClock, serve: Serve, browser: Browser
) -> None:
    app = make_app(clock=clock, may_install=lambda portal_id: True, SECRET_KEY="old", **INSTALLABLE)
    back = browser.agree(browser.to_hubspot(f"{serve(app, target=False)}/hubspot/oauth/install"), PORTAL)
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"])
    assert said(browser.get(back)) == "HubSpot is connected"
    app.config.update(SECRET_KEY="newer", SECRET_KEY_FALLBACKS=[])
    assert said(browser.get(back)) == WORDS[ConsentProblem.STATE_FORGED][1]


def test_an_answer_belongs_to_the_browser_that_asked(app: Flask, url: str, browsers: Callable[[], Browser]) -> None:
    one, other = browsers(), browsers()
    back = one.agree(one.to_hubspot(url), PORTAL)
    refused(other.get(back), ConsentProblem.OTHER_BROWSER, app)
    other.to_hubspot(url)
    refused(other.get(back), ConsentProblem.OTHER_BROWSER, app)
    assert said(one.get(back)) == "HubSpot is connected", "the other one did not use it up"


def test_two_flows_of_one_browser_do_not_disturb_each_other(app: Flask, url: str, browser: Browser) -> None:
    first, second = browser.to_hubspot(url), browser.to_hubspot(url)
    for consent in (second, first):
        assert said(browser.get(browser.agree(consent, PORTAL))) == "HubSpot is connected"


@pytest.mark.parametrize("query", ["", "?code=abc", "?state=", "?error=access_denied"])
def test_an_answer_to_nothing(app: Flask, url: str, browser: Browser, query: str) -> None:
    refused(browser.get(url.replace("install", "callback") + query), ConsentProblem.STATE_MISSING, app)


def test_consent_denied(app: Flask, url: str, browser: Browser, hubspot: HubSpot) -> None:
    back = browser.agree(browser.to_hubspot(url), PORTAL, answer="deny")
    assert "error=access_denied" in back
    refused(browser.get(back), ConsentProblem.DENIED, app)
    refused(browser.get(back), ConsentProblem.STATE_USED, app)
    assert exchanges(hubspot) == []


FILES_REFUSED = "files is not a scope of this app"


@pytest.mark.parametrize(
    ("config", "description", "why", "log"),
    [
        ({}, "missing scopes: ['tickets', 'crm.objects.deals.read']", ConsentProblem.LESS_THAN_THE_APP, "deals.read"),
        ({}, "unknown scopes: ['files']", ConsentProblem.MORE_THAN_THE_APP, "files"),
        ({}, "Scopes mismatch: conversations.read", ConsentProblem.MORE_THAN_THE_APP, "conversations.read"),
        ({"app_kind": "project"}, "unknown scope files.write", ConsentProblem.MORE_THAN_THE_APP, "files.write"),
        ({"app_kind": "project", "scopes": "oauth,files"}, FILES_REFUSED, ConsentProblem.LEGACY_SCOPE, "files"),
        ({}, "the redirect URL example.com does not match", ConsentProblem.HUBSPOT_ERROR, "invalid_scope"),
    ],
)
def test_scopes_that_hubspot_refuses_are_told_apart(
    make_app: MakeApp,
    serve: Serve,
    browser: Browser,
    caplog: pytest.LogCaptureFixture,
    config: Json,
    description: str,
    why: ConsentProblem,
    log: str,
) -> None:
    """HubSpot sends the browser back with an error and a name: of a scope that is too much, or is lacking."""
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", **INSTALLABLE, **config)
    url = f"{serve(app, target=False)}/hubspot/oauth/install"
    leads = browser.press(browser.get(url)).headers["Location"]
    answer = {"state": query_of(leads)["state"], "error_description": description}
    answer["error"] = "invalid_request" if why is ConsentProblem.HUBSPOT_ERROR else "invalid_scope"
    refused(browser.get(f"{url.replace('install', 'callback')}?{urlencode(answer)}"), why, app)
    [told] = [one.getMessage() for one in caplog.records if "was refused" in one.getMessage()]
    assert log in told or why is ConsentProblem.HUBSPOT_ERROR


def test_the_install_page_tells_beforehand_what_can_go_wrong(make_app: MakeApp, serve: Serve, browser: Browser) -> None:
    said_of = {}
    for kind, scopes in (("project", None), ("legacy-public", None), ("project", "oauth,files"), ("project", "oauth")):
        app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", app_kind=kind, scopes=scopes, **INSTALLABLE)
        said_of[kind, scopes] = browser.get(f"{serve(app, target=False)}/hubspot/oauth/install").text
    assert all("If HubSpot shows an error about scopes" in text for text in said_of.values())
    assert "src/app/app-hsmeta.json" in said_of["project", None]
    assert "files.read\nfiles.write" in said_of["project", None]
    assert "src/app/app-hsmeta.json" not in said_of["legacy-public", None]
    assert "HubSpot will refuse this" in said_of["project", "oauth,files"]
    assert [("HubSpot will refuse this" in text) for text in said_of.values()] == [False, False, True, False]
    assert [("does not name all that is needed" in text) for text in said_of.values()] == [False, False, True, True]


def test_a_legacy_app_that_counts_as_a_project_app_is_told_after_installing(
    make_app: MakeApp, serve: Serve, browser: Browser
) -> None:
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", app_kind="project", **INSTALLABLE)
    leads = browser.press(browser.get(f"{serve(app, target=False)}/hubspot/oauth/install")).headers["Location"]
    page = browser.get(browser.agree(browser.get(leads.replace("files.read%20files.write", "files")), PORTAL))
    assert said(page) == "HubSpot is connected"
    assert "HUBSPOT_HITL_APP_KIND to legacy-public" in page.text
    assert "Not granted" not in page.text


def test_scopes_beyond_what_was_asked_for_are_told_after_installing(app: Flask, url: str, browser: Browser) -> None:
    leads = browser.press(browser.get(url)).headers["Location"]
    page = browser.get(browser.agree(browser.get(f"{leads}&optional_scope=crm.objects.companies.read"), PORTAL))
    assert said(page) == "HubSpot is connected"
    assert "HubSpot granted more than is used here" in page.text
    assert "crm.objects.companies.read" in page.text


@pytest.mark.parametrize(
    ("kind", "required", "scopes"),
    [("legacy-public", ["oauth", "tickets"], None), ("legacy-public", [], "oauth,files.read"), ("project", [], None)],
)
def test_hubspots_own_page_refuses_scopes_too_few_and_too_many(
    make_app: MakeApp, serve: Serve, browser: Browser, hubspot: HubSpot, kind: str, required: list[str], scopes: str
) -> None:
    """Nobody is sent back from there: our page has told what to do. The stand-in's app is a legacy one."""
    hubspot.chaos(legacy_new_scopes=False)
    env = hubspot.control("POST", "apps", {"appId": "4141", "portalId": OTHER, "requiredScopes": required})
    own = {"app_id": "4141", "app_kind": kind, "client_id": env["HUBSPOT_HITL_CLIENT_ID"], "scopes": scopes}
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", **INSTALLABLE | own)
    consent = browser.to_hubspot(f"{serve(app, target=False)}/hubspot/oauth/install")
    assert (consent.status_code, "scope" in consent.text) == (400, True)
    assert any("If HubSpot shows an error about scopes" in page.text for page in browser.visited)


def test_nothing_of_the_request_is_shown_or_logged(
    app: Flask, url: str, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    state = query_of(browser.agree(browser.to_hubspot(url), PORTAL))["state"]
    caplog.clear()
    hostile = "<script>alert(1)</script>\nFAKE"
    query = urlencode({"state": state, "error": hostile, "error_description": hostile})
    page = browser.get(f"{url.replace('install', 'callback')}?{query}")
    refused(page, ConsentProblem.HUBSPOT_ERROR, app)
    assert "alert" not in page.text
    ours = [one.getMessage() for one in caplog.records if one.name.startswith("flask_hubspot_hitl")]
    assert ours == ["An installation was refused (error from HubSpot): scriptalertscriptfake"]
    no_code = query_of(browser.agree(browser.to_hubspot(url), PORTAL))["state"]
    page = browser.get(f"{url.replace('install', 'callback')}?state={quote(no_code)}")
    refused(page, ConsentProblem.CODE_MISSING, app)


def test_a_code_used_twice(app: Flask, url: str, browser: Browser, hubspot: HubSpot) -> None:
    """Somebody else was quicker with the code: our state is good, HubSpot refuses."""
    back = browser.agree(browser.to_hubspot(url), PORTAL)
    env = hubspot.env()
    asked = {
        "grant_type": "authorization_code",
        "client_id": env["HUBSPOT_HITL_CLIENT_ID"],
        "client_secret": env["HUBSPOT_HITL_CLIENT_SECRET"],
        "redirect_uri": url.replace("install", "callback"),
        "code": query_of(back)["code"],
    }
    requests.post(f"{hubspot.url}/oauth/v3/token", data=asked, timeout=30)
    refused(browser.get(back), ConsentProblem.CODE_REFUSED, app)


def test_hubspot_is_down_or_does_not_know_us(app: Flask, url: str, browser: Browser, hubspot: HubSpot) -> None:
    back = browser.agree(browser.to_hubspot(url), PORTAL)
    hubspot.chaos(faults=[{"match": "POST /oauth", "times": 1, "status": 503}])
    refused(browser.get(back), ConsentProblem.UNAVAILABLE, app)
    back = browser.agree(browser.to_hubspot(url), PORTAL)
    hubspot.control("POST", "apps", {"appId": "3131", "clientSecret": "sim-rotated-meanwhile"})
    refused(browser.get(back), ConsentProblem.APP_REFUSED, app)


def test_a_database_that_is_away_is_said(app: Flask, url: str, browser: Browser, tmp_path: Path) -> None:
    page = browser.get(url)
    other = sqlite3.connect(tmp_path / "hitl.sqlite3")
    try:
        other.execute("BEGIN IMMEDIATE")
        answer = browser.press(page)
    finally:
        other.close()
    assert (answer.status_code, said(answer)) == (503, "Please try again later")


@pytest.mark.parametrize("missing", ["key", "client id", "a good key"])
def test_what_is_missing_is_told_to_the_operator_only(
    make_app: MakeApp, hubspot: HubSpot, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = INSTALLABLE | {"SECRET_KEY": None if missing == "key" else "s"}
    config |= {"client_id": None} if missing == "client id" else {}
    config |= {"encryption_key": "short"} if missing == "a good key" else {}
    app = make_app(may_install=lambda portal_id: True, **config)
    page = app.test_client().get("/hubspot/oauth/install")
    assert page.status_code == 503
    assert WORDS[ConsentProblem.NOT_CONFIGURED][1] in page.text
    assert "HUBSPOT_HITL" not in page.text
    assert {"key": "SECRET_KEY", "client id": "CLIENT_ID", "a good key": "ENCRYPTION_KEY"}[missing] in caplog.text
    result = app.test_cli_runner().invoke(args=["hubspot-hitl", "install-url"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_an_encryption_key_alone_is_enough(make_app: MakeApp, serve: Serve, browser: Browser) -> None:
    key = Fernet.generate_key().decode()
    app = make_app(may_install=lambda portal_id: True, encryption_key=key, **INSTALLABLE)
    assert said(browser.connect(f"{serve(app, target=False)}/hubspot/oauth/install", PORTAL)) == "HubSpot is connected"


def test_what_hubspot_did_not_grant_is_told(app: Flask, url: str, browser: Browser) -> None:
    consent = browser.to_hubspot(url)
    fewer = browser.get(consent.url.replace("%20crm.objects.contacts.read", ""))
    page = browser.get(browser.agree(fewer, PORTAL))
    assert said(page) == "HubSpot is connected"
    assert "Not granted" in page.text
    assert "crm.objects.contacts.read" in page.text


def test_a_running_process_gets_the_scopes_of_a_new_installation(
    app: Flask, url: str, browser: Browser, hubspot: HubSpot, make_app: MakeApp, clock: ManualClock
) -> None:
    """Without another refresh, and though its own token is good for half an hour still."""
    consent = browser.to_hubspot(url)
    browser.get(browser.agree(browser.get(consent.url.replace("%20files", "")), PORTAL))
    other = state_of(make_app(name="other", clock=clock, SECRET_KEY="s", **INSTALLABLE)).services.client(PORTAL)

    def upload() -> tuple[str, int]:
        before = len(hubspot.requests())
        try:
            outcome = "taken" if other.upload_file("a.txt", b"abc", "text/plain", "/x") else ""
        except HubSpotRejected as error:
            outcome = str(error.category)
        return outcome, len(hubspot.requests()) - before

    assert upload() == upload() == ("MISSING_SCOPES", 1), "nothing newer is stored: it stays what it is"
    browser.connect(url, PORTAL)
    assert upload() == ("taken", 2)
    assert upload() == ("taken", 1)
    assert {one["grant_type"] for one in exchanges(hubspot)} == {"authorization_code"}


def test_every_end_has_words_of_its_own() -> None:
    assert WORDS.keys() == set(ConsentProblem)
    assert len({title for _, title, _, _ in WORDS.values()}) == len(ConsentProblem)
    for status, _, paragraphs, _ in WORDS.values():
        assert status >= 400
        assert paragraphs


def test_a_refusal_shows_no_more_than_it_was_given() -> None:
    assert str(FlowRefused(ConsentProblem.DENIED)) == "denied"
    assert str(FlowRefused(ConsentProblem.CODE_REFUSED, "HubSpot answered 400")) == "HubSpot answered 400"

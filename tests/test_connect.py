"""HubSpot's own "connect a channel" flow: who may, what is told to HubSpot, and where the browser is sent (rules D)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import requests
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.ledger import AccountRecord
from flask_hubspot_hitl.portals.connect import ConnectProblem, read
from flask_hubspot_hitl.portals.consent import ConsentProblem
from flask_hubspot_hitl.web.connect import WORDS
from flask_hubspot_hitl.web.pages import HEADERS
from flask_hubspot_hitl.web.visitors import COOKIE

from .browser import Browser, query_of, said
from .conftest import MakeApp, Serve
from .helpers import APP, CHANNEL, PORTAL, HubSpot, Recorder, state_of, wait_until
from .story import PHONE

HELP_DESK = "700200999"
OTHER = "525252"
STAGED = "/channel-account-staging-tokens/"

HOSTILE_URLS = [
    "https://evil.example/",
    "http://app.hubspot.com/",
    "//app.hubspot.com/",
    "https:app.hubspot.com",
    "https:/evil.example/app.hubspot.com",
    "https://app.hubspot.com@evil.example/",
    "https://app.hubspot.com:pass@evil.example/",
    "https://evil.example\\@app.hubspot.com/",
    "https://evil.example\\.hubspot.com/",
    "https://app.hubspot.com\\@evil.example/",
    "https://evil.example#.hubspot.com",
    "https://evil.example?.hubspot.com",
    "https://evilhubspot.com/",
    "https://hubspot.com.evil.example/",
    "https://app.hubspot.com:8443/",
    "https://app.hubspot.com./",
    "https://app.hubspot.com\u3002evil.example/",
    "https://app.hub\u017fpot.com/",
    "https://app.hubspot.com%2eevil.example/",
    "https://.hubspot.com/",
    "https://[::1]/app.hubspot.com",
    "https://app.hubspot.com/\r\nLocation: https://evil.example/",
    "https://app.hubspot.com/\tx",
    " https://app.hubspot.com/",
    "javascript:alert(1)//https://app.hubspot.com/",
    "data:text/html,https://app.hubspot.com/",
    "https://app.hubspot.com/" + "x" * 3000,
    "\x00https://app.hubspot.com/",
    "",
]
HOSTILE_TOKENS = [
    "",
    " ",
    ".",
    "..",
    "../../../oauth/v3/token",
    "a/b",
    "a\\b",
    "%2e%2e%2f",
    "tok?appId=1",
    "tok#x",
    "tok&hapikey=1",
    "tok\r\nX-Evil: 1",
    "tok\n",
    "tok\x00",
    "tok en",
    "tok;x",
    "tök",
    "\u0661\u0662",
    "'tok'",
    "<script>",
    "${jndi:ldap://evil}",
    "t" * 201,
]


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An app with the preset portal's token; anybody may connect."""
    return make_app(dispatcher="inline", may_install=lambda portal_id: True, SECRET_KEY="s")


@pytest.fixture
def url(app: Flask, serve: Serve) -> str:
    """Where its page is."""
    return f"{serve(app)}/hubspot/connect"


@pytest.fixture
def browser() -> Iterator[Browser]:
    with closing(Browser()) as opened:
        yield opened


def popup(hubspot: HubSpot, inbox_id: str = HELP_DESK, **more: str) -> dict[str, str]:
    """The query of HubSpot's popup, with a staging token that HubSpot knows."""
    found = hubspot.post("staging-tokens", inboxId=inbox_id)
    return {name: str(value) for name, value in found.items()} | more


def address(url: str, query: dict[str, str]) -> str:
    return f"{url}?{urlencode(query, errors='surrogatepass')}"


def connect(browser: Browser, url: str, query: dict[str, str]) -> requests.Response:
    """Open the page and press its button; what comes of it."""
    page = browser.get(address(url, query))
    return browser.press(page) if "<form" in page.text else page


def asked(hubspot: HubSpot) -> list[dict[str, Any]]:
    """What HubSpot was told about staging tokens."""
    return [one for one in hubspot.requests() if STAGED in one["path"]]


def accounts_at(hubspot: HubSpot, inbox_id: str = HELP_DESK) -> list[dict[str, Any]]:
    """The channel's accounts in an inbox, at HubSpot."""
    inboxes = hubspot.get("settings")["inboxes"]
    found: list[dict[str, Any]] = next(one["accounts"] for one in inboxes if one["id"] == inbox_id)
    return found


def stored(app: Flask, portal_id: str = PORTAL) -> list[AccountRecord]:
    with state_of(app).ledger.read() as tx:
        return tx.channels.accounts(portal_id)


def refused(page: requests.Response, why: Any, hubspot: HubSpot, *, told: int = 0) -> None:
    """The page tells just this, and HubSpot was told nothing."""
    status, title, paragraphs, _ = WORDS[why]
    assert (page.status_code, said(page)) == (status, title)
    assert all(text.split(".")[0].split("'")[0] in page.text for text in paragraphs)
    assert {name: page.headers.get(name) for name in HEADERS} == HEADERS
    assert len(asked(hubspot)) == told
    assert accounts_at(hubspot) == []


# --- the way through -------------------------------------------------------------------------------------


@pytest.mark.parametrize("completes", ["patch", "redirect"])
def test_from_hubspots_popup_to_an_account_that_handoffs_use(
    make_app: MakeApp,
    serve: Serve,
    hubspot: HubSpot,
    browser: Browser,
    record: Callable[[Flask], Recorder],
    completes: str,
) -> None:
    """Open question 12 both ways: HubSpot makes the account at once, or when the browser is back."""
    hubspot.chaos(staging_completes=completes)
    config: dict[str, Any] = {"channel_name": "Acme chat", "channel_account_id": None, "inbox_id": None}
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", **config)
    url = f"{serve(app)}/hubspot/connect"
    seen = record(app)
    query = popup(hubspot)
    page = browser.get(address(url, query))
    assert (page.status_code, said(page)) == (200, "Connect this inbox")
    assert {name: page.headers.get(name) for name in HEADERS} == HEADERS
    assert PORTAL in page.text
    assert HELP_DESK in page.text
    assert asked(hubspot) == [], "opening the page changes nothing"
    assert browser.get(address(url, query)).status_code == 200
    back = browser.press(page)
    assert (back.status_code, back.headers["Location"]) == (303, query["redirectUrl"])
    assert (back.headers["Cache-Control"], back.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert len(accounts_at(hubspot)) == (completes == "patch")
    assert said(browser.get(back.headers["Location"])) == "Connected"
    [account] = accounts_at(hubspot)
    deployment_id = state_of(app).ledger.deployment_id
    assert account["name"] == "Acme chat"
    assert account["identifier"] == f"flask-hubspot-hitl.{deployment_id}.{PORTAL}.{HELP_DESK}"
    [told] = seen.wait_for("channel_account_changed", 1)
    assert told == {
        "portal_id": PORTAL,
        "change": "created",
        "account": {
            "account_id": account["id"],
            "channel_id": CHANNEL,
            "inbox_id": HELP_DESK,
            "name": "Acme chat",
            "authorized": True,
        },
    }
    assert [one.account_id for one in stored(app)] == [account["id"]]
    with app.app_context():
        handoff = HubSpotHITL().start("c1", contact=PHONE)
    assert hubspot.thread(handoff.thread_id)["inboxId"] == HELP_DESK, "the inbox that was connected is the default"


@pytest.mark.parametrize("version", ["v3", "2026-03", "2026-09"])
def test_every_version_of_the_api(
    make_app: MakeApp, serve: Serve, hubspot: HubSpot, browser: Browser, version: str
) -> None:
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", api_version=version)
    assert connect(browser, f"{serve(app)}/hubspot/connect", popup(hubspot)).status_code == 303
    assert len(accounts_at(hubspot)) == 1
    assert version in asked(hubspot)[0]["path"]


@pytest.mark.parametrize("completes", ["patch", "redirect"])
def test_twice_is_once(app: Flask, url: str, hubspot: HubSpot, browser: Browser, completes: str) -> None:
    hubspot.chaos(staging_completes=completes)
    first = popup(hubspot)
    browser.get(connect(browser, url, first).headers["Location"])
    for query in (first, popup(hubspot)):
        again = connect(browser, url, query)
        assert (again.status_code, said(again)) == (200, "This inbox is connected already")
    assert len(accounts_at(hubspot)) == 1
    assert len(asked(hubspot)) == 1


def test_what_was_taken_out_of_use_is_put_into_use_again(
    app: Flask, url: str, hubspot: HubSpot, browser: Browser
) -> None:
    """As after ``teardown``, which can't remove an account."""
    connect(browser, url, popup(hubspot))
    [account] = accounts_at(hubspot)
    hubspot.post(f"channel-accounts/{account['id']}/disable")
    assert said(connect(browser, url, popup(hubspot))) == "This inbox is connected already"
    assert accounts_at(hubspot) == [account]


def test_an_answer_that_was_lost_is_no_second_account(app: Flask, url: str, hubspot: HubSpot, browser: Browser) -> None:
    hubspot.chaos(faults=[{"match": f"PATCH .*{STAGED}.*", "times": 1, "mode": "drop_after"}])
    query = popup(hubspot)
    page = browser.get(address(url, query))
    lost = browser.press(page)
    assert (lost.status_code, said(lost)) == (503, WORDS[ConnectProblem.UNAVAILABLE][1])
    assert said(browser.press(page)) == "This inbox is connected already"
    assert len(accounts_at(hubspot)) == 1


def test_an_inbox_that_was_connected_before_can_be_connected_again(
    app: Flask, url: str, hubspot: HubSpot, browser: Browser
) -> None:
    """HubSpot may hold an identifier for an account that is gone: a new one is taken then."""
    connect(browser, url, popup(hubspot))
    first = accounts_at(hubspot)[0]
    hubspot.post(f"channel-accounts/{first['id']}/purge")
    hubspot.chaos(faults=[{"match": f"PATCH .*{STAGED}.*", "times": 1, "status": 409}])
    assert connect(browser, url, popup(hubspot)).status_code == 303
    [second] = accounts_at(hubspot)
    assert second["identifier"].startswith(first["identifier"] + ".")


def test_two_inboxes_of_two_portals_have_identifiers_of_their_own(
    make_app: MakeApp, serve: Serve, hubspot: HubSpot, browser: Browser
) -> None:
    env = hubspot.control("POST", "apps", {"appId": APP, "portalId": OTHER})
    tokens: dict[str, Any] = dict.fromkeys(("refresh_token", "portal_id", "channel_account_id", "inbox_id"))
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", **tokens)
    base = serve(app)
    for portal, inboxes in ((PORTAL, ["700200300", HELP_DESK]), (OTHER, [env["HUBSPOT_HITL_INBOX_ID"]])):
        browser.connect(f"{base}/hubspot/oauth/install", portal)
        for inbox in inboxes:
            query = hubspot.post("staging-tokens", inboxId=inbox, portalId=portal)
            assert connect(browser, f"{base}/hubspot/connect", {k: str(v) for k, v in query.items()}).status_code == 303
    identifiers = [one["identifier"] for inbox in hubspot.get("settings")["inboxes"] for one in inbox["accounts"]]
    assert len(identifiers) == len(set(identifiers)) == 4
    assert sum(one.startswith(f"flask-hubspot-hitl.{state_of(app).ledger.deployment_id}.") for one in identifiers) == 3


# --- who may ---------------------------------------------------------------------------------------------


def test_without_a_word_from_the_host_only_in_debug(
    make_app: MakeApp, serve: Serve, hubspot: HubSpot, browser: Browser
) -> None:
    app = make_app(SECRET_KEY="s")
    url = f"{serve(app)}/hubspot/connect"
    query = popup(hubspot)
    refused(connect(browser, url, query), ConnectProblem.NOT_ALLOWED, hubspot)
    app.debug = True
    page = browser.get(address(url, query))
    app.debug = False
    refused(browser.press(page), ConnectProblem.NOT_ALLOWED, hubspot)
    app.debug = True
    assert browser.press(page).status_code == 303


def test_the_host_is_asked_at_the_page_and_at_the_button(
    make_app: MakeApp, serve: Serve, hubspot: HubSpot, browser: Browser
) -> None:
    wanted: list[str | None] = []
    answers = [True, False, True]

    def may_install(portal_id: str | None) -> bool:
        wanted.append(portal_id)
        return answers.pop(0)

    app = make_app(SECRET_KEY="s", may_install=may_install)
    page = browser.get(address(f"{serve(app)}/hubspot/connect", popup(hubspot)))
    refused(browser.press(page), ConnectProblem.NOT_ALLOWED, hubspot)
    assert browser.press(page).status_code == 303
    assert wanted == [PORTAL] * 3


def test_who_has_just_installed_may_connect_for_an_hour(
    make_app: MakeApp, serve: Serve, hubspot: HubSpot, browser: Browser, clock: ManualClock
) -> None:
    hubspot.control("POST", "apps", {"appId": APP, "portalId": OTHER})
    tokens: dict[str, Any] = dict.fromkeys(("refresh_token", "portal_id"))
    app = make_app(clock=clock, dispatcher="inline", SECRET_KEY="s", **tokens)
    url = f"{serve(app)}/hubspot/connect"
    for _ in range(2):  # installing again begins a new hour
        link = app.test_cli_runner().invoke(args=["hubspot-hitl", "install-url"]).output.strip()
        assert said(browser.connect(link, PORTAL)) == "HubSpot is connected"
        clock.advance(3599)
        assert browser.get(address(url, popup(hubspot))).status_code == 200
    elsewhere = popup(hubspot, portalId=OTHER)
    refused(browser.get(address(url, elsewhere)), ConnectProblem.NOT_ALLOWED, hubspot)
    with closing(Browser()) as stranger:
        refused(stranger.get(address(url, popup(hubspot))), ConnectProblem.NOT_ALLOWED, hubspot)
    page = browser.get(address(url, popup(hubspot)))
    clock.advance(1)
    refused(browser.press(page), ConnectProblem.NOT_ALLOWED, hubspot)


def test_a_form_of_another_browser_is_refused(url: str, hubspot: HubSpot, browser: Browser) -> None:
    page = browser.get(address(url, popup(hubspot)))
    with closing(Browser()) as other:
        refused(other.press(page), ConsentProblem.FORM_FORGED, hubspot)
        other.get(address(url, popup(hubspot)))
        refused(other.press(page), ConsentProblem.FORM_FORGED, hubspot)
    refused(browser.press(page, form=""), ConsentProblem.FORM_FORGED, hubspot)
    assert browser.press(page).status_code == 303


def test_flask_wtf_stays_out_of_the_way(make_app: MakeApp, hubspot: HubSpot) -> None:
    from flask_wtf.csrf import CSRFProtect

    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s")
    CSRFProtect(app)
    client = app.test_client()
    query = popup(hubspot)
    token = re.search(r'name="form" value="([^"]+)"', client.get(address("/hubspot/connect", query)).text)
    assert token
    assert client.post("/hubspot/connect", data={"form": token[1], **query}).status_code == 303
    assert client.post("/hubspot/connect", data=query).status_code == 400, "our own check"


def test_the_cookie_is_the_one_of_the_installation(app: Flask, url: str, hubspot: HubSpot, browser: Browser) -> None:
    browser.get(url.replace("connect", "oauth/install"))
    before = browser.cookie(COOKIE)
    browser.get(address(url, popup(hubspot)))
    assert browser.cookie(COOKIE) == before is not None


# --- what is not ours ------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", HOSTILE_TOKENS)
def test_a_hostile_token_goes_nowhere(app: Flask, url: str, hubspot: HubSpot, browser: Browser, token: str) -> None:
    """Twenty and more; the button is pressed with each as well."""
    query = popup(hubspot)
    before = len(hubspot.requests())
    refused(browser.get(address(url, query | {"accountToken": token})), ConnectProblem.INCOMPLETE, hubspot)
    page = browser.get(address(url, query))
    refused(browser.press(page, accountToken=token), ConnectProblem.INCOMPLETE, hubspot)
    assert len(hubspot.requests()) == before, "HubSpot was not even asked"


@pytest.mark.parametrize("target", HOSTILE_URLS)
def test_a_hostile_way_back_goes_nowhere(app: Flask, url: str, hubspot: HubSpot, browser: Browser, target: str) -> None:
    """Twenty and more: the inbox is connected, the browser stays on a page of ours."""
    page = connect(browser, url, popup(hubspot, redirectUrl=target))
    assert (page.status_code, said(page)) == (200, "The inbox is being connected")
    assert "Location" not in page.headers
    assert "evil" not in page.text
    assert not re.search(r"<a |http-equiv|<script", page.text)
    assert len(accounts_at(hubspot)) == 1


def led_to(browser: Browser, url: str, hubspot: HubSpot, target: str) -> str | None:
    """Where the browser is sent once the inbox is connected; it is disconnected again. Hosts come in small letters."""
    answer = connect(browser, url, popup(hubspot, redirectUrl=target))
    assert answer.status_code in (200, 303), said(answer)
    for account in accounts_at(hubspot):
        hubspot.post(f"channel-accounts/{account['id']}/purge")
    return answer.headers.get("Location")


@pytest.mark.parametrize(
    "target",
    [
        "https://app.hubspot.com/live-messages-settings/424242/inboxes?a=b&c=%2F#d",
        "https://app-eu1.hubspot.com/x",
        "https://hubspot.com",
        "https://hubspot.com?x",
    ],
)
def test_hubspots_own_pages_are_gone_back_to(url: str, hubspot: HubSpot, browser: Browser, target: str) -> None:
    assert led_to(browser, url, hubspot, target) == target
    assert not [one for one in hubspot.requests() if "account-info" in one["path"]]


def test_the_portals_own_domain_is_gone_back_to(url: str, hubspot: HubSpot, browser: Browser) -> None:
    hubspot.post("apps", appId=APP, portalId=PORTAL, uiDomain="App.Acme-Portal.example")
    for good in ("https://app.acme-portal.example/Settings", "https://APP.acme-portal.example/Settings"):
        assert led_to(browser, url, hubspot, good) == "https://app.acme-portal.example/Settings"
    for bad in ("https://acme-portal.example/", "https://x.app.acme-portal.example/", "http://app.acme-portal.example"):
        assert led_to(browser, url, hubspot, bad) is None
    hubspot.chaos(faults=[{"match": "GET /account-info.*", "status": 503}])
    assert led_to(browser, url, hubspot, "https://app.acme-portal.example/settings") is None, "in doubt, no"


@pytest.mark.parametrize("missing", ["accountToken", "channelId", "inboxId", "portalId"])
def test_half_an_address(url: str, hubspot: HubSpot, browser: Browser, missing: str) -> None:
    query = popup(hubspot)
    refused(browser.get(address(url, query | {missing: ""})), ConnectProblem.INCOMPLETE, hubspot)
    refused(
        browser.get(address(url, {k: v for k, v in query.items() if k != missing})), ConnectProblem.INCOMPLETE, hubspot
    )
    if missing != "accountToken":
        for bad in ("-1", "1e3", "\u0661", "1 ", "9" * 20, "x"):
            refused(browser.get(address(url, query | {missing: bad})), ConnectProblem.INCOMPLETE, hubspot)


def test_another_apps_channel(url: str, hubspot: HubSpot, browser: Browser) -> None:
    query = popup(hubspot)
    refused(connect(browser, url, query | {"channelId": "999"}), ConnectProblem.OTHER_CHANNEL, hubspot)
    page = browser.get(address(url, query))
    refused(browser.press(page, channelId="999"), ConnectProblem.OTHER_CHANNEL, hubspot)


def test_a_portal_that_has_not_installed_the_app(url: str, hubspot: HubSpot, browser: Browser) -> None:
    query = popup(hubspot)
    refused(connect(browser, url, query | {"portalId": "999"}), ConnectProblem.NOT_INSTALLED, hubspot)
    page = browser.get(address(url, query))
    refused(browser.press(page, portalId="999"), ConnectProblem.NOT_INSTALLED, hubspot)


def test_another_portals_token(make_app: MakeApp, serve: Serve, hubspot: HubSpot, browser: Browser) -> None:
    """Both portals are ours: HubSpot does not take the one's staging token with the other's access token."""
    hubspot.control("POST", "apps", {"appId": APP, "portalId": OTHER})
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", refresh_token=None, portal_id=None)
    base = serve(app)
    for portal in (PORTAL, OTHER):
        browser.connect(f"{base}/hubspot/oauth/install", portal)
    page = connect(browser, f"{base}/hubspot/connect", popup(hubspot, portalId=OTHER))
    refused(page, ConnectProblem.EXPIRED, hubspot, told=1)


def test_another_inbox_than_the_token_is_for(
    app: Flask, url: str, hubspot: HubSpot, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    hubspot.chaos(staging_completes="redirect")
    page = connect(browser, url, popup(hubspot, "700200300", inboxId=HELP_DESK))
    refused(page, ConnectProblem.OTHER_INBOX, hubspot, told=1)
    assert "HubSpot's token is for channel 100458 and inbox 700200300" in caplog.text


def test_there_is_no_channel_yet(make_app: MakeApp, serve: Serve, hubspot: HubSpot, browser: Browser) -> None:
    app = make_app(may_install=lambda portal_id: True, SECRET_KEY="s", channel_id=None)
    refused(connect(browser, f"{serve(app)}/hubspot/connect", popup(hubspot)), ConnectProblem.NO_CHANNEL, hubspot)


def test_without_a_key_no_form_can_be_made(make_app: MakeApp, serve: Serve, hubspot: HubSpot, browser: Browser) -> None:
    app = make_app(may_install=lambda portal_id: True)
    page = connect(browser, f"{serve(app)}/hubspot/connect", popup(hubspot))
    refused(page, ConsentProblem.NOT_CONFIGURED, hubspot)


# --- HubSpot says no -------------------------------------------------------------------------------------


def test_a_token_whose_time_is_over(app: Flask, url: str, hubspot: HubSpot, browser: Browser) -> None:
    """Open question 12: how long it lives is not documented."""
    hubspot.chaos(staging_seconds=0)
    page = browser.get(address(url, popup(hubspot)))
    wait_until(lambda: browser.press(page).status_code == 400)
    refused(browser.visited[-1], ConnectProblem.EXPIRED, hubspot, told=len(asked(hubspot)))


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"status": 400}, ConnectProblem.REFUSED),
        ({"status": 403}, ConnectProblem.REFUSED),
        ({"status": 409, "times": 2}, ConnectProblem.REFUSED),
        ({"status": 404}, ConnectProblem.EXPIRED),
        ({"status": 503, "times": 9}, ConnectProblem.UNAVAILABLE),
        ({"status": 429, "times": 9}, ConnectProblem.UNAVAILABLE),
    ],
)
def test_hubspot_refuses(
    app: Flask, url: str, hubspot: HubSpot, browser: Browser, fault: dict[str, Any], why: ConnectProblem
) -> None:
    hubspot.chaos(faults=[{"match": f"PATCH .*{STAGED}.*", "times": 1, **fault}])
    page = connect(browser, url, popup(hubspot))
    refused(page, why, hubspot, told=len(asked(hubspot)))


def test_the_portal_has_removed_the_app(app: Flask, url: str, hubspot: HubSpot, browser: Browser) -> None:
    page = browser.get(address(url, popup(hubspot)))
    hubspot.chaos(revoked=True)
    refused(browser.press(page), ConnectProblem.REVOKED, hubspot)


def test_the_tier_does_not_allow_it(app: Flask, url: str, hubspot: HubSpot, browser: Browser) -> None:
    hubspot.chaos(tier="starter")
    refused(connect(browser, url, popup(hubspot)), ConnectProblem.REFUSED, hubspot, told=len(asked(hubspot)))


def test_neither_token_nor_address_is_logged(
    app: Flask, url: str, hubspot: HubSpot, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    query = popup(hubspot)
    connect(browser, url, query)
    connect(browser, url, popup(hubspot, accountToken="no-such-token-of-ours"))
    ours = [one for one in caplog.records if one.name.partition(".")[0] in ("flask_hubspot_hitl", "urllib3")]
    told = "".join(str(one.__dict__) for one in ours if "GET /hubspot/connect" not in one.getMessage())
    assert "staging-tokens/…" in told
    assert query["accountToken"] not in told.replace(quote(query["redirectUrl"], safe=""), "")


def test_every_end_has_words_of_its_own() -> None:
    assert WORDS.keys() == {*ConnectProblem, ConsentProblem.FORM_FORGED, ConsentProblem.NOT_CONFIGURED}
    assert len({title for _, title, _, _ in WORDS.values()}) == len(WORDS)
    assert all(status >= 400 and paragraphs for status, _, paragraphs, _ in WORDS.values())


def test_what_is_read_is_what_hubspot_sends() -> None:
    query = {"accountToken": "a-B_9", "channelId": "1", "inboxId": "2", "portalId": "3", "redirectUrl": "https://x"}
    assert read(query).query() == query
    assert "a-B_9" not in repr(read(query))


def test_query_of_the_popup_is_documented(hubspot: HubSpot) -> None:
    assert popup(hubspot).keys() == {"accountToken", "channelId", "inboxId", "portalId", "redirectUrl"}
    assert query_of(address("http://x", popup(hubspot)))

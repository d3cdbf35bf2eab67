"""HubSpot's own "connect a channel" flow in a real browser: from the inbox's settings through our page and back."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests

from .browser_helpers import POLICY, ROOT, Site, Watch, expect, shot, wait_for
from .helpers import CHANNEL
from .simulator_helpers import CC
from .slow import few_of

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

HELP_DESK = "700200999"


@pytest.fixture
def ready(site: Site) -> Site:
    """The channel knows where our page is, as after ``setup``."""
    env = site.hubspot.env()
    key = {"hapikey": env["HUBSPOT_HITL_DEVELOPER_API_KEY"], "appId": env["HUBSPOT_HITL_APP_ID"]}
    page = {"channelAccountConnectionRedirectUrl": f"{site.chat.url}/hubspot/connect"}
    requests.patch(f"{site.desk.url}{CC}/{CHANNEL}", params=key, json=page, timeout=30).raise_for_status()
    return site


def install_url(site: Site) -> str:
    """A link to install with, made on the command line."""
    command = [sys.executable, "-m", "flask", "--app", "example_app", "hubspot-hitl", "install-url"]
    env = site.chat.env | {"HUBSPOT_HITL_PUBLIC_URL": site.chat.url}
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100, cwd=ROOT, env=env)
    return made.stdout.split()[-1]


def install(site: Site, window: BrowserContext) -> None:
    """Open the link, agree on HubSpot's page."""
    page = window.new_page()
    page.goto(install_url(site))
    page.get_by_role("button", name="Continue to HubSpot").click()
    page.get_by_role("button", name="Connect app").click()
    expect(page.locator("h1")).to_have_text("HubSpot is connected")
    page.close()


def help_desk(settings: Page) -> Locator:
    return settings.locator(f'#inboxes > li[data-inbox="{HELP_DESK}"]')


def choose(settings: Page) -> Page:
    """Choose the channel in the help desk's settings; the popup that opens."""
    with settings.expect_popup() as opened:
        help_desk(settings).get_by_role("button", name="Connect Acme Handoff").click()
    return opened.value


@pytest.mark.parametrize("completes", few_of(["patch", "redirect"], "patch"))
def test_an_admin_connects_the_help_desk_and_removes_it_again(ready: Site, watch: Watch, completes: str) -> None:
    ready.hubspot.chaos(staging_completes=completes)
    window = watch.context()
    install(ready, window)
    desk = watch.open(ready.desk.url, window)
    desk.get_by_role("link", name="Inbox settings").click()
    expect(desk.locator("#live")).to_have_text("Live")
    expect(help_desk(desk)).to_contain_text("No channel is connected.")

    popup = choose(desk)
    expect(popup.locator("h1")).to_have_text("Connect this inbox")
    assert popup.viewport_size is not None
    expect(popup.locator("dl")).to_contain_text(HELP_DESK)
    shot(popup, f"connect-{completes}")
    popup.get_by_role("button", name="Connect").click()
    popup.wait_for_url(f"{ready.desk.url}/connected?*")
    expect(popup.locator("h1")).to_have_text("Connected")
    popup.close()

    account = help_desk(desk).locator("li[data-account]")
    expect(account).to_contain_text("flask-hubspot-hitl.")
    expect(account.locator(".pill")).to_have_text("connected")
    shot(desk, f"settings-{completes}")
    again = choose(desk)
    again.get_by_role("button", name="Connect").click()
    expect(again.locator("h1")).to_have_text("This inbox is connected already")
    shot(again, "connect-again")
    again.close()

    account.get_by_role("button", name="Switch off").click()
    expect(account.locator(".pill")).to_have_text("switched off")
    account.get_by_role("button", name="Remove").click()
    asked = desk.get_by_role("dialog")
    asked.get_by_role("button", name="Keep it").click()
    expect(account.locator(".pill")).to_have_text("switched off")
    account.get_by_role("button", name="Remove").click()
    asked.get_by_role("button", name="Remove").click()
    expect(account).to_have_count(0)
    wait_for(lambda: ready.hubspot.pending() == 0, desk, "HubSpot to have told all of it")
    kinds = [
        one["body"].split('"type"')[1].split('"')[1] for one in ready.hubspot.deliveries() if "CHANNEL_" in one["body"]
    ]
    assert kinds == ["CHANNEL_ACCOUNT_CREATED", "CHANNEL_ACCOUNT_UPDATED", "CHANNEL_ACCOUNT_PURGED"]
    assert {one["status"] for one in ready.hubspot.deliveries()} == {204}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_somebody_else_is_told_why_not(ready: Site, watch: Watch, scheme: str) -> None:
    window = watch.context("phone", scheme)
    settings = watch.open(f"{ready.desk.url}/settings", window)
    with window.expect_page() as opened:
        help_desk(settings).get_by_role("button", name="Connect Acme Handoff").click()
    popup = opened.value
    expect(popup.locator("h1")).to_have_text("You can't connect an inbox here")
    expect(popup.locator("code")).to_have_text("flask hubspot-hitl install-url")
    assert popup.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shot(popup, f"connect-refused-{scheme}")
    shot(settings, f"settings-phone-{scheme}")
    assert not [one for one in ready.hubspot.requests() if "staging" in one["path"]]
    watch.complaints[:] = [one for one in watch.complaints if "403" not in one]


def test_a_channel_without_a_page_can_not_be_chosen(site: Site, watch: Watch) -> None:
    settings = watch.open(f"{site.desk.url}/settings")
    expect(help_desk(settings).get_by_role("button", name="Connect Acme Handoff")).to_be_disabled()


def test_our_page_lets_nobody_frame_it(ready: Site) -> None:
    query = {name: str(value) for name, value in ready.hubspot.post("staging-tokens").items()}
    page = requests.get(f"{ready.chat.url}/hubspot/connect", params=query, timeout=30)
    assert page.headers["Content-Security-Policy"] == POLICY
    assert page.headers["X-Frame-Options"] == "DENY"

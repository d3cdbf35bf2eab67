"""Every page as people see it: screenshots, what axe-core finds, and room for fingers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import requests

from .browser_helpers import SIZES, Site, Watch, expect, shot, wait_for
from .helpers import CHANNEL
from .simulator_helpers import CC
from .slow import few_of
from .test_browser import call_somebody, publish, said, say
from .test_browser_connect import install, install_url

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
NAMES = ("Ana Ruiz", "يوسف الخطيب", "דנה לוי", "Zoë Müller-Ångström", "李小龍", "Bartholomew " * 6)
WORDS = (
    "Where is my order?",
    "أين طلبي رقم 1815؟",
    "איפה ההזמנה שלי?",
    "It is here: https://acme.test/orders/1815.",
    "谢谢",
)
FINGER = 44
"""CSS pixels that everything to press has at least, in both directions."""


def crowd(site: Site, count: int) -> None:
    """Many conversations: some with names and words of several scripts, in all states, the others by number."""
    site.hubspot.control("POST", "threads", {"count": count - 24, "messages": 1})
    for number in range(24):
        name, words = NAMES[number % len(NAMES)], WORDS[number % len(WORDS)]
        made = publish(site, f"{words} ({number})", f"k{number}", f"{name.strip()} {number}")
        thread_id = made["conversationsThreadId"]
        if number % 4 == 1:
            site.hubspot.act(thread_id, "assign", actorId="A-987" if number % 8 == 1 else "A-988")
        if number % 6 == 5:
            site.hubspot.act(thread_id, "close")
    picture = {"name": "parcel.png", "contentType": "image/png", "content": PIXEL}
    site.hubspot.act(thread_id, "reply", text="Here it is: https://acme.test/parcel?a=1&b=(2).", attachments=[picture])
    site.hubspot.act(thread_id, "comment", text="Internal: يرجى الانتباه")


def thread_of(desk: Page) -> None:
    """Open the conversation that has everything in it."""
    desk.locator("#filters label", has_text="Closed").click()
    desk.locator("#threads button").first.click()
    expect(desk.locator("#messages .note")).to_be_visible()
    expect(desk.locator("#messages .picture img")).to_be_visible()
    desk.locator("#lines summary").last.click()
    expect(desk.locator("#lines pre").first).to_be_visible()


Visit = Callable[[Site, Watch, "BrowserContext"], "Page"]


def open_desk(site: Site, watch: Watch, window: BrowserContext) -> Page:
    desk = watch.open(site.desk.url, window)
    expect(desk.locator("#live")).to_have_text("Live")
    expect(desk.locator("#threads button").first).to_be_visible()
    return desk


def open_thread(site: Site, watch: Watch, window: BrowserContext) -> Page:
    desk = open_desk(site, watch, window)
    thread_of(desk)
    return desk


def open_panel(site: Site, watch: Watch, window: BrowserContext) -> Page:
    desk = open_thread(site, watch, window)
    desk.evaluate("document.body.dataset.view = 'panel'")
    return desk


def open_plain(path: str, selector: str) -> Visit:
    def visit(site: Site, watch: Watch, window: BrowserContext) -> Page:
        page = watch.open(site.desk.url + path, window)
        expect(page.locator(selector).first).to_be_visible()
        return page

    return visit


def open_consent(site: Site, watch: Watch, window: BrowserContext) -> Page:
    page = window.new_page()  # it leaves for HubSpot, which a watched page may not
    page.goto(install_url(site))
    page.get_by_role("button", name="Continue to HubSpot").click()
    expect(page.get_by_role("button", name="Connect app")).to_be_visible()
    return page


def open_install(site: Site, watch: Watch, window: BrowserContext) -> Page:
    page = watch.open(install_url(site), window)
    expect(page.get_by_role("button", name="Continue to HubSpot")).to_be_visible()
    return page


def open_connect(site: Site, watch: Watch, window: BrowserContext) -> Page:
    install(site, window)
    page = window.new_page()
    page.goto(f"{site.desk.url}/connect?inboxId=700200999")
    expect(page.locator("h1")).to_have_text("Connect this inbox")
    return page


def open_chat(site: Site, watch: Watch, window: BrowserContext) -> Page:
    chat = watch.open(site.chat.url, window)
    expect(chat.locator("#state")).to_have_text("Our bot is answering")
    return chat


def open_talk(site: Site, watch: Watch, window: BrowserContext) -> Page:
    chat = open_chat(site, watch, window)
    say(chat, "See https://acme.test/ and mailto:a@acme.test")
    expect(said(chat, "did not understand")).to_be_visible()
    say(chat, "human")
    expect(chat.locator("#human")).to_be_visible()
    return chat


def open_agents(site: Site, watch: Watch, window: BrowserContext) -> Page:
    hours = [{"days": "MONDAY_TO_FRIDAY", "startMinute": 540, "endMinute": 1440}]
    site.hubspot.availability("A-987", status="away", timeZone="Europe/Madrid", workingHours=hours)
    settings = watch.open(f"{site.desk.url}/settings", window)
    expect(settings.locator("#agents .hours")).to_be_visible()
    return settings


def open_rating(site: Site, watch: Watch, window: BrowserContext) -> Page:
    chat = open_chat(site, watch, window)
    before = len(site.hubspot.threads())
    call_somebody(chat)
    wait_for(lambda: len(site.hubspot.threads()) > before, chat, "the thread")
    thread = site.hubspot.threads()[-1]["id"]
    site.hubspot.act(thread, "assign")
    expect(chat.locator("#stop")).to_be_visible()
    expect(said(chat, "joined the chat.")).to_be_visible()
    site.hubspot.act(thread, "close")
    expect(chat.locator("#rating")).to_be_visible()
    return chat


PAGES: dict[str, Visit] = {
    "inbox": open_desk,
    "thread": open_thread,
    "wire": open_panel,
    "settings": open_plain("/settings", "#inboxes > li"),
    "projects": open_plain("/projects", "#apps > li"),
    "connected": open_plain("/connected", "h1"),
    "install": open_install,
    "consent": open_consent,
    "connect": open_connect,
    "chat": open_chat,
    "talk": open_talk,
    "agents": open_agents,
    "rating": open_rating,
}


@pytest.fixture
def full(site: Site) -> Site:
    """Both servers with 200 conversations, and a channel that knows our connect page."""
    crowd(site, 200)
    env = site.hubspot.env()
    key = {"hapikey": env["HUBSPOT_HITL_DEVELOPER_API_KEY"], "appId": env["HUBSPOT_HITL_APP_ID"]}
    page = {"channelAccountConnectionRedirectUrl": f"{site.chat.url}/hubspot/connect"}
    requests.patch(f"{site.desk.url}{CC}/{CHANNEL}", params=key, json=page, timeout=30).raise_for_status()
    return site


def faults(page: Page, axe: str) -> list[str]:
    """What axe-core finds on a page."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] }).then((one) => one.violations)")
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary'][:300]}" for one in found for node in one["nodes"]
    ]


SMALL = """(finger) => [...document.querySelectorAll("button, a, select, summary, textarea, input, label:has(input)")]
  .filter((node) => !node.matches(".bubble p a, #skip, input.hidden, .tabs input, [type=checkbox]"))
  .map((node) => [node.outerHTML.slice(0, 120), node.checkVisibility() ? node.getBoundingClientRect() : null])
  .filter(([, box]) => box && box.width && (box.width < finger - .5 || box.height < finger - .5))
  .map(([html, box]) => `${Math.round(box.width)}x${Math.round(box.height)} ${html}`)"""


def width_of(page: Page) -> int:
    found: int = page.evaluate("document.documentElement.scrollWidth")
    return found


@pytest.mark.parametrize("name", few_of(PAGES, "thread", "settings", "connect", "chat", "talk", "agents"))
def test_axe_finds_nothing_and_fingers_find_everything(full: Site, watch: Watch, axe: str, name: str) -> None:
    page = PAGES[name](full, watch, watch.context())
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert faults(page, axe) == []
        shot(page, f"looks-{name}-{scheme}")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate(SMALL, FINGER) == []
    assert width_of(page) <= 390
    shot(page, f"looks-{name}-phone")


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_screenshots_of_every_page_in_every_way(full: Site, watch: Watch, axe: str, name: str) -> None:
    page = PAGES[name](full, watch, watch.context())
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for direction in ("ltr", "rtl"):
            page.evaluate("(dir) => { document.documentElement.dir = dir; }", direction)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                assert width_of(page) <= width, (size, direction)
                assert faults(page, axe) == [], (size, direction, scheme)
                shot(page, f"every/{name}-{size}-{direction}-{scheme}")

"""The agent's side in a real browser: asked before promised, seen when read, helped while writing, rated in the end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from .browser_helpers import NAME, Site, Watch, expect, shot, wait_for
from .test_browser import AGENT, choose, said, say

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

OTHERS = {"Amir Cohen": "+12125550142", "Mei Tanaka": "mei@example.test"}
PROPOSAL = "The small plan is 9 a month, the large one 29."


def agent_form(settings: Page, actor_id: str) -> Locator:
    """An agent's form on the page of settings."""
    return settings.locator(f'#agents > li[data-agent="{actor_id}"]')


def save(settings: Page, actor_id: str, status: str) -> None:
    """Choose a status and save it."""
    form = agent_form(settings, actor_id)
    form.get_by_label("Status").select_option(label=status)
    with settings.expect_response(lambda answer: "/availability" in answer.url and answer.ok):
        form.get_by_role("button", name="Save").click()


def call(chat: Page, name: str = NAME, contact: str | None = None) -> None:
    """Ask for a person with the page's own button, perhaps as somebody else."""
    chat.get_by_role("button", name="Talk to a person", exact=True).click()
    chat.get_by_label("Your name").fill(name)
    if contact is not None:
        chat.locator("#human [name=contact]").fill(contact)
    chat.get_by_role("button", name="Call somebody").click()


def look_away(page: Page, away: bool) -> None:
    """Have a page be in a tab that nobody looks at, or be seen again."""
    state = "hidden" if away else "visible"
    page.evaluate(
        "(value) => { Object.defineProperty(document, 'visibilityState', { value, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        state,
    )


@pytest.mark.slow
def test_asked_promised_read_helped_and_rated(site: Site, watch: Watch) -> None:
    window = watch.context()
    window.grant_permissions(["clipboard-read", "clipboard-write"])
    chat, settings = watch.open(site.chat.url, window), watch.open(f"{site.desk.url}/settings")
    back = (datetime.now(UTC) + timedelta(hours=2)).replace(minute=0)
    noor = agent_form(settings, "A-987")
    noor.get_by_role("button", name="Add working hours").click()
    noor.get_by_label("Days").select_option(label="Every day")
    noor.locator("[name=from]").fill(f"{back:%H:%M}")
    noor.locator("[name=to]").fill(f"{back + timedelta(hours=1):%H:%M}")
    save(settings, "A-987", "Away")
    save(settings, "A-988", "Away")
    shot(settings, "settings-agents")

    say(chat, "I want a human")
    promise = f"Somebody is back on {back:%A at %H:%M} UTC."
    expect(said(chat, promise)).to_have_class("bot")
    expect(chat.locator("#human")).to_be_hidden()
    chat.get_by_role("button", name="Talk to a person", exact=True).click()
    expect(chat.locator("#nobody")).to_contain_text(promise)
    chat.get_by_role("button", name="Call somebody").click()
    expect(chat.locator("#problem")).to_contain_text(promise)
    watch.complaints[:] = [one for one in watch.complaints if "409" not in one]
    shot(chat, "chat-nobody")
    chat.get_by_role("button", name="Never mind").click()
    assert site.hubspot.threads() == []

    noor.get_by_role("button", name="Remove hours").click()
    save(settings, "A-987", "Available")
    for number, (name, contact) in enumerate(OTHERS.items(), start=1):
        call(watch.open(site.chat.url), name, contact)
        wait_for(lambda n=number: len(site.hubspot.threads()) == n, chat, "the others")  # type: ignore[misc]
    first, second = (one["id"] for one in site.hubspot.threads())
    call(chat)
    place = chat.locator("#place")
    expect(place).to_have_text("2 conversations before yours")
    shot(chat, "chat-queue")
    site.hubspot.act(first, "assign", actorId="A-987")
    expect(place).to_have_text("1 conversation before yours")
    site.hubspot.act(second, "assign", actorId="A-987")
    expect(place).to_have_text("You are next")

    desk = watch.open(site.desk.url, window)
    choose(desk)
    desk.get_by_role("button", name="Assign to me").click()
    expect(chat.locator("#state")).to_have_text(f"{AGENT} is answering")
    expect(place).to_be_hidden()
    say(chat, "What are your prices?")
    draft = desk.locator("#messages .note").filter(has_text="Suggested reply")
    expect(draft).to_contain_text(PROPOSAL)
    shot(desk, "desk-draft")
    draft.get_by_role("button", name="Copy").click()
    expect(draft.get_by_role("button")).to_have_text(" Copied")
    look_away(chat, True)
    desk.keyboard.press("r")
    desk.keyboard.press("Control+V")
    desk.keyboard.press("Enter")
    expect(said(chat, PROPOSAL)).to_have_class("agent")
    receipt = desk.locator("#messages .outgoing .receipt")
    expect(receipt).to_have_text("Sent")
    look_away(chat, False)
    expect(receipt).to_have_text(f"Read by {NAME}")
    assert "Suggested reply" not in chat.content()

    desk.get_by_role("button", name="Close").click()
    rating = chat.locator("#rating")
    expect(rating).to_be_visible()
    shot(chat, "chat-rating")
    rating.locator("label", has_text="5 of 5").click()
    rating.get_by_label("A few words, if you like").fill("So quick!")
    rating.get_by_role("button", name="Rate it").click()
    expect(rating).to_be_hidden()
    expect(desk.locator("#messages .note").filter(has_text="The user's rating: 5 of 5")).to_contain_text("So quick!")

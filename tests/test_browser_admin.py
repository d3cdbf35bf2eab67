"""The admin's pages in a real browser: what axe-core finds, room for fingers, and the button without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from flask_hubspot_hitl.clock import ManualClock

from .browser_helpers import SIZES, Watch, expect, shot
from .conftest import MakeApp, Record, Serve
from .helpers import HubSpot
from .people_helpers import PHONE, fill
from .story import Story
from .test_admin import die, links
from .test_browser_looks import FINGER, SMALL, faults, width_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Story:
    """An app with something on every page."""
    app = make_app(
        clock=clock,
        may_administer=lambda: "sam@acme.test",
        dispatcher="inline",
        max_attempts=1,
        SECRET_KEY="s",
        contact_policy="create",
    )
    app.add_url_rule("/favicon.ico", "favicon", lambda: ("", 204))
    made = Story(app, hubspot, clock, record(app))
    made.assigned(fill(made), at=made.now)
    die(made, *(f"a-conversation-with-a-rather-long-name-{number}" for number in range(3)))
    hubspot.chaos(faults=[{"match": "/messages", "times": 1, "status": 429}])
    made.send("hello", f"wa:{PHONE}")
    return made


@pytest.fixture
def looking(chromium: Browser) -> Iterator[Watch]:
    """Opens pages of this one server; at the end none of them may have complained."""
    made = Watch(chromium)
    yield made
    made.close()
    assert made.complaints == []


def test_axe_finds_nothing_on_any_page_and_fingers_find_everything(
    story: Story, serve: Serve, looking: Watch, axe: str
) -> None:
    timeline = next(one for one in links(story, f"/handoffs?q=wa:%2B{PHONE[1:]}") if one.startswith("/handoffs/"))
    places = {"overview": "", "handoffs": "/handoffs", "timeline": timeline, "dead": "/dead"}
    places |= {"event": links(story, "/dead")[0], "portals": "/portals", "audit": "/audit"}
    url, window = serve(story.app), looking.context()
    for name, place in places.items():
        page = looking.open(f"{url}/hubspot/admin{place}", window)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert faults(page, axe) == [], (name, scheme)
            shot(page, f"looks-admin-{name}-{scheme}")
        width, height = SIZES["phone"]
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate(SMALL, FINGER) == [], name
        assert width_of(page) <= width, name
        assert faults(page, axe) == [], (name, "phone")
        shot(page, f"looks-admin-{name}-phone")
        page.close()


def test_a_dead_letter_is_tried_again_without_javascript(story: Story, serve: Serve, looking: Watch) -> None:
    window = looking.context("phone", java_script=False)
    page = looking.open(f"{serve(story.app)}/hubspot/admin", window)
    page.get_by_role("link", name="Dead letters").click()
    before = page.locator("tbody tr").count()
    page.locator("tbody a").first.click()
    page.get_by_role("button", name="Try it again").click()
    expect(page.get_by_role("status")).to_have_text("1 event will be tried again.")
    assert page.locator("tbody tr").count() == before - 1
    page.get_by_role("link", name="Audit").click()
    expect(page.locator("tbody tr").first).to_contain_text("sam@acme.test")
    page.get_by_role("link", name="Handoffs").click()
    page.get_by_label("Conversation, thread").fill(PHONE)
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    page.locator("tbody a").last.click()
    expect(page.locator("h1")).to_have_text("Conversation")

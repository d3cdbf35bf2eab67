"""The tutorial's story in a real browser, which takes its pictures: ``HITL_PICTURES=write`` keeps them for the page."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .browser_helpers import Site, Watch, expect, shot
from .test_browser import AGENT, call_somebody, choose, row, said, say

if TYPE_CHECKING:
    from playwright.sync_api import Page

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = DOCS / "pictures"
MOST_BYTES = 80_000
WIRE = 764
"""Where the desk's wire view begins, in pixels from the left."""
CHAT, DESK = {"width": 560, "height": 560}, {"width": 1100, "height": 560}


def picture(page: Page, name: str, left: float = 0, right: float | None = None) -> None:
    """Take a picture of what the page shows, between two columns of pixels."""
    shot(page, f"tutorial-{name}")
    size = page.viewport_size
    assert size is not None
    if os.environ.get("HITL_PICTURES") == "write":
        part: Any = {"x": left, "y": 0, "width": (right or size["width"]) - left, "height": size["height"]}
        page.screenshot(path=PICTURES / f"{name}.png", animations="disabled", caret="hide", clip=part)


@pytest.mark.slow
def test_the_tutorial(site: Site, watch: Watch) -> None:
    """Each step of the page, with its picture."""
    window = watch.context()
    chat, desk = watch.open(site.chat.url, window), watch.open(site.desk.url, window)
    chat.set_viewport_size(CHAT)  # type: ignore[arg-type]
    desk.set_viewport_size(DESK)  # type: ignore[arg-type]
    expect(desk.locator("#live")).to_have_text("Live")
    say(chat, "What are your prices?")
    expect(said(chat, "The small plan")).to_be_visible()
    picture(chat, "bot")
    call_somebody(chat)
    say(chat, "My order 1815 has not come.")
    expect(said(chat, "My order 1815")).to_be_visible()
    picture(chat, "waiting")
    choose(desk)
    expect(said(desk, "My order 1815")).to_be_visible()
    picture(desk, "inbox", right=WIRE)
    desk.keyboard.press("a")
    expect(chat.locator("#state")).to_have_text(f"{AGENT} is answering")
    desk.keyboard.press("r")
    say(desk, "It is on its way.")
    expect(said(chat, "It is on its way")).to_have_class("agent")
    picture(chat, "agent")
    messages = desk.locator("#lines summary").filter(has_text="OUTGOING_CHANNEL_MESSAGE_CREATED")
    messages.first.click()
    expect(desk.locator("#lines pre").first).to_be_visible()
    messages.first.scroll_into_view_if_needed()
    picture(desk, "wire", left=WIRE)
    desk.get_by_role("button", name="Close", exact=True).click()
    expect(said(chat, "completed")).to_be_visible()
    expect(chat.locator("#rating")).to_be_visible()
    expect(row(desk)).to_have_count(0)
    picture(chat, "over")


def test_the_pictures_that_pages_show_are_there_and_small() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.rst"))
    shown = set(re.findall(r"^\.\. image:: pictures/(\S+)$", pages, re.MULTILINE))
    taken = set(re.findall(r'picture\(\w+, "(\w+)"', Path(__file__).read_text(encoding="utf-8")))
    kept = {path.name: path for path in PICTURES.iterdir()}
    assert kept.keys() == shown == {f"{name}.png" for name in taken}
    for path in kept.values():
        assert path.read_bytes().startswith(b"\x89PNG"), path.name
        assert path.stat().st_size < MOST_BYTES, path.name
    assert pages.count("   :alt: ") == len(shown), "each is told in words, too"

"""Whoever writes on while a message is on its way, at the desk or in the chat, loses nothing, sends nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .browser_helpers import Site, Watch, attach, expect, wait_for
from .test_browser import choose, publish, said, say, texts

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route


def hold(page: Page, url: str) -> list[Route]:
    """Hold requests back, in the order in which they come; each is let go on, or made to fail, by the test."""
    held: list[Route] = []
    # a lambda, for Playwright marks what it calls
    page.route(url, lambda route: held.append(route))
    return held


def arrived(held: list[Route], count: int, page: Page) -> Route:
    """The newest request that is held, once there are so many, and no more."""
    wait_for(lambda: len(held) >= count, page, f"request {count}")
    assert len(held) == count, "it was not its turn"
    return held[-1]


def test_an_agent_writes_on_while_a_reply_is_sent(site: Site, watch: Watch) -> None:
    for name in ("Ana Ruiz", "Bea Lund"):
        publish(site, "Hello", name[:3].lower(), name)
    desk = watch.open(site.desk.url)
    box, files = desk.get_by_label("Message", exact=True), desk.locator("#chosen bdi")
    choose(desk, "Ana Ruiz")
    held = hold(desk, "**/_sim/threads/*/reply")
    say(desk, "one")
    first = arrived(held, 1, desk)
    expect(box).to_have_value("")
    attach(desk, "two.txt", b"2")
    say(desk, "two")
    box.press("Enter")  # there is nothing that was not sent
    box.fill("three")
    attach(desk, "three.txt", b"3")
    first.continue_()
    arrived(held, 2, desk).continue_()
    expect(said(desk, "two").locator("a.file")).to_have_text("two.txt")
    assert texts(desk, "#messages .outgoing p") == ["one", "two"]
    expect(box).to_have_value("three")
    expect(files).to_have_text("three.txt")

    box.press("Enter")
    third = arrived(held, 3, desk)
    say(desk, "four")
    desk.get_by_text("Internal note", exact=True).click()
    box.fill("five")
    attach(desk, "five.txt", b"5")
    choose(desk, "Bea Lund")
    box.fill("for Bea")
    watch.outage = True
    third.abort()
    expect(desk.locator("#notice")).to_contain_text("does not answer")
    expect(box).to_have_value("for Bea")
    expect(files).to_have_count(0)
    choose(desk, "Ana Ruiz")
    expect(box).to_have_value("three\nfour\nfive")
    expect(files).to_have_text(["three.txt", "five.txt"])
    desk.get_by_role("button", name="Add note").click()  # what was only for agents stays so
    expect(said(desk, "three")).to_have_class("note ")
    assert texts(desk, "#messages .outgoing p") == ["one", "two"]
    expect(box).to_have_value("")

    desk.get_by_text("Reply", exact=True).click()
    say(desk, "six")
    fourth = arrived(held, 4, desk)
    say(desk, "seven")
    choose(desk, "Bea Lund")
    fourth.continue_()  # the next one is not sent to somebody else
    expect(desk.locator("#notice")).to_contain_text("Not sent: you went to another conversation")
    expect(box).to_have_value("for Bea")
    choose(desk, "Ana Ruiz")
    expect(box).to_have_value("seven")
    expect(said(desk, "six")).to_have_count(1)
    assert len(held) == 4


def test_a_user_writes_on_while_a_message_is_sent(site: Site, watch: Watch) -> None:
    chat = watch.open(site.chat.url)
    box = chat.get_by_label("Message", exact=True)
    held = hold(chat, "**/messages")
    say(chat, "one")
    first = arrived(held, 1, chat)
    expect(box).to_have_value("")
    attach(chat, "two.txt", b"2")
    say(chat, "two")
    box.press("Enter")  # there is nothing that was not sent
    box.fill("three")
    first.continue_()
    arrived(held, 2, chat).continue_()
    expect(said(chat, "two").locator("a.file")).to_have_text("two.txt")
    assert texts(chat, "#messages .user p") == ["one", "two"]
    expect(box).to_have_value("three")

    attach(chat, "three.txt", b"3")
    box.press("Enter")
    third = arrived(held, 3, chat)
    say(chat, "four")
    box.fill("five")
    watch.outage = True
    third.abort()
    expect(chat.locator("#problem")).to_contain_text("Please send it again")
    expect(chat.locator("#problem")).to_contain_text("Not sent yet: three · four")
    expect(box).to_have_value("five")
    box.press("Enter")
    for count in (4, 5, 6):
        arrived(held, count, chat).continue_()
    expect(said(chat, "five")).to_have_count(1)
    expect(said(chat, "three").locator("a.file")).to_have_text("three.txt")
    assert texts(chat, "#messages .user p") == ["one", "two", "three", "four", "five"]
    expect(chat.locator("#problem")).to_be_hidden()

    say(chat, "I want a human")
    last = arrived(held, 7, chat)
    box.press_sequentially("My ord")
    last.continue_()
    expect(chat.locator("#human")).to_be_visible()
    chat.keyboard.type("er 1815")
    expect(box).to_have_value("My order 1815")
